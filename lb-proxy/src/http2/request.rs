//! A client's fields as one canonical HTTP/1.1 head, which the one strict parser then reads: limits, routes and rules know
//! one form of request. Nothing is passed on whose meaning would differ between the two (RFC 9113, 8).
use super::websocket;
use crate::http::body::trailer_allowed;
use crate::http::reason::Reason;

/// What is kept for the next head.
const KEPT: usize = 4096;

/// A request's head, while its fields come in. Used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The head, as far as it is written.
    text: Vec<u8>,
    /// Pseudo-fields and the host; their places are below.
    said: Vec<u8>,
    method: Option<Piece>,
    scheme: Option<Piece>,
    path: Option<Piece>,
    authority: Option<Piece>,
    protocol: Option<Piece>,
    host: Option<Piece>,
    /// Cookies may come one by one; HTTP/1.1 knows one line of them (RFC 9113, 8.2.3).
    cookies: Vec<u8>,
    length: Option<u64>,
    websocket: bool,
    /// Bytes of all fields, as the client is told to count them.
    size: usize,
    most: usize,
    /// The request line is written.
    begun: bool,
    malformed: bool,
    refused: Option<Reason>,
}

#[derive(Clone, Copy, Debug)]
struct Piece(usize, usize);

/// What has become of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// It may be read. The key was made for the WebSocket that it asks for; so many bytes follow, where it says so.
    Head { key: Option<String>, length: Option<u64> },
    /// It is answered at once.
    Refused(Reason),
    /// No client may say it: its stream is reset (RFC 9113, 8.1.1).
    Malformed,
}

/// Bytes of names, which have lower case only (RFC 9113, 8.2.1).
static NAME: [bool; 256] = {
    let (mut known, bytes, mut i) = ([false; 256], b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", 0);
    while i < bytes.len() {
        known[bytes[i] as usize] = true;
        i += 1;
    }
    known
};

pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| NAME[usize::from(*b)])
}

/// White space around a value is HTTP/1's affair: here it would be part of it.
fn is_value(value: &[u8]) -> bool {
    let space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    // Without a way out in the middle, so that many bytes are looked at in one step.
    let plain = value.iter().fold(true, |plain, b| plain & ((*b >= b' ' && *b != 0x7f) | (*b == b'\t')));
    plain && !space(value.first()) && !space(value.last())
}

/// Fields that say something of one connection only, and do not exist in HTTP/2.
pub(super) fn of_connection(name: &[u8]) -> bool {
    matches!(
        name,
        b"upgrade" | b"connection" | b"keep-alive" | b"http2-settings" | b"proxy-connection" | b"transfer-encoding"
    )
}

/// A line of HTTP/1.1.
pub(super) fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

impl Builder {
    /// Begins a head of so many bytes of fields at most.
    pub(super) fn start(&mut self, most: usize) {
        let Self { mut text, mut said, mut cookies, .. } = std::mem::take(self);
        for spare in [&mut text, &mut said, &mut cookies] {
            spare.clear();
            spare.shrink_to(KEPT);
        }
        *self = Self { text, said, cookies, most, ..Self::default() };
    }

