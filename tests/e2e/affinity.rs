//! A client keeps its server: by cookie, header, query, address, a cookie of the application.
use crate::{app, servers};
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin};
use std::collections::{HashMap, HashSet};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";

fn cookie_of(answer: &lb_tests::Answer) -> Option<String> {
    answer.value("Set-Cookie").and_then(|c| c.split(';').next()).map(str::to_owned)
}

#[test]
fn the_cookie_is_set_once_hidden_from_the_server_and_brings_the_client_back() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule = "sticky = [{ cookie = \"SERVERID\", insert = true, indirect = true, nocache = true, httponly = true, samesite = \"lax\", secure = true, domain = \"example.org\" }]";
    let lb = Instance::start(&app(&[&a, &b], rule));
    let mut client = lb.client();
    let first = client.get("/", "");
    assert_eq!(first.value("Cache-Control"), Some("private"));
    let set = first.value("Set-Cookie").expect("a cookie");
    let name = if first.text() == "a" { "node1" } else { "node2" };
    assert_eq!(set, format!("SERVERID={name}; Path=/; Domain=example.org; HttpOnly; Secure; SameSite=Lax"));
    for _ in 0..6 {
        let again = lb.client().get("/", &format!("Cookie: x=1; SERVERID={name}; y=2\r\n"));
        assert_eq!(again.text(), first.text());
        assert_eq!(again.value("Set-Cookie"), None, "a client that has it is not sent it again");
    }
    let origin = if first.text() == "a" { &a } else { &b };
    assert_eq!(origin.seen().last().and_then(|s| s.value("Cookie").map(str::to_owned)), Some("x=1; y=2".into()));
}

#[test]
fn a_websocket_gets_its_cookie_on_the_101_itself() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], "sticky = [{ cookie = \"SERVERID\", insert = true }]"));
    let answer = lb.client().upgrade("/ws", "");
    assert_eq!(answer.status, 101);
    assert_eq!(cookie_of(&answer).as_deref(), Some("SERVERID=node1"));
}

#[test]
fn two_hundred_clients_behind_one_address_are_spread_and_each_comes_back() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule = "balance = \"leastconn\"\nsticky = [{ cookie = \"SERVERID\", insert = true, indirect = true }]";
    let lb = Instance::start(&app(&[&a, &b], rule));
    let mut count: HashMap<String, usize> = HashMap::new();
    for _ in 0..200 {
        let first = lb.client().get("/", "");
        let cookie = cookie_of(&first).expect("a cookie");
        assert_eq!(lb.client().get("/", &format!("Cookie: {cookie}\r\n")).text(), first.text());
        *count.entry(first.text()).or_default() += 1;
    }
    assert!(count["a"] > 60 && count["b"] > 60, "{count:?}");
}

#[test]
fn a_header_a_query_parameter_and_the_address_pin() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (rule, kind, target, field) in [
        ("on = \"header(X-Session-ID)\"", "string", "/", "x-session-id: s1\r\n"),
        ("on = \"query(room)\"", "string", "/?a=1&room=7", ""),
        ("on = \"cookie(sid)\"", "string", "/", "Cookie: x=y; sid=7\r\n"),
        ("on = \"src\"", "ip", "/", ""),
    ] {
        let config = format!(
            "[table.sessions]\ntype = \"{kind}\"\n{}",
            app(&[&a, &b], &format!("sticky = [{{ {rule}, table = \"sessions\" }}]"))
        );
        let lb = Instance::start(&config);
        let first = lb.client().get(target, field).text();
        for _ in 0..5 {
            assert_eq!(lb.client().get(target, field).text(), first, "{rule}");
        }
        let other: HashSet<_> = (0..20)
            .map(|i| {
                lb.client().get(&format!("/?room=x{i}"), &format!("X-Session-ID: x{i}\r\nCookie: sid=x{i}\r\n")).text()
            })
            .collect();
        assert!(kind == "ip" || other.len() == 2, "others are spread: {rule}");
    }
}

