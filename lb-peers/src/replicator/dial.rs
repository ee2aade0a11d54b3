//! Whom to dial, when: the join list, the addresses behind its names, backoff.
//!
//! It must not know what is said on a link.
use super::LinkId;
use crate::wire::RefuseCode;
use lb_core::config::PeerAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// First and greatest wait between two attempts at one address.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Wait after somebody was there who is not of us.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// How soon a name is looked up again where nobody says how long the answer holds, and where there was none.
const LOOK_UP: Duration = Duration::from_secs(5);
const LOOK_UP_FAILED: Duration = Duration::from_secs(1);
/// Bounds of a TTL.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 64;
/// Refused connections after which an address counts as "nobody there".
const NOBODY: u32 = 2;

/// Why an attempt led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    NobodyThere,
    /// Time-outs, unreachable networks, links that broke.
    Unreachable,
    /// Somebody is there who is not of us, or does not want us; for such a reason.
    Refused(RefuseCode),
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Addresses.
    pub addrs: Vec<SocketAddr>,
    /// How long they hold; `None`: nobody said.
    pub ttl: Option<Duration>,
    /// Why there may be more of them.
    pub missing: Option<String>,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    LookUp(PeerAddr),
    Dial(SocketAddr),
}

#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: PeerAddr,
    /// `None`: being looked up.
    due: Option<Duration>,
    addrs: BTreeSet<SocketAddr>,
    /// Looked up well at least once.
    pub(super) known: bool,
    /// Why the last look-up failed, and how many did.
    pub(super) error: Option<String>,
    pub(super) errors: u64,
}

/// One address.
#[derive(Debug)]
pub(super) struct Target {
    state: State,
    failures: u32,
    nobody: u32,
    listed: bool,
    is_self: bool,
    /// Why it is not linked, and whether for good.
    pub(super) error: Option<(Failure, String)>,
    /// The node found there.
    pub(super) node: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle { due: Duration },
    Busy(LinkId),
}

impl Target {
    fn new(now: Duration) -> Self {
        Self {
            state: State::Idle { due: now },
            failures: 0,
            nobody: 0,
            listed: true,
            is_self: false,
            error: None,
            node: None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy(_))
    }
}

/// The join list at work.
#[derive(Debug)]
pub(super) struct Targets {
    listen: SocketAddr,
    names: Vec<Name>,
    fixed: BTreeSet<SocketAddr>,
    addrs: BTreeMap<SocketAddr, Target>,
    random: u64,
}

impl Targets {
    pub(super) fn new(listen: SocketAddr, seed: u64) -> Self {
        Self { listen, names: Vec::new(), fixed: BTreeSet::new(), addrs: BTreeMap::new(), random: seed }
    }

    /// Takes on a join list.
    pub(super) fn configure(&mut self, join: &[PeerAddr], now: Duration) {
        let mut names = Vec::new();
        self.fixed.clear();
        for peer in join {
            match peer {
                PeerAddr::Socket(addr) => drop(self.fixed.insert(*addr)),
                name => {
                    let known = self.names.iter().position(|n| n.name == *name);
                    names.push(known.map_or_else(|| Name::new(name, now), |at| self.names.swap_remove(at)));
                }
            }
        }
        self.names = names;
        self.list(now);
        // Whatever was wrong may be right now.
        self.names.iter_mut().filter_map(|n| n.due.as_mut()).for_each(|due| *due = now);
        for target in self.addrs.values_mut() {
            target.failures = 0;
            if let State::Idle { due } = &mut target.state {
                *due = now;
            }
        }
    }

    /// A name was looked up. Addresses that it had stay where nothing says that they are gone.
    pub(super) fn looked_up(&mut self, name: &PeerAddr, result: Result<Found, String>, now: Duration) {
        let Some(name) = self.names.iter_mut().find(|n| n.name == *name) else { return };
        let (found, error) = match result {
            Ok(found) => (Some(found.addrs.into_iter().take(MAX_ADDRESSES)), found.missing.map_or(Ok(found.ttl), Err)),
            Err(error) => (None, Err(error)),
        };
        if let Some(addrs) = found {
            if error.is_ok() {
                name.addrs.clear();
            }
            name.addrs.extend(addrs);
            name.known = true;
        }
        match error {
            Ok(ttl) => name.is_well(ttl, now),
            Err(error) => name.is_unwell(error, now),
        }
        self.list(now);
    }

    /// Brings the addresses in line with the list: an address that left it is dialled no more.
    fn list(&mut self, now: Duration) {
        self.addrs.values_mut().for_each(|t| t.listed = false);
        let wanted: Vec<SocketAddr> =
            self.fixed.iter().chain(self.names.iter().flat_map(|n| &n.addrs)).copied().collect();
        for addr in wanted {
            let target = self.addrs.entry(addr).or_insert_with(|| Target::new(now));
            target.listed = true;
            target.is_self |= addr == self.listen;
        }
        self.addrs.retain(|_, t| t.listed || t.is_busy());
    }

    /// What is due. Addresses whose node is linked by another stream wait.
    pub(super) fn due(&mut self, now: Duration, is_up: impl Fn(&str) -> bool) -> Option<Due> {
        if let Some(name) = self.names.iter_mut().find(|n| n.due.is_some_and(|due| due <= now)) {
            name.due = None;
            return Some(Due::LookUp(name.name.clone()));
        }
        let due = |t: &Target| matches!(t.state, State::Idle { due } if due <= now);
        let dialled = self.addrs.iter().find(|(_, t)| t.wants_a_link(&is_up) && due(t));
        dialled.map(|(addr, _)| Due::Dial(*addr))
    }

