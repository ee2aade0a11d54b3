//! Bounds: past one the newcomer is refused with a reason, those who are in stay.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin, eventually};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn reason(answer: &lb_tests::Answer) -> String {
    answer.text().trim().rsplit(' ').next().unwrap_or("").to_owned()
}

#[test]
fn a_head_too_large_or_with_too_many_fields_gets_431() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    for fields in [format!("X: {}\r\n", "x".repeat(20_000)), "X: 1\r\n".repeat(101)] {
        let mut client = lb.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{fields}\r\n"));
        assert_eq!(client.answer().map(|a| (a.status, reason(&a))), Some((431, "head-too-large".into())));
        assert!(client.closed());
    }
    assert_eq!(lb.client().get("/", &"X: 1\r\n".repeat(90)).status, 200);
}

#[test]
fn slow_and_silent_clients_get_408_while_others_are_served() {
    let a = Origin::named("a");
    let config = app(&[&a], "").replace(
        "backend = \"app\"\n",
        "backend = \"app\"\ntimeout = { http_request = \"300ms\", http_keep_alive = \"300ms\", client = \"300ms\" }\n",
    );
    let lb = Instance::start(&config);
    let mut slow = lb.client();
    slow.send("GET / HTTP/1.1\r\nHo");
    let mut silent = lb.client();
    let mut stalled = lb.client();
    stalled.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(lb.client().get("/", "").status, 200);
    assert_eq!(slow.answer().map(|a| (a.status, reason(&a))), Some((408, "head-timeout".into())));
    assert_eq!(silent.answer().map(|a| a.status), Some(408));
    assert_eq!(stalled.answer().map(|a| (a.status, reason(&a))), Some((408, "body-timeout".into())));
    let mut idle = lb.client();
    assert_eq!(idle.get("/", "").status, 200);
    assert!(idle.closed(), "an idle connection ends without a word");
}

/// A server that answers when it is told to.
fn held() -> (Origin, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let origin = Origin::answering(move |_| {
        drop(gate.lock().map(|g| g.recv()));
        Reply::Body("ok".into())
    });
    (origin, go)
}

#[test]
fn a_full_server_queues_and_the_queue_is_bounded_in_length_and_time() {
    let (a, go) = held();
    let lines = "max_queue = 1\ntimeout = { queue = \"500ms\" }\n";
    let config = app(&[&a], lines).replace("name = \"node1\",", "name = \"node1\", maxconn = 1,");
    let lb = Instance::start(&config);
    let ask = |client: &mut lb_tests::Client| assert!(client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n"));
    let (mut first, mut second, mut third) = (lb.client(), lb.client(), lb.client());
    ask(&mut first);
    eventually("the first is on the server", || a.seen().is_empty() && lb.api("/api/servers")[0]["active"] == 1);
    ask(&mut second);
    eventually("the second waits", || {
        lb.admin_text("/metrics").lines().any(|l| l.starts_with("lb_backend_queued_total") && l.ends_with(" 1"))
    });
    ask(&mut third);
    assert_eq!(third.answer().map(|a| (a.status, reason(&a))), Some((503, "queue-full".into())));
    go.send(()).expect("the server waits");
    assert_eq!(first.answer().map(|a| a.status), Some(200));
    go.send(()).expect("the server waits");
    assert_eq!(second.answer().map(|a| a.status), Some(200), "the one that waited came next");
    // And one that waits too long.
    ask(&mut first);
    eventually("the first is on the server again", || lb.api("/api/servers")[0]["active"] == 1);
    let started = Instant::now();
    ask(&mut second);
    assert_eq!(second.answer().map(|a| (a.status, reason(&a))), Some((503, "queue-timeout".into())));
    assert!(started.elapsed() >= Duration::from_millis(450));
    go.send(()).expect("the server waits");
    assert_eq!(first.answer().map(|a| a.status), Some(200));
}

#[test]
fn a_frontend_takes_so_many_connections_and_those_who_are_in_stay() {
    let a = Origin::named("a");
    let config = app(&[&a], "").replace("backend = \"app\"\n", "backend = \"app\"\nmaxconn = 2\n");
    let lb = Instance::start(&config);
    let (mut one, mut two) = (lb.client(), lb.client());
    assert_eq!((one.get("/", "").status, two.get("/", "").status), (200, 200));
    let mut three = lb.client();
    assert_eq!(three.answer().map(|a| (a.status, reason(&a))), Some((503, "too-many-connections".into())));
    assert_eq!((one.get("/", "").status, two.get("/", "").status), (200, 200));
    drop(one);
    eventually("a place is free again", || {
        let mut four = lb.client();
        four.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        four.answer().is_some_and(|a| a.status == 200)
    });
}
