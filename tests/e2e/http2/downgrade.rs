//! What an HTTP/2 request must not become on the way to an HTTP/1.1 server: each kind is refused, or reaches the server as
//! one message that means the same.
use crate::app_h2;
use lb_tests::frames::{flag, kind, raw_block};
use lb_tests::{Frames, Instance, Origin, Seen};

type Fields = &'static [(&'static str, &'static str)];

/// A request: its fields, and its body, if it has one.
struct Kind(Fields, Option<&'static str>);

const fn head(fields: Fields) -> Kind {
    Kind(fields, None)
}

const fn body(fields: Fields, body: &'static str) -> Kind {
    Kind(fields, Some(body))
}

macro_rules! get {
    ($($more:expr),* $(,)?) => {
        head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test"), $($more),*])
    };
}

macro_rules! post {
    ($body:expr, $($more:expr),* $(,)?) => {
        body(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test"), $($more),*], $body)
    };
}

macro_rules! path {
    ($path:expr) => {
        head(&[(":method", "GET"), (":scheme", "http"), (":path", $path), (":authority", "test")])
    };
}

macro_rules! method {
    ($method:expr) => {
        head(&[(":method", $method), (":scheme", "http"), (":path", "/"), (":authority", "test")])
    };
}

macro_rules! authority {
    ($authority:expr) => {
        head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", $authority)])
    };
}

/// None of these may reach a server.
const REFUSED: &[Kind] = &[
    // Lines within values.
    get!(("x", "a\r\nsmuggled: 1")),
    get!(("x", "a\nsmuggled: 1")),
    get!(("x", "a\rsmuggled: 1")),
    get!(("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n")),
    get!(("x", "a\r\n smuggled")),
    get!(("x", "a\0b")),
    get!(("x", "\u{1}")),
    get!(("x", "\u{7f}")),
    get!(("x", "a\u{b}b")),
    get!(("x", "a\u{c}b")),
    get!(("x", " leading")),
    get!(("x", "\tleading")),
    get!(("x", "trailing ")),
    get!(("x", "trailing\t")),
    get!(("cookie", "a=b\r\nsmuggled: 1")),
    get!(("cookie", "a=b\nsmuggled: 1")),
    get!(("user-agent", "x\r\nTransfer-Encoding: chunked")),
    get!(("referer", "x\r\nContent-Length: 5")),
    // Lines and colons within names.
    get!(("x: a\r\nsmuggled", "1")),
    get!(("x\r\nsmuggled", "1")),
    get!(("x\nsmuggled", "1")),
    get!(("x\0", "1")),
    get!(("x:y", "1")),
    get!(("x: y", "1")),
    get!(("transfer-encoding: chunked\r\nx", "1")),
    get!(("host: other\r\nx", "1")),
    get!(("x y", "1")),
    get!(("x\t", "1")),
    get!((" x", "1")),
    get!(("x ", "1")),
    get!(("transfer-encoding ", "chunked")),
    get!(("content-length ", "5")),
    get!(("", "1")),
    get!((":", "1")),
    get!(("(x)", "1")),
    get!(("x\"", "1")),
    get!(("x/y", "1")),
    get!(("x@y", "1")),
    get!(("x[y]", "1")),
    get!(("x\u{7f}", "1")),
    get!(("Upper", "1")),
    get!(("x\u{e9}", "1")),
    // Fields of a connection.
    get!(("connection", "close")),
    get!(("connection", "x-forwarded-for")),
    get!(("connection", "upgrade"), ("upgrade", "websocket")),
    get!(("connection", "upgrade"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAARAAAAA")),
    get!(("upgrade", "websocket")),
    get!(("http2-settings", "AAMAAABkAARAAAAA")),
    get!(("keep-alive", "timeout=5")),
    get!(("proxy-connection", "keep-alive")),
    get!(("transfer-encoding", "chunked")),
    get!(("transfer-encoding", "identity")),
    get!(("transfer-encoding", "")),
    get!(("te", "gzip")),
    get!(("te", "trailers, chunked")),
    get!(("te", "chunked")),
    post!("0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", ("transfer-encoding", "chunked")),
    post!("x", ("transfer-encoding", "chunked"), ("content-length", "1")),
    // Lengths.
    post!("x", ("content-length", "0")),
    post!("GET /smuggled HTTP/1.1\r\n\r\n", ("content-length", "0")),
    post!("hello", ("content-length", "4")),
    post!("hello", ("content-length", "6")),
    post!("hello", ("content-length", "5"), ("content-length", "6")),
    post!("hello", ("content-length", "+5")),
    post!("hello", ("content-length", "-5")),
    post!("hello", ("content-length", "5 ")),
    post!("hello", ("content-length", " 5")),
    post!("hello", ("content-length", "5,5")),
    post!("hello", ("content-length", "5, 5")),
    post!("hello", ("content-length", "0x5")),
    post!("hello", ("content-length", "5.0")),
    post!("hello", ("content-length", "")),
    post!("hello", ("content-length", "18446744073709551621")),
    post!("hello", ("content-length", "five")),
    get!(("content-length", "5")),
    get!(("content-length", "1"), ("content-length", "0")),
    // The method.
    method!("GET / HTTP/1.1\r\nHost: other\r\n\r\nGET"),
    method!("GET /smuggled HTTP/1.1\r\nx:"),
    method!("G ET"),
    method!("GET\r\n"),
    method!("GET\0"),
    method!("GET\t"),
    method!(""),
    method!("G(T"),
    method!("CONNECT"),
    head(&[(":method", "CONNECT"), (":authority", "test:443")]),
    head(&[
        (":method", "CONNECT"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test"),
        (":protocol", "websocket"),
    ]),
    head(&[
        (":method", "CONNECT"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test"),
        (":protocol", "connect-udp"),
    ]),
    head(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test"),
        (":protocol", "websocket"),
    ]),
    // The path.
    path!("/ HTTP/1.1\r\nHost: other\r\nx: "),
    path!("/ HTTP/1.1"),
    path!("/\r\nsmuggled: 1"),
    path!("/a b"),
    path!("/a\tb"),
    path!("/a\0"),
    path!("/a\u{7f}"),
    path!("/\u{e9}"),
    path!(""),
    path!("a"),
    path!("*"),
    path!("?x"),
    path!("//\r\n"),
    path!("http://other/"),
    path!("http://test/"),
    path!("other:80"),
    // The scheme.
    head(&[(":method", "GET"), (":scheme", "http\r\nx: y"), (":path", "/"), (":authority", "test")]),
    head(&[(":method", "GET"), (":scheme", "http://other/smuggled?"), (":path", "/"), (":authority", "test")]),
    head(&[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "test")]),
    head(&[(":method", "GET"), (":scheme", ""), (":path", "/"), (":authority", "test")]),
    // The authority.
    authority!("test\r\nsmuggled: 1"),
    authority!("test\nx"),
    authority!("test other"),
    authority!("test/path"),
    authority!("test?x"),
    authority!("user@test"),
    authority!("user:pass@test"),
    authority!("test:port"),
    authority!("test:80:81"),
    authority!("[::1"),
    authority!("te\0st"),
    authority!("test, other"),
    authority!(""),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]),
    get!(("host", "other")),
    get!(("host", "test"), ("host", "test")),
    get!(("host", "test:81")),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")]),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a/b")]),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "")]),
];