    /// Takes in a field.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + 32;
        if self.size > self.most {
            // Nothing more of it is kept.
            self.refused.get_or_insert(Reason::HEAD_TOO_LARGE);
            return;
        }
        let taken = match name.first() {
            _ if !is_value(value) => false,
            Some(b':') => self.pseudo(name, value),
            _ => is_name(name) && self.plain(name, value),
        };
        self.malformed |= !taken;
    }

    fn keep(&mut self, value: &[u8]) -> Piece {
        let from = self.said.len();
        self.said.extend_from_slice(value);
        Piece(from, self.said.len())
    }

    /// One of each, before all others.
    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> bool {
        let piece = Some(self.keep(value));
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":protocol" => &mut self.protocol,
            _ => return false,
        };
        let first = place.is_none();
        *place = piece;
        first && !self.begun
    }

    fn plain(&mut self, name: &[u8], value: &[u8]) -> bool {
        if !self.begun && !self.begin() {
            return false;
        }
        match name {
            b"host" => {
                if self.host.is_some() {
                    self.refused.get_or_insert(Reason::BAD_HOST);
                }
                self.host = Some(self.keep(value));
                return true;
            }
            b"cookie" => {
                let before: &[u8] = if self.cookies.is_empty() { b"cookie: " } else { b"; " };
                self.cookies.extend_from_slice(before);
                self.cookies.extend_from_slice(value);
                return true;
            }
            b"te" if value != b"trailers" => return false,
            b"content-length" => {
                let length = number(value);
                if length.is_none() || self.length.is_some_and(|before| Some(before) != length) {
                    return false;
                }
                self.length = length;
            }
            b"sec-websocket-key" if self.websocket => return true,
            _ if of_connection(name) => return false,
            _ => {}
        }
        line(name, value, &mut self.text);
        true
    }

    /// The request line, once all of it is known; false: it cannot be.
    fn begin(&mut self) -> bool {
        self.begun = true;
        let Self { text, said, refused, .. } = self;
        let get = |piece: Option<Piece>| piece.map(|Piece(from, to)| &said[from..to]);
        let token = |method: &&[u8]| !method.is_empty() && method.iter().all(|b| lb_core::stick::is_token(*b));
        let Some(method) = get(self.method).filter(token) else { return false };
        let connect = method == b"CONNECT";
        let websocket = match get(self.protocol) {
            Some(_) if !connect => return false,
            Some(b"websocket") => true,
            None if !connect => false,
            _ => {
                refused.get_or_insert(Reason::CONNECT_METHOD);
                return true;
            }
        };
        let (Some(path), Some(scheme)) = (get(self.path), get(self.scheme)) else { return false };
        // What stands behind it is never sent, and no part of the target.
        let path = &path[..memchr::memchr(b'#', path).unwrap_or(path.len())];
        if path.is_empty() || !path.iter().all(|b| (0x21..=0x7e).contains(b)) {
            return false;
        }
        let known = path[0] == b'/' || (path == b"*" && method == b"OPTIONS");
        if !known || !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")) {
            refused.get_or_insert(Reason::BAD_REQUEST);
        }
        for piece in [if websocket { b"GET" } else { method }, b" ", path, b" HTTP/1.1\r\n"] {
            text.extend_from_slice(piece);
        }
        if let Some(authority) = get(self.authority).filter(|authority| !authority.is_empty()) {
            line(b"host", authority, text);
        }
        self.websocket = websocket;
        true
    }

    /// The one authority of a request: `:authority`, or `Host`, or both if they agree.
    fn authority(&mut self) -> Option<Reason> {
        let Self { text, said, .. } = self;
        let get = |piece: Option<Piece>| piece.map(|Piece(from, to)| &said[from..to]);
        match (get(self.authority).filter(|authority| !authority.is_empty()), get(self.host)) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Some(Reason::BAD_HOST),
            (Some(_), _) => {}
            (None, Some(host)) if !host.is_empty() => line(b"host", host, text),
            _ => return Some(Reason::BAD_HOST),
        }
        None
    }

    /// The head. It fits closely: a flood opens streams by the hundred before the first of them is served.
    pub(super) fn text(&self) -> Vec<u8> {
        self.text.clone()
    }

    /// All fields are there. `ended`: nothing follows them.
    pub(super) fn finish(&mut self, ended: bool) -> Finished {
        let begun = self.begun || self.refused.is_some() || self.begin();
        let lies = ended && self.refused.is_none() && self.length.is_some_and(|length| length > 0);
        if self.malformed || !begun || lies {
            return Finished::Malformed;
        }
        let refused = match self.refused {
            Some(reason) => Some(reason),
            None if self.websocket && ended => Some(Reason::BAD_REQUEST),
            None if self.websocket && self.length.is_some() => Some(Reason::BAD_FRAMING),
            None => self.authority(),
        };
        if let Some(reason) = refused {
            return Finished::Refused(reason);
        }
        let Self { text, cookies, .. } = self;
        if !cookies.is_empty() {
            text.extend_from_slice(cookies);
            text.extend_from_slice(b"\r\n");
        }
        let key = self.websocket.then(websocket::key);
        if let Some(key) = &key {
            text.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
            line(b"Sec-WebSocket-Key", key.as_bytes(), text);
        } else if !ended && self.length.is_none() {
            text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Finished::Head { key, length: self.length.filter(|_| !ended) }
    }
}

/// A client's trailers: the lines of those that may come late.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    pub(super) lines: Vec<u8>,
    pub(super) malformed: bool,
    /// Bytes of all fields, also of those that are not kept.
    size: usize,
}

