//! Instances that freeze, links that break: clients keep their server, and afterwards the tables are equal.
use crate::app;
use lb_tests::instance::free_port;
use lb_tests::{Instance, Link, Origin, eventually};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";
const RULE: &str = "balance = \"leastconn\"\nsticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

fn ask(lb: &Instance, key: &str) -> String {
    lb.client().get("/", &format!("X-Key: {key}\r\n")).text()
}

#[test]
fn a_frozen_instance_is_noticed_and_catches_up_when_it_thaws() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let cluster = Instance::cluster(2, &format!("{TABLE}{}", app(&[&a, &b, &c], RULE)));
    let before: Vec<_> = (0..50).map(|i| (format!("old{i}"), ask(&cluster[0], &format!("old{i}")))).collect();
    cluster[1].signal("-STOP");
    eventually("the other notices", || cluster[0].peers_up() == 0);
    let during: Vec<_> = (0..50).map(|i| (format!("new{i}"), ask(&cluster[0], &format!("new{i}")))).collect();
    assert!(before.iter().all(|(key, server)| ask(&cluster[0], key) == *server));
    cluster[1].signal("-CONT");
    eventually("the link is back", || cluster[0].peers_up() == 1 && cluster[1].peers_up() == 1);
    eventually("the tables are equal", || {
        cluster[0].pins("sessions").len() == 100 && cluster[0].pins("sessions") == cluster[1].pins("sessions")
    });
    assert!(before.iter().chain(&during).all(|(key, server)| ask(&cluster[1], key) == *server));
}

/// Two instances whose only ways to each other are two links of ours.
fn linked(config: &str) -> (Vec<Instance>, Vec<Link>) {
    let ports = [free_port(), free_port()];
    let links: Vec<_> = ports.iter().map(|port| Link::to(*port)).collect();
    let start = |i: usize| {
        let peers = format!(
            "[peers]\ncluster = \"test\"\nlisten = \"127.0.0.1:{}\"\njoin = [\"{}\"]\n{config}",
            ports[i],
            links[1 - i].addr
        );
        Instance::spawn(&format!("lb{}", i + 1), ports[i], &peers)
    };
    let cluster: Vec<_> = (0..2).map(start).collect();
    for lb in &cluster {
        lb.wait_ready();
        eventually("the link is up", || lb.peers_up() == 1);
    }
    (cluster, links)
}

#[test]
fn pins_made_on_both_sides_of_a_broken_link_become_one_when_it_heals() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (cluster, links) = linked(&format!("{TABLE}{}", app(&[&a, &b], RULE)));
    for link in &links {
        link.cut();
    }
    for lb in &cluster {
        eventually("the break is noticed", || lb.peers_up() == 0);
    }
    // Every key on both sides, at opposite servers: the worst that can be.
    for i in 0..60 {
        let key = format!("k{i}");
        cluster[0].json(&["table", "set", "sessions", &key, "node1"]);
        if i % 2 == 0 {
            cluster[1].json(&["table", "set", "sessions", &key, "node2"]);
        }
    }
    for i in 0..20 {
        ask(&cluster[1], &format!("other{i}"));
    }
    for link in &links {
        link.heal();
    }
    eventually("the tables are equal", || {
        cluster[0].pins("sessions").len() == 80 && cluster[0].pins("sessions") == cluster[1].pins("sessions")
    });
    let both = cluster[0].pins("sessions");
    let of = |key: &str| both.iter().find(|(k, _)| k == key).map(|(_, server)| server.as_str());
    assert!((0..60).step_by(2).all(|i| of(&format!("k{i}")) == Some("node2")), "the later pin wins: {both:?}");
    assert!((1..60).step_by(2).all(|i| of(&format!("k{i}")) == Some("node1")), "{both:?}");
}

#[test]
fn a_link_that_breaks_again_and_again_loses_no_pin() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (cluster, links) = linked(&format!("{TABLE}{}", app(&[&a, &b], RULE)));
    for i in 0..200 {
        ask(&cluster[i % 2], &format!("k{i}"));
        if i % 20 == 10 {
            links.iter().for_each(Link::reset);
        }
    }
    eventually("the tables are equal", || {
        cluster[0].pins("sessions").len() == 200 && cluster[0].pins("sessions") == cluster[1].pins("sessions")
    });
}
