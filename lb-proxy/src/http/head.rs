//! The one strict parser of HTTP/1 heads (RFC 9112): what it lets through has one meaning only.
//!
//! httparse finds the parts; the rules on top are ours: no bare LF, no framing in doubt, one Host. Positions instead
//! of slices, so that a parsed head does not borrow its buffer.
use super::reason::Reason;
use lb_core::matcher::path;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Greatest number of fields in any head.
pub(crate) const MAX_FIELDS: usize = 256;

/// A piece of the buffer that holds the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    start: u32,
    end: u32,
}

impl Piece {
    fn of(buf: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - buf.as_ptr() as usize;
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes.
    pub(crate) fn get(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    /// Where it starts.
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    fn sub(self, range: Range<usize>) -> Self {
        Self { start: self.start + range.start as u32, end: self.start + range.end as u32 }
    }
}

/// Fields that a proxy must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Other,
    CacheControl,
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Host,
    KeepAlive,
    ProxyConnection,
    SecWebSocketKey,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedProto,
    XRealIp,
}

impl Known {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("cookie") => Self::Cookie,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Trailer,
            9 if is("x-real-ip") => Self::XRealIp,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            10 if is("set-cookie") => Self::SetCookie,
            13 if is("cache-control") => Self::CacheControl,
            14 if is("content-length") => Self::ContentLength,
            15 if is("x-forwarded-for") => Self::XForwardedFor,
            16 if is("proxy-connection") => Self::ProxyConnection,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::XForwardedProto,
            17 if is("sec-websocket-key") => Self::SecWebSocketKey,
            _ => Self::Other,
        }
    }
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Piece,
    pub(crate) value: Piece,
    pub(crate) known: Known,
}

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes; at least one.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// The connection's end. Answers only.
    UntilClose,
}

impl Framing {
    /// As HTTP/2 has it: what is not counted ends where its stream does.
    pub(crate) fn by_end(self) -> Self {
        if self == Self::Chunked { Self::UntilClose } else { self }
    }
}

/// A request's head.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its length in the buffer.
    pub(crate) len: usize,
    pub(crate) method: Piece,
    /// Target in origin form (or `*`), as it is passed on.
    pub(crate) target: Piece,
    /// Path without query.
    pub(crate) path: Piece,
    /// The path as conditions compare it, where it is written in another way.
    pub(crate) plain: Option<Vec<u8>>,
    /// Query without `?`.
    pub(crate) query: Piece,
    /// Value of `Host`, or the authority of an absolute target; empty for HTTP/1.0 without one.
    pub(crate) authority: Piece,
    /// Host without port.
    pub(crate) host: Piece,
    /// HTTP/1.1, else 1.0.
    pub(crate) http11: bool,
    pub(crate) framing: Framing,
    /// Whether the client wants the connection kept.
    pub(crate) keep_alive: bool,
    /// The one protocol it asks to upgrade to.
    pub(crate) upgrade: Option<Piece>,
    /// Whether `Connection` has options of its own: fields that end here.
    pub(crate) names: bool,
    pub(crate) fields: Vec<Field>,
}

impl Request {
    /// Whether the method is safe to repeat (RFC 9110, 9.2.2).
    pub(crate) fn idempotent(&self, buf: &[u8]) -> bool {
        matches!(self.method.get(buf), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
    }

    /// First value of a field, by lower-case name.
    pub(crate) fn value<'a>(&self, buf: &'a [u8], name: &str) -> Option<&'a [u8]> {
        first_value(&self.fields, buf, name)
    }

    /// Whether it asks for a WebSocket.
    pub(crate) fn websocket(&self, buf: &[u8]) -> bool {
        self.upgrade.is_some_and(|u| u.get(buf).eq_ignore_ascii_case(b"websocket"))
    }

    /// The key of a WebSocket's handshake that is one by the standard; any other upgrade is a plain tunnel.
    pub(crate) fn websocket_key<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        let asked = self.websocket(buf) && self.method.get(buf) == b"GET";
        let version = asked.then(|| self.value(buf, "sec-websocket-version")).flatten();
        (version == Some(b"13")).then(|| self.value(buf, "sec-websocket-key")).flatten()
    }
}

