//! Stick tables: which server a key is pinned to, for how long, written by whom and when.
//!
//! A table is a set of shards, each a short critical section. It knows nothing of peers: replication reads the
//! change log ([`StickTable::changes`]) and the slots ([`StickTable::scan`]), and writes through
//! [`StickTable::merge`].
use crate::config;
use crate::hlc::{Clock, Stamp};
use crate::id::{NameId, Names};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

mod key;
pub use key::{KeyError, StickKey};

/// A stick table.
#[derive(Debug)]
pub struct StickTable {
    spec: Arc<config::Table>,
}

/// A live pin, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The server's name.
    pub server: NameId,
    /// Who decided, when.
    pub stamp: Stamp,
    /// Life left if nobody touches it.
    pub left: Duration,
}

/// One entry on its way to a peer, or from one. Life travels as time left, never as a date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Canonical key bytes.
    pub key: Box<[u8]>,
    /// The pin; [`NameId::NONE`]: a tombstone.
    pub server: NameId,
    /// The pin's version.
    pub stamp: Stamp,
    /// Life left.
    pub left: Duration,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The pin here was older, or there was none.
    Applied,
    /// Only the life grew.
    Extended,
    /// Nothing new.
    Known,
    /// The stamp is absurd.
    TooFarAhead,
    /// The key does not fit the table's type or length.
    BadKey,
    /// The table is full and refuses newcomers, or the life left was none.
    Refused,
}

/// How far a reader has got in one shard's change log. Starts with `default()`: everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Sequence of the last change read.
    pub seq: u64,
    /// Slot that change was read from: a hint only.
    pub(crate) slot: u32,
}

/// What `store` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A pin was written.
    Pinned,
    /// The key was pinned there already; touched.
    Same,
    /// The table is full and refuses newcomers.
    Refused,
}

/// Counts of one table since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableStats {
    /// Live entries now, tombstones not counted.
    pub entries: u64,
    /// Tombstones now.
    pub tombstones: u64,
    /// Pins written here.
    pub stores: u64,
    /// Look-ups that found a pin.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Entries that went because the table was full.
    pub evictions: u64,
    /// New keys refused because the table was full.
    pub refused: u64,
    /// Entries that reached their deadline.
    pub expired: u64,
    /// Updates from peers that changed something.
    pub merged: u64,
    /// Updates from peers refused: absurd stamp, wrong key, no room.
    pub merge_refused: u64,
    /// Updates with a stamp known here under another value: somebody reuses stamps.
    pub conflicts: u64,
    /// Bytes of memory, as the table counts them.
    pub memory: u64,
}

#[allow(unused_variables, clippy::todo)]
impl StickTable {
    /// An empty table. `seed` keys the hash that finds entries (so that clients cannot aim for collisions).
    pub fn new(spec: Arc<config::Table>, names: Arc<Names>, clock: Arc<Clock>, seed: u64) -> Self {
        Self { spec }
    }

    /// Its configuration.
    pub fn spec(&self) -> &Arc<config::Table> {
        &self.spec
    }

    /// Takes on a new configuration of the same type and length (a reload): size, expiry, `when_full`.
    pub fn reconfigure(&self, spec: Arc<config::Table>) {
        todo!()
    }

    /// The pin of a key, whose life slides to the full expiry.
    pub fn lookup(&self, key: &StickKey, now: Timestamp) -> Option<Pin> {
        todo!()
    }

    /// The pin of a key, untouched.
    pub fn peek(&self, key: &StickKey, now: Timestamp) -> Option<Pin> {
        todo!()
    }

    /// As [`Self::lookup`]; on a miss the server that `choose` gives becomes the key's *tentative* pin, known to
    /// this instance only: others that ask for the key meanwhile get the same one. `None`: `choose` gave none.
    pub fn assign(
        self: &Arc<Self>,
        key: &StickKey,
        now: Timestamp,
        choose: impl FnOnce() -> Option<NameId>,
    ) -> Option<Assigned> {
        todo!()
    }