fn send(lb: &Instance, Kind(fields, body): &Kind) -> Option<u16> {
    let mut c = Frames::connect(lb.addr);
    // Bytes as they stand: one above 127 is no UTF-8 on the wire, as an attacker would have it.
    let latin: Vec<(Vec<u8>, Vec<u8>)> = fields
        .iter()
        .map(|(n, v)| (n.chars().map(|c| c as u8).collect(), v.chars().map(|c| c as u8).collect()))
        .collect();
    let plain: Vec<_> = latin.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
    let end = if body.is_none() { flag::END_STREAM } else { 0 };
    c.send(kind::HEADERS, flag::END_HEADERS | end, 1, &raw_block(&plain));
    if let Some(body) = body {
        c.send(kind::DATA, flag::END_STREAM, 1, body.as_bytes());
    }
    let answer = c.head(1);
    answer.expect("an answer, or an error").status()
}

#[test]
fn what_would_mean_something_else_in_http_1_reaches_no_server() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut wrong = Vec::new();
    for kind in REFUSED {
        let status = send(&lb, kind);
        if !matches!(status, None | Some(400 | 501)) {
            wrong.push(format!("{status:?} to {:?} {:?}", kind.0, kind.1));
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(a.seen(), [], "a server saw what it must not");
    assert!(REFUSED.len() >= 115, "{}", REFUSED.len());
}

/// What a server sees: the first line, the lines that must be there, the body.
struct Sees(&'static str, &'static [&'static str], &'static str);

/// Odd or plain, but legal: what the server must see of it.
const SERVED: &[(Kind, Sees)] = &[
    (get!(), Sees("GET / HTTP/1.1", &["Host: test"], "")),
    (path!("/a?b=c&d=%20#"), Sees("GET /a?b=c&d=%20 HTTP/1.1", &[], "")),
    (path!("//a/../b;c"), Sees("GET //a/../b;c HTTP/1.1", &[], "")),
    (method!("PATCH"), Sees("PATCH / HTTP/1.1", &[], "")),
    (method!("M-SEARCH"), Sees("M-SEARCH / HTTP/1.1", &[], "")),
    (
        head(&[(":method", "OPTIONS"), (":scheme", "https"), (":path", "*"), (":authority", "test")]),
        Sees("OPTIONS * HTTP/1.1", &["Host: test"], ""),
    ),
    (authority!("test:8080"), Sees("GET / HTTP/1.1", &["Host: test:8080"], "")),
    (authority!("[::1]:8080"), Sees("GET / HTTP/1.1", &["Host: [::1]:8080"], "")),
    (get!(("host", "TEST")), Sees("GET / HTTP/1.1", &["Host: test"], "")),
    (
        head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "only")]),
        Sees("GET / HTTP/1.1", &["Host: only"], ""),
    ),
    (
        get!(("cookie", "a=1"), ("cookie", "b=2"), ("x", "y"), ("cookie", "c=3")),
        Sees("GET / HTTP/1.1", &["cookie: a=1; b=2; c=3", "x: y"], ""),
    ),
    (get!(("x", "1"), ("x", "2")), Sees("GET / HTTP/1.1", &["x: 1", "x: 2"], "")),
    (get!(("x", "")), Sees("GET / HTTP/1.1", &["x:"], "")),
    (get!(("x", "a: b, \"c\"")), Sees("GET / HTTP/1.1", &["x: a: b, \"c\""], "")),
    (get!(("te", "trailers")), Sees("GET / HTTP/1.1", &[], "")),
    (get!(("content-length", "0")), Sees("GET / HTTP/1.1", &["Content-Length: 0"], "")),
    (post!("hello", ("content-length", "5")), Sees("POST / HTTP/1.1", &["Content-Length: 5"], "hello")),
    (post!("hello", ("content-length", "005")), Sees("POST / HTTP/1.1", &["Content-Length: 005"], "hello")),
    (post!("hello",), Sees("POST / HTTP/1.1", &["Transfer-Encoding: chunked"], "hello")),
    (post!("",), Sees("POST / HTTP/1.1", &["Transfer-Encoding: chunked"], "")),
    (
        post!("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",),
        Sees(
            "POST / HTTP/1.1",
            &["Transfer-Encoding: chunked"],
            "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
        ),
    ),
    (get!(("sec-websocket-key", "x")), Sees("GET / HTTP/1.1", &["sec-websocket-key: x"], "")),
    (
        get!(("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")),
        Sees("GET / HTTP/1.1", &["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"], ""),
    ),
];

