//! Writes certificates and keys: whole or not at all, keys for their owner's eyes only.
use anyhow::Context;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// Whether only the owner may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    Yes,
    No,
}

/// Puts a file in its place. One that it replaces leaves its owner and its mode to it: an instance that could read the
/// old one can read the new one.
pub(super) fn write(path: &Path, text: &str, secret: Secret) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let put = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".lb-cert-").tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        let fresh = if secret == Secret::Yes { 0o600 } else { 0o644 };
        let old = std::fs::metadata(path).ok();
        if let Some(old) = &old {
            let ours = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
        }
        let mode = old.map_or(fresh, |old| old.permissions().mode());
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}
