//! Keys and passwords: a text, or with `file:` before a path what that file holds.
use super::super::reader::Item;
use super::page;
use crate::secret::Secret;

/// Stands for what a file holds where files are not read.
const UNREAD: &str = "a file that was not read";

/// A secret, without the end of its last line where it is in a file. No message shows it.
pub(super) fn secret(item: &Item<'_>) -> Option<Secret> {
    let text = item.text()?;
    let Some(path) = text.strip_prefix("file:") else { return Some(Secret::new(text)) };
    if path.is_empty() {
        item.bad("`file:` names no file", "write \"file:/etc/lb/secret.key\"");
        return None;
    }
    let Some(bytes) = page::held(item, path)? else { return Some(Secret::new(UNREAD.into())) };
    match String::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned()) {
        Ok(text) if text.is_empty() => item.bad(format!("\"{path}\" is empty"), "write the secret into it"),
        Ok(text) => return Some(Secret::new(text)),
        Err(_) => item
            .bad(format!("\"{path}\" is not text"), "write the secret as text, as `openssl rand -base64 24` prints it"),
    }
    None
}
