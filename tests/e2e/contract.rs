//! What scripts rely on: the shapes of the admin's JSON, the text format of metrics, the commands and their codes.
use crate::app;
use lb_core::status::{EntryStatus, PeersStatus, Problem, ServerStatus, Status, TableStatus};
use lb_tests::{Instance, Origin, eventually, lb};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

fn pinned(origins: &[&Origin]) -> String {
    let rule = "sticky = [{ on = \"header(X-Key)\", table = \"s\" }]";
    format!("[table.s]\ntype = \"string\"\n{}", app(origins, rule))
}

fn shape<T: serde::de::DeserializeOwned + serde::Serialize>(text: &str) -> T {
    let given: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let typed: T = serde_json::from_value(given.clone()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(serde_json::to_value(&typed).expect("it serializes"), given, "no field more, none less");
    typed
}

#[test]
fn the_admin_gives_the_shapes_that_are_promised() {
    let a = Origin::named("a");
    let cluster = Instance::cluster(2, &pinned(&[&a]));
    let lb = &cluster[0];
    assert_eq!(lb.client().get("/", "X-Key: k1\r\n").status, 200);
    let status: Status = shape(&lb.admin_text("/api/status"));
    assert_eq!((status.name.as_str(), status.phase.as_str(), status.workers), ("lb1", "ready", 2));
    assert_eq!(status.frontends[0].listen, [lb.addr.to_string()]);
    assert_eq!(status.backends[0].servers[0].addr, a.addr.to_string());
    let peers: PeersStatus = shape(&lb.admin_text("/api/peers"));
    assert_eq!((peers.cluster.as_str(), peers.pulled, peers.peers.len()), ("test", true, 1));
    assert_eq!((peers.peers[0].name.as_str(), peers.peers[0].state.as_str()), ("lb2", "up"));
    let tables: Vec<TableStatus> = shape(&lb.admin_text("/api/tables"));
    assert_eq!((tables[0].name.as_str(), tables[0].entries), ("s", 1));
    let servers: Vec<ServerStatus> = shape(&lb.admin_text("/api/servers"));
    assert_eq!((servers[0].name.as_str(), servers[0].requests), ("node1", 1));
    let entries: Vec<EntryStatus> = shape(&lb.admin_text("/api/tables/s/entries?limit=10"));
    assert_eq!((entries[0].key.as_str(), entries[0].node.as_str()), ("k1", "lb1"));
    eventually("the other shows who wrote it", || {
        let text = cluster[1].admin_text("/api/tables/s/entry?key=k1");
        serde_json::from_str::<EntryStatus>(&text).is_ok_and(|e| e.node == "lb1" && e.server == "node1")
    });
    for missing in ["/api/tables/none/entries", "/api/tables/s/entry?key=nobody", "/api/nothing"] {
        assert_eq!(lb.admin_status(missing), Some(404), "{missing}");
        let problem: Problem = shape(&lb.admin_text(missing));
        assert!(!problem.error.is_empty(), "{missing}");
    }
}

/// One line of the text format: name, labels, value.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, rest)) = series.split_once('{') else { return (series.into(), Vec::new(), value) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("no closing brace: {line}"));
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        let end = after.find('"').unwrap_or_else(|| panic!("no closing quote: {line}"));
        labels.push((label.to_owned(), after[..end].to_owned()));
        rest = after[end + 1..].trim_start_matches(',');
    }
    (name.into(), labels, value)
}

