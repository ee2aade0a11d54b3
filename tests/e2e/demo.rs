//! The first thing that anybody starts.
use lb_tests::lb;
use serde_json::Value;
use std::process::Command;

#[test]
fn the_demo_kills_an_instance_and_every_client_keeps_its_server() {
    let output = Command::new(lb()).args(["demo", "--for", "8s", "--kill", "--json"]).output().expect("lb runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(summary["moved"], 0, "{said}");
    assert_eq!(summary["kept"], summary["clients"], "{said}");
    assert!(summary["clients"].as_u64().is_some_and(|n| n >= 20), "{said}");
    assert!(summary["reconnects"].as_u64().is_some_and(|n| n >= 40), "{said}");
    assert_eq!(summary["killed"], true, "{said}");
    assert!(summary["restarted"]["pulled_entries"].as_u64().is_some_and(|n| n > 0), "{said}");
}
