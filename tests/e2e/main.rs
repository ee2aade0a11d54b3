//! Stories with real processes: clients, instances, servers.
#![forbid(unsafe_code)]

mod affinity;
mod answers;
mod balance;
mod certificates;
mod chains;
mod chaos;
mod checks;
mod cluster;
mod contract;
mod cookies;
mod counters;
mod demo;
mod discovery;
mod edges;
mod failover;
mod faults;
mod foreign;
mod framing;
mod hostile;
mod http1;
mod http2;
mod life;
mod limits;
mod names;
mod pages;
mod persist;
mod pressure;
mod queue;
mod races;
mod refusals;
mod returns;
mod rules;
mod shared_maxconn;
mod slow;
mod splits;
mod stapling;
mod state;
mod sync;
mod tcp;
mod tls;
mod trust;
mod tunnel;
mod unix_servers;
mod websocket;
mod websocket_rules;

use lb_tests::Origin;

/// A backend's server list.
fn servers(origins: &[&Origin]) -> String {
    let one = |(i, o): (usize, &&Origin)| format!("{{ name = \"node{}\", addr = \"{}\" }}", i + 1, o.addr);
    format!("server = [{}]", origins.iter().enumerate().map(one).collect::<Vec<_>>().join(", "))
}

/// A configuration of one frontend and one backend, `app`, with these lines more.
fn app(origins: &[&Origin], lines: &str) -> String {
    format!("[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\n{}\n{lines}\n", servers(origins))
}

/// As [`app`], for clients of HTTP/2 without TLS as well.
fn app_h2(origins: &[&Origin], lines: &str) -> String {
    app(origins, lines).replace("[LISTEN]", "[{ addr = LISTEN, h2c = true }]")
}
