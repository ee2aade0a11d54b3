//! Tables outlive the loss of every instance.
use crate::app;
use lb_tests::{Instance, Origin, eventually};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

fn config(origins: &[&Origin]) -> String {
    format!("[table.sessions]\ntype = \"string\"\n{}", app(origins, RULE))
}

fn ask(lb: &Instance, key: &str) -> String {
    lb.client().get("/", &format!("X-Key: {key}\r\n")).text()
}

/// Gives a running instance a directory for its state.
fn keep(lb: &Instance, dir: &TempDir, interval: &str) {
    let keys = format!("maxconn = 5000\nstate = \"{}\"\nstate_interval = \"{interval}\"", dir.path().display());
    lb.edit(|text| text.replace("maxconn = 5000", &keys));
    assert!(lb.cli(&["reload"]).status.success());
}

fn saved_since(lb: &Instance, moment: u128) -> bool {
    lb.api("/api/status")["state"]["saved"].as_u64().is_some_and(|saved| u128::from(saved) > moment)
}

fn wall() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

fn life(lb: &Instance, key: &str) -> f64 {
    lb.api(&format!("/api/tables/sessions/entry?key={key}"))["expires"].as_f64().expect("a life")
}

#[test]
fn pins_and_decisions_outlive_the_loss_of_every_instance() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dir = TempDir::new().expect("a directory");
    let mut cluster = Instance::cluster(2, &config(&[&a, &b]));
    cluster.iter().for_each(|lb| keep(lb, &dir, "200ms"));
    let pins: HashMap<_, _> = (0..100).map(|i| (format!("k{i}"), ask(&cluster[i % 2], &format!("k{i}")))).collect();
    cluster[0].json(&["server", "drain", "app/node2", "--reason", "upgrade"]);
    for lb in &cluster {
        eventually("all is everywhere", || {
            lb.api("/api/tables")[0]["entries"] == 100 && lb.api("/api/servers")[1]["state"] == "drain"
        });
    }
    let (moment, before) = (wall(), life(&cluster[0], "k0"));
    for lb in &cluster {
        // The one under way when the last entry came may lack it; the next one does not.
        eventually("it is on disk", || saved_since(lb, moment + 500));
    }
    cluster.iter_mut().for_each(Instance::kill);
    cluster.iter_mut().for_each(Instance::restart);
    for lb in &cluster {
        lb.wait_ready();
        assert_eq!(lb.api("/api/tables")[0]["entries"], 100);
        assert_eq!(lb.api("/api/servers")[1]["decision"]["reason"], "upgrade");
        assert!(life(lb, "k0") <= before, "no life grows by it");
    }
    for (i, (key, server)) in pins.iter().enumerate() {
        assert_eq!(ask(&cluster[i % 2], key), *server, "{key}");
    }
    let files = |lb: &Instance| dir.path().join(format!("instance-{}/table-sessions", lb.name));
    assert!(cluster.iter().all(|lb| files(lb).exists()), "one directory, a part for each");
}

fn damaged(dir: &TempDir) -> Vec<PathBuf> {
    let own = std::fs::read_dir(dir.path().join("instance-lb1")).expect("its directory");
    own.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().contains(".damaged-")).collect()
}

#[test]
fn a_stop_writes_the_tables_and_a_damaged_file_is_set_aside_and_told() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dir = TempDir::new().expect("a directory");
    let mut lb = Instance::start(&config(&[&a, &b]));
    keep(&lb, &dir, "1h");
    let server = ask(&lb, "x");
    let stop = |lb: &mut Instance| {
        lb.signal("-TERM");
        assert_eq!(lb.wait_end(), Some(0));
    };
    stop(&mut lb);
    lb.restart();
    lb.wait_ready();
    assert_eq!(lb.pin("sessions", "x").map(|_| ask(&lb, "x")), Some(server));
    assert_eq!(lb.json(&["table", "list"])[0]["state"]["loaded"], 1);
    stop(&mut lb);
    let path = dir.path().join("instance-lb1/table-sessions");
    let bytes = std::fs::read(&path).expect("the table");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
    lb.restart();
    lb.wait_ready();
    let notice = lb.json(&["table", "list"])[0]["state"]["notice"].to_string();
    assert!(notice.contains("ends in the middle") && notice.contains(".damaged-"), "{notice}");
    let text = String::from_utf8_lossy(&lb.cli(&["status"]).stdout).into_owned();
    assert!(text.contains("ends in the middle"), "{text}");
    assert!(lb.log().contains("ends in the middle"));
    assert_eq!(damaged(&dir).len(), 1);
    assert!(lb.admin_text("/metrics").contains("lb_state_files_set_aside_total 1"));
}

#[test]
fn a_directory_that_cannot_be_used_stops_nothing_and_is_told() {
    let a = Origin::named("a");
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join("instance-lb1"), "in the way").expect("a file");
    let mut lb = Instance::start(&config(&[&a]));
    keep(&lb, &dir, "200ms");
    eventually("it is told", || lb.api("/api/status")["state"]["error"].is_string());
    lb.kill();
    lb.restart();
    lb.wait_ready();
    assert_eq!(ask(&lb, "x"), "a");
    let error = lb.api("/api/status")["state"]["error"].to_string();
    assert!(error.contains("instance-lb1") && error.contains("must be a directory"), "{error}");
    assert!(!lb.admin_text("/metrics").contains("lb_state_write_errors_total 0"));
    std::fs::remove_file(dir.path().join("instance-lb1")).expect("out of the way");
    eventually("it is used as soon as it can be", || saved_since(&lb, 0));
}
