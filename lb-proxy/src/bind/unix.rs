//! Listening on Unix sockets. The file of a dead process is replaced, that of a living one is not; it appears under its
//! name when it has its permissions and somebody listens, never before.
use lb_core::config::SocketOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Whether the path is free, or of somebody who is gone.
pub(super) fn try_out(path: &Path) -> io::Result<()> {
    let there = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Its queue is full: somebody is there.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(e) => Err(e),
    }
}

/// Listens, and puts the socket into the place of whatever is there.
pub(super) fn open(path: &Path, options: &SocketOptions, backlog: i32) -> io::Result<UnixListener> {
    let new = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    std::fs::remove_file(&new).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(&new)?)?;
    let ready = || {
        if let Some(mode) = options.mode {
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))?;
        }
        let user = options.user.as_deref().map(|name| number(name, "/etc/passwd")).transpose()?;
        let group = options.group.as_deref().map(|name| number(name, "/etc/group")).transpose()?;
        if user.is_some() || group.is_some() {
            std::os::unix::fs::chown(&new, user, group)?;
        }
        socket.listen(backlog)?;
        std::fs::rename(&new, path)
    };
    match ready() {
        Ok(()) => Ok(socket.into()),
        Err(e) => {
            let _ = std::fs::remove_file(&new);
            Err(e)
        }
    }
}

/// The number of a user or group, by name or as it is.
fn number(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next() == Some(name);
        fields.nth(1).filter(|_| found)?.parse().ok()
    });
    line.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{file} has no \"{name}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_dead_process_is_replaced_that_of_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let options = SocketOptions { mode: Some(0o660), ..SocketOptions::default() };
        try_out(&path).unwrap();
        let first = open(&path, &options, 16).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(try_out(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        try_out(&path).unwrap();
        let _second = open(&path, &options, 16).unwrap();
        UnixStream::connect(&path).unwrap();
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        assert!(try_out(&dir.path().join("file")).unwrap_err().to_string().contains("no socket"));
    }

    #[test]
    fn owners_are_found_by_name_or_number() {
        assert_eq!(number("root", "/etc/passwd").unwrap(), 0);
        assert_eq!(number("1234", "/etc/passwd").unwrap(), 1234);
        assert!(number("nobody-of-that-name", "/etc/group").unwrap_err().to_string().contains("has no"));
    }

    #[test]
    fn a_socket_that_cannot_be_given_away_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let options = SocketOptions { user: Some("nobody-of-that-name".into()), ..SocketOptions::default() };
        open(&dir.path().join("web.sock"), &options, 16).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