#[test]
fn metrics_are_of_the_text_format_to_the_letter() {
    let a = Origin::named("a");
    let cluster = Instance::cluster(2, &pinned(&[&a]));
    for _ in 0..3 {
        assert_eq!(cluster[0].client().get("/", "X-Key: k\r\n").status, 200);
    }
    let text = cluster[0].admin_text("/metrics");
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    let mut seen = HashSet::new();
    let mut buckets: HashMap<String, f64> = HashMap::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(kinds.insert(name, kind).is_none(), "{name} has two TYPE lines");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, labels, value) = sample(line);
        assert!(seen.insert(line.rsplit_once(' ').map(|(s, _)| s.to_owned())), "twice: {line}");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|f| kinds.get(f) == Some(&"histogram")))
            .unwrap_or(&name);
        let kind = kinds.get(family).unwrap_or_else(|| panic!("no TYPE before {line}"));
        assert!(name.starts_with("lb_") || name.starts_with("process_"), "{name}");
        assert!(*kind != "counter" || name.ends_with("_total"), "a counter is a total: {name}");
        if name.ends_with("_bucket") {
            // Cumulative: each bound holds all below it.
            let series: String = labels.iter().filter(|(l, _)| l != "le").map(|(l, v)| format!("{l}={v},")).collect();
            let last = buckets.insert(format!("{name}{series}"), value).unwrap_or(0.0);
            assert!(value >= last, "{line}");
        }
    }
    for name in [
        "lb_server_connections_active",
        "lb_websocket_connections_active",
        "lb_http_requests_total",
        "lb_http_request_duration_seconds",
        "lb_server_up",
        "lb_affinity_total",
        "lb_table_entries",
        "lb_table_evictions_total",
        "lb_peer_up",
        "lb_peer_lag_seconds",
        "lb_peer_backlog_entries",
        "lb_peer_clock_offset_seconds",
    ] {
        assert!(kinds.contains_key(name), "{name} is promised, and missing in\n{text}");
    }
}

#[test]
fn tables_are_dumped_and_loaded_and_weights_set() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (from, to) = (Instance::start(&pinned(&[&a, &b])), Instance::start(&pinned(&[&a, &b])));
    for i in 0..20 {
        assert_eq!(from.client().get("/", &format!("X-Key: k{i}\r\n")).status, 200);
    }
    let dump = from.cli(&["table", "dump", "s"]).stdout;
    let mut load = Command::new(lb())
        .args(["table", "load", "s", "--admin", &format!("http://{}", to.admin)])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lb runs");
    load.stdin.take().expect("piped").write_all(&dump).expect("it reads");
    let refused = load.wait_with_output().expect("it ends");
    assert_eq!(refused.status.code(), Some(1), "over TCP and without a token nothing changes");
    let mut load = Command::new(lb())
        .args(["table", "load", "s", "--socket"])
        .arg(to.socket())
        .stdin(Stdio::piped())
        .spawn()
        .expect("lb runs");
    load.stdin.take().expect("piped").write_all(&dump).expect("it reads");
    assert!(load.wait().expect("it ends").success());
    for i in 0..20 {
        let key = format!("k{i}");
        assert_eq!(to.pin("s", &key), from.pin("s", &key), "{key}");
        assert!(to.pin("s", &key).is_some());
    }
    to.json(&["server", "weight", "app/node1", "0"]);
    assert!((0..10).all(|i| to.client().get("/", &format!("X-Key: new{i}\r\n")).text() == "b"));
    assert_eq!(to.api("/api/servers")[0]["weight"], 0);
}

#[test]
fn check_lists_every_error_with_its_place() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("lb.toml");
    let wrong = "[frontend.web]\nlisten = [\"127.0.0.1:0\"]\nbackend = \"apq\"\n[backend.app]\nbalanse = \"leastconn\"\n\
                 server = [{ name = \"a\", addr = \"nowhere\" }]\n";
    std::fs::write(&path, wrong).expect("a file");
    let output = Command::new(lb()).args(["check", "-c"]).arg(&path).output().expect("lb runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for part in ["lb.toml:3:", "lb.toml:5:", "lb.toml:6:", "balance", "app"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let started = Command::new(lb()).args(["run", "-c"]).arg(&path).output().expect("lb runs");
    assert_eq!(started.status.code(), Some(1), "a wrong file never starts");
}

#[test]
fn completions_the_manual_and_the_schema_are_printed() {
    for args in [&["completions", "bash"][..], &["man"], &["schema"], &["--help"], &["--version"]] {
        let output = Command::new(lb()).args(args).output().expect("lb runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}");
    }
    // A reader that goes away is no error.
    let mut child = Command::new(lb()).arg("man").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
