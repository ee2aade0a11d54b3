//! Servers of HTTP/2: connections shared, their bounds kept, what they refuse sent again, what they break told.
use crate::app_h2;
use lb_tests::frames::{Frame, block, flag, frame, get, kind};
use lb_tests::{Frames, Instance, Origin, eventually};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A server's side of a connection, after the preface and with these settings said.
fn accept(mut stream: std::net::TcpStream, settings: &[u8]) -> Option<Frames> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).ok()?;
    assert_eq!(preface, lb_tests::frames::PREFACE);
    let mut frames = Frames::of(stream);
    frames.send(kind::SETTINGS, 0, 0, settings);
    frames.send(kind::SETTINGS, flag::ACK, 0, &[]);
    Some(frames)
}

/// A server that hands each request's stream to `serve`, with the number of the connection and of the request.
fn server(settings: Vec<u8>, serve: impl Fn(&mut Frames, u32, usize, usize) + Send + Sync + 'static) -> Origin {
    let connections = AtomicUsize::new(0);
    Origin::raw(move |stream| {
        let connection = connections.fetch_add(1, Ordering::SeqCst);
        let Some(mut c) = accept(stream, &settings) else { return };
        let mut number = 0;
        while let Some(request) = c.next() {
            if request.kind == kind::PING && request.flags & flag::ACK == 0 {
                c.send(kind::PING, flag::ACK, 0, &request.payload);
            }
            if request.kind == kind::HEADERS {
                serve(&mut c, request.stream, connection, number);
                number += 1;
            }
        }
    })
}

