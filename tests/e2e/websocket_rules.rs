//! What WebSockets get by choice: pings, bounds, strictness, another kind of refusal.
use crate::app;
use crate::websocket::{echo, said};
use lb_tests::websocket::{CLOSE, PING, PONG, TEXT};
use lb_tests::{Instance, Origin, Socket, eventually};
use std::time::{Duration, Instant};

fn with(origins: &[&Origin], websocket: &str) -> String {
    app(origins, &format!("websocket = {{ {websocket} }}"))
}

fn counted(lb: &Instance, row: &str) {
    eventually(row, || lb.admin_text("/metrics").contains(row));
}

#[test]
fn a_silent_client_is_pinged_and_its_answers_go_no_further() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&with(&[&a], "ping = \"200ms\", pong_timeout = \"5s\", ping_to = \"client\""));
    let mut socket = Socket::connect(lb.addr, "");
    for _ in 0..3 {
        let ping = socket.read().expect("a ping");
        assert_eq!((ping.opcode(), ping.masked, ping.payload.len()), (PING, false, 8));
        // In pieces, and with frames of the application before and behind it.
        let pong = socket.frame(0x80 | PONG, &ping.payload);
        assert!(socket.send(PONG, "mine"));
        assert!(pong.iter().all(|byte| socket.send_bytes(&[*byte])));
        assert!(socket.send(TEXT, "x"));
        assert_eq!(socket.read().expect("the echo").text(), "a x");
    }
    assert_eq!(said(&seen), ["pong mine", "x", "pong mine", "x", "pong mine", "x"]);
}

#[test]
fn whoever_does_not_answer_a_ping_is_closed() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&with(&[&a], "ping = \"100ms\", pong_timeout = \"300ms\", close_timeout = \"300ms\""));
    let mut socket = Socket::connect(lb.addr, "");
    assert_eq!(socket.read().expect("a ping").opcode(), PING);
    assert_eq!(socket.read().and_then(|f| f.close()).map(|c| c.0), Some(1001));
    eventually("the server was told", || said(&seen).iter().any(|w| w == "1001 no answer to pings"));
    eventually("it is logged", || lb.access().contains("\"end\":\"client-silent\""));

    let mute = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        while socket.read().is_some() {}
    });
    let lb = Instance::start(&with(&[&mute], "ping = \"100ms\", pong_timeout = \"300ms\", ping_to = \"server\""));
    let mut socket = Socket::connect(lb.addr, "");
    assert_eq!(socket.read().and_then(|f| f.close()), Some((1011, "server lost".into())));
    eventually("it is logged", || lb.access().contains("\"end\":\"server-silent\""));
}

#[test]
fn pings_of_the_ends_keep_a_socket_unless_only_data_shall() {
    let (a, _) = echo("a");
    let idle = "timeout = { tunnel = \"600ms\" }\nwebsocket = { idle = \"IDLE\" }";
    let lb = Instance::start(&app(&[&a], &idle.replace("IDLE", "frames")));
    let mut socket = Socket::connect(lb.addr, "");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert!(socket.send(PING, "p"));
        assert_eq!(socket.read().expect("a pong").opcode(), PONG);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Then nobody says anything.
    assert_eq!(socket.read().and_then(|f| f.close()), Some((1001, "idle for too long".into())));

    let lb = Instance::start(&app(&[&a], &idle.replace("IDLE", "data")));
    let mut socket = Socket::connect(lb.addr, "");
    let began = Instant::now();
    let closed = loop {
        socket.send(PING, "p");
        match socket.read().expect("a frame") {
            frame if frame.opcode() == CLOSE => break frame.close(),
            frame => assert_eq!(frame.opcode(), PONG),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "pings keep it");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(closed.map(|c| c.0), Some(1001));
}

#[test]
fn what_breaks_the_protocol_is_passed_on_and_counted_or_closed_by_choice() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    let mut bare = vec![0x81, 4];
    bare.extend(b"bare");
    assert!(socket.send_bytes(&bare));
    assert_eq!(socket.read().expect("the echo").text(), "a bare");
    assert!(said(&seen).contains(&"bare".to_owned()));
    drop(socket);
    counted(&lb, "lb_websocket_errors_total{backend=\"app\",kind=\"mask\",by=\"client\"} 1");

    let lb = Instance::start(&with(&[&a], "strict = true"));
    let mut socket = Socket::connect(lb.addr, "");
    assert!(socket.send(TEXT, "good"));
    assert_eq!(socket.read().expect("the echo").text(), "a good");
    let reserved = socket.frame(0xf1, b"bad");
    assert!(reserved.iter().all(|byte| socket.send_bytes(&[*byte])));
    assert_eq!(socket.read().and_then(|f| f.close()), Some((1002, "protocol error".into())));
    eventually("the server hears that its client has gone", || {
        said(&seen).contains(&"1001 client broke the protocol".to_owned())
    });
    assert!(!said(&seen).contains(&"bad".to_owned()));

    let rude = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        socket.send(TEXT, "good");
        socket.send(5, "bad");
        while socket.read().is_some() {}
    });
    let lb = Instance::start(&with(&[&rude], "strict = true"));
    let mut socket = Socket::connect(lb.addr, "");
    assert_eq!(socket.read().expect("the good one").text(), "good");
    assert_eq!(socket.read().and_then(|f| f.close()).map(|c| c.0), Some(1011));
    counted(&lb, "lb_websocket_errors_total{backend=\"app\",kind=\"opcode\",by=\"server\"} 1");
}