/// First value of a field, by lower-case name.
pub(crate) fn first_value<'a>(fields: &[Field], buf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|f| f.name.get(buf).eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value.get(buf))
}

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Response {
    /// Its length in the buffer.
    pub(crate) len: usize,
    pub(crate) status: u16,
    /// Reason phrase.
    pub(crate) phrase: Piece,
    pub(crate) framing: Framing,
    /// Whether the server keeps the connection.
    pub(crate) keep_alive: bool,
    /// Whether `Connection` names `upgrade`.
    pub(crate) upgrade: Option<Piece>,
    /// As that of a request.
    pub(crate) names: bool,
    pub(crate) fields: Vec<Field>,
}

type Headers<'a> = [MaybeUninit<httparse::Header<'a>>; MAX_FIELDS];

const fn no_headers<'a>() -> Headers<'a> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// Parses a request's head at the start of `buf`; `None`: more bytes are needed. `fields` is emptied and used again.
///
/// # Errors
/// What the client gets instead of an answer.
pub(crate) fn request(buf: &[u8], max_fields: usize, mut fields: Vec<Field>) -> Result<Option<Request>, Reason> {
    let mut headers = no_headers();
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(buf, &mut headers).map_err(|e| match e {
        httparse::Error::TooManyHeaders => Reason::HEAD_TOO_LARGE,
        httparse::Error::Version => Reason::VERSION,
        _ => Reason::BAD_REQUEST,
    })?;
    let httparse::Status::Complete(len) = status else {
        return if lines_are_strict(buf) { Ok(None) } else { Err(Reason::BAD_REQUEST) };
    };
    if parsed.headers.len() > max_fields {
        return Err(Reason::HEAD_TOO_LARGE);
    }
    if !lines_are_strict(&buf[..len]) {
        return Err(Reason::BAD_REQUEST);
    }
    let has = take_fields(buf, parsed.headers, &mut fields).ok_or(Reason::BAD_REQUEST)?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Reason::BAD_REQUEST);
    };
    let http11 = version == 1;
    let target = Target::read(buf, method, target)?;
    let connection = Connection::read(buf, &fields, has)?;
    let authority = authority(buf, &fields, &target, http11)?;
    let framing = request_framing(buf, &fields, has, http11)?;
    let upgrade = upgrade(buf, &fields, connection.upgrade && http11 && has.any(Known::Upgrade));
    Ok(Some(Request {
        len,
        method: Piece::of(buf, method.as_bytes()),
        target: target.origin,
        path: target.path,
        plain: path::plain(target.path.get(buf)),
        query: target.query,
        authority,
        host: host_of(buf, authority)?,
        http11,
        framing,
        keep_alive: if http11 { !connection.close } else { connection.keep_alive && !connection.close },
        upgrade,
        names: connection.names,
        fields,
    }))
}

/// Parses an answer's head at the start of `buf`; `None`: more bytes are needed. `head_request`: it answers HEAD.
///
/// # Errors
/// The client gets a 502.
pub(crate) fn response(buf: &[u8], head_request: bool, mut fields: Vec<Field>) -> Result<Option<Response>, Reason> {
    let mut headers = no_headers();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status =
        config.parse_response_with_uninit_headers(&mut parsed, buf, &mut headers).map_err(|_| Reason::BAD_ANSWER)?;
    let httparse::Status::Complete(len) = status else {
        return if lines_are_strict(buf) { Ok(None) } else { Err(Reason::BAD_ANSWER) };
    };
    // httparse skips blank lines before the status line; no server has a reason to send them.
    if !buf.starts_with(b"HTTP/1.") || !lines_are_strict(&buf[..len]) {
        return Err(Reason::BAD_ANSWER);
    }
    let has = take_fields(buf, parsed.headers, &mut fields).ok_or(Reason::BAD_ANSWER)?;
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Reason::BAD_ANSWER);
    };
    if !(100..=599).contains(&status) {
        return Err(Reason::BAD_ANSWER);
    }
    let connection = Connection::read(buf, &fields, has).map_err(|_| Reason::BAD_ANSWER)?;
    let http11 = version == 1;
    let framing = response_framing(buf, &fields, has, http11, status, head_request)?;
    let phrase = parsed
        .reason
        .map_or(Piece::default(), |r| if r.is_empty() { Piece::default() } else { Piece::of(buf, r.as_bytes()) });
    let keep_alive = if http11 { !connection.close } else { connection.keep_alive && !connection.close };
    Ok(Some(Response {
        len,
        status,
        phrase,
        framing,
        keep_alive: keep_alive && framing != Framing::UntilClose,
        upgrade: upgrade(buf, &fields, connection.upgrade && has.any(Known::Upgrade)),
        names: connection.names,
        fields,
    }))
}

