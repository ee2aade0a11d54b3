//! Requests whose meaning is in doubt: refused, or passed on as one message that nobody can read in two ways.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin};

/// Heads after which nothing may reach a server. `{}` stands for a Host line.
pub(crate) const REFUSED: &[&str] = &[
    // Length and coding at once, in any dress.
    "POST / HTTP/1.1\r\n{}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    // Lengths in doubt.
    "POST / HTTP/1.1\r\n{}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5,6\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: -5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5a\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: \r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: five\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5.0\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 1e1\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: \"5\"\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 18446744073709551616\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 99999999999999999999999\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length : 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length\t: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length\x0b: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\n{}Content-Length: 5\x0b\r\n\r\nhello",
    // Codings in doubt.
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Chunks in doubt: nothing of a body that is refused at once may be passed on.
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5;\n\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\nBad Name: x\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\n: empty\r\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
    "POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\ng\r\nhello\r\n0\r\n\r\n",
    // Lines and names in doubt.
    "GET / HTTP/1.1\n{}\n\n",
    "GET / HTTP/1.1\r\n{}X: a\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\r\n\n",
    "GET / HTTP/1.1\r{}X: a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\0b\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X\0: a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\x01b\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\x7fb\r\n\r\n",
    "GET / HTTP/1.1\r\n{}: empty\r\n\r\n",
    "GET / HTTP/1.1\r\n{}no colon\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X Y: a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X@Y: a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X(Y): a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}\"X\": a\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\n{}X: a\r\n\tfolded\r\n\r\n",
    "GET / HTTP/1.1\r\n X: first\r\n{}\r\n",
    // The request line.
    "GET  / HTTP/1.1\r\n{}\r\n",
    "GET /  HTTP/1.1\r\n{}\r\n",
    " GET / HTTP/1.1\r\n{}\r\n",
    "GET\t/\tHTTP/1.1\r\n{}\r\n",
    "GET / HTTP/1.1 \r\n{}\r\n",
    "GET /\r\n{}\r\n",
    "GET / HTTP/2.0\r\n{}\r\n",
    "GET / HTTP/1.2\r\n{}\r\n",
    "GET / HTTP/0.9\r\n{}\r\n",
    "GET / http/1.1\r\n{}\r\n",
    "GET / HTTP/1.1x\r\n{}\r\n",
    "GET / HTTP/01.1\r\n{}\r\n",
    "GET / HTTP/1.01\r\n{}\r\n",
    "G(T / HTTP/1.1\r\n{}\r\n",
    "G\0T / HTTP/1.1\r\n{}\r\n",
    "/ HTTP/1.1\r\n{}\r\n",
    "GET /a b HTTP/1.1\r\n{}\r\n",
    "GET /a#b HTTP/1.1\r\n{}\r\n",
    "GET /\x01 HTTP/1.1\r\n{}\r\n",
    "GET /\x7f HTTP/1.1\r\n{}\r\n",
    "GET /ü HTTP/1.1\r\n{}\r\n",
    "GET * HTTP/1.1\r\n{}\r\n",
    "GET path HTTP/1.1\r\n{}\r\n",
    "GET ftp://test/ HTTP/1.1\r\n{}\r\n",
    "GET http:///x HTTP/1.1\r\n{}\r\n",
    "GET http://other/ HTTP/1.1\r\n{}\r\n",
    "GET http://user@test/ HTTP/1.1\r\n{}\r\n",
    "CONNECT test:443 HTTP/1.1\r\n{}\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\x16\x03\x01\x02\r\n\r\n",
    // Host.
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\n{}Host: other\r\n\r\n",
    "GET / HTTP/1.1\r\n{}Host: test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: te st\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test/path\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test:80:81\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test:port\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user@test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test, other\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
    "GET / HTTP/1.1\r\n{}Connection: a b\r\n\r\n",
];

#[test]
fn no_request_in_doubt_reaches_a_server_and_each_gets_one_refusal() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    for text in REFUSED {
        let mut client = lb.client();
        // What follows would be smuggled if the proxy and the server disagreed.
        client.send(text.replace("{}", "Host: test\r\n") + "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = client.answer().unwrap_or_else(|| panic!("no answer to {text:?}"));
        assert!(matches!(answer.status, 400 | 431 | 501 | 505), "{} to {text:?}", answer.status);
        assert_eq!(answer.value("Connection"), Some("close"), "{text:?}");
        assert!(client.answer().is_none(), "a second answer to {text:?}");
    }
    assert_eq!(a.seen(), [], "a server saw what it must not");
    assert!(REFUSED.len() >= 110);
}

