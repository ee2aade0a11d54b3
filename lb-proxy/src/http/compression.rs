//! Answers compressed on their way to the client, with gzip, where the backend wants it and the client takes it.
//!
//! It streams: what a server sends is compressed as it comes, and flushed when nothing more is at hand, so that an event
//! stream is not held back. What is compressed already, or is said to stay as it is, or is a part of something, is left
//! alone.
use super::edits::Edits;
use super::head::{Framing, Request, Response, first_value};
use flate2::write::GzEncoder;
use lb_core::rules::Compression;
use std::io::Write as _;

/// Whether the client takes gzip, and would not rather have it plain (RFC 9110, 12.5.3).
pub(crate) fn accepted(request: &Request, buf: &[u8]) -> bool {
    let fields = request.fields.iter().filter(|f| f.name.get(buf).eq_ignore_ascii_case(b"accept-encoding"));
    weigh(fields.flat_map(|f| f.value.get(buf).split(|b| *b == b',')))
}

fn weigh<'a>(codings: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut any, mut plain) = (None, None, None);
    for coding in codings {
        let mut parts = coding.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q="))).map_or(Some(1000), quality);
        let Some(weight) = weight else { continue };
        match name {
            n if n.eq_ignore_ascii_case(b"gzip") || n.eq_ignore_ascii_case(b"x-gzip") => gzip = Some(weight),
            n if n.eq_ignore_ascii_case(b"identity") => plain = Some(weight),
            b"*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && plain.unwrap_or(0) <= gzip
}

/// Thousandths of `0.5`, `1`, `1.000`.
fn quality(text: &[u8]) -> Option<u32> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => &[][..],
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let part = (0..3).fold(0, |n, i| n * 10 + digits.get(i).map_or(0, |d| u32::from(d - b'0')));
    matches!(whole, b'0' | b'1').then(|| (u32::from(whole - b'0') * 1000 + part).min(1000))
}

/// An answer that is being compressed.
pub(crate) struct Gzip(GzEncoder<Vec<u8>>);

impl Gzip {
    /// More of the body.
    pub(crate) fn push(&mut self, plain: &[u8]) {
        // Writing to a Vec cannot fail, here and below.
        let _ = self.0.write_all(plain);
    }

    /// What is ready to go, all that came if `flush`.
    pub(crate) fn take(&mut self, flush: bool) -> Vec<u8> {
        if flush {
            let _ = self.0.flush();
        }
        std::mem::take(self.0.get_mut())
    }

    /// The rest.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap_or_default()
    }
}

/// What becomes of an answer. `gzip`: the client takes it, and there is a body. The edits are for the client's head.
pub(crate) fn begin(
    spec: &Compression,
    response: &Response,
    buf: &[u8],
    gzip: bool,
) -> (Option<Gzip>, Option<Edits<'static>>) {
    let value = |name| first_value(&response.fields, buf, name);
    if !worth(spec, response, buf) {
        return (None, None);
    }
    let mut edits = Edits::default();
    let vary = response.fields.iter().filter(|f| f.name.get(buf).eq_ignore_ascii_case(b"vary"));
    let mut varies = vary.flat_map(|f| f.value.get(buf).split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    if !varies.any(|v| v == b"*" || v.eq_ignore_ascii_case(b"accept-encoding")) {
        edits.add("Vary", |out| out.extend_from_slice(b"Accept-Encoding"));
    }
    if !gzip {
        // Caches must still know that there is another form of it.
        return (None, Some(edits));
    }
    edits.remove("Content-Length");
    edits.remove("Accept-Ranges");
    edits.set("Content-Encoding", |out| out.extend_from_slice(b"gzip"));
    if let Some(tag) = value("etag").filter(|tag| !tag.starts_with(b"W/")) {
        // Another form of the same is the same, but not byte for byte.
        edits.set("ETag", |out| {
            out.extend_from_slice(b"W/");
            out.extend_from_slice(tag);
        });
    }
    (Some(Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(spec.level)))), Some(edits))
}

