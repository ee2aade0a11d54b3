//! A bound that holds over all instances together.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Client, Instance, Origin, eventually};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

const BOUND: usize = 12;

/// An origin that holds every request until it is let go, and counts those that it has.
struct Held {
    origin: Origin,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    inside: AtomicUsize,
    most: AtomicUsize,
    go: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        self.most.fetch_max(self.inside.fetch_add(1, SeqCst) + 1, SeqCst);
        let mut go = self.go.lock().expect("no panic");
        while *go == 0 {
            go = self.changed.wait(go).expect("no panic");
        }
        *go -= 1;
        self.inside.fetch_sub(1, SeqCst);
    }

    fn let_go(&self, count: usize) {
        *self.go.lock().expect("no panic") += count;
        self.changed.notify_all();
    }
}

impl Held {
    fn start() -> Self {
        let gate = Arc::<Gate>::default();
        let inner = gate.clone();
        let origin = Origin::answering(move |_| {
            inner.pass();
            Reply::Body("ok".into())
        });
        Self { origin, gate }
    }

    fn inside(&self) -> usize {
        self.gate.inside.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.gate.most.load(SeqCst)
    }
}

fn cluster(held: &Held) -> Vec<Instance> {
    let maxconn = format!("maxconn = {{ cluster = {BOUND} }} }}");
    let config = app(&[&held.origin], "timeout = { queue = \"60s\", server = \"60s\" }").replacen(
        " }]",
        &format!(", {maxconn}]"),
        1,
    );
    Instance::cluster(2, &format!("heartbeat = \"300ms\"\n{config}"))
}

/// Requests on connections of their own, not read yet.
fn ask(lb: &Instance, count: usize) -> Vec<Client> {
    let one = |_| {
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };
    (0..count).map(one).collect()
}

fn maxconn(lb: &Instance) -> serde_json::Value {
    lb.api("/api/servers")[0]["maxconn"].clone()
}

#[test]
fn requests_through_two_instances_never_pass_the_bound_and_all_are_answered() {
    let held = Held::start();
    let cluster = cluster(&held);
    let mut clients: Vec<Client> =
        (0..3).flat_map(|_| [ask(&cluster[0], 10), ask(&cluster[1], 10)].into_iter().flatten()).collect();
    eventually("the bound is used", || held.inside() == BOUND);
    for _ in 0..clients.len() {
        held.gate.let_go(1);
    }
    for client in &mut clients {
        assert_eq!(client.answer().map(|a| a.status), Some(200));
    }
    assert_eq!(held.most(), BOUND);
}

#[test]
fn one_instance_alone_uses_all_of_the_bound_while_the_other_is_idle_and_gives_way_when_it_is_not() {
    let held = Held::start();
    let cluster = cluster(&held);
    let mut first = ask(&cluster[0], BOUND + 5);
    eventually("all of it through one", || held.inside() == BOUND);
    eventually("the other knows", || maxconn(&cluster[1])["elsewhere"] == BOUND);
    let mut second = ask(&cluster[1], 1);
    eventually("its part has shrunk", || maxconn(&cluster[0])["allowance"] == BOUND - 1);
    let shown = String::from_utf8_lossy(&cluster[0].cli(&["server", "list"]).stdout).into_owned();
    assert!(shown.contains(&format!("{} of {BOUND} for this instance", BOUND - 1)), "{shown}");
    assert_eq!(held.inside(), BOUND, "nobody is thrown out, nobody more is let in");
    held.gate.let_go(BOUND + 6);
    for client in first.iter_mut().chain(&mut second) {
        assert_eq!(client.answer().map(|a| a.status), Some(200));
    }
    assert_eq!(held.most(), BOUND);
}

#[test]
fn after_the_death_of_an_instance_the_other_gets_all_of_the_bound() {
    let held = Held::start();
    let mut cluster = cluster(&held);
    let _lost = ask(&cluster[0], BOUND);
    eventually("all of it through one", || held.inside() == BOUND);
    let mut waiting = ask(&cluster[1], BOUND);
    eventually("they wait", || maxconn(&cluster[0])["allowance"] == BOUND / 2);
    cluster[0].kill();
    eventually("all of it is the other's", || maxconn(&cluster[1])["allowance"] == BOUND);
    // Those of the dead instance and those of the other.
    held.gate.let_go(2 * BOUND);
    for client in &mut waiting {
        assert_eq!(client.answer().map(|a| a.status), Some(200));
    }
}
