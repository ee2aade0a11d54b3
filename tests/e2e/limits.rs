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

/// Connects through a proxy that says that the client is there.
fn via(lb: &Instance, client: &str) -> lb_tests::Client {
    let kind = if client.contains(':') { "TCP6" } else { "TCP4" };
    let here = if client.contains(':') { "2001:db8::ffff" } else { "192.0.2.254" };
    let mut connection = lb.client();
    connection.send(format!("PROXY {kind} {client} {here} 4711 80\r\n"));
    connection
}

#[test]
fn a_client_address_has_so_many_connections_whatever_the_others_have() {
    let a = Origin::named("a");
    let keys = "backend = \"app\"\nmaxconn_per_address = 2\n";
    let lb = Instance::start(&app(&[&a], "").replace("backend = \"app\"\n", keys));
    let (mut one, mut two) = (lb.client(), lb.client());
    assert_eq!((one.get("/", "").status, two.get("/", "").status), (200, 200));
    let mut three = lb.client();
    assert_eq!(three.answer().map(|a| (a.status, reason(&a))), Some((503, "too-many-connections".into())));
    assert!(three.closed());
    assert_eq!((one.get("/", "").status, two.get("/", "").status), (200, 200), "those who are in stay");
    assert_eq!(lb.metric("lb_frontend_connections_refused_per_address_total{frontend=\"web\"}"), 1.0);
    assert_eq!(lb.metric("lb_frontend_connections_refused_total{frontend=\"web\"}"), 0.0);
    drop(one);
    eventually("a place is free again", || {
        let mut four = lb.client();
        four.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        four.answer().is_some_and(|a| a.status == 200)
    });
    lb.edit(|text| text.replace("maxconn_per_address = 2", "maxconn_per_address = 2\ntrusted_proxies = \"127.0.0.1\""));
    assert!(lb.cli(&["reload"]).status.success());
    let mut many: Vec<_> = (0..5).map(|_| lb.client()).collect();
    assert!(many.iter_mut().all(|client| client.get("/", "").status == 200), "a trusted proxy is no client");
}

#[test]
fn behind_a_proxy_the_client_that_it_names_is_bounded_and_ipv6_by_64_bits() {
    let a = Origin::named("a");
    for tcp in [false, true] {
        let keys = "[{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }]\nmaxconn_per_address = 2\n";
        let keys = if tcp { format!("{keys}mode = \"tcp\"\n") } else { keys.into() };
        let lb = Instance::start(&app(&[&a], "").replace("[LISTEN]\n", &keys));
        let served = |client: &mut lb_tests::Client| {
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n") && client.answer().is_some_and(|a| a.status == 200)
        };
        let mut held = Vec::new();
        for who in ["192.0.2.1", "192.0.2.2", "2001:db8:1:2::1", "2001:db8:1:3::1"] {
            for _ in 0..2 {
                let mut client = via(&lb, who);
                assert!(served(&mut client), "{who}");
                held.push(client);
            }
        }
        for who in ["192.0.2.1", "2001:db8:1:2:ffff::9"] {
            let mut client = via(&lb, who);
            if tcp {
                assert!(client.closed() && !served(&mut client), "{who}");
            } else {
                assert_eq!(client.answer().map(|a| reason(&a)), Some("too-many-connections".into()), "{who}");
            }
        }
        assert!(served(&mut via(&lb, "192.0.2.3")));
        assert!(held.iter_mut().all(served), "those who are in stay");
        assert_eq!(lb.metric("lb_frontend_connections_refused_per_address_total{frontend=\"web\"}"), 2.0);
    }
}

#[test]
fn a_client_that_rotates_its_key_is_served_and_fills_no_table() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let table = "[table.sessions]\ntype = \"string\"\nmax_new_keys = \"5/s\"\n";
    let rule = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let keys = "[{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }]";
    let lb = Instance::start(&format!("{table}{}", app(&[&a, &b], rule).replace("[LISTEN]", keys)));
    let mut greedy = via(&lb, "192.0.2.1");
    let mine = greedy.get("/", "X-Key: mine\r\n").text();
    let began = Instant::now();
    for n in 0..200 {
        assert_eq!(greedy.get("/", &format!("X-Key: {n}\r\n")).status, 200);
    }
    let may = 6 + 5 * began.elapsed().as_secs() as usize;
    let made = lb.pins("sessions").len();
    assert!((5..=may).contains(&made), "{made} of {may}");
    assert!((0..10).all(|_| greedy.get("/", "X-Key: mine\r\n").text() == mine), "what is pinned stays pinned");
    let mut modest = via(&lb, "192.0.2.2");
    modest.get("/", "X-Key: theirs\r\n");
    assert!(lb.pin("sessions", "theirs").is_some(), "others make keys");
    assert_eq!(lb.metric("lb_table_new_keys_refused_total{table=\"sessions\"}"), (201 - made) as f64);
}