fn told(seen: &Seen, Sees(line, fields, body): &Sees) -> Result<(), String> {
    let count = |name: &str| {
        let prefix = format!("{name}:");
        seen.head.lines().filter(|l| l.to_ascii_lowercase().starts_with(&prefix)).count()
    };
    let fault = |what: &str| Err(format!("{what}\n{}", seen.head));
    if seen.head.lines().next() != Some(line) {
        return fault("another first line");
    }
    if let Some(field) = fields.iter().find(|f| !seen.head.lines().any(|l| l.trim_end() == **f)) {
        return fault(&format!("no {field}"));
    }
    if seen.body != body.as_bytes() {
        return fault("another body");
    }
    let once = ["host", "x-forwarded-for", "x-forwarded-proto"].iter().all(|name| count(name) == 1);
    let framed = count("content-length") + count("transfer-encoding") <= 1;
    let clean = count("connection") + count("upgrade") + count("te") + count("cookie").saturating_sub(1) == 0;
    if once && framed && clean { Ok(()) } else { fault("lines too many or too few") }
}

#[test]
fn what_is_legal_reaches_the_server_as_one_plain_message() {
    let a = Origin::named("ok");
    let lb = Instance::start(&app_h2(&[&a], ""));
    for (i, (kind, sees)) in SERVED.iter().enumerate() {
        assert_eq!(send(&lb, kind), Some(200), "{:?}", kind.0);
        let seen = a.seen();
        assert_eq!(seen.len(), i + 1, "{:?}", kind.0);
        told(&seen[i], sees).unwrap_or_else(|why| panic!("{:?}: {why}", kind.0));
    }
}
