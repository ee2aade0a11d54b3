//! Peers that are found by DNS.
use crate::app;
use lb_tests::instance::free_port;
use lb_tests::{Dns, Instance, Origin, Record, eventually};
use std::net::Ipv4Addr;

const SERVICE: &str = "_lb-peers._tcp.shop.test";

fn config(origin: &Origin) -> String {
    let rule = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    format!("[table.sessions]\ntype = \"string\"\n{}", app(&[origin], rule))
}

/// An instance that listens there and knows its peers from DNS only.
fn spawn(name: &str, listen: (&str, u16), join: &str, dns: &Dns, rest: &str) -> Instance {
    let (host, port) = listen;
    let peers = format!(
        "[peers]\ncluster = \"shop\"\nlisten = \"{host}:{port}\"\njoin = [{join}]\nresolver = \"{}\"\n\
         insecure = true\njoin_timeout = \"2s\"\n{rest}",
        dns.addr
    );
    Instance::spawn(name, port, &peers)
}

fn srv(ports: &[u16]) -> Vec<Record> {
    let host = Record::A("node.shop.test", Ipv4Addr::LOCALHOST);
    ports.iter().map(|port| Record::Srv(SERVICE, *port, "node.shop.test")).chain([host]).collect()
}

fn unresolved(lb: &Instance) -> Option<String> {
    let peers = lb.api("/api/peers");
    let row = peers["peers"].as_array()?.iter().find(|p| p["state"] == "unresolved")?;
    row["error"].as_str().map(str::to_owned)
}

#[test]
fn instances_find_each_other_by_srv_records_and_go_on_when_the_dns_server_dies() {
    let origin = Origin::named("a");
    let (config, ports) = (config(&origin), [free_port(), free_port(), free_port()]);
    let dns = Dns::start(srv(&ports[..2]));
    let join = format!("\"srv:{SERVICE}\"");
    let start = |i: usize, join: &str| spawn(&format!("lb{}", i + 1), ("127.0.0.1", ports[i]), join, &dns, &config);
    let mut cluster = vec![start(0, &join), start(1, &join)];
    for lb in &cluster {
        lb.wait_ready();
        eventually("the two are linked", || lb.peers_up() == 1);
    }
    // The third knows nobody: the others find it in the changed answer.
    cluster.push(start(2, ""));
    cluster[2].wait_ready();
    assert_eq!(cluster[2].peers_up(), 0);
    dns.set(srv(&ports));
    for lb in &cluster {
        eventually("all three are linked", || lb.peers_up() == 2);
    }
    drop(dns);
    for lb in &cluster[..2] {
        eventually("the dead server is shown", || unresolved(lb).is_some());
        let error = unresolved(lb).unwrap_or_default();
        assert!(error.starts_with("it cannot be looked up at 127.0.0.1:"), "{error}");
        eventually("and measured", || {
            let metrics = lb.admin_text("/metrics");
            let value = |name: &str| metrics.lines().find(|l| l.starts_with(name)).and_then(|l| l.rsplit(' ').next());
            value("lb_peer_dns_up{") == Some("0") && value("lb_peer_dns_errors_total{").is_some_and(|n| n != "0")
        });
        assert_eq!(lb.log().matches("the addresses it had stay").count(), 1, "said once");
    }
    cluster[0].client().get("/", "X-Key: k\r\n");
    for lb in &cluster {
        eventually("pins still travel", || lb.pin("sessions", "k").is_some());
    }
    // A restarted one can look nobody up, starts all the same, and the others remember where it was.
    cluster[1].kill();
    cluster[1].restart();
    cluster[1].wait_ready();
    for lb in &cluster {
        eventually("all are linked again", || lb.peers_up() >= 1);
    }
    eventually("the first finds it where it was", || cluster[0].peers_up() == 2);
}

#[test]
fn addresses_of_a_name_are_dialled_as_they_come_and_go() {
    let origin = Origin::named("a");
    let (config, port) = (config(&origin), free_port());
    let of = |last: u8| Record::A("lb.shop.test", Ipv4Addr::new(127, 0, 0, last));
    let dns = Dns::start(vec![of(1)]);
    let join = format!("\"dns:lb.shop.test:{port}\"");
    let first = spawn("lb1", ("127.0.0.1", port), &join, &dns, &config);
    first.wait_ready();
    let second = spawn("lb2", ("127.0.0.2", port), "", &dns, &config);
    second.wait_ready();
    dns.set(vec![of(1), of(2), of(3)]);
    eventually("the second is found", || first.peers_up() == 1);
    let is_shown = || first.api("/api/peers")["peers"].to_string().contains(&format!("127.0.0.3:{port}"));
    eventually("the third address is tried", is_shown);
    dns.set(vec![of(1)]);
    eventually("and forgotten", || !is_shown());
    assert_eq!(first.peers_up(), 1, "a link outlives its address");
    dns.set(Vec::new());
    eventually("a name without addresses is shown", || unresolved(&first).is_some_and(|e| e.contains("no such name")));
}
