//! Clients that send a body or take an answer too slowly, although never silent for long.
use crate::{app, app_h2};
use lb_tests::frames::{block, flag, get, kind};
use lb_tests::origin::Reply;
use lb_tests::{Client, Frames, Instance, Origin, eventually};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A client may be three seconds behind 200 bytes a second.
const TERMS: &str = "backend = \"app\"\nmin_rate = 200\ntimeout = { client = \"3s\" }\n";
/// Between two pieces of a client that is never silent.
const STEP: Duration = Duration::from_millis(100);
/// By then a client without any rate would still be at it.
const LONG: Duration = Duration::from_secs(20);

fn slow(lb: &Instance, direction: &str) -> f64 {
    lb.metric(&format!("lb_http_slow_clients_total{{frontend=\"web\",direction=\"{direction}\"}}"))
}

#[test]
fn a_body_that_drips_is_refused_and_one_that_keeps_to_the_rate_is_not() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], "").replace("backend = \"app\"\n", TERMS));
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let piece = if framing.starts_with('C') { "x" } else { "1\r\nx\r\n" };
        let mut drip = lb.client();
        drip.send(format!("POST / HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n"));
        let began = Instant::now();
        while began.elapsed() < LONG && drip.send(piece) && !drip.has_bytes() {
            std::thread::sleep(STEP);
        }
        assert!(began.elapsed() < LONG, "{framing}");
        let answer = drip.answer().expect("an answer");
        assert_eq!((answer.status, answer.text().contains("body-too-slow")), (408, true), "{framing}");
    }
    assert_eq!(slow(&lb, "in"), 2.0);
    let mut steady = lb.client();
    steady.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 20000\r\n\r\n");
    for _ in 0..50 {
        assert!(steady.send("x".repeat(400)));
        std::thread::sleep(STEP);
    }
    assert_eq!(steady.answer().map(|a| a.status), Some(200));
    assert_eq!((slow(&lb, "in"), a.seen().len()), (2.0, 1));
}

#[test]
fn a_client_that_has_the_beginning_of_an_answer_gets_no_second_one() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"));
        while stream.read(&mut buf).is_ok_and(|n| n > 0) {}
    });
    let lb = Instance::start(&app(&[&a], "").replace("backend = \"app\"\n", TERMS));
    let mut client = lb.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nx");
    // A reset, or an end: the length says that something is missing.
    let all = client.rest();
    let text = String::from_utf8_lossy(&all);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("begun"), "{text}");
    eventually("the log says why", || lb.access().contains("\"end\":\"body-timeout\""));
}

#[test]
fn over_http2_a_body_with_a_length_must_keep_to_the_rate_and_a_stream_of_messages_need_not() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], "").replace("backend = \"app\"\n", TERMS));
    let head = |more: &[(&str, &str)]| {
        block(&[&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")], more].concat())
    };
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &head(&[("content-length", "100000")]));
    c.send(kind::HEADERS, flag::END_HEADERS, 3, &head(&[]));
    let mut answers = c.again();
    let reader = std::thread::spawn(move || answers.head(1));
    let began = Instant::now();
    while began.elapsed() < LONG && !reader.is_finished() {
        assert!(c.send(kind::DATA, 0, 1, b"x") && c.send(kind::DATA, 0, 3, b"x"));
        std::thread::sleep(STEP);
    }
    assert!(began.elapsed() < LONG);
    assert!(reader.join().expect("no panic").is_some(), "stream 1 has ended");
    assert_eq!(slow(&lb, "in"), 1.0);
    // As long again.
    for _ in 0..20 {
        assert!(c.send(kind::DATA, 0, 3, b"x"));
        std::thread::sleep(STEP);
    }
    c.send(kind::DATA, flag::END_STREAM, 3, b"x");
    assert_eq!(c.body(3).as_deref(), Some(b"a".as_slice()));
    assert_eq!(slow(&lb, "in"), 1.0);
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_is_cut() {
    let a = Origin::answering(|_| Reply::Body("x".repeat(1 << 20)));
    let lb = Instance::start(&app_h2(&[&a], "").replace("backend = \"app\"\n", TERMS));
    // A window of HTTP/2 that opens by one byte at a time.
    let mut c = Frames::connect(lb.addr);
    c.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    c.request(1, &get("/"));
    let mut answers = c.again();
    let reader = std::thread::spawn(move || answers.find(|f| f.kind == kind::RST_STREAM));
    let began = Instant::now();
    while began.elapsed() < LONG && !reader.is_finished() {
        assert!(c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
        std::thread::sleep(STEP);
    }
    assert!(began.elapsed() < LONG);
    assert!(reader.join().expect("no panic").is_some_and(|f| f.stream == 1));
    assert_eq!(slow(&lb, "out"), 1.0);
    assert!(c.lives(), "the connection goes on");
    eventually("the log says why", || lb.access().contains("\"end\":\"client-too-slow\""));
}

#[test]
fn a_client_that_takes_its_answer_in_small_pieces_ends_with_its_connection() {
    let a = Origin::answering(|_| Reply::Body("x".repeat(64 << 20)));
    let lb = Instance::start(&app(&[&a], "").replace("backend = \"app\"\n", TERMS));
    let mut client = lb.client();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let began = Instant::now();
    let cut = || ["client-too-slow", "client-timeout"].iter().any(|end| lb.access().contains(end));
    while began.elapsed() < LONG && !cut() {
        assert!(client.read(10).is_some(), "what is on its way still comes");
        std::thread::sleep(STEP);
    }
    assert!(cut());
}

#[test]
fn an_answer_that_comes_in_drops_is_nobodys_fault() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"));
        for _ in 0..50 {
            drop(stream.write_all(b"x"));
            std::thread::sleep(STEP);
        }
    });
    let lb = Instance::start(&app(&[&a], "").replace("backend = \"app\"\n", TERMS));
    let mut client: Client = lb.client();
    assert_eq!(client.get("/", "").body.len(), 50);
    assert_eq!(slow(&lb, "out"), 0.0);
}
