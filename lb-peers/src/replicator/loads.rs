//! Servers with a bound for the whole cluster (`maxconn = { cluster = 300 }`): what the nodes tell each other of them,
//! and what this one may have of each. Of servers that drain they tell what they have, too.
//!
//! Each node computes its allowance from all figures ([`lb_core::shares`]). Views differ while words are on their way, and
//! yet two nodes never pass the bound together while they are linked, because
//!
//! - **a node that wants more counts as wanting it, to itself, only when every peer has acknowledged that**: it never
//!   takes itself for more than the others take it for, and one who wants more never adds to another's allowance;
//! - **an acknowledgement tells what its sender has on the server** once it has lowered its own allowance: what somebody
//!   has beyond its allowance is known until it has gone, and nobody else gets it;
//! - **a peer that has told nothing yet** on a new link counts as having everything. After one silent heartbeat it counts
//!   as one that takes no part: it speaks an older protocol, or has no such servers.
//!
//! Among three and more, what a node let in within the last [`PERIOD`] and the time on the way may not be known to a third
//! whose allowance then is too great by a part of that: this much the bound can be passed by, for as long as these
//! requests last.
//!
//! Where nodes are not linked, being available goes before the bound. A peer whose link is lost keeps its figures for
//! three heartbeats, then what it had is free: two sides of a partition that lasts longer have the whole bound each. A node
//! that starts has an equal part of those it is to meet until its tables are whole.
use super::{LinkId, Now};
use crate::wire::{Frame, Garbage, LoadOf};
use lb_core::server::ServerState;
use lb_core::shares::{Load, SharedBounds, allowance};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often figures are looked at, and told if they are others.
const PERIOD: Duration = Duration::from_millis(20);
/// The protocol that knows these frames.
pub(super) const PROTOCOL: u32 = 2;
/// Heartbeats for which a lost peer's figures count.
const KEPT: u32 = 3;

/// Backend and server.
type Name = (String, String);
type Figures = BTreeMap<Name, Load>;
/// How many requests a node wants to have on each server.
type Wanted = BTreeMap<Name, u32>;

/// See the module.
#[derive(Debug)]
pub(super) struct Loads {
    shared: Arc<SharedBounds>,
    us: String,
    nodes: BTreeMap<String, Node>,
    /// Peers that are to be met.
    strangers: usize,
    /// When figures are looked at next.
    next: Duration,
    /// Since when the servers are told of.
    asked: BTreeMap<Name, Duration>,
    /// Something but our figures has changed.
    news: bool,
    grown: bool,
}

/// A peer.
#[derive(Debug)]
struct Node {
    /// `None`: lost.
    link: Option<LinkId>,
    /// When the link came up, or was lost.
    since: Duration,
    /// What it told last on this link.
    told: Option<Figures>,
    /// The number of that, and the one that it was told we have.
    seen: u64,
    said: u64,
    /// What it has acknowledged that we want.
    known: Wanted,
    /// What it was told since.
    sent: Option<Wanted>,
    /// The number of what it was told last.
    number: u64,
    /// What it was told that we have.
    active: Vec<u32>,
}

impl Node {
    fn new(link: LinkId, now: Now) -> Self {
        Self {
            link: Some(link),
            since: now.at,
            told: None,
            seen: 0,
            said: 0,
            known: Wanted::new(),
            sent: None,
            number: 0,
            active: Vec::new(),
        }
    }

    /// What it can believe us to want, at least.
    fn believes(&self, name: &Name) -> u32 {
        let of = |wanted: &Wanted| wanted.get(name).copied().unwrap_or(0);
        self.sent.as_ref().map_or(u32::MAX, of).min(of(&self.known))
    }

    /// Not a word on this link so far.
    fn is_silent(&self) -> bool {
        self.told.is_none() && self.link.is_some()
    }

    /// The next frame for it, if there is any need.
    fn frame(&mut self, ours: &Figures, tick: bool) -> Option<(LinkId, Frame)> {
        let link = self.link?;
        let wanted = || ours.iter().map(|(name, load)| (name.clone(), load.wanted)).collect::<Wanted>();
        let active: Vec<u32> = ours.values().map(|load| load.active).collect();
        let first = self.number == 0 && !ours.is_empty();
        let mut due = self.seen > self.said || (tick && self.active != active);
        if first || (tick && self.sent.is_none() && self.known != wanted()) {
            self.number += 1;
            self.sent = Some(wanted());
            due = true;
        }
        if !due {
            return None;
        }
        (self.said, self.active) = (self.seen, active);
        let told = self.sent.as_ref().unwrap_or(&self.known);
        let load = |(name, load): (&Name, &Load)| {
            let wanted = told.get(name).copied().unwrap_or(0);
            LoadOf { server: name.clone(), load: Load { active: load.active, wanted } }
        };
        let loads = ours.iter().map(load).collect();
        Some((link, Frame::Loads { number: self.number, seen: self.seen, loads }))
    }
}

impl Loads {
    pub(super) fn new(shared: Arc<SharedBounds>, us: &str) -> Self {
        Self {
            shared,
            us: us.to_owned(),
            nodes: BTreeMap::new(),
            strangers: 0,
            next: Duration::ZERO,
            asked: BTreeMap::new(),
            news: true,
            grown: false,
        }
    }

