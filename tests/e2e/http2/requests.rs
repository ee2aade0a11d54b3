//! Requests over HTTP/2 as clients and servers see them: bodies both ways, trailers, many at a time, what ends early.
use crate::{app_h2, servers};
use lb_tests::frames::{Frame, block, flag, frame, get, kind};
use lb_tests::origin::Reply;
use lb_tests::{Frames, Instance, Origin, eventually};
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")], more].concat())
}

fn status(frame: Option<&Frame>) -> Option<u16> {
    frame.and_then(Frame::status)
}

#[test]
fn many_requests_of_one_connection_are_answered_each_with_its_own() {
    let a = Origin::answering(|seen| Reply::Body(seen.head.lines().next().unwrap_or_default().to_owned()));
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    for i in 0..50u32 {
        c.request(1 + 2 * i, &get(&format!("/{i}")));
    }
    let mut bodies = vec![Vec::new(); 50];
    let mut left = 50;
    while left > 0 {
        let frame = c.find(|f| f.kind == kind::DATA).expect("data");
        bodies[(frame.stream / 2) as usize].extend(&frame.payload);
        left -= usize::from(frame.flags & flag::END_STREAM != 0);
    }
    for (i, body) in bodies.iter().enumerate() {
        assert_eq!(String::from_utf8_lossy(body), format!("GET /{i} HTTP/1.1"));
    }
    eventually("they are logged", || lb.access().contains("\"protocol\":\"h2\""));
    let metrics = lb.admin_text("/metrics");
    assert!(metrics.contains("lb_http2_connections_active{frontend=\"web\"} 1"), "{metrics}");
    assert!(metrics.contains("lb_http_requests_total{frontend=\"web\",code=\"2xx\"} 50"), "{metrics}");
}

#[test]
fn a_body_that_no_server_takes_holds_up_no_other_request() {
    let stuck = Origin::raw(|stream| {
        // Takes nothing, and stays.
        std::thread::sleep(Duration::from_secs(15));
        drop(stream);
    });
    let quick = Origin::named("quick");
    let config = format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}]\nbackend = \"app\"\n\
         routes = [{{ path_prefix = \"/stuck\", backend = \"stuck\" }}]\n[backend.app]\n{}\n[backend.stuck]\n{}\n",
        servers(&[&quick]),
        servers(&[&stuck])
    );
    let lb = Instance::start(&config);
    let mut c = Frames::connect(lb.addr);
    // As much as each of these may send: sockets take some of it, the windows of the streams bound the rest.
    let mut windows = [65_536usize; 8];
    for i in 0..8u32 {
        c.send(kind::HEADERS, flag::END_HEADERS, 1 + 2 * i, &post("/stuck", &[]));
    }
    let piece = [b'x'; 16_384];
    for (i, window) in windows.iter_mut().enumerate() {
        while *window >= piece.len() {
            c.send(kind::DATA, 0, 1 + 2 * i as u32, &piece);
            *window -= piece.len();
        }
    }
    let started = Instant::now();
    c.send(kind::HEADERS, flag::END_HEADERS, 101, &post("/", &[("content-length", "16384")]));
    c.send(kind::DATA, flag::END_STREAM, 101, &piece);
    assert_eq!(status(c.head(101).as_ref()), Some(200));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(quick.seen()[0].body.len(), 16_384);
}

#[test]
fn a_large_body_comes_whole_both_ways_through_small_windows() {
    let a = Origin::answering(|seen| Reply::Body(String::from_utf8_lossy(&seen.body).into_owned()));
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &post("/", &[]));
    let total = 1_000_000usize;
    let (mut sent, mut window, mut whole) = (0usize, 65_536i64, i64::MAX);
    let mut body: Vec<u8> = Vec::new();
    let update = |c: &mut Frames, n: u32| {
        c.send(kind::WINDOW_UPDATE, 0, 0, &n.to_be_bytes());
        c.send(kind::WINDOW_UPDATE, 0, 1, &n.to_be_bytes());
    };
    loop {
        while sent < total && window.min(whole) > 0 {
            let n = (total - sent).min(10_000).min(window as usize);
            let piece: Vec<u8> = (sent..sent + n).map(|i| b'a' + (i % 23) as u8).collect();
            let end = if sent + n == total { flag::END_STREAM } else { 0 };
            assert!(c.send(kind::DATA, end, 1, &piece));
            sent += n;
            window -= n as i64;
            whole -= n as i64;
        }
        let frame = c.next().expect("a frame");
        let number = || i64::from(u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes")));
        match (frame.kind, frame.stream) {
            (kind::WINDOW_UPDATE, 1) => window += number(),
            (kind::WINDOW_UPDATE, 0) => whole = whole.saturating_add(number()),
            (kind::DATA, 1) => {
                body.extend(&frame.payload);
                update(&mut c, frame.payload.len() as u32);
                if frame.flags & flag::END_STREAM != 0 {
                    break;
                }
            }
            _ => assert_eq!(frame.error(), None, "{frame:?}"),
        }
    }
    assert_eq!(body.len(), total);
    assert!(body.iter().enumerate().all(|(i, b)| *b == b'a' + (i % 23) as u8));
}

