//! Those who wait for a server with `maxconn`: in what order they come in, and when they leave for another.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Client, Instance, Origin, eventually};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";
const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

/// A server that answers `/health` by what is set, and holds all else until it is let go.
struct Busy {
    origin: Origin,
    sick: Arc<AtomicBool>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Busy {
    fn start() -> Self {
        let (sick, gate) = (Arc::<AtomicBool>::default(), Arc::<(Mutex<bool>, Condvar)>::default());
        let (state, held) = (sick.clone(), gate.clone());
        let origin = Origin::answering(move |seen| {
            if seen.head.starts_with("GET /health") {
                let status = if state.load(SeqCst) { "500 Sick" } else { "200 OK" };
                return Reply::Keep(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes());
            }
            let mut go = held.0.lock().expect("no panic");
            while !*go {
                go = held.1.wait(go).expect("no panic");
            }
            Reply::Body("busy".into())
        });
        Self { origin, sick, gate }
    }

    fn let_go(&self) {
        *self.gate.0.lock().expect("no panic") = true;
        self.gate.1.notify_all();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Two servers of which the first takes one request at a time; a minute in the queue is longer than any test.
fn crowded(busy: &Busy, other: &Origin, lines: &str) -> Instance {
    let lines = format!("{RULE}\ntimeout = {{ queue = \"60s\", server = \"60s\" }}\n{lines}");
    let config = app(&[&busy.origin, other], &lines).replace("\"node1\",", "\"node1\", maxconn = 1,");
    let lb = Instance::start(&format!("{TABLE}{config}"));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    lb
}

/// One request that the first server holds, and so many that wait for it.
fn waiting(lb: &Instance, pinned: u64) -> (Client, Vec<Client>) {
    let ask = || {
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Key: k\r\n\r\n");
        client
    };
    let held = ask();
    eventually("one is served", || lb.api("/api/servers")[0]["active"] == 1);
    let queued = (0..pinned).map(|_| ask()).collect();
    eventually("they wait", || lb.api("/api/servers")[0]["queued"] == pinned);
    (held, queued)
}

fn answers(clients: Vec<Client>) -> Vec<(u16, String)> {
    clients.into_iter().map(|mut c| c.answer().map_or((0, String::new()), |a| (a.status, a.text()))).collect()
}

#[test]
fn who_waits_for_a_server_that_goes_down_is_served_by_another_at_once() {
    let (busy, b) = (Busy::start(), Origin::named("b"));
    let lb = crowded(&busy, &b, "check = { http = \"GET /health\", interval = \"50ms\" }");
    let (mut held, queued) = waiting(&lb, 3);
    busy.sick.store(true, SeqCst);
    assert_eq!(answers(queued), vec![(200, "b".to_owned()); 3]);
    assert_eq!(lb.api("/api/servers")[0]["queued"], 0);
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node2"), "the pin went with them");
    busy.let_go();
    assert_eq!(held.answer().map(|a| a.text()).as_deref(), Some("busy"), "who was served already stays");
}

#[test]
fn who_waits_for_a_server_that_is_put_into_maintenance_is_served_by_another_at_once() {
    let (busy, b) = (Busy::start(), Origin::named("b"));
    let lb = crowded(&busy, &b, "");
    let (_held, queued) = waiting(&lb, 2);
    lb.json(&["server", "maint", "app/node1"]);
    assert_eq!(answers(queued), vec![(200, "b".to_owned()); 2]);
}

#[test]
fn who_waits_for_a_server_that_goes_down_is_refused_at_once_where_pinned_clients_stay() {
    let (busy, b) = (Busy::start(), Origin::named("b"));
    let lb = crowded(&busy, &b, "on_down = \"fail\"");
    let (_held, queued) = waiting(&lb, 2);
    lb.json(&["server", "maint", "app/node1"]);
    for (status, text) in answers(queued) {
        assert_eq!((status, text.trim()), (503, "503 Service Unavailable: pinned-server-down"));
    }
    assert!(b.seen().is_empty());
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node1"));
}

#[test]
fn in_a_drain_new_clients_leave_the_queue_and_pinned_ones_stay() {
    let (busy, b) = (Busy::start(), Origin::named("b"));
    let lb = crowded(&busy, &b, "balance = \"first\"");
    let (_held, queued) = waiting(&lb, 1);
    // With the second server in maintenance a new client can only wait for the first.
    lb.json(&["server", "maint", "app/node2"]);
    let mut new = lb.client();
    new.send("GET /new HTTP/1.1\r\nHost: t\r\n\r\n");
    eventually("it waits, too", || lb.api("/api/servers")[0]["queued"] == 2);
    lb.json(&["server", "ready", "app/node2"]);
    lb.json(&["server", "drain", "app/node1"]);
    assert_eq!(new.answer().map(|a| a.text()).as_deref(), Some("b"));
    assert_eq!(lb.api("/api/servers")[0]["queued"], 1);
    busy.let_go();
    assert_eq!(answers(queued), [(200, "busy".to_owned())]);
}

#[test]
fn the_lowest_priority_class_comes_in_first_and_within_one_who_came_first() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (came, gate) = (order.clone(), Arc::new((Mutex::new(0), Condvar::new())));
    let held = gate.clone();
    let a = Origin::answering(move |seen| {
        came.lock().expect("an order").push(seen.head.split(' ').nth(1).unwrap_or_default().to_owned());
        let mut go = held.0.lock().expect("no panic");
        while *go == 0 {
            go = held.1.wait(go).expect("no panic");
        }
        *go -= 1;
        Reply::Body("a".into())
    });
    let rules = "request = [\n{ if = { path_prefix = \"/vip\" }, set_priority_class = -10 },\n\
                 { if = { path_prefix = \"/batch\" }, set_priority_class = 100 },\n]\ntimeout = { queue = \"60s\", server = \"60s\" }";
    let lb = Instance::start(&app(&[&a], rules).replace("\"node1\",", "\"node1\", maxconn = 1,"));
    let mut clients = Vec::new();
    for (n, path) in
        ["/first", "/batch/1", "/plain/1", "/vip/1", "/batch/2", "/plain/2", "/vip/2"].into_iter().enumerate()
    {
        let mut client = lb.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        clients.push(client);
        // One after the other: they wait in the order in which they came.
        eventually("it is served, or waits", || {
            let row = &lb.api("/api/servers")[0];
            (row["active"].as_u64(), row["queued"].as_u64()) == (Some(1), Some(n as u64))
        });
    }
    *gate.0.lock().expect("no panic") = clients.len();
    gate.1.notify_all();
    assert!(answers(clients).iter().all(|(status, _)| *status == 200));
    let order = order.lock().expect("an order").clone();
    assert_eq!(order, ["/first", "/vip/1", "/vip/2", "/plain/1", "/plain/2", "/batch/1", "/batch/2"]);
}
