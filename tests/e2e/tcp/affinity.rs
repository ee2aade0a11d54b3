//! Connections that keep their server: by source address, over instances.
use super::{from, greeter, is_reset, open, read, tcp};
use lb_tests::{Instance, Origin, eventually};
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::time::Instant;

const TABLE: &str = "[table.clients]\ntype = \"ip\"\n";
const RULE: &str = "sticky = [{ on = \"src\", table = \"clients\" }]";

#[test]
fn clients_keep_their_server_over_two_instances_and_the_death_of_one() {
    let origins = [greeter("a"), greeter("b"), greeter("c")];
    let all: Vec<&Origin> = origins.iter().collect();
    let rule = format!("balance = \"leastconn\"\n{RULE}");
    let mut cluster = Instance::cluster(2, &format!("{TABLE}{}", tcp(&all, "", &rule)));
    let client = |i: u8| [127, 0, 1, i];
    let first: Vec<_> = (1..=12).map(|i| read(&mut from(client(i), cluster[usize::from(i) % 2].addr), 1)).collect();
    for lb in &cluster {
        eventually("all pins are everywhere", || lb.api("/api/tables")[0]["entries"] == 12);
    }
    let again = |lb: &Instance| (1..=12).map(|i| read(&mut from(client(i), lb.addr), 1)).collect::<Vec<_>>();
    assert_eq!(again(&cluster[0]), first);
    assert_eq!(again(&cluster[1]), first);
    cluster[1].kill();
    assert_eq!(again(&cluster[0]), first);
    cluster[1].restart();
    cluster[1].wait_ready();
    assert_eq!(again(&cluster[1]), first);
    assert!(["a", "b", "c"].iter().all(|name| first.iter().any(|server| server == name)), "{first:?}");
}

#[test]
fn the_clients_of_a_dead_server_move_and_their_pins_with_them() {
    let (a, b) = (greeter("a"), greeter("b"));
    let lb = Instance::start(&format!("{TABLE}{}", tcp(&[&a, &b], "", RULE)));
    lb.json(&["table", "set", "clients", "127.0.0.5", "node1"]);
    assert_eq!(read(&mut from([127, 0, 0, 5], lb.addr), 1), "a");
    a.die();
    assert_eq!(read(&mut from([127, 0, 0, 5], lb.addr), 1), "b");
    eventually("the pin has moved", || lb.pin("clients", "127.0.0.5").as_deref() == Some("node2"));
    let metrics = lb.admin_text("/metrics");
    assert!(metrics.contains("lb_affinity_total{backend=\"app\",result=\"redispatched\"} 1"), "{metrics}");
}

#[test]
fn on_down_fail_resets_and_keeps_the_pin() {
    let (a, b) = (greeter("a"), greeter("b"));
    let lb = Instance::start(&format!("{TABLE}{}", tcp(&[&a, &b], "", &format!("on_down = \"fail\"\n{RULE}"))));
    lb.json(&["table", "set", "clients", "127.0.0.5", "node1"]);
    a.die();
    assert!(is_reset(&mut from([127, 0, 0, 5], lb.addr)));
    assert_eq!(lb.pin("clients", "127.0.0.5").as_deref(), Some("node1"));
    eventually("the log says why", || lb.access().contains("\"end\":\"pinned-server-down\""));
}

#[test]
fn a_server_that_never_answered_keeps_no_pin() {
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    // It accepts, and closes at once.
    let closes = Origin::raw(|stream| {
        let _ = stream.shutdown(Shutdown::Both);
    });
    let b = greeter("b");
    let config = format!("{TABLE}{}", tcp(&[&b], "", RULE))
        .replace("server = [", &format!("server = [{{ name = \"dead\", addr = \"{dead}\", weight = 200 }}, "));
    let lb = Instance::start(&config);
    assert_eq!(read(&mut open(lb.addr), 1), "b");
    eventually("the one that answered is pinned", || lb.pin("clients", "127.0.0.1").as_deref() == Some("node1"));
    let lb = Instance::start(&format!("{TABLE}{}", tcp(&[&closes], "", RULE)));
    assert_eq!(std::io::Read::read(&mut open(lb.addr), &mut [0; 1]).expect("an end"), 0);
    eventually("it is over", || lb.access().contains("\"end\":"));
    assert_eq!(lb.pin("clients", "127.0.0.1"), None);
}

#[test]
fn a_server_that_only_listens_is_pinned_when_it_has_held_the_connection_or_ends_after_the_client() {
    let sink = Origin::raw(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        let _ = stream.shutdown(Shutdown::Write);
    });
    let lb = Instance::start(&format!("{TABLE}{}", tcp(&[&sink], "", RULE)));
    let mut client = from([127, 0, 0, 6], lb.addr);
    let started = Instant::now();
    client.write_all(b"a line of a log\n").expect("it is open");
    let mut short = from([127, 0, 0, 7], lb.addr);
    short.write_all(b"all of it").expect("it is open");
    short.shutdown(Shutdown::Write).expect("it is open");
    eventually("it ended in order", || lb.pin("clients", "127.0.0.7").is_some());
    eventually("it was held", || lb.pin("clients", "127.0.0.6").is_some());
    assert!(started.elapsed().as_secs() >= 1, "not before it was held: {:?}", started.elapsed());
}

#[test]
fn pinned_clients_of_a_draining_server_still_come_and_new_ones_do_not() {
    let (a, b) = (greeter("a"), greeter("b"));
    let lb = Instance::start(&format!("{TABLE}{}", tcp(&[&a, &b], "", RULE)));
    lb.json(&["table", "set", "clients", "127.0.0.5", "node1"]);
    lb.json(&["server", "drain", "app/node1"]);
    assert_eq!(read(&mut from([127, 0, 0, 5], lb.addr), 1), "a");
    for i in 20..24 {
        assert_eq!(read(&mut from([127, 0, 0, i], lb.addr), 1), "b");
    }
}

#[test]
fn an_open_connection_keeps_its_pin_alive() {
    let a = greeter("a");
    let table = "[table.clients]\ntype = \"ip\"\nexpire = \"1s\"\n";
    let lb = Instance::start(&format!("{table}{}", tcp(&[&a], "", RULE)));
    let mut held = from([127, 0, 0, 5], lb.addr);
    assert_eq!(read(&mut held, 1), "a");
    assert_eq!(read(&mut from([127, 0, 0, 6], lb.addr), 1), "a");
    eventually("the loose pin expires", || lb.pin("clients", "127.0.0.6").is_none());
    assert_eq!(lb.pin("clients", "127.0.0.5").as_deref(), Some("node1"));
    drop(held);
    eventually("the pin goes when the connection is closed", || lb.pin("clients", "127.0.0.5").is_none());
}
