//! Heads and trailers from HTTP/2 to the HTTP/1.1 form that everything else here reads and writes, and back.
//!
//! What comes from a client is written as one canonical HTTP/1.1 head, and the one strict parser reads that: limits, routes
//! and rules know one form of request. Nothing is passed on whose meaning would differ between the two (RFC 9113, 8).
use super::websocket;
use crate::http::reason::Reason;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request, response};
use std::io;

/// Fields that say something of one connection only, and do not exist in HTTP/2.
fn of_connection(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// White space around a value is HTTP/1's affair: here it would be part of it (RFC 9113, 8.2.1).
fn is_tidy(value: &HeaderValue) -> bool {
    let space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !space(value.as_bytes().first()) && !space(value.as_bytes().last())
}

fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The one authority of a request: `:authority`, or `Host`, or both if they agree.
fn authority(parts: &request::Parts) -> Result<&[u8], Reason> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Reason::BAD_HOST);
    }
    match (parts.uri.authority().map(|a| a.as_str().as_bytes()), host) {
        (Some(a), Some(b)) if !a.eq_ignore_ascii_case(b) => Err(Reason::BAD_HOST),
        (Some(one), _) | (None, Some(one)) if !one.is_empty() => Ok(one),
        _ => Err(Reason::BAD_HOST),
    }
}

/// Writes a request's head. `ended`: nothing follows it. Gives back the key that was made for a WebSocket.
///
/// # Errors
/// What the client gets instead of an answer.
pub(crate) fn request_in(parts: &request::Parts, ended: bool, out: &mut Vec<u8>) -> Result<Option<String>, Reason> {
    let websocket = match parts.extensions.get::<Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" && !ended => true,
        Some(protocol) if protocol.as_str() == "websocket" => return Err(Reason::BAD_REQUEST),
        Some(_) => return Err(Reason::CONNECT_METHOD),
        None if parts.method == Method::CONNECT => return Err(Reason::CONNECT_METHOD),
        None => false,
    };
    let target = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let known = target.starts_with('/') || (target == "*" && parts.method == Method::OPTIONS);
    if !known {
        return Err(Reason::BAD_REQUEST);
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Reason::BAD_REQUEST);
    }
    let authority = authority(parts)?;
    let method = if websocket { "GET" } else { parts.method.as_str() };
    for piece in [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(piece);
    }
    field("host", authority, out);
    let mut length = None;
    for (name, value) in &parts.headers {
        if !is_tidy(value) || of_connection(name) {
            return Err(Reason::BAD_REQUEST);
        }
        match *name {
            header::HOST | header::COOKIE => continue,
            header::TE if value.as_bytes() != b"trailers" => return Err(Reason::BAD_REQUEST),
            header::SEC_WEBSOCKET_KEY if websocket => continue,
            header::CONTENT_LENGTH => length = Some(value.as_bytes()),
            _ => {}
        }
        field(name.as_str(), value.as_bytes(), out);
    }
    cookies(&parts.headers, out);
    let key = websocket.then(websocket::key);
    match (&key, length) {
        (Some(_), Some(_)) => return Err(Reason::BAD_FRAMING),
        (Some(key), None) => {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
            field("Sec-WebSocket-Key", key.as_bytes(), out);
        }
        (None, Some(length)) if ended && length.iter().any(|b| *b != b'0') => return Err(Reason::BAD_FRAMING),
        (None, None) if !ended => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(key)
}

