//! Answers compressed on their way to the client, where the backend wants it and the client takes it.
//!
//! It streams: what a server sends is compressed as it comes, and flushed when nothing more is at hand, so that an event
//! stream is not held back. What is compressed already, or is said to stay as it is, or is a part of something, is left
//! alone.
use super::edits::Edits;
use super::head::{Framing, Request, Response, first_value};
use brotli::enc::BrotliEncoderParams;
use flate2::write::GzEncoder;
use lb_core::rules::{Compression, Encoding};
use std::io::Write as _;
use zstd::zstd_safe::CParameter;

// What an answer on its way holds is bounded, whatever the level: 1 MiB with gzip, 3 with zstd, 7 with Brotli, all buffers
// counted. What they choose themselves for levels 7 to 9 holds 11 MiB (zstd) and 36 (Brotli), for a few bytes less.

/// How far back zstd looks for what repeats, as a power of two, and the sizes of its tables.
const ZSTD: [CParameter; 3] = [CParameter::WindowLog(18), CParameter::HashLog(16), CParameter::ChainLog(16)];
/// How far back Brotli looks.
const BROTLI_WINDOW: i32 = 19;
/// Its highest level here.
const BROTLI_MOST: i32 = 6;

/// Which of these the client likes best, the first of several that it likes equally; `None`: it takes none, or would
/// rather have the answer plain (RFC 9110, 12.5.3).
pub(crate) fn accepted(request: &Request, buf: &[u8], offered: &[Encoding]) -> Option<Encoding> {
    let fields = request.fields.iter().filter(|f| f.name.get(buf).eq_ignore_ascii_case(b"accept-encoding"));
    weigh(fields.flat_map(|f| f.value.get(buf).split(|b| *b == b',')), offered)
}

fn weigh<'a>(codings: impl Iterator<Item = &'a [u8]>, offered: &[Encoding]) -> Option<Encoding> {
    let (mut said, mut any, mut plain) = ([None; Encoding::ALL.len()], None, None);
    for coding in codings {
        let mut parts = coding.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q="))).map_or(Some(1000), quality);
        let Some(weight) = weight else { continue };
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match Encoding::ALL.iter().position(|e| is(e.name().as_bytes()) || (*e == Encoding::Gzip && is(b"x-gzip"))) {
            Some(known) => said[known] = Some(weight),
            None if is(b"identity") => plain = Some(weight),
            None if name == b"*" => any = Some(weight),
            None => {}
        }
    }
    let mut best = None;
    for encoding in offered {
        let known = Encoding::ALL.iter().position(|e| e == encoding).and_then(|at| said[at]);
        let weight = known.or(any).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*encoding, weight));
        }
    }
    best.filter(|(_, weight)| plain.unwrap_or(0) <= *weight).map(|(encoding, _)| encoding)
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
pub(crate) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// `None`: there is no memory for it.
    fn new(encoding: Encoding, level: u32) -> Option<Self> {
        let small = i32::try_from(level).unwrap_or(9);
        Some(match encoding {
            Encoding::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), small).ok()?;
                ZSTD.iter().try_for_each(|parameter| zstd.set_parameter(*parameter)).ok()?;
                Self::Zstd(zstd)
            }
            Encoding::Br => {
                let params =
                    BrotliEncoderParams { quality: small.min(BROTLI_MOST), lgwin: BROTLI_WINDOW, ..Default::default() };
                Self::Br(Box::new(brotli::CompressorWriter::with_params(Vec::new(), 4096, &params)))
            }
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level))),
        })
    }

    /// More of the body.
    pub(crate) fn push(&mut self, plain: &[u8]) {
        // Writing to a Vec cannot fail, here and below.
        let _ = match self {
            Self::Zstd(zstd) => zstd.write_all(plain),
            Self::Br(brotli) => brotli.write_all(plain),
            Self::Gzip(gzip) => gzip.write_all(plain),
        };
    }

    /// What is ready to go, all that came if `flush`.
    pub(crate) fn take(&mut self, flush: bool) -> Vec<u8> {
        if flush {
            let _ = match self {
                Self::Zstd(zstd) => zstd.flush(),
                Self::Br(brotli) => brotli.flush(),
                Self::Gzip(gzip) => gzip.flush(),
            };
        }
        std::mem::take(match self {
            Self::Zstd(zstd) => zstd.get_mut(),
            Self::Br(brotli) => brotli.get_mut(),
            Self::Gzip(gzip) => gzip.get_mut(),
        })
    }

    /// The rest.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Zstd(zstd) => zstd.finish().unwrap_or_default(),
            Self::Br(brotli) => brotli.into_inner(),
            Self::Gzip(gzip) => gzip.finish().unwrap_or_default(),
        }
    }
}

