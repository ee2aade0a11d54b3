//! Metrics of replication. Labels hold names of peers that were greeted, never what a stranger calls itself.
use crate::driver::Shared;
use crate::replicator::Replicator;
use metrics::{Counter, Gauge, counter, gauge};
use std::collections::HashMap;

/// Peers that have metrics.
const PEERS: usize = 64;

/// Handles of every peer seen, so that one that is gone shows as down.
#[derive(Default)]
pub(crate) struct Meters {
    peers: HashMap<String, Meter>,
    names: HashMap<String, (Gauge, Counter)>,
}

struct Meter {
    up: Gauge,
    lag: Gauge,
    backlog: Gauge,
    offset: Gauge,
    rtt: Gauge,
    sent: Counter,
    received: Counter,
    refused: Counter,
    refused_by: Counter,
}

impl Meter {
    fn new(peer: &str) -> Self {
        let peer = peer.to_owned();
        Self {
            up: gauge!("lb_peer_up", "peer" => peer.clone()),
            lag: gauge!("lb_peer_lag_seconds", "peer" => peer.clone()),
            backlog: gauge!("lb_peer_backlog_entries", "peer" => peer.clone()),
            offset: gauge!("lb_peer_clock_offset_seconds", "peer" => peer.clone()),
            rtt: gauge!("lb_peer_round_trip_seconds", "peer" => peer.clone()),
            sent: counter!("lb_peer_sent_total", "peer" => peer.clone()),
            received: counter!("lb_peer_received_total", "peer" => peer.clone()),
            refused: counter!("lb_peer_refused_total", "peer" => peer.clone()),
            refused_by: counter!("lb_peer_refused_by_total", "peer" => peer),
        }
    }
}

impl Meters {
    /// Reads the state of every peer.
    pub(crate) fn measure(&mut self, shared: &Shared) {
        let now = shared.now();
        let replicator = shared.replicator.lock();
        self.peers.values().for_each(|meter| meter.up.set(0.0));
        for (name, extra) in replicator.extras(now) {
            if !self.peers.contains_key(name) && self.peers.len() < PEERS {
                self.peers.insert(name.to_owned(), Meter::new(name));
            }
            let Some(meter) = self.peers.get(name) else { continue };
            meter.up.set(1.0);
            meter.lag.set(extra.lag.as_secs_f64());
            meter.refused.absolute(extra.counts.refused_here);
            meter.refused_by.absolute(extra.counts.refused_there);
            meter.sent.absolute(extra.counts.sent);
            meter.received.absolute(extra.counts.received);
            meter.backlog.set(extra.backlog as f64);
            meter.offset.set(extra.offset_ms.unwrap_or_default() / 1000.0);
            meter.rtt.set(extra.rtt.unwrap_or_default().as_secs_f64());
        }
        self.names(&replicator);
    }
    /// Those of the join list. One that left it is neither up nor down.
    fn names(&mut self, replicator: &Replicator) {
        self.names.values().for_each(|(up, _)| up.set(f64::NAN));
        for (name, failed, is_up) in replicator.names() {
            let (up, errors) = self.names.entry(name).or_insert_with_key(|name| {
                let errors = counter!("lb_peer_dns_errors_total", "name" => name.clone());
                (gauge!("lb_peer_dns_up", "name" => name.clone()), errors)
            });
            up.set(f64::from(u8::from(is_up)));
            errors.absolute(failed);
        }
    }
}
