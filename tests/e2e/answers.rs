//! Servers that answer wrongly: the client gets a 502, or an answer that is whole; the connection is not used again.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin};

const BROKEN: &[&str] = &[
    "",
    "garbage\r\n\r\n",
    "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1\r\n\r\n",
    "HTTP/1.1 2x0 OK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 099 Low\r\n\r\n",
    "HTTP/1.1 600 High\r\n\r\n",
    "HTTP/1.1  200 OK\r\n\r\n",
    "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.2 200 OK\r\n\r\n",
    "http/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: a b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Le",
];

#[test]
fn a_broken_answer_gets_the_client_a_502_and_the_connection_goes_on() {
    let a = Origin::answering(|seen| {
        let index: usize = seen.head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
        Reply::Raw(BROKEN[index].as_bytes().to_vec())
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for (i, text) in BROKEN.iter().enumerate() {
        let answer = client.get(&format!("/{i}"), "");
        assert_eq!(answer.status, 502, "{text:?}");
    }
}

#[test]
fn bytes_beyond_an_answer_are_never_the_next_ones_answer() {
    let a = Origin::answering(|_| {
        Reply::Keep(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec(),
        )
    });
    let lb = Instance::start(&app(&[&a], ""));
    for _ in 0..5 {
        let mut client = lb.client();
        for _ in 0..4 {
            assert_eq!(client.get("/", "").text(), "ok");
        }
    }
}

#[test]
fn a_chunk_that_is_wrong_cuts_the_answer() {
    for chunk in [
        "+2\r\nok\r\n0\r\n\r\n",
        "2\nok\r\n0\r\n\r\n",
        "2\r\nok!\r\n0\r\n\r\n",
        "x\r\n",
        "2\r\nok\r\n0\r\nbad line\r\n\r\n",
    ] {
        let a = Origin::answering(move |_| {
            Reply::Raw(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes())
        });
        let lb = Instance::start(&app(&[&a], ""));
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.answer().is_none_or(|a| a.status == 502), "{chunk:?}");
    }
}

#[test]
fn a_server_that_is_silent_gets_the_client_a_504() {
    let a = Origin::raw(|mut stream| {
        // Reads until the proxy gives up, and says nothing.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    let lb = Instance::start(&app(&[&a], "timeout = { server = \"300ms\" }"));
    let answer = lb.client().get("/", "");
    assert_eq!((answer.status, answer.text().trim()), (504, "504 Gateway Timeout: server-timeout"));
    assert!(
        lb.admin_text("/metrics")
            .contains("lb_server_errors_total{backend=\"app\",server=\"node1\",kind=\"response\"} 1")
    );
}
