use super::*;
use crate::fixture;
use lb_core::status::{PeerName, PeerStatus, TlsStatus};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

fn scrape(snapshot: &Snapshot) -> String {
    let state = StateFigures { saved: Some(1_500), took: Duration::from_millis(250), errors: 3, set_aside: 1 };
    let process = Process { started: 1.5, ready: true, reloads_ok: 2, reloads_refused: 1, access_dropped: 0, state };
    let recorder = PrometheusBuilder::new().build_recorder();
    let row = |name: &str, state: &str| PeerStatus { name: name.into(), state: state.into(), ..PeerStatus::default() };
    let refused =
        |reason: &str| PeerStatus { stranger: true, reason: Some(reason.into()), ..row("\"; drop", "refused") };
    let replication = PeersStatus {
        cluster: "shop".into(),
        node: "lb1".into(),
        listen: "127.0.0.1:1".into(),
        pulled: true,
        pull: String::new(),
        tls: Some(TlsStatus { not_after: 1_900_000_000_000, error: None, errors: 2 }),
        names: vec![PeerName { name: "lb9.internal:8405".into(), found: false, errors: 4 }],
        peers: vec![
            PeerStatus { in_sync: Some(true), repaired: 3, ..row("lb2", "up") },
            row("127.0.0.1:2", "connecting"),
            refused("cluster"),
            refused("of a later release"),
            PeerStatus { reason: Some("dns".into()), ..row("lb9.internal:8405", "unresolved") },
        ],
    };
    render(snapshot, process, Some(&replication), &[], &recorder.handle())
}

#[test]
fn every_peer_of_the_list_has_metrics_and_every_reason_of_a_refusal_is_counted() {
    let samples = parse(&scrape(&snapshot()));
    assert_eq!(samples["lb_peer_up{peer=\"lb2\"}"], 1.0);
    assert_eq!(samples["lb_peer_in_sync{peer=\"lb2\"}"], 1.0);
    assert_eq!(samples["lb_peer_repaired_total{peer=\"lb2\"}"], 3.0);
    assert_eq!(samples["lb_peer_up{peer=\"127.0.0.1:2\"}"], 0.0);
    assert_eq!(samples.keys().filter(|k| k.starts_with("lb_peer_up{")).count(), 2, "no stranger names a series");
    assert_eq!(samples["lb_peer_dns_up{name=\"lb9.internal:8405\"}"], 0.0);
    assert_eq!(samples["lb_peer_dns_errors_total{name=\"lb9.internal:8405\"}"], 4.0);
    assert_eq!(samples["lb_peer_certificate_expiry_seconds"], 1_900_000_000.0);
    assert_eq!(samples["lb_peer_certificate_reload_errors_total"], 2.0);
    for (reason, count) in [("cluster", 1.0), ("dns", 1.0), ("other", 1.0), ("certificate", 0.0)] {
        assert_eq!(samples[&format!("lb_peers_refused{{reason=\"{reason}\"}}")], count, "{reason}");
    }
}

fn snapshot() -> Snapshot {
    let mut config = fixture::config();
    config.backends = vec![Arc::new(fixture::backend("app", &[("node1", ([127, 0, 0, 1], 80).into())]))];
    config.frontends = vec![Arc::new(fixture::frontend("we\"b\\", &[]))];
    fixture::snapshot(config)
}

/// Reads the text format strictly: each sample belongs to the family named last, each series comes once.
fn parse(text: &str) -> HashMap<String, f64> {
    let (mut samples, mut families, mut current) = (HashMap::new(), HashSet::new(), "");
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.split(' ');
            if words.next() == Some("HELP") {
                current = words.next().expect("a name");
                assert!(families.insert(current), "{current} comes twice");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let name = series.split('{').next().expect(line);
        assert!(name.starts_with(current), "{line} under {current}");
        assert!(series.matches('{').count() == series.matches('}').count(), "{line}");
        assert!(samples.insert(series.to_owned(), value.parse().expect(line)).is_none(), "{series} comes twice");
    }
    samples
}

#[test]
fn a_scrape_sums_the_workers_and_parses() {
    let snapshot = snapshot();
    let server = &snapshot.backends[0].servers[0].state;
    server.counters[0].requests.add(3);
    server.counters[1].requests.add(4);
    let _guard = server.enter();
    snapshot.backends[0].state.counters[1].by_cookie.bump();
    let samples = parse(&scrape(&snapshot));
    let node = "{backend=\"app\",server=\"node1\"}";
    assert_eq!(samples[&format!("lb_server_requests_total{node}")], 7.0);
    assert_eq!(samples[&format!("lb_server_connections_active{node}")], 1.0);
    assert_eq!(samples[&format!("lb_server_up{node}")], 1.0);
    assert_eq!(samples["lb_affinity_total{backend=\"app\",result=\"cookie\"}"], 1.0);
    assert_eq!(samples["lb_reloads_total{result=\"refused\"}"], 1.0);
    assert_eq!(samples["process_start_time_seconds"], 1.5);
}

#[test]
fn durations_are_cumulative_and_end_with_all_of_them() {
    let snapshot = snapshot();
    let counters = &snapshot.frontends[0].state.counters;
    counters[0].durations[0].add(2);
    counters[1].durations[3].add(1);
    counters[0].durations[DURATION_BUCKETS.len()].add(1);
    counters[0].duration_us.add(2_500_000);
    let samples = parse(&scrape(&snapshot));
    let bucket =
        |le: &str| samples[&format!(r#"lb_http_request_duration_seconds_bucket{{frontend="we\"b\\",le="{le}"}}"#)];
    assert_eq!(
        [bucket("0.00025"), bucket("0.001"), bucket("0.0025"), bucket("30"), bucket("+Inf")],
        [2.0, 2.0, 3.0, 3.0, 4.0]
    );
    assert_eq!(samples[r#"lb_http_request_duration_seconds_sum{frontend="we\"b\\"}"#], 2.5);
    assert_eq!(samples[r#"lb_http_request_duration_seconds_count{frontend="we\"b\\"}"#], 4.0);
}

#[test]
fn every_family_of_the_table_is_scraped_and_well_named() {
    let text = scrape(&snapshot());
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{} is never written", family.name);
        assert!(family.name.starts_with("lb_") || family.name.starts_with("process_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.help);
    }
}

#[test]
fn the_recorder_can_be_asked_for_again_and_again() {
    recorder();
    metrics::counter!("lb_test_total").increment(1);
    assert!(recorder().render().contains("lb_test_total 1"));
}
