//! Several instances, one table.
use crate::app;
use lb_tests::{Instance, Origin, eventually};
use std::collections::HashMap;

const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

fn config(origins: &[&Origin]) -> String {
    format!("[table.sessions]\ntype = \"string\"\n{}", app(origins, RULE))
}

fn ask(lb: &Instance, key: &str) -> String {
    lb.client().get("/", &format!("X-Key: {key}\r\n")).text()
}

#[test]
fn a_pin_made_on_one_instance_holds_on_the_others_and_without_peers_it_would_not() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let config = config(&[&a, &b, &c]);
    let moved = |first: &Instance, second: &Instance, synced: bool| {
        let pins: Vec<_> = (0..60).map(|i| (format!("k{i}"), ask(first, &format!("k{i}")))).collect();
        if synced {
            eventually("the last pin has arrived", || second.pin("sessions", "k59").is_some());
        }
        // Read back in another order: two balancers must not agree by accident.
        pins.iter()
            .rev()
            .step_by(2)
            .chain(pins.iter().step_by(2))
            .filter(|(key, server)| ask(second, key) != *server)
            .count()
    };
    let cluster = Instance::cluster(2, &config);
    assert_eq!(moved(&cluster[0], &cluster[1], true), 0);
    let (one, two) = (Instance::start(&config), Instance::start(&config));
    assert!(moved(&one, &two, false) > 10, "the control: without peers clients move");
}

#[test]
fn a_killed_instance_comes_back_with_the_table_before_it_is_ready() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut cluster = Instance::cluster(2, &config(&[&a, &b]));
    let pins: HashMap<_, _> = (0..300).map(|i| (format!("k{i}"), ask(&cluster[i % 2], &format!("k{i}")))).collect();
    for lb in &cluster {
        eventually("all pins are everywhere", || lb.api("/api/tables")[0]["entries"] == 300);
    }
    let mut second = cluster.remove(1);
    second.kill();
    assert!(pins.iter().all(|(key, server)| ask(&cluster[0], key) == *server), "the other goes on");
    second.restart();
    second.wait_ready();
    assert_eq!(second.api("/api/tables")[0]["entries"], 300, "ready means: all of it");
    assert!(pins.iter().all(|(key, server)| ask(&second, key) == *server));
    let peers = second.api("/api/peers");
    assert_eq!(peers["peers"][0]["pulled"][0], 300, "{peers}");
}

#[test]
fn three_instances_agree_and_a_cleared_pin_stays_away() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let cluster = Instance::cluster(3, &config(&[&a, &b]));
    ask(&cluster[0], "x");
    for lb in &cluster {
        eventually("the pin is everywhere", || lb.pin("sessions", "x").is_some());
    }
    cluster[1].json(&["table", "set", "sessions", "x", "node2"]);
    for lb in &cluster {
        eventually("the operator's pin is everywhere", || lb.pin("sessions", "x").as_deref() == Some("node2"));
    }
    cluster[2].json(&["table", "clear", "sessions", "--key", "x"]);
    for lb in &cluster {
        eventually("it is gone everywhere", || lb.pin("sessions", "x").is_none());
    }
}

#[test]
fn a_drain_decided_on_one_instance_holds_on_all_and_survives_a_restart() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut cluster = Instance::cluster(2, &config(&[&a, &b]));
    cluster[0].json(&["server", "drain", "app/node1", "--reason", "upgrade"]);
    eventually("it holds on the other", || cluster[1].api("/api/servers")[0]["state"] == "drain");
    assert_eq!(cluster[1].api("/api/servers")[0]["decision"]["reason"], "upgrade");
    cluster[1].kill();
    cluster[1].restart();
    cluster[1].wait_ready();
    eventually("it holds after the restart", || cluster[1].api("/api/servers")[0]["state"] == "drain");
    cluster[1].json(&["server", "maint", "app/node2", "--local"]);
    assert_eq!(cluster[1].api("/api/servers")[1]["state"], "maint");
    assert_eq!(cluster[0].api("/api/servers")[1]["state"], "ready", "a local decision stays there");
}

#[test]
fn peers_that_must_not_speak_to_each_other_say_why_on_both_sides() {
    let a = Origin::named("a");
    let first = Instance::cluster(1, &config(&[&a])).remove(0);
    let join = |name: &str, cluster: &str, table: &str| {
        let port = lb_tests::instance::free_port();
        let text = config(&[&a]).replace("type = \"string\"", table);
        Instance::spawn(
            name,
            port,
            &format!(
                "[peers]\ncluster = \"{cluster}\"\nlisten = \"127.0.0.1:{port}\"\njoin = [\"{}\"]\njoin_timeout = \"2s\"\n{text}",
                first.peers
            ),
        )
    };
    for (second, word, reason) in [
        (join("lb2", "other", "type = \"string\""), "cluster", "cluster"),
        (join("lb1", "test", "type = \"string\""), "lb1", "name"),
        (join("lb3", "test", "type = \"integer\""), "sessions", "table"),
    ] {
        for lb in [&first, &second] {
            eventually(&format!("{} tells of {word}", lb.name), || {
                lb.admin_status("/healthz").is_some()
                    && lb.api("/api/peers")["peers"].as_array().is_some_and(|p| {
                        p.iter().any(|p| p["reason"] == reason && p["error"].as_str().is_some_and(|e| e.contains(word)))
                    })
            });
            let (metrics, series) = (lb.admin_text("/metrics"), format!("lb_peers_refused{{reason=\"{reason}\"}} "));
            assert!(metrics.contains(&series) && !metrics.contains(&format!("{series}0")), "{metrics}");
        }
    }
}