/// Every LF follows a CR, every CR but the last byte is followed by an LF, and there is no NUL.
pub(crate) fn lines_are_strict(head: &[u8]) -> bool {
    // Without a way out in the middle, so that many bytes are looked at in one step.
    let pairs = head.iter().zip(head.iter().skip(1));
    let strict = pairs.fold(true, |strict, (a, b)| strict & ((*a == b'\r') == (*b == b'\n')) & (*b != 0));
    strict && !matches!(head.first(), Some(b'\n' | 0))
}

/// Which fields a head has, so that nobody looks for those that it has not.
#[derive(Clone, Copy, Default)]
struct Has(u32);

impl Has {
    fn any(self, known: Known) -> bool {
        self.0 & 1 << known as u32 != 0
    }
}

/// `None`: a field has no name.
fn take_fields(buf: &[u8], headers: &[httparse::Header<'_>], fields: &mut Vec<Field>) -> Option<Has> {
    let (mut has, mut named) = (Has::default(), true);
    fields.clear();
    fields.extend(headers.iter().map(|h| {
        let known = Known::of(h.name.as_bytes());
        has.0 |= 1 << known as u32;
        named &= !h.name.is_empty();
        // An empty value has no place of its own in the buffer.
        let value = if h.value.is_empty() { Piece::default() } else { Piece::of(buf, h.value) };
        Field { name: Piece::of(buf, h.name.as_bytes()), value, known }
    }));
    named.then_some(has)
}

/// A request target, taken apart (RFC 9112, 3.2).
struct Target {
    origin: Piece,
    path: Piece,
    query: Piece,
    authority: Option<Piece>,
}

impl Target {
    fn read(buf: &[u8], method: &str, target: &str) -> Result<Self, Reason> {
        if method == "CONNECT" {
            return Err(Reason::CONNECT_METHOD);
        }
        // '#' never travels, and what is not visible ASCII is somebody's trick.
        if !target.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#') {
            return Err(Reason::BAD_REQUEST);
        }
        let whole = Piece::of(buf, target.as_bytes());
        let (authority, origin) = if target.starts_with('/') {
            (None, whole)
        } else if target == "*" && method == "OPTIONS" {
            return Ok(Self { origin: whole, path: whole, query: Piece::default(), authority: None });
        } else {
            let scheme = ["http://", "https://"]
                .iter()
                .find(|s| target.len() > s.len() && target.as_bytes()[..s.len()].eq_ignore_ascii_case(s.as_bytes()))
                .ok_or(Reason::BAD_REQUEST)?;
            let rest = &target[scheme.len()..];
            let slash = rest.find(['/', '?']).unwrap_or(rest.len());
            // "http://host?query" and "http://host" have no path to pass on: refused rather than invented.
            if !rest[slash..].starts_with('/') {
                return Err(Reason::BAD_REQUEST);
            }
            (Some(whole.sub(scheme.len()..scheme.len() + slash)), whole.sub(scheme.len() + slash..target.len()))
        };
        let bytes = origin.get(buf);
        let mark = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
        let query = if mark < bytes.len() { origin.sub(mark + 1..bytes.len()) } else { Piece::default() };
        Ok(Self { origin, path: origin.sub(0..mark), query, authority })
    }
}

/// What `Connection` says.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Something else.
    names: bool,
}

impl Connection {
    fn read(buf: &[u8], fields: &[Field], has: Has) -> Result<Self, Reason> {
        let mut said = Self::default();
        if !has.any(Known::Connection) {
            return Ok(said);
        }
        for option in options(buf, fields) {
            match option {
                o if o.eq_ignore_ascii_case(b"close") => said.close = true,
                o if o.eq_ignore_ascii_case(b"keep-alive") => said.keep_alive = true,
                o if o.eq_ignore_ascii_case(b"upgrade") => said.upgrade = true,
                o if !o.iter().all(|b| lb_core::stick::is_token(*b)) => return Err(Reason::BAD_REQUEST),
                _ => said.names = true,
            }
        }
        Ok(said)
    }
}