    /// Pins a key to a server, or touches the pin it has there already. The pin is told to the peers.
    pub fn store(&self, key: &StickKey, server: NameId, now: Timestamp) -> Stored {
        todo!()
    }

    /// Removes a pin by a tombstone, which the peers get. False: there was no pin.
    pub fn clear(&self, key: &StickKey, now: Timestamp) -> bool {
        todo!()
    }

    /// Clears every entry (of `server`, if given); returns how many. Takes the locks shard by shard.
    pub fn clear_all(&self, server: Option<NameId>, now: Timestamp) -> usize {
        todo!()
    }

    /// Merges what a peer says. Commutative, associative, idempotent. Not put into the change log: in a full mesh
    /// its author tells everybody.
    pub fn merge(&self, update: &Update, now: Timestamp) -> Merged {
        todo!()
    }

    /// Number of shards; change logs and scans go by shard.
    pub fn shards(&self) -> usize {
        todo!()
    }

    /// Appends to `out` up to `max` entries of a shard changed here after `cursor`, in order of change, and moves the
    /// cursor. An entry that changed again meanwhile comes once. True: there may be more.
    pub fn changes(
        &self,
        shard: usize,
        cursor: &mut Cursor,
        max: usize,
        now: Timestamp,
        out: &mut Vec<Update>,
    ) -> bool {
        todo!()
    }

    /// The sequence of the newest change in a shard: a cursor there has nothing left to read.
    pub fn newest(&self, shard: usize) -> u64 {
        todo!()
    }

    /// How many changed entries lie behind a cursor, counted up to `limit`.
    pub fn backlog(&self, shard: usize, cursor: Cursor, limit: usize) -> usize {
        todo!()
    }

    /// Appends to `out` up to `max` entries of a shard from slot `from` on, tombstones included; returns the slot to go
    /// on from, `None` at the end. Entries that come or go meanwhile may or may not be seen.
    pub fn scan(&self, shard: usize, from: u32, max: usize, now: Timestamp, out: &mut Vec<Update>) -> Option<u32> {
        todo!()
    }

    /// Drops entries past their deadline, at most `budget` looked at; returns how many went.
    pub fn expire(&self, now: Timestamp, budget: usize) -> usize {
        todo!()
    }

    /// Digest over buckets: for each of [`Self::BUCKETS`] the XOR of a stable hash of (key, pin version) of its
    /// entries, tombstones included. Equal digests: equal pins.
    pub fn digest(&self) -> Vec<u64> {
        todo!()
    }

    /// Buckets of [`Self::digest`].
    pub const BUCKETS: usize = 1024;

    /// Counts.
    pub fn stats(&self) -> TableStats {
        todo!()
    }

    /// Calls `wake` when the change log has something new since the last [`Self::rearm`]; set once.
    pub fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        todo!()
    }

    /// Asks to be woken at the next change. Call it before reading the change log.
    pub fn rearm(&self) {
        todo!()
    }
}

/// What [`StickTable::assign`] found or made.
#[derive(Debug)]
pub enum Assigned {
    /// The key is pinned.
    Pinned(Pin),
    /// The key is being tried on a server, perhaps by several requests at once.
    Tentative(Tentative),
}

/// A hold on a tentative pin. [`Tentative::confirm`] it when the server has answered, [`Tentative::replace`] it when
/// it has not; the last holder to drop it unconfirmed removes it.
#[derive(Debug)]
#[must_use]
pub struct Tentative {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Tentative {
    /// The server to try.
    pub fn server(&self) -> NameId {
        todo!()
    }

    /// `failed` did not take it: another holder's replacement if there is one by now, else the server that `choose`
    /// gives, which the other holders follow from here on. `None`: `choose` gave none.
    pub fn replace(&mut self, failed: NameId, choose: impl FnOnce() -> Option<NameId>) -> Option<NameId> {
        todo!()
    }

    /// The server answered: pins the key to it for everybody.
    pub fn confirm(self, now: Timestamp) -> Stored {
        todo!()
    }
}
