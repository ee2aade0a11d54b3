//! Who gets new clients, as clients see it.
use crate::app;
use lb_tests::{Instance, Origin, eventually};
use std::collections::{HashMap, HashSet};
use std::net::TcpListener;

/// `app`, with something more for each server.
fn with_each(origins: &[&Origin], lines: &str, more: &[&str]) -> String {
    more.iter().enumerate().fold(app(origins, lines), |text, (i, more)| {
        let name = format!("name = \"node{}\", ", i + 1);
        text.replace(&name, &format!("{name}{more}"))
    })
}

fn count(lb: &Instance, n: usize, field: impl Fn(usize) -> String) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for i in 0..n {
        *count.entry(lb.client().get("/", &field(i)).text()).or_default() += 1;
    }
    count
}

#[test]
fn random_spreads_new_clients_and_goes_around_the_busy() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let lb = Instance::start(&app(&[&a, &b, &c], "balance = \"random(2)\""));
    let mut sockets: Vec<_> = (0..90).map(|_| lb.client()).collect();
    for socket in &mut sockets {
        assert_eq!(socket.upgrade("/ws", "").status, 101);
    }
    let seen = [a.seen().len(), b.seen().len(), c.seen().len()];
    assert!(seen.iter().all(|n| (22..=38).contains(n)), "{seen:?}");
}

#[test]
fn first_fills_a_server_before_it_opens_the_next() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Instance::start(&with_each(&[&a, &b], "balance = \"first\"", &["maxconn = 3, ", ""]));
    let mut sockets: Vec<_> = (0..5).map(|_| lb.client()).collect();
    for socket in &mut sockets {
        assert_eq!(socket.upgrade("/ws", "").status, 101);
    }
    assert_eq!((a.seen().len(), b.seen().len()), (3, 2));
    sockets.truncate(0);
    eventually("the first has room again", || lb.client().get("/", "").text() == "a");
}

#[test]
fn a_backup_serves_only_while_nobody_else_can_and_its_pinned_clients_stay() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let lines = "sticky = [{ cookie = \"S\", insert = true }]";
    let lb = Instance::start(&with_each(&[&a, &b, &c], lines, &["", "", "backup = true, "]));
    let served = count(&lb, 10, |_| String::new());
    assert_eq!((served.len(), served.get("c")), (2, None), "{served:?}");
    assert_eq!(lb.text(&["server", "list"]).matches("a backup").count(), 1, "and it is shown as one");
    lb.json(&["server", "maint", "app/node1"]);
    lb.json(&["server", "maint", "app/node2"]);
    assert_eq!(count(&lb, 5, |_| String::new()), HashMap::from([("c".into(), 5)]));
    lb.json(&["server", "ready", "app/node2"]);
    assert_eq!(count(&lb, 5, |_| String::new()), HashMap::from([("b".into(), 5)]));
    assert_eq!(lb.client().get("/", "Cookie: S=node3\r\n").text(), "c", "whom it served once, it serves");
}

#[test]
fn the_request_that_finds_the_last_server_dead_is_served_by_the_backup() {
    let b = Origin::named("b");
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port where nobody listens");
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\nserver = [\
         {{ name = \"node1\", addr = \"{dead}\" }}, {{ name = \"node2\", addr = \"{}\", backup = true }}]\n",
        b.addr
    ));
    let answer = lb.client().get("/", "");
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
}

#[test]
fn any_key_can_be_hashed_and_every_instance_hashes_alike() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let origins: Vec<_> = origins.iter().collect();
    for (balance, request) in [
        ("uri", &(|i| (format!("/p{i}"), String::new())) as &dyn Fn(usize) -> (String, String)),
        ("query(room)", &|i| (format!("/?x=1&room=r{i}"), String::new())),
        ("hash(cookie(sid))", &|i| ("/".into(), format!("Cookie: a=b; sid=s{i}\r\n"))),
        ("header(X-Tenant)", &|i| ("/".into(), format!("X-Tenant: t{i}\r\n"))),
    ] {
        let config = app(&origins, &format!("balance = \"{balance}\""));
        let (one, two) = (Instance::start(&config), Instance::start(&config));
        let mut seen = HashSet::new();
        for i in 0..20 {
            let (target, fields) = request(i);
            let first = one.client().get(&target, &fields).text();
            assert_eq!(two.client().get(&target, &fields).text(), first, "{balance}");
            seen.insert(first);
        }
        assert_eq!(seen.len(), 3, "{balance}");
    }
}

#[test]
fn a_hot_key_overflows_past_its_bound() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let lb = Instance::start(&app(&[&a, &b, &c], "balance = \"query(room)\"\nload_bound = 150"));
    let mut sockets: Vec<_> = (0..60).map(|_| lb.client()).collect();
    for socket in &mut sockets {
        assert_eq!(socket.upgrade("/ws?room=hot", "").status, 101);
    }
    let mut seen = [a.seen().len(), b.seen().len(), c.seen().len()];
    seen.sort_unstable();
    assert_eq!((seen[2], seen.iter().sum::<usize>()), (30, 60), "half as much again as its third: {seen:?}");
}

#[test]
fn a_server_that_comes_back_is_not_flooded() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lines = "balance = \"leastconn\"\nslow_start = { time = \"10m\", pace = \"20/s\" }";
    let lb = Instance::start(&app(&[&a, &b], lines));
    lb.json(&["server", "maint", "app/node1"]);
    let open = |n: usize| -> Vec<_> {
        let mut sockets: Vec<_> = (0..n).map(|_| lb.client()).collect();
        sockets.iter_mut().for_each(|socket| assert_eq!(socket.upgrade("/ws", "").status, 101));
        sockets
    };
    let _old = open(300);
    lb.json(&["server", "ready", "app/node1"]);
    let begun = std::time::Instant::now();
    let _new = open(200);
    // leastconn alone would send all of them to the empty server.
    let most = 20.0 * begun.elapsed().as_secs_f64() + 5.0;
    assert!((a.seen().len() as f64) < most, "{} in {:?}", a.seen().len(), begun.elapsed());
    eventually("it gets its clients little by little", || {
        drop(open(1));
        !a.seen().is_empty()
    });
}
