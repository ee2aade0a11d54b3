//! What is remembered of peers between their links, and of those who are no peers.
use super::{Failure, LinkId, Now};
use crate::session::Session;
use crate::teacher::Memory;
use crate::wire::Refusal;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

/// Strangers remembered at most, and for how long after they last came.
const STRANGERS: usize = 32;
const REMEMBERED: Duration = Duration::from_secs(60);
/// Warnings remembered at most, so that each is written once.
const WARNED: usize = 256;

/// A node that was linked once.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) incarnation: u64,
    /// The link to it, while it is up.
    pub(super) link: Option<LinkId>,
    /// Where it listens.
    pub(super) addr: SocketAddr,
    /// When it came up, or went down.
    pub(super) since: Duration,
    /// Why it is down.
    pub(super) error: Option<(Failure, String)>,
    /// What it has acknowledged, for the next link.
    pub(super) memory: Memory,
    /// Last pull from it: entries, milliseconds.
    pub(super) pulled: Option<(u64, u64)>,
}

/// Somebody who came and was sent away.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) addr: SocketAddr,
    pub(super) why: Refusal,
    at: Duration,
}

/// Those who were sent away; bounded. Each trouble is logged when it is new, not every time it comes again.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    known: BTreeMap<String, Stranger>,
    warned: HashMap<String, String>,
}

impl Strangers {
    /// `name` (a node's, or an address) was sent away.
    pub(super) fn note(&mut self, now: Now, name: &str, addr: SocketAddr, why: Refusal) {
        if self.is_news(name, &why.text) {
            tracing::warn!(from = name, %addr, error = why.text, "refused");
        }
        self.known.retain(|_, s| now.at < s.at + REMEMBERED);
        if self.known.len() >= STRANGERS && !self.known.contains_key(name) {
            let oldest = self.known.iter().min_by_key(|(_, s)| s.at).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.known.remove(&oldest));
        }
        self.known.insert(name.to_owned(), Stranger { addr, why, at: now.at });
    }

    /// Warns of an address that was dialled.
    pub(super) fn warn(&mut self, addr: SocketAddr, error: &str) {
        if self.is_news(&addr.to_string(), error) {
            tracing::warn!(%addr, error, "peer is refused, or refuses us");
        }
    }

    /// Warns of a peer that sends stamps from too far ahead.
    pub(super) fn absurd(&mut self, session: &Session) {
        let name = session.up.as_ref().map_or("?", |up| &up.hello.node);
        if self.is_news(&format!("stamps of {name}"), "absurd") {
            tracing::warn!(peer = name, "sends pins stamped further ahead than max_clock_ahead; they are refused");
        }
    }

    /// The peer is welcome now: what was said of it no longer holds.
    pub(super) fn forgive(&mut self, name: &str, addrs: [SocketAddr; 2]) {
        self.known.remove(name);
        self.warned.remove(name);
        for addr in addrs {
            self.warned.remove(&addr.to_string());
        }
    }

    fn is_news(&mut self, about: &str, error: &str) -> bool {
        if self.warned.get(about).is_some_and(|known| known == error) {
            return false;
        }
        if self.warned.len() >= WARNED {
            self.warned.clear();
        }
        self.warned.insert(about.to_owned(), error.to_owned());
        true
    }

    /// Those who came within the last minute.
    pub(super) fn recent(&self, now: Now) -> impl Iterator<Item = (&str, &Stranger)> {
        self.known.iter().filter(move |(_, s)| now.at < s.at + REMEMBERED).map(|(name, s)| (name.as_str(), s))
    }
}
