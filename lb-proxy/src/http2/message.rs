//! Heads and trailers from HTTP/2 to the HTTP/1.1 form that everything else here reads and writes, and back; but for a
//! client's, which [`request`] writes.
use super::request::{is_name, line, of_connection};
use super::{hpack, websocket};
use crate::http::head::lines_are_strict;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, response};
use smallvec::SmallVec;
use std::io;

/// Writes an answer's head, interim ones too. `accept`: it may accept a WebSocket, and then says this.
pub(crate) fn response_in(parts: &response::Parts, accept: Option<&str>, out: &mut Vec<u8>) {
    let accepted = accept.filter(|_| parts.status == StatusCode::OK);
    let status = if accepted.is_some() { StatusCode::SWITCHING_PROTOCOLS } else { parts.status };
    for piece in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", status.canonical_reason().unwrap_or("").as_bytes()] {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in parts.headers.iter().filter(|(name, _)| !of_connection(name.as_ref())) {
        line(name.as_ref(), value.as_bytes(), out);
    }
    if let Some(accept) = accepted {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        line(b"Sec-WebSocket-Accept", accept.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes trailers as lines.
pub(crate) fn trailers_in(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in
        trailers.iter().filter(|(name, _)| crate::http::body::trailer_allowed(name.as_str().as_bytes()))
    {
        line(name.as_ref(), value.as_bytes(), out);
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
        if of_connection(name.as_ref()) || skip(&name) {
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

/// Writes an answer's head, which we have written as HTTP/1.1, as fields of HTTP/2. One that switches protocols is a plain
/// success here.
pub(super) fn head_out(head: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let digits = head.get(9..12).filter(|s| s.iter().all(u8::is_ascii_digit)).ok_or_else(|| wrong("no status"))?;
    let status = digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    let switched = status == 101;
    hpack::status(if switched { 200 } else { status }, out);
    fields_out(&head[after_first_line(head)?..], switched, out)
}

/// Writes the lines of a head or of trailers, which we have written, as fields of HTTP/2. Fields of the connection are left
/// out; `switched`: so is what accepts a WebSocket.
pub(super) fn fields_out(lines: &[u8], switched: bool, out: &mut Vec<u8>) -> io::Result<()> {
    // Of all lines at once, because that takes many bytes in one step.
    if !lines.iter().fold(true, |text, b| text & ((*b >= b' ' && *b != 0x7f) | matches!(*b, b'\t' | b'\r' | b'\n')))
        || !lines_are_strict(lines)
    {
        return Err(wrong("a byte"));
    }
    let mut name = SmallVec::<[u8; 64]>::new();
    let mut at = 0;
    for end in memchr::memchr_iter(b'\n', lines) {
        let line = &lines[at..end.saturating_sub(1).max(at)];
        at = end + 1;
        if line.is_empty() {
            break;
        }
        let colon = memchr::memchr(b':', line).ok_or_else(|| wrong("a line without a colon"))?;
        name.clear();
        name.extend_from_slice(&line[..colon]);
        name.make_ascii_lowercase();
        if of_connection(&name) || (switched && name[..] == *b"sec-websocket-accept") {
            continue;
        }
        if !is_name(&name) {
            return Err(wrong("a name"));
        }
        hpack::field(&name, line[colon + 1..].trim_ascii(), out);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(head: &str) -> io::Result<Vec<(String, String)>> {
        let mut block = Vec::new();
        head_out(head.as_bytes(), &mut block)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Vec::new();
        let decoded = hpack::Decoder::new().decode(&block, |name, value| fields.push((text(name), text(value))));
        assert_eq!(decoded, Ok(()));
        Ok(fields)
    }

    #[test]
    fn an_answers_lines_become_fields_but_for_those_of_the_connection() {
        let long = format!("X-{}", "y".repeat(100));
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: x-a\r\nKEEP-ALIVE: 5\r\nX-A:  b c \r\n{long}: v\r\n\
             X-Empty:\r\nTransfer-Encoding: chunked\r\n\r\nHidden: behind the end\r\n"
        );
        let long = long.to_ascii_lowercase();
        let fields = [(":status", "404"), ("content-length", "3"), ("x-a", "b c"), (&long, "v"), ("x-empty", "")];
        assert_eq!(said(&head).unwrap(), fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let switched =
            "HTTP/1.1 101 \r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: y\r\n\r\n";
        let fields = [(":status", "200"), ("sec-websocket-protocol", "y")];
        assert_eq!(said(switched).unwrap(), fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_no_field_is_not_sent() {
        for line in ["no colon", ": no name", "a b: c", "a\u{e9}: c", "a: \0", "a: b\rc", "a: b\nc: d", "a: \u{7f}"] {
            assert!(said(&format!("HTTP/1.1 200 OK\r\nx: y\r\n{line}\r\n\r\n")).is_err(), "{line:?}");
        }
    }
}