/// Odd, but legal: request, what the server must see of it (head without ours, body).
pub(crate) const SERVED: &[(&str, &str, &str)] = &[
    ("\r\nGET /crlf-first HTTP/1.1\r\nHost: test\r\n\r\n", "GET /crlf-first HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nhOsT: test\r\n\r\n", "GET /a HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nHost:test\r\n\r\n", "GET /a HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nHost: \t test \t \r\n\r\n", "GET /a HTTP/1.1", ""),
    ("GET http://test/abs HTTP/1.1\r\nHost: test\r\n\r\n", "GET /abs HTTP/1.1", ""),
    ("GET HTTP://test/abs?x HTTP/1.1\r\nHost: TEST\r\n\r\n", "GET /abs?x HTTP/1.1", ""),
    ("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n", "OPTIONS * HTTP/1.1", ""),
    ("M-SEARCH /a HTTP/1.1\r\nHost: test\r\n\r\n", "M-SEARCH /a HTTP/1.1", ""),
    ("GET /?a=%00&b=[]{}|^`\"<> HTTP/1.1\r\nHost: test\r\n\r\n", "GET /?a=%00&b=[]{}|^`\"<> HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET /a HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nHost: test\r\nX-Empty:\r\n\r\n", "GET /a HTTP/1.1", ""),
    ("GET /a HTTP/1.1\r\nHost: test\r\nX-8bit: caf\u{e9}\r\n\r\n", "GET /a HTTP/1.1", ""),
    (
        "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST /a HTTP/1.1",
        "hello",
    ),
    ("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 0000005\r\n\r\nhello", "POST /a HTTP/1.1", "hello"),
    (
        "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST /a HTTP/1.1",
        "hello",
    ),
    (
        "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding:  chunked \r\n\r\n0005 ;x=y\r\nhello\r\n000\r\n\r\n",
        "POST /a HTTP/1.1",
        "hello",
    ),
    ("GET /a HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody", "GET /a HTTP/1.1", "body"),
    (
        "GET /a HTTP/1.1\r\nHost: test\r\nConnection: close, Content-Length, Host\r\nContent-Length: 4\r\n\r\nbody",
        "GET /a HTTP/1.1",
        "body",
    ),
    (
        "GET /a HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        "GET /a HTTP/1.1",
        "",
    ),
    ("GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1", ""),
];

#[test]
fn legal_oddities_are_served_as_one_plain_message() {
    let a = Origin::answering(|_| Reply::Body("ok".into()));
    let lb = Instance::start(&app(&[&a], ""));
    for (i, (request, line, body)) in SERVED.iter().enumerate() {
        let mut client = lb.client();
        client.send(request);
        assert_eq!(client.answer().map(|a| a.status), Some(200), "{request:?}");
        let seen = a.seen();
        assert_eq!(seen.len(), i + 1, "{request:?}");
        let seen = &seen[i];
        assert_eq!(seen.head.lines().next(), Some(*line), "{request:?}");
        assert_eq!(seen.body, body.as_bytes(), "{request:?}");
        let count = |name: &str| {
            let prefix = format!("{name}:");
            seen.head.lines().filter(|l| l.to_ascii_lowercase().starts_with(&prefix)).count()
        };
        assert_eq!(count("host"), 1, "{request:?}");
        assert!(count("content-length") + count("transfer-encoding") <= 1, "{request:?}");
        assert_eq!(count("upgrade") + count("http2-settings"), 0, "{request:?}");
    }
}

#[test]
fn a_refused_upgrade_leaves_http_framing_in_force() {
    let a = Origin::answering(|seen| {
        if seen.head.starts_with("GET /ws") {
            Reply::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".to_vec())
        } else {
            Reply::Body("second".into())
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send("GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer().expect("an answer").text(), "no");
    assert_eq!(client.answer().expect("an answer").text(), "second");
    assert!(a.seen()[1].head.contains("X-Forwarded-For"), "the second went through the proxy's parser");
}