#[test]
fn a_frame_past_the_bound_does_not_go_on() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&with(&[&a], "max_frame = 1010"));
    let mut socket = Socket::connect(lb.addr, "");
    assert!(socket.send(TEXT, "x".repeat(1000)));
    assert_eq!(socket.read().expect("the echo").text().len(), 1002);
    socket.send(TEXT, "x".repeat(1011));
    assert_eq!(socket.read().and_then(|f| f.close()).map(|c| c.0), Some(1009));
    eventually("the server has one of them", || said(&seen).len() >= 2);
    assert_eq!(said(&seen)[0].len(), 1000);
    assert!(said(&seen)[1].starts_with("1001 "), "{:?}", said(&seen)[1]);
}

#[test]
fn only_the_right_answer_to_the_key_opens_a_websocket() {
    let wrong = Origin::raw(|mut stream| {
        use std::io::{Read, Write};
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(
            b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\nhello",
        ));
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    });
    let lb = Instance::start(&app(&[&wrong], ""));
    let head = Socket::try_connect(lb.addr, "").err().expect("no WebSocket");
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    eventually("it is logged", || lb.access().contains("bad-websocket-accept"));
    let lb = Instance::start(&with(&[&wrong], "verify_accept = false"));
    let head = Socket::try_connect(lb.addr, "").err().expect("the server's answer");
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("bm8="), "{head}");
}

#[test]
fn websockets_for_each_key_are_limited_over_the_cluster_and_refused_as_browsers_can_see() {
    let (a, _) = echo("a");
    let config = format!(
        "[table.users]\ntype = \"string\"\nstore = [\"conn_cur\"]\n[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n\
         limit = [{{ key = \"header(X-User)\", table = \"users\", when = \"conn_cur > 2\", then = \"deny 429\" }}]\n\
         [backend.app]\nserver = [{{ name = \"node1\", addr = \"{}\" }}]\nwebsocket = {{ refuse = \"close\" }}\n",
        a.addr
    );
    let lbs = Instance::cluster(2, &config);
    let mut first = Socket::connect(lbs[0].addr, "X-User: ann\r\n");
    let second = Socket::connect(lbs[1].addr, "X-User: ann\r\n");
    for lb in &lbs {
        eventually("both are counted everywhere", || lb.counter("users", "ann", "conn_cur") == 2);
    }
    for lb in &lbs {
        let mut third = Socket::connect(lb.addr, "X-User: ann\r\n");
        assert_eq!(third.read().and_then(|f| f.close()), Some((1013, "limit".into())));
        assert_eq!(third.rest().0, b"");
        counted(lb, "lb_websocket_closes_total{backend=\"app\",code=\"1013\",by=\"lb\"} 1");
    }
    assert!(first.send(TEXT, "x"));
    assert_eq!(first.read().expect("those who are in stay").text(), "a x");
    drop(second);
    eventually("there is room again", || {
        let mut again = Socket::connect(lbs[0].addr, "X-User: ann\r\n");
        again.send(TEXT, "y");
        again.read().is_some_and(|f| f.text() == "a y")
    });
}