impl Trailers {
    /// Takes in a field; as many bytes as `most` in all. Once it is malformed nothing more is looked at: a byte on the wire may
    /// stand for a field of thousands.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8], most: usize) {
        self.size += name.len() + value.len() + 32;
        self.malformed =
            self.malformed || self.size > most || !is_name(name) || !is_value(value) || of_connection(name);
        if !self.malformed && trailer_allowed(name) {
            line(name, value, &mut self.lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/a?b#c"), (":authority", "test")];

    fn built(fields: &[(&str, &str)], ended: bool) -> (Finished, String) {
        let mut builder = Builder::default();
        builder.start(1000);
        fields.iter().for_each(|(name, value)| builder.field(name.as_bytes(), value.as_bytes()));
        let finished = builder.finish(ended);
        (finished, String::from_utf8(builder.text()).unwrap())
    }

    #[test]
    fn a_request_becomes_one_plain_head() {
        let more = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("host", "TEST")];
        let (finished, text) = built(&[&GET[..], &more].concat(), true);
        assert_eq!(finished, Finished::Head { key: None, length: None });
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: test\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n");
        let (finished, text) = built(&[&GET[..], &[("content-length", "5")]].concat(), false);
        assert_eq!(finished, Finished::Head { key: None, length: Some(5) });
        assert!(text.ends_with("content-length: 5\r\n\r\n"));
        assert!(built(&GET, false).1.ends_with("Transfer-Encoding: chunked\r\n\r\n"));
        let socket = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "t"),
        ];
        let (finished, text) = built(&socket, false);
        let Finished::Head { key: Some(key), length: None } = finished else { panic!("{finished:?}") };
        assert!(text.ends_with(&format!("Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n")), "{text}");
    }

    #[test]
    fn what_cannot_be_answered_is_malformed_and_what_can_is_refused() {
        let with = |more: (&str, &str)| built(&[&GET[..], &[more]].concat(), true).0;
        let refused = Finished::Refused;
        for (more, must) in [
            (("x", "a\nb"), Finished::Malformed),
            (("X", "a"), Finished::Malformed),
            (("x:", "a"), Finished::Malformed),
            (("", "a"), Finished::Malformed),
            ((":status", "200"), Finished::Malformed),
            ((":path", "/"), Finished::Malformed),
            (("connection", "close"), Finished::Malformed),
            (("te", "gzip"), Finished::Malformed),
            (("content-length", "+0"), Finished::Malformed),
            (("content-length", "1"), Finished::Malformed),
            (("host", "other"), refused(Reason::BAD_HOST)),
            (("x", &"y".repeat(1000)), refused(Reason::HEAD_TOO_LARGE)),
        ] {
            assert_eq!(with(more), must, "{more:?}");
        }
        assert_eq!(built(&GET[..3], true).0, refused(Reason::BAD_HOST));
        assert_eq!(built(&GET[1..], true).0, Finished::Malformed);
        assert_eq!(built(&[(":method", "CONNECT"), (":authority", "t:1")], true).0, refused(Reason::CONNECT_METHOD));
    }

    #[test]
    fn trailers_are_bounded_by_all_that_was_said_and_not_by_what_is_kept() {
        let mut trailers = Trailers::default();
        trailers.field(b"x-sum", b"1", 1000);
        // Comes too late to be passed on.
        trailers.field(b"content-length", &[b'1'; 900], 1000);
        assert_eq!((trailers.malformed, &trailers.lines[..]), (false, &b"x-sum: 1\r\n"[..]));
        trailers.field(b"x", b"", 1000);
        assert!(trailers.malformed);
    }

    proptest! {
        /// Whatever a client says: what is written is one head for the strict parser, with no line that it did not say.
        #[test]
        fn no_fields_make_more_than_one_head(
            names in proptest::collection::vec("(:path|:authority|host|cookie|te|x|[ -~]{0,3}|content-length)", 0..6),
            values in proptest::collection::vec("(/|test|[ -~\r\n\0]{0,8})", 6),
        ) {
            let more: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            let (finished, text) = built(&[&GET[..2], &more].concat(), true);
            if matches!(finished, Finished::Head { .. }) {
                prop_assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4));
                prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
                let read = crate::http::head::request(text.as_bytes(), 100, Vec::new());
                if let Ok(read) = read {
                    prop_assert_eq!(read.map(|request| request.len), Some(text.len()));
                }
            }
        }
    }
}