/// Cookies may come one by one; HTTP/1.1 knows one line of them (RFC 9113, 8.2.3).
fn cookies(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut before: &[u8] = b"cookie: ";
    for value in headers.get_all(header::COOKIE) {
        out.extend_from_slice(before);
        out.extend_from_slice(value.as_bytes());
        before = b"; ";
    }
    if before == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes an answer's head, interim ones too. `accept`: it may accept a WebSocket, and then says this.
pub(crate) fn response_in(parts: &response::Parts, accept: Option<&str>, out: &mut Vec<u8>) {
    let accepted = accept.filter(|_| parts.status == StatusCode::OK);
    let status = if accepted.is_some() { StatusCode::SWITCHING_PROTOCOLS } else { parts.status };
    for piece in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", status.canonical_reason().unwrap_or("").as_bytes()] {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in parts.headers.iter().filter(|(name, _)| !of_connection(name)) {
        field(name.as_str(), value.as_bytes(), out);
    }
    if let Some(accept) = accepted {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        field("Sec-WebSocket-Accept", accept.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes trailers as lines.
pub(crate) fn trailers_in(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in
        trailers.iter().filter(|(name, _)| crate::http::body::trailer_allowed(name.as_str().as_bytes()))
    {
        field(name.as_str(), value.as_bytes(), out);
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The lines of a head that we have written, as fields of HTTP/2. Fields of the connection are left out.
fn fields(text: &Bytes, from: usize, skip: impl Fn(&HeaderName) -> bool) -> io::Result<HeaderMap> {
    let mut map = HeaderMap::with_capacity(16);
    let mut at = from;
    for end in memchr::memchr_iter(b'\n', &text[from..]).map(|i| from + i) {
        let line = at..end.saturating_sub(1);
        at = end + 1;
        if line.is_empty() {
            break;
        }
        let bytes = &text[line.clone()];
        let colon = memchr::memchr(b':', bytes).ok_or_else(|| wrong("a line without a colon"))?;
        let name = HeaderName::from_bytes(&bytes[..colon]).map_err(|_| wrong("a name"))?;
        if of_connection(&name) || skip(&name) {
            continue;
        }
        let value = bytes[colon + 1..].trim_ascii();
        let start = value.as_ptr() as usize - text.as_ptr() as usize;
        // An empty value has its place at the line's end; what the bytes are is what counts.
        let value = if value.is_empty() { Bytes::new() } else { text.slice(start..start + value.len()) };
        map.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| wrong("a value"))?);
    }
    Ok(map)
}

/// Where the lines after the first begin.
fn after_first_line(head: &[u8]) -> io::Result<usize> {
    memchr::memchr(b'\n', head).map(|i| i + 1).ok_or_else(|| wrong("no line"))
}

/// An answer whose head we have written as HTTP/1.1. One that switches protocols is a plain success here.
pub(crate) fn response_out(head: &[u8]) -> io::Result<Response<()>> {
    let status = head.get(9..12).and_then(|s| StatusCode::from_bytes(s).ok()).ok_or_else(|| wrong("no status"))?;
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    let from = after_first_line(head)?;
    let mut response = Response::new(());
    *response.status_mut() = if switched { StatusCode::OK } else { status };
    let text = Bytes::copy_from_slice(head);
    *response.headers_mut() = fields(&text, from, |name| switched && *name == header::SEC_WEBSOCKET_ACCEPT)?;
    Ok(response)
}

/// A request whose head we have written as HTTP/1.1; `server` stands in where it names no host. Gives back what must be
/// said to a client whose WebSocket is accepted.
pub(crate) fn request_out(
    head: &[u8],
    scheme: &'static str,
    server: &str,
) -> io::Result<(Request<()>, Option<String>)> {
    let from = after_first_line(head)?;
    let mut words = head[..from].trim_ascii_end().split(|b| *b == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(wrong("no request line")) };
    let text = Bytes::copy_from_slice(head);
    let websocket = upgrades_to_websocket(head);
    let mut headers = fields(&text, from, |name| *name == header::TE)?;
    let host = headers.remove(header::HOST).filter(|host| !host.is_empty());
    let host = host.unwrap_or(HeaderValue::from_str(server).map_err(|_| wrong("an address"))?);
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target);
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().map_err(|_| wrong("a target"))?;
    *request.method_mut() = Method::from_bytes(method).map_err(|_| wrong("a method"))?;
    let mut accept = None;
    if websocket {
        accept = headers.remove(header::SEC_WEBSOCKET_KEY).map(|key| websocket::accept(key.as_bytes()));
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    } else {
        // We pass trailers on, whatever the client said about its own connection.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    *request.headers_mut() = headers;
    Ok((request, accept))
}

fn upgrades_to_websocket(head: &[u8]) -> bool {
    head.split(|b| *b == b'\n').skip(1).any(|line| {
        line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade:"))
            && line[8..].trim_ascii().eq_ignore_ascii_case(b"websocket")
    })
}

/// Trailers whose lines we have written.
pub(crate) fn trailers_out(lines: &[u8]) -> io::Result<HeaderMap> {
    fields(&Bytes::copy_from_slice(lines), 0, |_| false)
}
