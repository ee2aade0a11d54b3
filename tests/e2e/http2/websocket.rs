//! WebSockets over HTTP/2 (RFC 8441) that reach HTTP/1.1 servers as upgrades.
use crate::app_h2;
use lb_tests::frames::{Frame, block, flag, get, kind};
use lb_tests::{Frames, Instance, Origin, eventually};
use std::io::{Read, Write};

fn connect(path: &str) -> Vec<u8> {
    block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("sec-websocket-version", "13"),
        ("origin", "http://test"),
    ])
}

/// A server that answers an upgrade like this; what stands for the accepted key is put in.
fn server(answer: &'static str) -> Origin {
    Origin::raw(move |mut stream| {
        let (mut seen, mut buf) = (Vec::new(), [0; 4096]);
        while !seen.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => seen.extend_from_slice(&buf[..n]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&seen);
        let key = lb_tests::origin::field(&head, "Sec-WebSocket-Key").unwrap_or_default();
        let answer = answer.replace("ACCEPT", &accept(key)).replace("HEAD", &head.replace("\r\n", "|"));
        stream.write_all(answer.as_bytes()).ok();
        while let Ok(n) = stream.read(&mut buf) {
            if n == 0 || stream.write_all(&buf[..n]).is_err() {
                break;
            }
        }
        stream.shutdown(std::net::Shutdown::Write).ok();
    })
}

/// By a program of somebody else's.
fn accept(key: &str) -> String {
    let script = "import base64,hashlib,sys; print(base64.b64encode(hashlib.sha1((sys.argv[1]+'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()).decode())";
    let output = std::process::Command::new("python3").args(["-c", script, key]).output().expect("python3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";

#[test]
fn a_websocket_becomes_an_upgrade_and_bytes_pass_both_ways() {
    let a = server(ACCEPTED);
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::silent(lb.addr);
    c.bytes(lb_tests::frames::PREFACE);
    c.send(kind::SETTINGS, 0, 0, &[]);
    let settings = c.next().expect("settings");
    assert!(settings.payload.chunks(6).any(|s| s == [0, 8, 0, 0, 0, 1]), "it may be asked for: {settings:?}");
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &connect("/ws"));
    let head = c.head(1).expect("a head");
    assert_eq!((head.status(), head.flags & flag::END_STREAM), (Some(200), 0));
    for text in ["hello", "again"] {
        c.send(kind::DATA, 0, 1, text.as_bytes());
        assert_eq!(c.find(|f| f.kind == kind::DATA).expect("the echo").payload, text.as_bytes());
    }
    assert!(lb.admin_text("/metrics").contains("lb_websocket_connections_active{backend=\"app\",server=\"node1\"} 1"));
    // Others of the connection go on meanwhile; its end is the server's end, and the answer's.
    c.send(kind::DATA, flag::END_STREAM, 1, b"bye");
    assert_eq!(c.body(1).as_deref(), Some(&b"bye"[..]));
    eventually("the tunnel is over", || lb.access().contains("\"tunnel\":true"));
    assert!(c.lives());
}

#[test]
fn the_server_sees_an_upgrade_of_http_1_and_nothing_of_http_2() {
    let a = server("HTTP/1.1 403 No\r\nContent-Length: 0\r\nX-Seen: HEAD\r\n\r\n");
    let b = Origin::named("b");
    let lb = Instance::start(&app_h2(&[&b], ""));
    drop(a);
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &connect("/ws?x=1"));
    eventually("a request", || !b.seen().is_empty());
    let seen = &b.seen()[0];
    assert!(seen.head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{}", seen.head);
    for (name, value) in
        [("Host", "test"), ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    {
        assert_eq!(seen.value(name), Some(value), "{}", seen.head);
    }
    assert_eq!(seen.value("Sec-WebSocket-Key").map(str::len), Some(24), "{}", seen.head);
    assert!(!seen.head.contains("protocol") && !seen.head.contains("Transfer-Encoding"), "{}", seen.head);
    // It said 101, but not to our key.
    assert_eq!(c.head(1).as_ref().and_then(Frame::status), Some(502));
}

#[test]
fn what_does_not_accept_it_is_no_websocket() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
            502,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503),
    ] {
        let a = server(answer);
        let lb = Instance::start(&app_h2(&[&a], ""));
        let mut c = Frames::connect(lb.addr);
        c.send(kind::HEADERS, flag::END_HEADERS, 1, &connect("/ws"));
        // Sent early: it must reach nobody but a WebSocket.
        c.send(kind::DATA, 0, 1, b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(c.head(1).as_ref().and_then(Frame::status), Some(status), "{answer}");
        c.request(3, &get("/"));
        assert!(c.lives(), "{answer}");
    }
}

#[test]
fn a_websocket_is_routed_kept_with_its_server_and_ended_by_a_reset() {
    let a = server(ACCEPTED);
    let plain = Origin::named("plain");
    let config = format!(
        "[table.sessions]\ntype = \"string\"\n[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}]\nbackend = \"app\"\n\
         routes = [{{ websocket = true, backend = \"ws\" }}]\n[backend.app]\n{}\n[backend.ws]\n\
         sticky = [{{ on = \"header(origin)\", table = \"sessions\" }}]\n{}\n",
        crate::servers(&[&plain]),
        crate::servers(&[&a])
    );
    let lb = Instance::start(&config);
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, flag::END_HEADERS, 1, &connect("/ws"));
    assert_eq!(c.head(1).as_ref().and_then(Frame::status), Some(200));
    assert_eq!(lb.pin("sessions", "http://test").as_deref(), Some("node1"));
    c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    eventually("the tunnel is over", || {
        lb.admin_text("/metrics").contains("lb_websocket_connections_active{backend=\"ws\",server=\"node1\"} 0")
    });
    assert_eq!(plain.seen(), []);
}