/// What becomes of an answer. `encoding`: what the client takes, where there is a body. The edits are for the client's
/// head.
pub(crate) fn begin(
    spec: &Compression,
    response: &Response,
    buf: &[u8],
    encoding: Option<Encoding>,
) -> (Option<Box<Encoder>>, Option<Edits<'static>>) {
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
    let Some((encoding, encoder)) = encoding.and_then(|e| Some((e, Box::new(Encoder::new(e, spec.level)?)))) else {
        // Caches must still know that there is another form of it.
        return (None, Some(edits));
    };
    edits.remove("Content-Length");
    edits.remove("Accept-Ranges");
    edits.set("Content-Encoding", |out| out.extend_from_slice(encoding.name().as_bytes()));
    if let Some(tag) = value("etag").filter(|tag| !tag.starts_with(b"W/")) {
        // Another form of the same is the same, but not byte for byte.
        edits.set("ETag", |out| {
            out.extend_from_slice(b"W/");
            out.extend_from_slice(tag);
        });
    }
    (Some(encoder), Some(edits))
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
        let encodings = Encoding::ALL.to_vec();
        Compression { types: vec!["text/*".into(), "application/json".into()], min_size: 100, level: 5, encodings }
    }

    /// What becomes of an answer with these fields: is it compressed, and which fields come of it.
    fn begun(fields: &str, status: u16, encoding: Option<Encoding>) -> (bool, String) {
        let text = format!("HTTP/1.1 {status} OK\r\n{fields}\r\n");
        let response = head::response(text.as_bytes(), false, Vec::new()).unwrap().unwrap();
        let (encoder, edits) = begin(&spec(), &response, text.as_bytes(), encoding);
        let mut out = Vec::new();
        if let Some(edits) = edits {
            edits.write("", &mut out);
        }
        (encoder.is_some(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn clients_say_with_weights_what_they_take() {
        let takes = |text: &str, offered: &[Encoding]| {
            weigh(text.as_bytes().split(|b| *b == b','), offered).map(Encoding::name)
        };
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
            assert_eq!(takes(yes, &[Encoding::Gzip]), Some("gzip"), "{yes}");
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
            assert_eq!(takes(no, &[Encoding::Gzip]), None, "{no}");
        }
        for (text, best) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("gzip;q=0.9, br;q=0.5, zstd;q=0.1", Some("gzip")),
            ("gzip;q=0.5, br;q=0.5, zstd;q=0.4", Some("br")),
            ("*", Some("zstd")),
            ("zstd;q=0, *", Some("br")),
            ("ZSTD;q=0, Br;q=0.001", Some("br")),
            ("identity;q=0.8, br;q=0.7, gzip;q=0.6", None),
            ("identity;q=0.7, br;q=0.7", Some("br")),
            ("deflate, compress", None),
        ] {
            assert_eq!(takes(text, &Encoding::ALL), best, "{text}");
        }
        let reversed = [Encoding::Gzip, Encoding::Br];
        assert_eq!(takes("zstd, br, gzip", &reversed), Some("gzip"), "the operator's order");
        assert_eq!(takes("zstd, br, gzip;q=0.9", &reversed), Some("br"), "the client's weights come first");
    }

    #[test]
    fn what_is_compressible_is_compressed_and_says_so() {
        for encoding in Encoding::ALL {
            let fields = "Content-Type: text/html; charset=x\r\nETag: \"a\"\r\n";
            let (compressed, fields) = begun(fields, 200, Some(encoding));
            assert!(compressed);
            let name = encoding.name();
            let expected = format!("Vary: Accept-Encoding\r\nContent-Encoding: {name}\r\nETag: W/\"a\"\r\n");
            assert_eq!(fields, expected);
        }
        let gzip = Some(Encoding::Gzip);
        let (_, fields) = begun("Content-Type: application/json\r\nVary: Origin, accept-encoding\r\n", 200, gzip);
        assert_eq!(fields, "Content-Encoding: gzip\r\n");
        let (compressed, fields) = begun("Content-Type: text/html\r\n", 200, None);
        assert_eq!(
            (compressed, fields.as_str()),
            (false, "Vary: Accept-Encoding\r\n"),
            "caches know of the other form"
        );
    }

    #[test]
    fn what_must_stay_as_it_is_stays() {
        let zstd = Some(Encoding::Zstd);
        for fields in [
            "Content-Type: image/png\r\n",
            "",
            "Content-Type: text/html\r\nContent-Length: 99\r\n",
            "Content-Type: text/html\r\nContent-Encoding: br\r\n",
            "Content-Type: text/html\r\nCache-Control: max-age=1, no-transform\r\n",
            "Content-Type: text/html\r\nContent-Range: bytes 0-5/10\r\n",
            "Content-Type: text\r\n",
        ] {
            assert_eq!(begun(fields, 200, zstd), (false, String::new()), "{fields}");
        }
        for status in [204, 206, 301, 304] {
            assert_eq!(begun("Content-Type: text/html\r\n", status, zstd), (false, String::new()), "{status}");
        }
        assert!(begun("Content-Type: text/html\r\nContent-Length: 100\r\n", 404, zstd).0);
    }

    /// Reads what is there of a compressed text, whether its end is or not.
    fn read(encoding: Encoding, wire: &[u8], seen: &mut [u8]) -> std::io::Result<()> {
        match encoding {
            Encoding::Zstd => zstd::stream::read::Decoder::new(wire)?.read_exact(seen),
            Encoding::Br => brotli::Decompressor::new(wire, 4096).read_exact(seen),
            Encoding::Gzip => flate2::read::GzDecoder::new(wire).read_exact(seen),
        }
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_however_it_is_cut_and_flushed(parts: Vec<(Vec<u8>, bool)>, level in 1..=9u32) {
            for encoding in Encoding::ALL {
                let mut encoder = Encoder::new(encoding, level).unwrap();
                let (mut wire, mut sent) = (Vec::new(), Vec::new());
                for (part, flush) in &parts {
                    encoder.push(part);
                    sent.extend_from_slice(part);
                    wire.extend(encoder.take(*flush));
                    if *flush {
                        // All that was sent is there for the reader, though the end is not.
                        let mut seen = vec![0; sent.len()];
                        read(encoding, &wire, &mut seen).unwrap();
                        prop_assert_eq!(&seen, &sent);
                    }
                }
                wire.extend(encoder.finish());
                let mut seen = vec![0; sent.len()];
                read(encoding, &wire, &mut seen).unwrap();
                prop_assert_eq!(seen, &sent[..]);
                prop_assert!(read(encoding, &wire, &mut vec![0; sent.len() + 1]).is_err(), "nothing more comes out");
            }
        }

        #[test]
        fn no_field_makes_the_reader_fail(text: Vec<u8>) {
            let _ = weigh(text.split(|b| *b == b','), &Encoding::ALL);
        }
    }
}