/// The options that the `Connection` fields list.
pub(crate) fn options<'a>(buf: &'a [u8], fields: &'a [Field]) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(|f| f.known == Known::Connection)
        .flat_map(move |f| f.value.get(buf).split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|o| !o.is_empty())
}

/// The one protocol of an upgrade; h2c and lists of several are not passed on.
fn upgrade(buf: &[u8], fields: &[Field], asked: bool) -> Option<Piece> {
    let mut found = fields.iter().filter(|f| f.known == Known::Upgrade);
    let one = found.next().filter(|_| asked)?;
    let value = one.value.get(buf);
    let plain = !value.is_empty() && value.iter().all(|b| lb_core::stick::is_token(*b) || *b == b'/');
    let h2c = value.len() >= 2 && value[..2].eq_ignore_ascii_case(b"h2");
    (found.next().is_none() && plain && !h2c).then_some(one.value)
}

/// One Host in HTTP/1.1; an absolute target must agree with it.
fn authority(buf: &[u8], fields: &[Field], target: &Target, http11: bool) -> Result<Piece, Reason> {
    let mut hosts = fields.iter().filter(|f| f.known == Known::Host);
    let host = hosts.next();
    if hosts.next().is_some() || (http11 && host.is_none()) {
        return Err(Reason::BAD_HOST);
    }
    let host = host.map(|f| f.value);
    match (target.authority, host) {
        (Some(target), Some(host)) if !target.get(buf).eq_ignore_ascii_case(host.get(buf)) => Err(Reason::BAD_HOST),
        (Some(target), _) => Ok(target),
        (None, host) => Ok(host.unwrap_or_default()),
    }
}

/// The host of `host[:port]`.
fn host_of(buf: &[u8], authority: Piece) -> Result<Piece, Reason> {
    let bytes = authority.get(buf);
    let end = if bytes.first() == Some(&b'[') {
        memchr::memchr(b']', bytes).ok_or(Reason::BAD_HOST)? + 1
    } else {
        memchr::memchr(b':', bytes).unwrap_or(bytes.len())
    };
    let (host, port) = bytes.split_at(end);
    let port_ok = port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit) && port.len() <= 6);
    let allowed = |b: &u8| {
        matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'$'..=b'.' | b';' | b'=' | b'_' | b'~')
            && *b != b','
    };
    let host_ok = if end > 0 && bytes[0] == b'[' {
        host[1..end - 1].iter().all(|b| b.is_ascii_hexdigit() || b":.%".contains(b))
    } else {
        host.iter().all(allowed)
    };
    if port_ok && host_ok { Ok(authority.sub(0..end)) } else { Err(Reason::BAD_HOST) }
}

/// Whether a text may stand as `Host`: a host, and perhaps a port.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    host_of(text, Piece::of(text, text)).is_ok_and(|host| !host.get(text).is_empty())
}

/// `Content-Length`, strictly: digits only, one value.
fn content_length(buf: &[u8], fields: &[Field], has: Has) -> Result<Option<u64>, Reason> {
    let mut length = None;
    if !has.any(Known::ContentLength) {
        return Ok(length);
    }
    for field in fields.iter().filter(|f| f.known == Known::ContentLength) {
        let text = field.value.get(buf);
        if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
            return Err(Reason::BAD_FRAMING);
        }
        let value = text.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
        if length.is_some_and(|l| l != value) {
            return Err(Reason::BAD_FRAMING);
        }
        length = Some(value);
    }
    Ok(length)
}

/// Whether the message is chunked.
fn chunked(buf: &[u8], fields: &[Field], has: Has, http11: bool) -> Result<bool, Reason> {
    if !has.any(Known::TransferEncoding) {
        return Ok(false);
    }
    let mut codings = fields.iter().filter(|f| f.known == Known::TransferEncoding);
    let Some(coding) = codings.next() else { return Ok(false) };
    if !http11 || codings.next().is_some() {
        return Err(Reason::BAD_FRAMING);
    }
    let value = coding.value.get(buf);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let mut names = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let known = names.all(|n| [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"chunked"].contains(&n));
    let chunked_once = value.ends_with(b"chunked") && memchr::memmem::find_iter(value, b"chunked").count() == 1;
    Err(if known && chunked_once { Reason::UNKNOWN_CODING } else { Reason::BAD_FRAMING })
}

