//! Files that the configuration names and that are read with it: pages, users, secrets
use super::super::reader::Item;
use crate::rules::Page;
use std::path::Path;

/// Largest file of these, in bytes.
const LARGEST: usize = 1 << 20;

/// What a file holds. Where files are not read, nothing.
pub(super) fn read(item: &Item<'_>) -> Option<(String, Vec<u8>)> {
    let name = item.text()?;
    let bytes = held(item, &name)?.unwrap_or_default();
    Some((name, bytes))
}

/// What the file of this name holds; inside, `None`: files are not read. Outside: it cannot be read, which is reported.
pub(super) fn held(item: &Item<'_>, name: &str) -> Option<Option<Vec<u8>>> {
    let bytes = match item.cx.read(Path::new(name)) {
        None => return Some(None),
        Some(Ok(bytes)) => bytes,
        Some(Err(why)) => {
            let help = "paths that do not begin with / are looked for where lb is started; create the file, or correct \
                        the path";
            item.bad(format!("\"{name}\" cannot be read: {why}"), help);
            return None;
        }
    };
    if bytes.len() > LARGEST {
        item.bad(format!("\"{name}\" has {} bytes", bytes.len()), "use a file of at most 1 MiB: it is held in memory");
        return None;
    }
    Some(Some(bytes))
}

/// A page.
pub(super) fn page(item: &Item<'_>) -> Option<Page> {
    let (name, body) = read(item)?;
    let kind = kind(&name).unwrap_or("text/html; charset=utf-8");
    Some(Page { path: name.into(), kind, body: body.into() })
}

/// What a file is, by its ending.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        "png" => "image/png",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}
