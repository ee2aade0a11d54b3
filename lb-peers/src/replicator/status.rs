//! The state of replication as people see it.
use super::dial::{Name, Target};
use super::peer::Peer;
use super::{Failure, Now, Replicator};
use crate::session::{Session, Up};
use crate::teacher::Counts;
use lb_core::status::{PeerStatus, PeersStatus};
use std::net::SocketAddr;
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
        let names = self.targets.names().iter().filter_map(name);
        let strangers = self.strangers.recent(now);
        let strangers = strangers.map(|(name, s)| row(name, &s.addr.to_string(), "refused", Some(&s.error)));
        let settings = &self.setup.settings;
        PeersStatus {
            cluster: settings.config.cluster.clone(),
            node: settings.node.clone(),
            listen: self.setup.listen.to_string(),
            pulled: self.is_pulled(),
            pull: self.plan.how().to_owned(),
            tls: None,
            peers: met.chain(dialled).chain(names).chain(strangers).collect(),
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

    /// Names of the list: how many of their look-ups failed, and whether the last one did not.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, u64, bool)> {
        self.targets.names().iter().map(|n| (n.name.to_string(), n.errors, n.known && n.error.is_none()))
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

/// A name that is not found, or not yet.
fn name(name: &Name) -> Option<PeerStatus> {
    let shown = name.name.to_string();
    match &name.error {
        Some(error) => Some(row(&shown, &shown, "unresolved", Some(error))),
        None if name.known => None,
        None => Some(row(&shown, &shown, "connecting", Some("being looked up"))),
    }
}

fn row(name: &str, addr: &str, state: &str, error: Option<&str>) -> PeerStatus {
    PeerStatus {
        name: name.to_owned(),
        addr: addr.to_owned(),
        state: state.to_owned(),
        error: error.map(str::to_owned),
        rtt_ms: None,
        clock_offset_ms: None,
        up_for: None,
        sent: 0,
        acked: 0,
        received: 0,
        backlog: 0,
        pulled: None,
    }
}