#[test]
fn a_length_of_nothing_is_believed_once_the_stream_has_ended() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], "[defaults.timeout]\nhttp_request = \"1s\"\n"));
    let mut c = Frames::connect(lb.addr);
    for id in [1, 3, 5] {
        c.send(kind::HEADERS, flag::END_HEADERS, id, &post("/", &[("content-length", "0")]));
    }
    assert!(c.lives());
    assert_eq!(a.seen(), [], "none of them has ended");
    c.send(kind::DATA, flag::END_STREAM, 1, b"");
    assert_eq!(status(c.head(1).as_ref()), Some(200));
    c.send(kind::DATA, flag::END_STREAM, 3, b"x");
    assert!(c.head(3).expect("a reset").error().is_some());
    // One that never ends is told so.
    assert_eq!(status(c.head(5).as_ref()), Some(408));
    assert_eq!(a.seen().len(), 1);
    assert!(c.lives());
}

#[test]
fn bodies_that_are_taken_back_unread_leave_the_connection_its_window() {
    let a = Origin::answering(|seen| Reply::Body(seen.body.len().to_string()));
    let lb = Instance::start(&app_h2(&[&a], "[frontend.web.http2]\nmax_streams = 1\nwindow = \"64KiB\"\n"));
    let mut c = Frames::connect(lb.addr);
    let piece = vec![b'x'; 16_000];
    for id in (1..=19).step_by(2) {
        // At once, so that the reset is there before the request begins.
        let head = post("/", &[]);
        let frames = [
            frame(kind::HEADERS, flag::END_HEADERS, id, &head),
            frame(kind::DATA, 0, id, &piece),
            frame(kind::RST_STREAM, 0, id, &8u32.to_be_bytes()),
        ];
        assert!(c.bytes(&frames.concat()));
        // Never more on its way than the window allows.
        assert!(c.lives());
    }
    c.send(kind::HEADERS, flag::END_HEADERS, 21, &post("/", &[]));
    assert!(c.send(kind::DATA, flag::END_STREAM, 21, &piece));
    assert_eq!(status(c.head(21).as_ref()), Some(200));
}

#[test]
fn trailers_pass_both_ways_and_those_that_must_not_come_late_do_not() {
    let (tell, told) = channel();
    let a = Origin::raw(move |mut stream| {
        let mut seen = Vec::new();
        let mut buf = [0; 4096];
        while !seen.ends_with(b"\r\n\r\n") || !seen.windows(3).any(|w| w == b"\r\n0") {
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => seen.extend_from_slice(&buf[..n]),
                _ => break,
            }
        }
        tell.send(String::from_utf8_lossy(&seen).into_owned()).ok();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Done: yes\r\nSet-Cookie: a=b\r\n\r\n";
        stream.write_all(answer.as_bytes()).ok();
    });
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &post("/", &[("trailer", "x-sum")]));
    c.send(kind::DATA, 0, 1, b"hello");
    let trailers = block(&[("x-sum", "7"), ("content-length", "99"), ("x-forwarded-for", "6.6.6.6")]);
    c.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailers);
    let seen = told.recv_timeout(Duration::from_secs(10)).expect("a request");
    let (_, body) = seen.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
    assert_eq!(status(c.head(1).as_ref()), Some(200));
    assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload, b"ok");
    let end = c.head(1).expect("trailers");
    assert_eq!((end.kind, end.flags & flag::END_STREAM), (kind::HEADERS, flag::END_STREAM));
    // One field: the cookie did not come late.
    assert!(end.payload.len() < 16, "{:?}", end.payload);
}