    /// A link to a peer is up. What it knew of us in another life, or on another link, it may have forgotten.
    pub(super) fn up(&mut self, now: Now, node: &str, link: LinkId) {
        self.nodes.insert(node.to_owned(), Node::new(link, now));
        self.news = true;
    }

    /// The link to a peer is lost.
    pub(super) fn down(&mut self, now: Now, node: &str) {
        if let Some(node) = self.nodes.get_mut(node) {
            (node.link, node.since) = (None, now.at);
        }
        self.news = true;
    }

    /// A peer has gone for good.
    pub(super) fn left(&mut self, node: &str) {
        self.nodes.remove(node);
        self.news = true;
    }

    /// The configuration is another.
    pub(super) fn configured(&mut self) {
        self.news = true;
    }

    /// So many peers are still to be met.
    pub(super) fn expect(&mut self, strangers: usize) {
        self.news |= self.strangers != strangers;
        self.strangers = strangers;
    }

    /// A peer's word.
    pub(super) fn received(
        &mut self,
        node: &str,
        (number, seen): (u64, u64),
        loads: Vec<LoadOf>,
    ) -> Result<(), Garbage> {
        let Some(node) = self.nodes.get_mut(node) else { return Ok(()) };
        if seen > node.number || number < node.seen {
            return Err(Garbage("loads out of order"));
        }
        if seen == node.number
            && let Some(sent) = node.sent.take()
        {
            node.known = sent;
        }
        node.seen = number;
        node.told = Some(loads.into_iter().map(|l| (l.server, l.load)).collect());
        self.news = true;
        Ok(())
    }

    /// Does what is due; what is to be sent.
    pub(super) fn work(&mut self, now: Now, heartbeat: Duration) -> Vec<(LinkId, Frame)> {
        let tick = self.tells() && now.at >= self.next;
        if !tick && !self.news {
            return Vec::new();
        }
        if tick {
            self.next = now.at + PERIOD;
        }
        self.news = false;
        self.nodes.retain(|_, node| node.link.is_some() || now.at < node.since + heartbeat * KEPT);
        let servers = self.shared.all();
        let asked =
            servers.iter().map(|s| name(s)).map(|name| (self.asked.get(&name).copied().unwrap_or(now.at), name));
        self.asked = asked.map(|(since, name)| (name, since)).collect();
        for server in &servers {
            let (allowance, elsewhere) = self.allowance(now, server, heartbeat);
            self.grown |= server.set_allowance(allowance, elsewhere);
            server.set_elsewhere(self.elsewhere(now, server, heartbeat));
        }
        // Read after allowances were lowered: an acknowledgement tells what holds from then on.
        let ours: Figures = servers.iter().map(|s| (name(s), load(s))).collect();
        self.nodes.values_mut().filter_map(|node| node.frame(&ours, tick)).collect()
    }

    /// What we may have on a server, and what the others have.
    fn allowance(&self, now: Now, server: &ServerState, heartbeat: Duration) -> (u32, u32) {
        let (bound, name) = (server.cluster_bound().unwrap_or(u32::MAX), name(server));
        let (mut all, mut us, mut elsewhere, mut unknown) = (Vec::new(), 0, 0u32, false);
        let mut ours = load(server);
        for (node, state) in &self.nodes {
            if state.is_silent() {
                unknown |= now.at < state.since + heartbeat;
                continue;
            }
            us += usize::from(*node < self.us);
            let told = state.told.as_ref().and_then(|told| told.get(&name)).copied().unwrap_or_default();
            elsewhere = elsewhere.saturating_add(told.active);
            ours.wanted = ours.wanted.min(state.believes(&name));
            all.push(told);
        }
        all.insert(us, ours);
        all.resize(all.len() + self.strangers, Load::default());
        (if unknown { 0 } else { allowance(bound, &all, us) }, elsewhere)
    }

    /// What the others have on a server; `None`: somebody is yet to tell. Who does not within three heartbeats has no such
    /// server, or is of a release that does not tell.
    fn elsewhere(&self, now: Now, server: &ServerState, heartbeat: Duration) -> Option<u32> {
        let name = name(server);
        let asked = self.asked.get(&name).copied().unwrap_or(now.at);
        self.nodes.values().try_fold(0u32, |sum, node| match node.told.as_ref().and_then(|told| told.get(&name)) {
            Some(load) => Some(sum.saturating_add(load.active)),
            None => (now.at >= asked.max(node.since) + heartbeat * KEPT).then_some(sum),
        })
    }

    /// Whether there is anything to tell; that there is nothing more is told as well.
    fn tells(&self) -> bool {
        !self.shared.is_empty() || !self.asked.is_empty()
    }

    /// Whether an allowance grew since this was last asked.
    pub(super) fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// When [`Self::work`] wants to be called though nothing happens. Alone, there is nobody to tell.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (!self.nodes.is_empty() && self.tells()).then_some(self.next)
    }
}

fn name(server: &ServerState) -> Name {
    (server.backend.clone(), server.name.clone())
}

fn load(server: &ServerState) -> Load {
    let active = server.in_flight();
    Load { active, wanted: active.saturating_add(server.queued()) }
}

#[cfg(test)]
mod tests;