fn request_framing(buf: &[u8], fields: &[Field], has: Has, http11: bool) -> Result<Framing, Reason> {
    let length = content_length(buf, fields, has)?;
    if chunked(buf, fields, has, http11)? {
        return if length.is_none() { Ok(Framing::Chunked) } else { Err(Reason::BAD_FRAMING) };
    }
    Ok(length.filter(|l| *l > 0).map_or(Framing::Empty, Framing::Length))
}

/// RFC 9112, 6.3.
fn response_framing(
    buf: &[u8],
    fields: &[Field],
    has: Has,
    http11: bool,
    status: u16,
    head: bool,
) -> Result<Framing, Reason> {
    let length = content_length(buf, fields, has).map_err(|_| Reason::BAD_ANSWER)?;
    let chunked = chunked(buf, fields, has, http11).map_err(|_| Reason::BAD_ANSWER)?;
    if chunked && length.is_some() {
        return Err(Reason::BAD_ANSWER);
    }
    if head || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Empty);
    }
    Ok(match (chunked, length) {
        (true, _) => Framing::Chunked,
        (_, Some(0)) => Framing::Empty,
        (_, Some(length)) => Framing::Length(length),
        (_, None) => Framing::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Result<Framing, Reason> {
        match request(text.as_bytes(), 100, Vec::new()) {
            Ok(Some(request)) => Ok(request.framing),
            Ok(None) => panic!("incomplete: {text:?}"),
            Err(reason) => Err(reason),
        }
    }

    #[test]
    fn framing_in_doubt_is_refused() {
        let post = |fields: &str| verdict(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(post("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(post("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(post("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(post("Transfer-Encoding: gzip, chunked\r\n"), Err(Reason::UNKNOWN_CODING));
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
        ] {
            assert_eq!(post(bad), Err(Reason::BAD_FRAMING), "{bad}");
        }
        assert_eq!(verdict("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Reason::BAD_FRAMING));
    }

    #[test]
    fn a_line_that_ends_in_doubt_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(verdict(bad), Err(Reason::BAD_REQUEST), "{bad:?}");
        }
    }

    #[test]
    fn there_is_one_host_and_the_target_agrees_with_it() {
        assert_eq!(verdict("GET / HTTP/1.1\r\n\r\n"), Err(Reason::BAD_HOST));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Err(Reason::BAD_HOST));
        assert_eq!(verdict("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reason::BAD_HOST));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), Err(Reason::BAD_HOST));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"), Err(Reason::BAD_HOST));
        let text = b"GET http://Shop:80/a/b?q=1 HTTP/1.1\r\nHost: shop:80\r\n\r\n";
        let head = request(text, 100, Vec::new()).unwrap().unwrap();
        assert_eq!(head.target.get(text), b"/a/b?q=1");
        assert_eq!(head.path.get(text), b"/a/b");
        assert_eq!(head.query.get(text), b"q=1");
        assert_eq!(head.host.get(text), b"Shop");
    }

    #[test]
    fn a_line_ends_with_both_and_nothing_else_ends_one() {
        for strict in ["", "\r", "\r\n", "a\r\nb", "a\r\n\r\n", "a\r\n\r"] {
            assert!(lines_are_strict(strict.as_bytes()), "{strict:?}");
        }
        for loose in ["\n", "a\n", "\ra", "a\rb\r\n", "a\n\r", "\r\r\n", "\0", "a\0", "a\r\n\0", "\r\n\n"] {
            assert!(!lines_are_strict(loose.as_bytes()), "{loose:?}");
            // Wherever it stands in a long head.
            for before in 0..70 {
                let head = format!("{}{loose}", "x".repeat(before));
                assert!(!lines_are_strict(head.as_bytes()), "{head:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_fail_and_a_prefix_is_never_more_than_incomplete(bytes: Vec<u8>, cut: usize) {
            let _ = request(&bytes, 100, Vec::new());
            let _ = response(&bytes, false, Vec::new());
            let good = b"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nCookie: a=b\r\n\r\n";
            let cut = cut % good.len();
            prop_assert!(matches!(request(&good[..cut], 100, Vec::new()), Ok(None)));
        }
    }
}