#[test]
fn a_request_taken_back_is_given_up_at_the_server_as_well() {
    let (gone, went) = channel();
    let a = Origin::raw(move |mut stream| {
        let mut buf = [0; 4096];
        while matches!(stream.read(&mut buf), Ok(1..)) {}
        gone.send(()).ok();
    });
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    c.request(1, &get("/"));
    eventually("it is at the server", || {
        lb.admin_text("/metrics").contains("lb_server_connections_active{backend=\"app\",server=\"node1\"} 1")
    });
    c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    went.recv_timeout(Duration::from_secs(10)).expect("the server's connection is closed");
    eventually("its place is free", || {
        lb.admin_text("/metrics").contains("lb_server_connections_active{backend=\"app\",server=\"node1\"} 0")
    });
    eventually("it is logged", || lb.access().contains("\"end\":\"client-gone\""));
    assert!(c.lives());
}

#[test]
fn an_answer_that_breaks_off_is_reset_and_the_connection_goes_on() {
    let a = Origin::answering(|seen| {
        if seen.head.starts_with("GET /broken") {
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
        } else {
            Reply::Body("whole".into())
        }
    });
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    c.request(1, &get("/broken"));
    // The reset may come before the head: what waits to be sent on a stream goes with it.
    assert_eq!(c.body(1), None, "a reset, so that it is not taken for whole");
    c.request(3, &get("/"));
    assert_eq!(c.body(3).as_deref(), Some(&b"whole"[..]));
}

#[test]
fn our_own_answers_and_bodiless_ones_are_well_formed() {
    let a = Origin::answering(|seen| match seen.head.lines().next().unwrap_or_default() {
        "GET /204 HTTP/1.1" => Reply::Keep(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "GET /hint HTTP/1.1" => Reply::Keep(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        ),
        line if line.starts_with("HEAD") => Reply::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
        _ => Reply::Body(String::new()),
    });
    let config =
        app_h2(&[&a], "").replace("backend = \"app\"\n", "routes = [{ host = \"test\", backend = \"app\" }]\n");
    let lb = Instance::start(&config);
    let mut c = Frames::connect(lb.addr);
    let ended = |f: &Frame| f.flags & flag::END_STREAM != 0;
    c.request(1, &get("/204"));
    let head = c.head(1).expect("a head");
    assert!(ended(&head), "no frame for nothing");
    c.request(3, &get("/empty"));
    assert!(ended(&c.head(3).expect("a head")));
    c.request(5, &block(&[(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "test")]));
    assert!(ended(&c.head(5).expect("a head")));
    c.request(7, &get("/hint"));
    let hint = c.head(7).expect("an interim head");
    assert!(!ended(&hint));
    assert!(!ended(&c.head(7).expect("the head")));
    assert_eq!(c.body(7).as_deref(), Some(&b"ok"[..]));
    // Ours.
    c.request(9, &block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "nowhere")]));
    let body = c.body(9).expect("our answer");
    assert_eq!(String::from_utf8_lossy(&body), "404 Not Found: no-route\n");
}

#[test]
fn an_idle_connection_is_told_to_go_and_a_silent_one_is_dropped() {
    let a = Origin::named("a");
    let lines = "[defaults.timeout]\nhttp_keep_alive = \"1s\"\nhttp_request = \"1s\"\n";
    let lb = Instance::start(&app_h2(&[&a], lines));
    let mut c = Frames::connect(lb.addr);
    c.request(1, &get("/"));
    assert!(c.body(1).is_some());
    let goaway = c.find(|f| f.kind == kind::GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.error(), Some(0));
    while c.next().is_some() {}
    for said in [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut c = Frames::silent(lb.addr);
        c.bytes(said);
        let started = Instant::now();
        while c.next().is_some() {}
        assert!(started.elapsed() < Duration::from_secs(6), "{said:?}");
    }
}

