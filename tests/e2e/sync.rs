//! That tables are in sync can be seen, and that they are not is named.
use crate::app;
use lb_tests::{Instance, Origin, eventually};
use serde_json::Value;

const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

fn config(origins: &[&Origin], size: usize) -> String {
    format!("anti_entropy = \"1s\"\n[table.sessions]\ntype = \"string\"\nsize = {size}\n{}", app(origins, RULE))
}

fn peer(lb: &Instance, name: &str) -> Value {
    let peers = lb.api("/api/peers");
    let found = peers["peers"].as_array().and_then(|all| all.iter().find(|p| p["name"] == name).cloned());
    found.unwrap_or(Value::Null)
}

/// Runs a command: its exit code, and what it printed.
fn run(lb: &Instance, args: &[&str]) -> (Option<i32>, String) {
    let output = lb.cli(args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn two_instances_say_that_they_are_in_sync_and_a_verification_agrees() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let cluster = Instance::cluster(2, &config(&[&a, &b], 10_000));
    for i in 0..50 {
        cluster[i % 2].client().get("/", &format!("X-Key: k{i}\r\n"));
    }
    for (lb, other) in [(&cluster[0], "lb2"), (&cluster[1], "lb1")] {
        eventually("all pins are here", || lb.api("/api/tables")[0]["entries"] == 50);
        eventually("it is in sync", || peer(lb, other)["in_sync"] == true);
        let (code, text) = run(lb, &["peers"]);
        assert!(code == Some(0) && text.contains("IN SYNC") && text.contains("yes, "), "{text}");
        let (code, text) = run(lb, &["peers", "verify"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("1 table equal on 2 instances (50 entries here)"), "{text}");
        assert_eq!(run(lb, &["table", "diff", "sessions"]).0, Some(0));
        let metrics = lb.admin_text("/metrics");
        assert!(metrics.contains(&format!("lb_peer_in_sync{{peer=\"{other}\"}} 1\n")), "{metrics}");
    }
    let (code, text) = run(&cluster[0], &["peers", "verify", "--table", "session"]);
    assert!(code == Some(1) && text.contains("those that are: sessions"), "{text}");
}

#[test]
fn keys_that_a_smaller_table_has_no_room_for_are_named_side_by_side() {
    let a = Origin::named("a");
    let big = Instance::cluster(1, &config(&[&a], 10_000)).remove(0);
    let port = lb_tests::instance::free_port();
    let peers = format!(
        "[peers]\ncluster = \"test\"\nlisten = \"127.0.0.1:{port}\"\njoin = [\"{}\"]\n{}",
        big.peers,
        config(&[&a], 100)
    );
    let mut small = Instance::spawn("small", port, &peers);
    small.wait_ready();
    eventually("they are linked", || big.peers_up() == 1);
    for i in 0..300 {
        big.client().get("/", &format!("X-Key: k{i}\r\n"));
    }
    eventually("the difference is seen", || peer(&big, "small")["in_sync"] == false);
    eventually("its cause is told", || {
        peer(&big, "small")["tables"][0]["note"].as_str().is_some_and(|note| note.contains("full there"))
    });
    let (code, text) = run(&big, &["table", "diff", "sessions", "--with", "small"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("ON LB1") && text.contains("ON SMALL") && text.contains("missing"), "{text}");
    let (code, text) = run(&big, &["peers", "verify"]);
    assert!(code == Some(1) && text.contains(" keys differ"), "{text}");
    small.kill();
    eventually("it is down", || big.peers_up() == 0);
    let (code, text) = run(&big, &["peers", "verify"]);
    assert!(code == Some(1) && text.contains("not compared: down"), "{text}");
}