/// Answers a stream with this.
fn answer(c: &mut Frames, stream: u32, body: &str) {
    c.send(kind::HEADERS, flag::END_HEADERS, stream, &[0x88]);
    c.send(kind::DATA, flag::END_STREAM, stream, body.as_bytes());
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn h2(origin: &Origin, lines: &str) -> Instance {
    Instance::start(&app_h2(&[origin], &format!("proto = \"h2\"\n{lines}")))
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn requests_of_http_1_and_2_share_connections_to_a_server_of_http_2() {
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    let a = server(Vec::new(), move |c, stream, connection, _| {
        seen.fetch_max(connection + 1, Ordering::SeqCst);
        answer(c, stream, "two");
    });
    let lb = h2(&a, "");
    let mut clients: Vec<_> = (0..20).map(|_| lb.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/", "").text(), "two");
    }
    let mut c = Frames::connect(lb.addr);
    for i in 0..20 {
        c.request(1 + 2 * i, &get("/"));
        assert_eq!(c.body(1 + 2 * i).as_deref(), Some(&b"two"[..]));
    }
    // One for each worker.
    assert!(connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn no_more_requests_are_on_a_connection_than_its_server_allows() {
    let open = Arc::new(AtomicUsize::new(0));
    let (most, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (m, n) = (most.clone(), connections.clone());
    let a = Origin::raw(move |stream| {
        n.fetch_add(1, Ordering::SeqCst);
        let Some(mut c) = accept(stream, &setting(3, 2)) else { return };
        let mut waiting = Vec::new();
        c.patience(Duration::from_millis(300));
        loop {
            match c.next() {
                Some(f) if f.kind == kind::HEADERS => {
                    waiting.push(f.stream);
                    m.fetch_max(waiting.len(), Ordering::SeqCst);
                }
                Some(_) => {}
                None if waiting.is_empty() => break,
                None => waiting.drain(..).for_each(|stream| answer(&mut c, stream, "ok")),
            }
        }
    });
    drop(open);
    let lb = h2(&a, "");
    let mut warm = lb.client();
    assert_eq!(warm.get("/", "").text(), "ok");
    let mut c = Frames::connect(lb.addr);
    for i in 0..10 {
        c.request(1 + 2 * i, &get("/"));
    }
    let mut left = 10;
    while left > 0 {
        let frame = c.find(|f| f.kind == kind::DATA || f.kind == kind::RST_STREAM).expect("answers");
        assert_eq!((frame.kind, frame.payload.as_slice()), (kind::DATA, &b"ok"[..]));
        left -= 1;
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    assert!(connections.load(Ordering::SeqCst) >= 5, "{connections:?}");
}

#[test]
fn a_request_that_the_server_refused_unread_is_sent_again_even_a_post() {
    let tried = Arc::new(AtomicUsize::new(0));
    let seen = tried.clone();
    let a = server(Vec::new(), move |c, stream, _, _| {
        if seen.fetch_add(1, Ordering::SeqCst) < 2 {
            c.send(kind::RST_STREAM, 0, stream, &7u32.to_be_bytes());
        } else {
            answer(c, stream, "at last");
        }
    });
    let lb = h2(&a, "");
    let mut client = lb.client();
    client.send(post("hello"));
    let told = client.answer().expect("an answer");
    assert_eq!((told.status, told.text().as_str()), (200, "at last"));
    assert_eq!(tried.load(Ordering::SeqCst), 3);
}

#[test]
fn a_request_that_the_server_refuses_for_ever_gets_a_502() {
    let a = server(Vec::new(), |c, stream, _, _| _ = c.send(kind::RST_STREAM, 0, stream, &7u32.to_be_bytes()));
    let lb = h2(&a, "");
    let told = lb.client().get("/", "");
    assert_eq!((told.status, told.text().as_str()), (502, "502 Bad Gateway: server-refused\n"));
}

#[test]
fn a_request_past_the_last_stream_of_a_goaway_is_sent_again_on_another_connection() {
    let a = server(Vec::new(), |c, stream, connection, number| {
        if connection == 0 && number == 1 {
            // It has taken stream 1, and nothing after.
            c.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        } else {
            answer(c, stream, &format!("from {connection}"));
        }
    });
    let lb = h2(&a, "");
    let mut client = lb.client();
    assert_eq!(client.get("/", "").text(), "from 0");
    client.send(post("hello"));
    assert_eq!(client.answer().expect("an answer").text(), "from 1");
    assert_eq!(client.get("/", "").text(), "from 1");
}

#[test]
fn a_request_whose_stream_is_reset_otherwise_is_not_said_twice() {
    let tried = Arc::new(AtomicUsize::new(0));
    let seen = tried.clone();
    let a = server(Vec::new(), move |c, stream, _, number| {
        if number == 0 {
            answer(c, stream, "ok");
        } else {
            seen.fetch_add(1, Ordering::SeqCst);
            c.send(kind::RST_STREAM, 0, stream, &2u32.to_be_bytes());
        }
    });
    let lb = h2(&a, "");
    // The first request of each connection is answered; a worker has one connection.
    let mut reset = 0;
    for _ in 0..20 {
        let before = tried.load(Ordering::SeqCst);
        let mut client = lb.client();
        client.send(post("hello"));
        if client.answer().expect("an answer").status == 502 {
            reset += 1;
            assert_eq!(tried.load(Ordering::SeqCst), before + 1);
        }
    }
    assert!(reset >= 18, "{reset}");
}

#[test]
fn answers_that_no_client_can_read_are_told_as_what_they_are() {
    type Act = fn(&mut Frames, u32);
    let bad: &[(&str, Act)] = &[
        ("a broken block", |c, s| _ = c.send(kind::HEADERS, flag::END_HEADERS, s, &[0x80])),
        ("no status", |c, s| _ = c.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, s, &block(&[("x", "y")]))),
        ("a field of a connection", |c, s| {
            _ = c.send(
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                s,
                &[&[0x88][..], &block(&[("connection", "x")])].concat(),
            );
        }),
        ("a switch of protocols", |c, s| {
            _ = c.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, s, &block(&[(":status", "101")]));
        }),
        ("two lengths", |c, s| {
            let two = block(&[("content-length", "1"), ("content-length", "2")]);
            c.send(kind::HEADERS, flag::END_HEADERS, s, &[&[0x88][..], &two].concat());
            c.send(kind::DATA, flag::END_STREAM, s, b"x");
        }),
        ("garbage", |c, _| _ = c.bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("an end", |c, _| _ = c.bytes(&frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2]))),
    ];
    for (what, act) in bad {
        let act = *act;
        let a = Origin::raw(move |stream| {
            let Some(mut c) = accept(stream, &[]) else { return };
            if let Some(request) = c.find(|f| f.kind == kind::HEADERS) {
                act(&mut c, request.stream);
                c.shutdown();
            }
        });
        let lb = h2(&a, "");
        assert_eq!(lb.client().get("/", "").status, 502, "{what}");
        let mut c = Frames::connect(lb.addr);
        c.request(1, &get("/"));
        assert_eq!(c.head(1).as_ref().and_then(Frame::status), Some(502), "{what}");
        assert!(c.lives(), "{what}");
    }
}

#[test]
fn trailers_of_a_server_reach_clients_of_both_kinds() {
    let a = server(Vec::new(), |c, stream, _, _| {
        c.send(kind::HEADERS, flag::END_HEADERS, stream, &[0x88]);
        c.send(kind::DATA, 0, stream, b"ok");
        c.send(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            stream,
            &block(&[("x-sum", "1"), ("set-cookie", "a=b")]),
        );
    });
    let lb = h2(&a, "");
    let mut client = lb.client();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: close\r\n\r\n");
    let mut all = Vec::new();
    while let Some(byte) = client.read(1) {
        all.extend(byte);
    }
    let all = String::from_utf8_lossy(&all);
    assert!(all.ends_with("2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"), "{all}");
    let mut c = Frames::connect(lb.addr);
    c.request(1, &get("/"));
    assert_eq!(c.head(1).as_ref().and_then(Frame::status), Some(200));
    let trailers = c.head(1).expect("trailers");
    assert_eq!(trailers.flags & flag::END_STREAM, flag::END_STREAM);
}

#[test]
fn a_head_that_is_all_stays_all() {
    // As gRPC says an error: no body, not even an empty frame of it.
    let a = server(Vec::new(), |c, stream, _, _| {
        let head = [&[0x88][..], &block(&[("grpc-status", "5")])].concat();
        c.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &head);
    });
    let lb = h2(&a, "");
    let mut c = Frames::connect(lb.addr);
    c.request(1, &get("/"));
    let head = c.head(1).expect("a head");
    assert_eq!((head.status(), head.flags & flag::END_STREAM), (Some(200), flag::END_STREAM));
    let told = lb.client().get("/", "");
    assert_eq!((told.status, told.value("grpc-status"), told.body.len()), (200, Some("5"), 0));
}

#[test]
fn a_server_that_goes_silent_is_asked_whether_it_lives() {
    let a = Origin::raw(|stream| {
        let Some(mut c) = accept(stream, &[]) else { return };
        // Reads, and answers nothing, no ping either.
        while c.next().is_some() {}
    });
    let lb = h2(&a, "timeout = { server = \"60s\" }");
    let mut client = lb.client();
    client.send(post("hello"));
    lb_tests::within(Duration::from_secs(40), "the connection is given up", || lb.access().contains("\"status\":502"));
    drop(client);
    eventually("its place is free", || {
        lb.admin_text("/metrics").contains("lb_server_connections_active{backend=\"app\",server=\"node1\"} 0")
    });
}

#[test]
fn a_check_of_http_asks_a_server_of_http_2_in_its_own_words() {
    let a = server(Vec::new(), |c, stream, _, _| answer(c, stream, "well"));
    let lb =
        h2(&a, "check = { http = \"GET /health\", interval = \"100ms\", rise = 1, fall = 1, expect_body = \"well\" }");
    eventually("it is up", || lb.api("/api/servers").to_string().contains("\"up\""));
    assert_eq!(lb.client().get("/", "").text(), "well");
}