    /// When something is due next.
    pub(super) fn next_due(&self, is_up: impl Fn(&str) -> bool) -> Option<Duration> {
        let names = self.names.iter().filter_map(|n| n.due);
        let idle = |t: &Target| match t.state {
            State::Idle { due } => Some(due),
            State::Busy(_) => None,
        };
        let addrs = self.addrs.values().filter(|t| t.wants_a_link(&is_up)).filter_map(idle);
        names.chain(addrs).min()
    }

    /// An address is being dialled.
    pub(super) fn dialling(&mut self, addr: SocketAddr, link: LinkId) {
        if let Some(target) = self.addrs.get_mut(&addr) {
            target.state = State::Busy(link);
        }
    }

    fn of(&mut self, link: LinkId) -> Option<&mut Target> {
        self.addrs.values_mut().find(|t| t.state == State::Busy(link))
    }

    /// The link that was dialled is up.
    pub(super) fn up(&mut self, link: LinkId, node: &str) {
        if let Some(target) = self.of(link) {
            (target.failures, target.nobody) = (0, 0);
            target.error = None;
            target.node = Some(node.to_owned());
        }
    }

    /// A peer that dialled us says where it listens: there is no need to dial it there.
    pub(super) fn met(&mut self, listen: SocketAddr, node: &str) {
        if let Some(target) = self.addrs.get_mut(&listen) {
            target.node = Some(node.to_owned());
        }
    }

    /// We dialled ourselves.
    pub(super) fn found_self(&mut self, link: LinkId) {
        if let Some(target) = self.of(link) {
            target.is_self = true;
        }
    }

    /// The link that was dialled is no more. `None`: nothing was wrong with it. Returns its address.
    pub(super) fn ended(
        &mut self,
        link: LinkId,
        error: Option<(Failure, String)>,
        now: Duration,
    ) -> Option<SocketAddr> {
        let random = self.random();
        let (addr, target) = self.addrs.iter_mut().find(|(_, t)| t.state == State::Busy(link))?;
        let addr = *addr;
        target.nobody += u32::from(matches!(&error, Some((Failure::NobodyThere, _))));
        let wait = match &error {
            Some((Failure::Refused(_), _)) => AFTER_REFUSAL,
            _ => {
                target.failures += 1;
                let doubled = BACKOFF.0.saturating_mul(1 << (target.failures - 1).min(10)).min(BACKOFF.1);
                // Between half and whole, so that a cluster does not redial in step.
                doubled.mul_f64(0.5 + random / 2.0)
            }
        };
        target.error = error.or(target.error.take());
        target.state = State::Idle { due: now + wait };
        self.addrs.retain(|_, t| t.listed || t.is_busy());
        Some(addr)
    }

    /// A node's link is gone: where it was found is dialled soon.
    pub(super) fn lost(&mut self, node: &str, now: Duration) {
        let jitter = BACKOFF.0.mul_f64(self.random());
        for target in self.addrs.values_mut().filter(|t| t.node.as_deref() == Some(node)) {
            if let State::Idle { due } = &mut target.state {
                *due = now + jitter;
            }
        }
    }

    /// Whether every address of the list is ours, has nobody there, or has a node that is linked.
    pub(super) fn are_accounted_for(&self, is_up: impl Fn(&str) -> bool) -> bool {
        let linked = |t: &Target| t.node.as_deref().is_some_and(&is_up);
        self.names.iter().all(|n| n.known)
            && self.addrs.values().all(|t| t.is_self || t.nobody >= NOBODY || linked(t) || !t.listed)
    }

    /// Addresses that are not ours.
    pub(super) fn others(&self) -> impl Iterator<Item = (SocketAddr, &Target)> {
        self.addrs.iter().filter(|(_, t)| !t.is_self).map(|(addr, t)| (*addr, t))
    }

    /// The names of the list.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// The next of a row of numbers in 0..1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Target {
    fn wants_a_link(&self, is_up: impl Fn(&str) -> bool) -> bool {
        self.listed && !self.is_self && !self.node.as_deref().is_some_and(is_up)
    }
}

impl Name {
    fn new(name: &PeerAddr, now: Duration) -> Self {
        let (name, addrs) = (name.clone(), BTreeSet::new());
        Self { name, due: Some(now), addrs, known: false, error: None, errors: 0 }
    }

    fn is_well(&mut self, ttl: Option<Duration>, now: Duration) {
        if self.error.take().is_some() {
            tracing::info!(name = %self.name, "a name of peers.join is found again");
        }
        self.due = Some(now + ttl.map_or(LOOK_UP, |ttl| ttl.clamp(TTL.0, TTL.1)));
    }

    fn is_unwell(&mut self, error: String, now: Duration) {
        if self.error.is_none() {
            let (name, addresses) = (&self.name, self.addrs.len());
            tracing::warn!(%name, error, addresses, "a name of peers.join is not found: the addresses it had stay");
        }
        self.errors += 1;
        self.error = Some(error);
        self.due = Some(now + LOOK_UP_FAILED);
    }
}
