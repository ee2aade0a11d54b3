//! The Unix socket's file: made so that nobody else may ever open it, replaced only when it is dead, and removed only
//! when it is still ours.
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("a running instance answers there: stop it, or choose another path")]
    Alive,
    /// There is something else.
    #[error("it exists and is no socket: remove it, or choose another path")]
    NoSocket,
    /// The file system said no.
    #[error("{0}. The directory must exist and be writable for this user")]
    Io(#[from] io::Error),
}

/// The file of a bound socket, removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another instance may have put its own there since.
    identity: (u64, u64),
}

/// Binds a socket with mode 0600. A dead instance's socket is replaced.
///
/// # Errors
/// [`SocketError`]
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => make_directory(path)?,
        Err(e) => return Err(e.into()),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Alive),
        Ok(_) => {}
    }
    // Bound under another name, and renamed when the mode is right: at no moment can others connect.
    let fresh = path.with_extension(format!("new{}", std::process::id()));
    let listener = UnixListener::bind(&fresh)?;
    let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| std::fs::rename(&fresh, path))
        .and_then(|()| identity(path));
    match placed {
        Ok(identity) => Ok((listener, SocketFile { path: path.to_owned(), identity })),
        Err(e) => {
            std::fs::remove_file(&fresh).ok();
            Err(e.into())
        }
    }
}

/// `/run/lb` is empty after a boot.
fn make_directory(path: &Path) -> io::Result<()> {
    path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), std::fs::create_dir_all)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_only_and_goes_with_the_instance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/lb1.sock");
        let (_listener, file) = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lb1.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, _file) = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Alive)));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lb1.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NoSocket)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_that_another_instance_put_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lb1.sock");
        let (listener, file) = bind(&path).unwrap();
        drop(listener);
        let (_theirs, _their_file) = bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }
}
