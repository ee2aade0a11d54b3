//! Replication with real processes under real faults: clients keep their server, and afterwards the tables are equal.
//!
//! Clients come back in shuffled order, and servers are dealt in turn: two balancers that agreed by accident would
//! prove nothing, and `control` shows that without peers these stories fail.
#![forbid(unsafe_code)]

mod clocks;
mod control;
mod freeze;
mod links;
mod nets;

use lb_tests::crowd::Pins;
use lb_tests::{Instance, Origin, within};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long after a fault has ended all tables are equal.
const HEALED: Duration = Duration::from_secs(5);
/// Clients of a story.
const CLIENTS: usize = 60;

/// Servers a, b, c behind the backend `app`, as node1, node2, node3; clients are known by `X-Key`.
struct Servers([Origin; 3]);

impl Servers {
    fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    fn at(ip: Ipv4Addr) -> Self {
        Self(["a", "b", "c"].map(|name| Origin::named_at(ip, name)))
    }

    fn config(&self) -> String {
        self.config_with("")
    }

    /// With these lines more in the table.
    fn config_with(&self, table: &str) -> String {
        let server = |(i, o): (usize, &Origin)| format!("{{ name = \"node{}\", addr = \"{}\" }}", i + 1, o.addr);
        let servers: Vec<_> = self.0.iter().enumerate().map(server).collect();
        format!(
            "[table.sessions]\ntype = \"string\"\n{table}\n\
             [frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n\
             [backend.app]\nbalance = \"roundrobin\"\nserver = [{}]\n\
             sticky = [{{ on = \"header(X-Key)\", table = \"sessions\" }}]\n",
            servers.join(", ")
        )
    }
}

/// Whether all instances have the same pins, so many.
fn equal(cluster: &[Instance], count: usize) -> bool {
    let first = cluster[0].pins("sessions");
    first.len() == count && cluster[1..].iter().all(|lb| lb.pins("sessions") == first)
}

/// Waits until all instances have the same pins, so many.
fn agree(cluster: &[Instance], count: usize) {
    within(HEALED, &format!("all tables hold the same {count} pins"), || equal(cluster, count));
}

/// Every client, each of them at every instance, finds its server.
fn nobody_moved(cluster: &[Instance], pins: &Pins) {
    for lb in cluster {
        assert_eq!(lb_tests::crowd::moved(lb, pins), [""; 0], "at {}", lb.name);
    }
}
