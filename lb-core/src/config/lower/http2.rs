//! `http2` of a frontend.
use super::super::Http2;
use super::super::reader::Section;

/// As given, else the defaults.
pub(super) fn http2(section: &Section<'_>) -> Http2 {
    let default = Http2::default();
    let Some(given) = super::section(section, "http2") else { return default };
    Http2 {
        max_streams: given.whole("max_streams", default.max_streams),
        // The file's shape bounds it to far less.
        window: u32::try_from(given.size("window", default.window as usize)).unwrap_or(default.window),
    }
}
