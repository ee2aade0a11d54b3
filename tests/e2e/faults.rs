//! What becomes of failures: requests tried again, servers taken out, sockets closed, health ignored.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin, eventually};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";
const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

/// Answers every request with this status.
fn saying(status: &'static str) -> Origin {
    Origin::answering(move |_| Reply::Keep(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").into_bytes()))
}

/// Takes a whole request, and closes without a word.
fn wordless() -> Origin {
    Origin::answering(|_| Reply::Raw(Vec::new()))
}

/// Sends so many of these; the answers.
fn ask(lb: &Instance, times: usize, head: &str, body: &str) -> Vec<(u16, String)> {
    let one = |_| {
        let mut client = lb.client();
        client.send(format!("{head} / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        client.answer().map_or((0, String::new()), |a| (a.status, a.text()))
    };
    (0..times).map(one).collect()
}

#[test]
fn an_idempotent_request_is_sent_again_after_no_answer_and_one_that_is_not_never_is() {
    let (a, b) = (wordless(), Origin::named("b"));
    let lb = Instance::start(&app(&[&a, &b], "retry_on = [\"connect-failure\", \"empty-response\"]"));
    assert!(ask(&lb, 10, "GET", "").iter().all(|answer| *answer == (200, "b".into())));
    assert!(ask(&lb, 10, "PUT", "a body").iter().all(|answer| *answer == (200, "b".into())));
    assert!(
        b.seen().iter().filter(|s| s.head.starts_with("PUT")).all(|s| s.body == b"a body"),
        "the body goes with it"
    );
    assert!(a.seen().len() >= 8, "it was tried: {}", a.seen().len());
    let before = a.seen().len() + b.seen().len();
    let posts = ask(&lb, 20, "POST", "once");
    assert!(posts.iter().any(|(status, _)| *status == 502), "{posts:?}");
    assert_eq!(a.seen().len() + b.seen().len() - before, 20, "each was sent once");
}

#[test]
fn statuses_that_are_named_are_tried_elsewhere_and_the_last_servers_answer_stands() {
    let (a, b) = (saying("503 Busy"), Origin::named("b"));
    let lb = Instance::start(&app(&[&a, &b], "retry_on = [503]"));
    assert!(ask(&lb, 10, "GET", "").iter().all(|(status, _)| *status == 200));
    let large = "x".repeat(1 << 20);
    let answers = ask(&lb, 4, "PUT", &large);
    assert!(answers.iter().any(|(status, _)| *status == 503), "a long body is not kept for it: {answers:?}");
    assert!(ask(&lb, 10, "POST", "once").iter().any(|(status, _)| *status == 503));
    b.die();
    // Nobody is left: the server's own answer is better than none.
    eventually("its own words arrive", || ask(&lb, 1, "GET", "") == [(503, "no".into())]);
}

#[test]
fn a_server_that_does_not_answer_in_time_is_left_for_another() {
    let silent = Origin::raw(|mut stream| {
        let mut buf = [0; 1024];
        while stream.read(&mut buf).is_ok_and(|n| n > 0) {}
    });
    let b = Origin::named("b");
    let lb = Instance::start(&app(&[&silent, &b], "retry_on = \"response-timeout\"\ntimeout = { server = \"200ms\" }"));
    assert!(ask(&lb, 4, "GET", "").iter().all(|answer| *answer == (200, "b".into())));
    let retries = lb.metric("lb_backend_retries_total{backend=\"app\"}");
    // Each worker has a turn of its own, and begins it with the silent one.
    assert!((1.0..=4.0).contains(&retries), "{retries}");
}

#[test]
fn a_pinned_client_keeps_its_server_when_that_fails_a_request() {
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = turn.clone();
    // Every other request is closed without a word; a POST gets 503.
    let a = Origin::answering(move |seen| match seen.head.split(' ').next() {
        Some("DELETE") => Reply::Keep(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into()),
        _ if turns.fetch_add(1, SeqCst).is_multiple_of(2) => Reply::Raw(Vec::new()),
        _ => Reply::Body("a".into()),
    });
    let b = Origin::named("b");
    let config = format!("{TABLE}{}", app(&[&a, &b], &format!("{RULE}\nretry_on = [\"empty-response\", 503]")));
    let lb = Instance::start(&config);
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a");
    assert_eq!(turn.load(SeqCst), 2, "its own server was asked twice");
    let mut client = lb.client();
    client.send("DELETE / HTTP/1.1\r\nHost: t\r\nX-Key: k\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.status), Some(503));
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node1"));
    assert!(b.seen().is_empty());
}

#[test]
fn a_spent_budget_ends_the_retries() {
    let (a, b) = (saying("503 Busy"), saying("503 Busy"));
    let lines = "retry_on = [503]\nretry_budget = \"20%\"\nretry_min = 0";
    let lb = Instance::start(&app(&[&a, &b], lines));
    assert!(ask(&lb, 100, "GET", "").iter().all(|(status, _)| *status == 503));
    let sent = a.seen().len() + b.seen().len();
    // Over twelve seconds more could be sent: the window moves. On a slow machine that is no fault.
    assert!((101..=125).contains(&sent), "{sent} requests were sent for 100");
    assert!(lb.metric("lb_backend_retries_over_budget_total{backend=\"app\"}") >= 75.0);
}

#[test]
fn a_server_that_fails_requests_is_out_for_a_while_although_its_check_passes() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let a = Origin::answering(move |_| match state.load(SeqCst) {
        true => Reply::Keep(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into()),
        false => Reply::Body("a".into()),
    });
    let b = Origin::named("b");
    let lines = "check = { tcp = true, interval = \"50ms\" }\noutlier = { consecutive = 4, eject = \"2s\" }";
    let lb = Instance::start(&app(&[&a, &b], lines));
    let row = || lb.api("/api/servers")[0].clone();
    eventually("it is out", || {
        ask(&lb, 2, "GET", "");
        row()["ejected"].is_number()
    });
    assert!(a.seen().len() >= 4, "after four failures, at the next look: {}", a.seen().len());
    assert_eq!(row()["health"], "up");
    assert!(lb.text(&["server", "list"]).contains("ejected"), "{}", lb.text(&["server", "list"]));
    assert_eq!(lb.metric("lb_server_ejected{backend=\"app\",server=\"node1\"}"), 1.0);
    assert!(ask(&lb, 10, "GET", "").iter().all(|answer| *answer == (200, "b".into())));
    broken.store(false, SeqCst);
    eventually("it is in again", || row()["ejected"].is_null());
    eventually("it serves again", || ask(&lb, 2, "GET", "").contains(&(200, "a".into())));
    assert_eq!(lb.metric("lb_server_ejections_total{backend=\"app\",server=\"node1\"}"), 1.0);
}

#[test]
fn where_too_few_servers_are_up_health_is_ignored() {
    let sick = || {
        Origin::answering(|seen| match seen.head.starts_with("GET /health") {
            true => Reply::Keep(b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n".into()),
            false => Reply::Body("served".into()),
        })
    };
    let (a, b) = (sick(), sick());
    let check = "check = { http = \"GET /health\", interval = \"50ms\" }";
    let lb = Instance::start(&app(&[&a, &b], check));
    let down =
        |lb: &Instance| lb.api("/api/servers").as_array().is_some_and(|all| all.iter().all(|s| s["health"] == "down"));
    eventually("both are down", || down(&lb));
    assert_eq!(lb.client().get("/", "").status, 503);
    lb.edit(|text| text.replace(check, &format!("{check}\npanic_threshold = \"50%\"")));
    lb.json(&["reload"]);
    eventually("they serve all the same", || lb.client().get("/", "").status == 200);
    assert!(down(&lb), "and are shown as what they are");
    assert_eq!(lb.metric("lb_backend_panic{backend=\"app\"}"), 1.0);
    assert!(lb.text(&["status"]).contains("health is ignored"));
}

#[test]
fn what_is_open_on_a_server_that_goes_down_is_closed_at_once_where_that_is_wanted() {
    let sick = Arc::new(AtomicBool::new(false));
    let (state, (hold, held)) = (sick.clone(), mpsc::channel::<()>());
    let held = std::sync::Mutex::new(held);
    let a = Origin::answering(move |seen| {
        if seen.head.starts_with("GET /health") && state.load(SeqCst) {
            return Reply::Keep(b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n".into());
        }
        if seen.head.starts_with("GET /slow") {
            // Until the test is over.
            let _ = held.lock().expect("one").recv();
        }
        Reply::Body("a".into())
    });
    let b = Origin::named("b");
    let lines =
        format!("{RULE}\ncheck = {{ http = \"GET /health\", interval = \"50ms\" }}\non_marked_down = \"close\"");
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], &lines)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    let (mut socket, mut slow) = (lb.client(), lb.client());
    assert_eq!(socket.upgrade("/ws", "X-Key: k\r\n").status, 101);
    slow.send("GET /slow HTTP/1.1\r\nHost: t\r\nX-Key: k\r\n\r\n");
    eventually("both are there", || lb.api("/api/servers")[0]["active"] == 2);
    sick.store(true, SeqCst);
    let started = Instant::now();
    assert!(socket.closed(), "the tunnel is closed");
    let answer = slow.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().trim()), (503, "503 Service Unavailable: server-down"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    eventually("it is logged", || lb.access().matches("\"end\":\"server-down\"").count() == 2);
    assert_eq!(lb.metric("lb_server_closed_total{backend=\"app\",server=\"node1\"}"), 2.0);
    let mut socket = lb.client();
    assert_eq!(socket.upgrade("/ws", "X-Key: k\r\n").status, 101, "the client comes back elsewhere");
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node2"));
    assert!(socket.send("hello") && socket.read(5).as_deref() == Some(b"hello"));
    drop(hold);
}

#[test]
fn pinned_clients_wait_in_front_of_others_where_that_is_wanted() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let came = order.clone();
    let a = Origin::answering(move |seen| {
        came.lock().expect("an order").push(seen.head.lines().next().unwrap_or_default().to_owned());
        let _ = released.lock().expect("one").recv();
        Reply::Body("a".into())
    });
    let config =
        format!("{TABLE}{}", app(&[&a], &format!("{RULE}\nqueue_first = \"pinned\"\ntimeout = {{ queue = \"20s\" }}")))
            .replace("name = \"node1\",", "name = \"node1\", maxconn = 1,");
    let lb = Instance::start(&config);
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    let queued = |n: u64| eventually("they wait", || lb.api("/api/servers")[0]["queued"] == n);
    let mut clients: Vec<_> = (0..4).map(|_| lb.client()).collect();
    clients[0].send("GET /first HTTP/1.1\r\nHost: t\r\n\r\n");
    eventually("the first is served", || order.lock().expect("an order").len() == 1);
    for (n, (client, head)) in clients[1..].iter_mut().zip(["/new1", "/new2", "/pinned"]).enumerate() {
        let key = if head == "/pinned" { "X-Key: k\r\n" } else { "" };
        client.send(format!("GET {head} HTTP/1.1\r\nHost: t\r\n{key}\r\n"));
        queued(n as u64 + 1);
    }
    for _ in 0..4 {
        release.send(()).expect("it waits");
    }
    assert!(clients.iter_mut().all(|c| c.answer().is_some_and(|a| a.status == 200)));
    let order: Vec<_> =
        order.lock().expect("an order").iter().map(|l| l.split(' ').nth(1).unwrap_or("").to_owned()).collect();
    assert_eq!(order, ["/first", "/pinned", "/new1", "/new2"]);
}

#[test]
fn what_is_junk_is_tried_elsewhere_and_logged_with_its_attempts() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 1024];
        let _ = stream.read(&mut buf);
        let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n");
    });
    let b = Origin::named("b");
    let lb = Instance::start(&app(&[&a, &b], "retry_on = [\"junk-response\"]"));
    assert!(ask(&lb, 6, "GET", "").iter().all(|answer| *answer == (200, "b".into())));
    eventually("the log tells of it", || lb.access().contains("\"retries\":1"));
}