/// Whether the answer is of a kind that is compressed.
fn worth(spec: &Compression, response: &Response, buf: &[u8]) -> bool {
    let value = |name| first_value(&response.fields, buf, name);
    let whole = matches!(response.status, 200..=203 | 400..=599) && value("content-range").is_none();
    let plain = value("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    let cache = response.fields.iter().filter(|f| f.name.get(buf).eq_ignore_ascii_case(b"cache-control"));
    let mut says = cache.flat_map(|f| f.value.get(buf).split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let large = match response.framing {
        Framing::Length(length) => length >= spec.min_size,
        _ => true,
    };
    whole
        && plain
        && large
        && typed(spec, value("content-type"))
        && !says.any(|s| s.eq_ignore_ascii_case(b"no-transform"))
}

fn typed(spec: &Compression, content_type: Option<&[u8]>) -> bool {
    let Some(kind) = content_type.and_then(|kind| kind.split(|b| *b == b';').next()) else { return false };
    let kind = kind.trim_ascii();
    spec.types.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(all) => kind.len() > all.len() && kind[..all.len()].eq_ignore_ascii_case(all.as_bytes()),
        None => kind.eq_ignore_ascii_case(wanted.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::head;
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    fn spec() -> Compression {
        Compression { types: vec!["text/*".into(), "application/json".into()], min_size: 100, level: 5 }
    }

    /// What becomes of an answer with these fields: is it compressed, and which fields come of it.
    fn begun(fields: &str, status: u16, gzip: bool) -> (bool, String) {
        let text = format!("HTTP/1.1 {status} OK\r\n{fields}\r\n");
        let response = head::response(text.as_bytes(), false, Vec::new()).unwrap().unwrap();
        let (encoder, edits) = begin(&spec(), &response, text.as_bytes(), gzip);
        let mut out = Vec::new();
        if let Some(edits) = edits {
            edits.write("", &mut out);
        }
        (encoder.is_some(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn clients_say_with_weights_what_they_take() {
        let takes = |text: &str| weigh(text.as_bytes().split(|b| *b == b','));
        for yes in [
            "gzip",
            "br, gzip;q=0.5",
            "GZIP",
            "x-gzip",
            "*",
            "deflate, *;q=0.1",
            "gzip;q=1.000",
            "identity;q=0.5, gzip",
        ] {
            assert!(takes(yes), "{yes}");
        }
        for no in [
            "",
            "br",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=0",
            "gzip;q=0, *",
            "identity, gzip;q=0.5",
            "gzip;q=x",
            "gzip;q=2",
        ] {
            assert!(!takes(no), "{no}");
        }
    }

    #[test]
    fn what_is_compressible_is_compressed_and_says_so() {
        let (compressed, fields) = begun("Content-Type: text/html; charset=x\r\nETag: \"a\"\r\n", 200, true);
        assert!(compressed);
        assert_eq!(fields, "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\nETag: W/\"a\"\r\n");
        let (_, fields) = begun("Content-Type: application/json\r\nVary: Origin, accept-encoding\r\n", 200, true);
        assert_eq!(fields, "Content-Encoding: gzip\r\n");
        let (compressed, fields) = begun("Content-Type: text/html\r\n", 200, false);
        assert_eq!(
            (compressed, fields.as_str()),
            (false, "Vary: Accept-Encoding\r\n"),
            "caches know of the other form"
        );
    }

    #[test]
    fn what_must_stay_as_it_is_stays() {
        for fields in [
            "Content-Type: image/png\r\n",
            "",
            "Content-Type: text/html\r\nContent-Length: 99\r\n",
            "Content-Type: text/html\r\nContent-Encoding: br\r\n",
            "Content-Type: text/html\r\nCache-Control: max-age=1, no-transform\r\n",
            "Content-Type: text/html\r\nContent-Range: bytes 0-5/10\r\n",
            "Content-Type: text\r\n",
        ] {
            assert_eq!(begun(fields, 200, true), (false, String::new()), "{fields}");
        }
        for status in [204, 206, 301, 304] {
            assert_eq!(begun("Content-Type: text/html\r\n", status, true), (false, String::new()), "{status}");
        }
        assert!(begun("Content-Type: text/html\r\nContent-Length: 100\r\n", 404, true).0);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_however_it_is_cut_and_flushed(parts: Vec<(Vec<u8>, bool)>) {
            let mut gzip = Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(5)));
            let (mut wire, mut sent) = (Vec::new(), Vec::new());
            for (part, flush) in &parts {
                gzip.push(part);
                sent.extend_from_slice(part);
                wire.extend(gzip.take(*flush));
                if *flush {
                    // All that was sent is there for the reader, though the end is not.
                    let mut seen = vec![0; sent.len()];
                    flate2::read::GzDecoder::new(&wire[..]).read_exact(&mut seen).unwrap();
                    prop_assert_eq!(&seen, &sent);
                }
            }
            wire.extend(gzip.finish());
            let mut seen = Vec::new();
            flate2::read::GzDecoder::new(&wire[..]).read_to_end(&mut seen).unwrap();
            prop_assert_eq!(seen, sent);
        }

        #[test]
        fn no_field_makes_the_reader_fail(text: Vec<u8>) {
            let _ = weigh(text.split(|b| *b == b','));
        }
    }
}
