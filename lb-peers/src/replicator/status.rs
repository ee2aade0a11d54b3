//! The state of replication as people see it, and what they ask about it.
use super::dial::Target;
use super::peer::Peer;
use super::{Failure, Inspect, Inspected, Now, Output, Replicator};
use crate::session::{Session, Up};
use crate::tables::Local;
use crate::teacher::Counts;
use lb_core::id::Names;
use lb_core::status::{PeerStatus, PeersStatus};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What metrics tell of a peer that is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    /// How long the oldest batch that is out has been.
    pub(crate) lag: Duration,
    pub(crate) counts: Counts,
    pub(crate) backlog: u64,
    pub(crate) offset_ms: Option<f64>,
    pub(crate) rtt: Option<Duration>,
}

impl Replicator {
    /// State of every peer: those met, the addresses where none was, those who were sent away.
    pub fn status(&self, now: Now) -> PeersStatus {
        let met = self.peers.iter().map(|(name, peer)| self.peer(now, name, peer));
        let dialled = self.targets.others().filter(|(addr, t)| !self.is_met(*addr, t)).map(|(a, t)| address(a, t));
        let unknown = self.targets.unknown_names().map(|(name, error)| row(&name, &name, "down", Some(error)));
        let strangers = self.strangers.recent(now);
        let strangers = strangers.map(|(name, s)| PeerStatus {
            stranger: true,
            ..row(name, &s.addr.to_string(), "refused", Some(&s.error))
        });
        let settings = &self.setup.settings;
        PeersStatus {
            cluster: settings.config.cluster.clone(),
            node: settings.node.clone(),
            listen: self.setup.listen.to_string(),
            pulled: self.is_pulled(),
            pull: self.plan.how().to_owned(),
            peers: met.chain(dialled).chain(unknown).chain(strangers).collect(),
        }
    }

    /// Figures of the peers that are up.
    pub(crate) fn extras(&self, now: Now) -> impl Iterator<Item = (&str, Extra)> {
        self.sessions.values().filter_map(|s| s.up.as_ref()).map(move |up| {
            let extra = Extra {
                lag: up.teacher.lag(now),
                counts: up.teacher.memory.counts,
                backlog: up.teacher.backlog(),
                offset_ms: up.offset_ms,
                rtt: up.rtt,
            };
            (up.hello.node.as_str(), extra)
        })
    }

    /// This node's name, and the names behind ids in tables.
    pub(crate) fn identity(&self) -> (String, Arc<Names>) {
        (self.setup.settings.node.clone(), self.names.clone())
    }

    /// The tables.
    pub(crate) fn replicated(&self) -> Vec<Arc<Local>> {
        self.tables.all().to_vec()
    }

    /// Puts what people want to know to the peer.
    pub(super) fn inspect(&mut self, id: u64, peer: &str, table: &str, what: Inspect) {
        let whole = self.plan.is_done();
        let ups = self.sessions.values_mut().filter_map(|s| s.up.as_mut());
        let up = ups.into_iter().find(|up| up.hello.node == peer);
        let table = self.tables.by_name(table);
        let failed = match (up, table) {
            _ if !whole => "this instance has not pulled its tables yet",
            (None, _) => "it is not up",
            (Some(up), _) if !up.pulled => "it has not pulled its tables yet",
            (Some(up), _) if !up.compares() => "its release does not compare tables",
            (Some(up), Some(table)) if up.common.local(table.id).is_some() => return up.inspect(id, table.id, what),
            _ => "it has no such table",
        };
        self.outputs.push_back(Output::Inspected { id, found: Inspected::Failed(failed.into()) });
    }

    fn is_met(&self, addr: SocketAddr, target: &Target) -> bool {
        let refused = matches!(target.error, Some((Failure::Refused, _)));
        let met = target.node.as_ref().is_some_and(|n| self.peers.contains_key(n));
        (met && !refused) || self.peers.values().any(|p| p.addr == addr)
    }

    fn peer(&self, now: Now, name: &str, peer: &Peer) -> PeerStatus {
        let up = peer.link.and_then(|l| self.sessions.get(&l)).and_then(|s: &Session| s.up.as_ref());
        let Some(up) = up else {
            let (failure, error) = peer.error.as_ref().map_or((Failure::Unreachable, None), |(f, e)| (*f, Some(e)));
            let tried = self.targets.others().find(|(addr, _)| *addr == peer.addr).and_then(|(_, t)| t.error.as_ref());
            let (failure, error) = tried.map_or((failure, error), |(f, e)| (*f, Some(e)));
            let mut status = row(name, &peer.addr.to_string(), state(failure), error.map(String::as_str));
            status.pulled = peer.pulled;
            count(&mut status, peer.memory.counts);
            return status;
        };
        self.up(now, name, peer, up)
    }

    fn up(&self, now: Now, name: &str, peer: &Peer, up: &Up) -> PeerStatus {
        let mut status = row(name, &peer.addr.to_string(), "up", None);
        status.rtt_ms = up.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
        status.clock_offset_ms = up.offset_ms;
        status.up_for = Some(now.at.saturating_sub(up.since).as_secs());
        status.backlog = up.teacher.backlog();
        status.pulled = peer.pulled;
        count(&mut status, up.teacher.memory.counts);
        status.tables = up.known(now, self.setup.settings.config.anti_entropy);
        let found: Option<Vec<bool>> = status.tables.iter().map(|t| t.equal).collect();
        status.in_sync = match status.tables.iter().any(|t| t.equal == Some(false)) {
            true => Some(false),
            false => found.map(|_| true),
        };
        status
    }
}

fn count(status: &mut PeerStatus, counts: Counts) {
    (status.sent, status.acked, status.received) = (counts.sent, counts.acked, counts.received);
}

fn state(failure: Failure) -> &'static str {
    if failure == Failure::Refused { "refused" } else { "down" }
}

fn address(addr: SocketAddr, target: &Target) -> PeerStatus {
    let (state, error) = match &target.error {
        Some((failure, error)) => (state(*failure), Some(error.as_str())),
        None => ("connecting", None),
    };
    row(&addr.to_string(), &addr.to_string(), state, error)
}

fn row(name: &str, addr: &str, state: &str, error: Option<&str>) -> PeerStatus {
    PeerStatus {
        name: name.to_owned(),
        addr: addr.to_owned(),
        state: state.to_owned(),
        error: error.map(str::to_owned),
        stranger: false,
        rtt_ms: None,
        clock_offset_ms: None,
        up_for: None,
        sent: 0,
        acked: 0,
        received: 0,
        backlog: 0,
        pulled: None,
        in_sync: None,
        tables: Vec::new(),
    }
}
