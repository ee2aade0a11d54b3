//! Upgraded connections: bytes both ways, half-close, silence, what came early.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin, eventually};

#[test]
fn bytes_pass_both_ways_and_what_came_before_the_101_is_not_lost() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send("GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.value("Upgrade")), (101, Some("websocket")));
    assert_eq!(client.read(5).as_deref(), Some(&b"early"[..]));
    let large = vec![7; 300_000];
    let wrote = std::thread::scope(|scope| {
        let reader = scope.spawn({
            let mut echo = Vec::new();
            let client = &mut client;
            move || {
                // One piece at a time, because the echo blocks when nobody reads.
                for piece in vec![7u8; 300_000].chunks(10_000) {
                    assert!(client.send(piece));
                    echo.extend(client.read(piece.len()).expect("the echo"));
                }
                echo
            }
        });
        reader.join().expect("no panic")
    });
    assert_eq!(wrote, large);
}

#[test]
fn one_side_can_end_while_the_other_still_speaks() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    assert_eq!(client.upgrade("/ws", "").status, 101);
    client.send("last words");
    client.finish();
    assert_eq!(client.read(10).as_deref(), Some(&b"last words"[..]));
    assert!(client.closed());
    eventually("the access log tells", || lb.access().contains("\"end\":\"client-closed\""));
}

#[test]
fn a_silent_tunnel_ends_and_one_that_speaks_does_not() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], "timeout = { tunnel = \"400ms\" }"));
    let (mut silent, mut speaking) = (lb.client(), lb.client());
    assert_eq!((silent.upgrade("/ws", "").status, speaking.upgrade("/ws", "").status), (101, 101));
    eventually("the silent one is closed", || {
        speaking.send("x");
        assert!(speaking.read(1).is_some(), "the speaking one lives");
        lb.access().contains("tunnel-timeout")
    });
    assert!(silent.closed());
}

#[test]
fn only_the_upgrade_that_was_asked_for_opens_a_tunnel() {
    for fields in ["Connection: Upgrade\r\nUpgrade: other\r\n", "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"] {
        let a = Origin::answering(move |_| {
            Reply::Raw(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").into_bytes())
        });
        let lb = Instance::start(&app(&[&a], ""));
        assert_eq!(lb.client().upgrade("/ws", "").status, 502, "{fields:?}");
    }
}

#[test]
fn an_open_socket_keeps_its_pin_alive() {
    let a = Origin::named("a");
    let config = format!(
        "[table.s]\ntype = \"string\"\nexpire = \"1s\"\n{}",
        app(&[&a], "sticky = [{ on = \"header(X-Key)\", table = \"s\" }]")
    );
    let lb = Instance::start(&config);
    let mut client = lb.client();
    assert_eq!(client.upgrade("/ws", "X-Key: held\r\n").status, 101);
    assert_eq!(lb.client().get("/", "X-Key: loose\r\n").status, 200);
    // The loose one goes after its second; by then the held one would have gone as well.
    eventually("the loose pin expires", || lb.pin("s", "loose").is_none());
    assert_eq!(lb.pin("s", "held").as_deref(), Some("node1"));
    drop(client);
    eventually("the pin goes when the socket is closed", || lb.pin("s", "held").is_none());
}