#[test]
fn what_comes_after_a_whole_answer_is_thrown_away_and_holds_nothing() {
    let a = Origin::named("a");
    let lines = "[defaults.timeout]\nhttp_keep_alive = \"1s\"\n[[frontend.web.request]]\nif = { method = \"POST\" }\ndeny = 403\n";
    let lb = Instance::start(&app_h2(&[&a], lines));
    let mut c = Frames::connect(lb.addr);
    let answered = |c: &mut Frames, id| {
        c.send(kind::HEADERS, flag::END_HEADERS, id, &post("/", &[]));
        assert_eq!(status(c.head(id).as_ref()), Some(403));
        assert!(c.body(id).is_some());
    };
    // One that ends in order: nothing is said of it.
    answered(&mut c, 1);
    c.send(kind::DATA, 0, 1, &[b'x'; 10_000]);
    c.send(kind::DATA, flag::END_STREAM, 1, b"");
    assert!(c.lives());
    // One that goes on is told that nobody wants it once it has no window left, and the connection's comes back.
    answered(&mut c, 3);
    for _ in 0..4 {
        c.send(kind::DATA, 0, 3, &[b'x'; 16_384]);
    }
    let reset = c.find(|f| f.kind == kind::RST_STREAM).expect("a reset");
    assert_eq!((reset.stream, reset.error()), (3, Some(0)));
    // One that never ends does not keep the connection.
    answered(&mut c, 5);
    c.request(7, &get("/"));
    assert!(c.body(7).is_some());
    let goaway = c.find(|f| f.kind == kind::GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.error(), Some(0));
    while c.next().is_some() {}
}

#[test]
fn a_stop_lets_open_requests_end_and_takes_no_more() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let a = Origin::answering(move |seen| {
        if seen.head.starts_with("GET /slow") {
            wait.lock().expect("no panic").recv().ok();
        }
        Reply::Body("done".into())
    });
    let mut lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    let mut idle = Frames::connect(lb.addr);
    c.request(1, &get("/slow"));
    eventually("it is at the server", || {
        lb.admin_text("/metrics").contains("lb_server_connections_active{backend=\"app\",server=\"node1\"} 1")
    });
    lb.signal("-TERM");
    let goaway = c.find(|f| f.kind == kind::GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.error(), Some(0));
    idle.find(|f| f.kind == kind::GOAWAY).expect("a GOAWAY");
    // What asks for our word before the last GOAWAY gets it.
    c.send(kind::PING, flag::ACK, 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54]);
    go.send(()).expect("it waits");
    assert_eq!(status(c.head(1).filter(|f| f.kind == kind::HEADERS).or_else(|| c.head(1)).as_ref()), Some(200));
    assert_eq!(lb.wait_end(), Some(0));
}

#[test]
fn heads_past_their_bounds_are_refused() {
    let a = Origin::named("a");
    let lb = Instance::start(
        &app_h2(&[&a], "").replace("backend = \"app\"\n", "backend = \"app\"\nmax_head = 2048\nmax_headers = 20\n"),
    );
    let large = "y".repeat(2100);
    let mut c = Frames::connect(lb.addr);
    c.request(1, &[get("/"), block(&[("x", &large)])].concat());
    assert_eq!(status(c.head(1).as_ref()), Some(431));
    // Far beyond what was told, it is not even kept.
    c.request(3, &[get("/"), block(&[("x", &large), ("y", &large), ("z", &large)])].concat());
    assert!(c.head(3).is_some());
    let many: Vec<_> = (0..30).map(|i| format!("x{i}")).collect();
    let many: Vec<_> = many.iter().map(|n| (n.as_str(), "1")).collect();
    c.request(5, &[get("/"), block(&many)].concat());
    assert!(c.head(5).is_some());
    assert_eq!(a.seen(), []);
    c.request(7, &get("/"));
    assert!(c.body(7).is_some());
}

#[test]
fn a_slow_reader_is_cut_off_and_holds_up_nobody() {
    let a = Origin::answering(|_| Reply::Body("x".repeat(300_000)));
    let lines = "[defaults.timeout]\nclient = \"1s\"\n";
    let lb = Instance::start(&app_h2(&[&a], lines));
    let mut c = Frames::connect(lb.addr);
    // No window at all: the head comes, nothing else does.
    c.send(kind::SETTINGS, 0, 0, &[&4u16.to_be_bytes()[..], &0u32.to_be_bytes()].concat());
    for i in 0..20 {
        c.request(1 + 2 * i, &get("/"));
    }
    let mut quick = lb.client();
    assert_eq!(quick.get("/", "").body.len(), 300_000);
    for _ in 0..20 {
        let end = c.find(|f| f.kind == kind::RST_STREAM).expect("a reset");
        assert!(end.error().is_some());
    }
    eventually("it is logged", || lb.access().contains("\"end\":\"client-timeout\""));
    assert!(c.lives());
}