#[test]
fn a_cookie_that_the_application_sets_is_learnt_from_its_answer() {
    let answering = |name: &'static str| {
        Origin::answering(move |seen| match seen.value("Cookie") {
            None => Reply::With(format!("Set-Cookie: JSESSIONID=of-{name}; Path=/\r\n"), name.into()),
            Some(_) => Reply::Body(name.into()),
        })
    };
    let (a, b) = (answering("a"), answering("b"));
    let rules = "sticky = [{ match = \"cookie(JSESSIONID)\", table = \"sessions\" }, { store_response = \"cookie(JSESSIONID)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    for _ in 0..6 {
        let first = lb.client().get("/", "");
        let cookie = cookie_of(&first).expect("the application's cookie");
        for _ in 0..4 {
            assert_eq!(lb.client().get("/", &format!("Cookie: {cookie}\r\n")).text(), first.text());
        }
    }
    assert!(lb.pin("sessions", "of-a").is_some() && lb.pin("sessions", "of-b").is_some());
}

#[test]
fn the_cookie_is_tried_before_the_table() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }, { cookie = \"S\", insert = true }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a");
    assert_eq!(lb.client().get("/", "X-Key: k\r\nCookie: S=node2\r\n").text(), "b");
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node2"), "the table follows where the client went");
}

#[test]
fn six_first_requests_at_once_with_one_key_share_a_server() {
    let slow = |name: &'static str| {
        Origin::answering(move |_| {
            // Long enough for all six to be on their way.
            std::thread::sleep(std::time::Duration::from_millis(30));
            Reply::Body(name.into())
        })
    };
    let origins = [slow("a"), slow("b"), slow("c")];
    let rules = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&origins.iter().collect::<Vec<_>>(), rules)));
    for round in 0..10 {
        let answers: HashSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..6).map(|_| scope.spawn(|| lb.client().get("/", &format!("X-Key: k{round}\r\n")).text())).collect();
            threads.into_iter().map(|t| t.join().expect("an answer")).collect()
        });
        assert_eq!(answers.len(), 1, "round {round}: {answers:?}");
    }
}

#[test]
fn a_draining_server_keeps_its_pinned_clients_and_gets_no_new_ones() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    lb.json(&["table", "set", "sessions", "old", "node1"]);
    lb.json(&["server", "drain", "app/node1"]);
    assert_eq!(lb.client().get("/", "X-Key: old\r\n").text(), "a");
    for i in 0..10 {
        assert_eq!(lb.client().get("/", &format!("X-Key: new{i}\r\n")).text(), "b");
    }
    lb.json(&["server", "maint", "app/node1"]);
    assert_eq!(lb.client().get("/", "X-Key: old\r\n").text(), "b", "maintenance moves even the pinned");
    lb.json(&["server", "ready", "app/node1"]);
    lb.json(&["server", "maint", "app/node2"]);
    assert_eq!(lb.client().get("/", "X-Key: old\r\n").text(), "a");
}

#[test]
fn hashing_sends_equal_keys_to_equal_servers_on_every_instance() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let config = app(&[&a, &b, &c], "balance = \"hash(header(X-Key))\"");
    let (one, two) = (Instance::start(&config), Instance::start(&config));
    let mut seen = HashSet::new();
    for i in 0..30 {
        let field = format!("X-Key: k{i}\r\n");
        let first = one.client().get("/", &field).text();
        assert_eq!(two.client().get("/", &field).text(), first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn routes_choose_the_backend_by_host_path_header_and_websocket() {
    let (a, b, c, d, e) =
        (Origin::named("a"), Origin::named("b"), Origin::named("c"), Origin::named("d"), Origin::named("e"));
    let backends: String = [("host", &a), ("path", &b), ("head", &c), ("ws", &d), ("rest", &e)]
        .iter()
        .map(|(name, o)| format!("[backend.{name}]\n{}\n", servers(&[o])))
        .collect();
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"rest\"\nroutes = [\n\
         {{ websocket = true, backend = \"ws\" }},\n{{ host = \"*.shop.test\", backend = \"host\" }},\n\
         {{ path_prefix = \"/api\", backend = \"path\" }},\n{{ header = {{ \"X-Beta\" = \"yes\" }}, backend = \"head\" }},\n]\n{backends}"
    ));
    let get = |target: &str, host: &str, fields: &str| {
        let mut client = lb.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        client.answer().expect("an answer").text()
    };
    assert_eq!(get("/", "www.shop.test:80", ""), "a");
    assert_eq!(get("/api/x", "other", ""), "b");
    assert_eq!(get("/apix", "other", ""), "e");
    assert_eq!(get("/", "other", "x-beta: yes\r\n"), "c");
    assert_eq!(get("/", "other", "x-beta: no\r\n"), "e");
    assert_eq!(lb.client().upgrade("/", "").status, 101);
    assert_eq!(d.seen().len(), 1);
}
