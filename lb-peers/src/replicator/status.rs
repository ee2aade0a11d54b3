//! The state of replication as people see it, and what they ask about it.
use super::dial::{Name, Target};
use super::peer::Peer;
use super::{Failure, Inspect, Inspected, Now, Output, Replicator};
use crate::session::{Session, Up};
use crate::tables::Local;
use crate::teacher::Counts;
use crate::wire::RefuseCode;
use lb_core::id::Names;
use lb_core::status::{PeerName, PeerStatus, PeersStatus, TableSync};
use std::net::SocketAddr;
use std::sync::Arc;

impl Replicator {
    /// State of every peer: those met, the addresses where none was, those who were sent away.
    pub fn status(&self, now: Now) -> PeersStatus {
        let met = self.peers.iter().map(|(name, peer)| self.peer(now, name, peer));
        let dialled = self.targets.others().filter(|(addr, t)| !self.is_met(*addr, t)).map(|(a, t)| address(a, t));
        let names = self.targets.names();
        let strangers = self.strangers.recent(now).map(|(name, s)| {
            let row = PeerStatus { stranger: true, ..row(name, &s.addr.to_string()) };
            failed(row, Failure::Refused(s.why.code), &s.why.text)
        });
        let settings = &self.setup.settings;
        PeersStatus {
            cluster: settings.config.cluster.clone(),
            node: settings.node.clone(),
            listen: self.setup.listen.to_string(),
            pulled: self.is_pulled(),
            pull: self.plan.how().to_owned(),
            tls: None,
            names: names.iter().map(found).collect(),
            peers: met.chain(dialled).chain(names.iter().filter_map(name)).chain(strangers).collect(),
        }
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
        let refused = matches!(target.error, Some((Failure::Refused(_), _)));
        let met = target.node.as_ref().is_some_and(|n| self.peers.contains_key(n));
        (met && !refused) || self.peers.values().any(|p| p.addr == addr)
    }

    fn peer(&self, now: Now, name: &str, peer: &Peer) -> PeerStatus {
        let row = PeerStatus { pulled: peer.pulled, ..row(name, &peer.addr.to_string()) };
        let up = peer.link.and_then(|l| self.sessions.get(&l)).and_then(|s: &Session| s.up.as_ref());
        if let Some(up) = up {
            return self.up(now, row, up);
        }
        let tried = self.targets.others().find(|(addr, _)| *addr == peer.addr).and_then(|(_, t)| t.error.as_ref());
        let row = counted(PeerStatus { state: "down".into(), ..row }, peer.memory.counts);
        match tried.or(peer.error.as_ref()) {
            Some((failure, error)) => failed(row, *failure, error),
            None => row,
        }
    }

    fn up(&self, now: Now, row: PeerStatus, up: &Up) -> PeerStatus {
        let mut tables = up.known(now, self.setup.settings.config.anti_entropy);
        let missing = self.tables.all().iter().filter(|t| up.common.local(t.id).is_none());
        tables.extend(missing.map(|t| TableSync {
            table: t.name.clone(),
            equal: Some(false),
            note: Some("it has no such table".into()),
            ..TableSync::default()
        }));
        let known: Option<Vec<bool>> = tables.iter().map(|t| t.equal).collect();
        let differs = tables.iter().any(|t| t.equal == Some(false));
        let row = PeerStatus {
            state: "up".into(),
            rtt_ms: up.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            clock_offset_ms: up.offset_ms,
            up_for: Some(now.at.saturating_sub(up.since).as_secs()),
            backlog: up.teacher.backlog(),
            lag_ms: up.teacher.lag(now).as_secs_f64() * 1000.0,
            in_sync: if differs { Some(false) } else { known.map(|_| true) },
            tables,
            ..row
        };
        counted(row, up.teacher.memory.counts)
    }
}

fn counted(row: PeerStatus, counts: Counts) -> PeerStatus {
    let Counts { sent, acked, refused_there, received, refused_here, repaired, compared } = counts;
    PeerStatus { sent, acked, refused_by: refused_there, received, refused: refused_here, repaired, compared, ..row }
}

fn address(addr: SocketAddr, target: &Target) -> PeerStatus {
    let row = PeerStatus { state: "connecting".into(), ..row(&addr.to_string(), &addr.to_string()) };
    match &target.error {
        Some((failure, error)) => failed(row, *failure, error),
        None => row,
    }
}

fn row(name: &str, addr: &str) -> PeerStatus {
    PeerStatus { name: name.to_owned(), addr: addr.to_owned(), ..PeerStatus::default() }
}

/// A row of a peer that is not up, and why.
fn failed(row: PeerStatus, failure: Failure, error: &str) -> PeerStatus {
    let (state, reason) = match failure {
        Failure::NobodyThere | Failure::Unreachable => ("down", "unreachable"),
        Failure::Refused(code) => ("refused", word(code)),
    };
    PeerStatus { state: state.into(), reason: Some(reason.into()), error: Some(error.into()), ..row }
}

/// A reason in a word, for metrics.
fn word(code: RefuseCode) -> &'static str {
    match code {
        RefuseCode::Other => "other",
        RefuseCode::Protocol => "protocol",
        RefuseCode::Cluster => "cluster",
        RefuseCode::Name => "name",
        RefuseCode::Table => "table",
        RefuseCode::Certificate => "certificate",
        RefuseCode::Malformed => "malformed",
    }
}

/// A name that is not found, or not yet.
fn name(name: &Name) -> Option<PeerStatus> {
    let (state, error) = match &name.error {
        Some(error) => ("unresolved", error.as_str()),
        None if name.known => return None,
        None => ("connecting", "being looked up"),
    };
    let (shown, reason) = (name.name.to_string(), Some("dns".into()));
    Some(PeerStatus { state: state.into(), error: Some(error.into()), reason, ..row(&shown, &shown) })
}

/// How the look-ups of a name go.
fn found(name: &Name) -> PeerName {
    PeerName { name: name.name.to_string(), found: name.known && name.error.is_none(), errors: name.errors }
}
