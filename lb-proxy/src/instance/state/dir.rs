//! The directory of an instance's state: made, locked, and what is wrong with it.
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory in use, and locked.
#[derive(Debug)]
pub(super) struct Dir {
    /// As configured.
    pub(super) state: PathBuf,
    /// This instance's.
    pub(super) path: PathBuf,
    /// Files read since the directory was opened: each is, before it is first written.
    pub(super) read: HashSet<String>,
    _lock: File,
}

/// The directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// Another process has it.
    #[error(
        "{} is in use by another instance named {node} (process {pid}): give one of them another `instance.name` or \
         another `instance.state`", path.display()
    )]
    InUse {
        /// The instance's directory.
        path: PathBuf,
        /// Its name.
        node: String,
        /// Who has it, as the lock file says.
        pid: String,
    },
    /// The system says no.
    #[error("{}: {why}. {}", path.display(), help(why))]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
}

fn help(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::PermissionDenied => {
            "Let the user that lb runs as write there (`chown`), or change `instance.state`"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Make room there, or move `instance.state`",
        io::ErrorKind::ReadOnlyFilesystem => "Mount it for writing, or move `instance.state`",
        _ => "`instance.state` must be a directory that lb can write to",
    }
}

/// Adds the path to an error.
pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, StateError> {
    result.map_err(|why| StateError::Io { path: path.to_owned(), why })
}

/// The prefix keeps a name such as `..` from meaning another directory.
pub(super) fn own_dir(state: &Path, node: &str) -> PathBuf {
    state.join(format!("instance-{node}"))
}

impl Dir {
    /// Makes the directory if there is none, and locks it. Keys of tables may be secrets of clients: nobody else reads
    /// them.
    pub(super) fn open(state: &Path, node: &str) -> Result<Self, StateError> {
        let path = own_dir(state, node);
        at(&path, DirBuilder::new().recursive(true).mode(0o700).create(&path))?;
        let lock_path = path.join("lock");
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let mut lock = at(&lock_path, options)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&lock_path).unwrap_or_default().trim().to_owned();
                return Err(StateError::InUse { path, node: node.into(), pid });
            }
            Err(fs::TryLockError::Error(why)) => return Err(StateError::Io { path: lock_path, why }),
        }
        let pid = format!("{}\n", std::process::id());
        at(&lock_path, lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())))?;
        Ok(Self { state: state.to_owned(), path, read: HashSet::new(), _lock: lock })
    }
}

/// Whether an instance of that name could keep its state there: for `lb check`, which must leave nothing behind.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check(state: &Path, node: &str) -> Result<(), String> {
    use rustix::fs::{Access, access};
    let own = own_dir(state, node);
    let there = own.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let usable = if there.is_dir() {
        access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from)
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    };
    at(there, usable).map_err(|why| why.to_string())
}
