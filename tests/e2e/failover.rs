//! Servers that die and come back, instances that are killed under load.
use crate::app;
use lb_tests::{Instance, Origin, eventually};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";
const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

#[test]
fn the_clients_of_a_dead_server_move_at_once_and_their_pins_with_them() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], RULE)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a");
    a.die();
    let started = Instant::now();
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "b");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node2"));
}

#[test]
fn on_down_fail_keeps_the_pin_and_says_503() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], &format!("on_down = \"fail\"\n{RULE}"))));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    a.die();
    let answer = lb.client().get("/", "X-Key: k\r\n");
    assert_eq!((answer.status, answer.text().trim()), (503, "503 Service Unavailable: pinned-server-down"));
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node1"));
    assert_eq!(lb.client().get("/", "X-Key: new\r\n").text(), "b", "new clients are not its");
}

#[test]
fn a_server_that_never_accepted_keeps_no_pin() {
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let b = Origin::named("b");
    let config = format!("{TABLE}{}", app(&[&b], RULE))
        .replace("server = [", &format!("server = [{{ name = \"dead\", addr = \"{dead}\", weight = 200 }}, "));
    let lb = Instance::start(&config);
    for i in 0..10 {
        assert_eq!(lb.client().get("/", &format!("X-Key: k{i}\r\n")).text(), "b");
        assert_eq!(lb.pin("sessions", &format!("k{i}")).as_deref(), Some("node1"));
    }
}

#[test]
fn with_no_server_left_the_answer_names_the_reason() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    lb.json(&["server", "maint", "app/node1"]);
    let answer = lb.client().get("/", "");
    assert_eq!((answer.status, answer.text().trim()), (503, "503 Service Unavailable: no-server"));
    assert!(answer.value("Retry-After").is_some());
    eventually("the access log has the same word", || lb.access().contains("\"end\":\"no-server\""));
}

#[test]
fn a_health_check_takes_a_server_out_and_back() {
    let healthy = std::sync::Arc::new(AtomicBool::new(true));
    let state = healthy.clone();
    let a = Origin::answering(move |seen| {
        let ok = state.load(Ordering::SeqCst) || !seen.head.starts_with("GET /health");
        lb_tests::origin::Reply::Keep(
            format!("HTTP/1.1 {}\r\nContent-Length: 1\r\n\r\na", if ok { "200 OK" } else { "500 No" }).into_bytes(),
        )
    });
    let b = Origin::named("b");
    let check = "check = { http = \"GET /health\", expect = 200, interval = \"50ms\", fall = 2, rise = 2 }";
    let lb = Instance::start(&app(&[&a, &b], check));
    let health = |wanted: &str| {
        eventually(wanted, || lb.api("/api/servers")[0]["health"] == wanted);
    };
    health("up");
    healthy.store(false, Ordering::SeqCst);
    health("down");
    assert!((0..6).all(|_| lb.client().get("/", "").text() == "b"));
    let why = lb.api("/api/servers")[0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("500"), "{why}");
    healthy.store(true, Ordering::SeqCst);
    health("up");
    eventually("it serves again", || lb.client().get("/", "").text() == "a");
}

#[test]
fn clients_keep_their_server_while_an_instance_is_killed_and_comes_back() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let mut cluster =
        Instance::cluster(2, &format!("{TABLE}{}", app(&[&a, &b, &c], &format!("balance = \"leastconn\"\n{RULE}"))));
    // Pins that are acknowledged: made, and heard of by the other.
    for client in 0..8 {
        cluster[client % 2].client().get("/", &format!("X-Key: client{client}\r\n"));
    }
    for lb in &cluster {
        eventually("all pins are everywhere", || lb.api("/api/tables")[0]["entries"] == 8);
    }
    let (stop, moved, served) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let addrs = [cluster[0].addr, cluster[1].addr];
    std::thread::scope(|scope| {
        for client in 0..8 {
            // Pins that are acknowledged: made, and heard of by the other.
            for client in 0..8 {
                cluster[client % 2].client().get("/", &format!("X-Key: client{client}\r\n"));
            }
            for lb in &cluster {
                eventually("all pins are everywhere", || lb.api("/api/tables")[0]["entries"] == 8);
            }
            let (stop, moved, served) = (&stop, &moved, &served);
            scope.spawn(move || {
                let mut first: Option<String> = None;
                let mut turn = client;
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    // A dead instance is a reconnect through the other, as DNS or a VIP would do it.
                    let Some(mut connection) = lb_tests::Client::try_connect(addrs[turn % 2]) else { continue };
                    connection.send(format!("GET / HTTP/1.1\r\nHost: t\r\nX-Key: client{client}\r\n\r\n"));
                    let Some(answer) = connection.answer() else { continue };
                    let server = answer.text();
                    served.fetch_add(1, Ordering::SeqCst);
                    if *first.get_or_insert_with(|| server.clone()) != server {
                        moved.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let served_at_least = |n: usize| {
            let target = served.load(Ordering::SeqCst) + n;
            eventually("clients are served", || served.load(Ordering::SeqCst) >= target);
        };
        served_at_least(100);
        cluster[1].kill();
        served_at_least(100);
        cluster[1].restart();
        cluster[1].wait_ready();
        served_at_least(200);
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(moved.load(Ordering::SeqCst), 0);
}
