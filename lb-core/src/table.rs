//! Stick tables: which server a key is pinned to, for how long, written by whom and when.
//!
//! A table is a set of shards, each a short critical section. It knows nothing of peers: replication reads the
//! change log ([`StickTable::changes`]) and the slots ([`StickTable::scan`]), and writes through
//! [`StickTable::merge`].
//!
//! # What holds
//!
//! - **Merging is a join.** The pin and the life of an entry merge each on its own: the later stamp, the later end.
//!   Updates may be doubled, grouped and reordered as they like.
//! - **A touch is told to the peers only when it matters**: once for each eighth of the table's expiry that a life
//!   grows by. A peer may therefore believe that an entry has up to an eighth of the expiry less to live than it has
//!   here, never more (but for the time that updates are on their way, which is not taken off a life); and a key used
//!   a thousand times a second costs eight messages in the time of its expiry. What grew since is told before the life
//!   that the peers know of ends, so that no entry ends there and goes on here.
//! - **An open socket holds its entry alive** on every instance ([`StickTable::hold`]): the idle time begins when the
//!   last one closes, and such an entry is the last to be evicted.
//! - **An entry past its end is a miss for everybody**, swept or not. To the merge its version still counts as long as
//!   it is there, so that an old update can't win over it.
//! - **A longest life** (`max_life`), where there is one, counts from the pin's stamp: no touch, no open socket and no
//!   peer keeps a pin beyond it.
//! - **A tombstone** is kept an hour longer than a pin of its age; that is how long a peer may have been cut off and
//!   still not bring the entry back.
//! - **A full table** keeps updating the keys that it holds. A newcomer takes the place of the entry that is the
//!   nearest to its end, of the whole table where there is one shard (up to 2047 entries), of its shard otherwise;
//!   tombstones go before pins.
use crate::config::{self, KeyKind, WhenFull};
use crate::hlc::{Clock, Stamp};
use crate::id::{NameId, Names};
use crate::time::{Timestamp, millis};
use counting::Counting;
use foldhash::SharedSeed;
use parking_lot::{Mutex, MutexGuard, RwLock};
use shard::{Env, Shard};
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

mod changes;
mod compact;
mod counting;
mod creators;
mod digest;
mod entry;
mod holds;
mod key;
mod shard;
mod slab;
mod stats;
mod tentative;
#[cfg(test)]
pub(crate) mod tests;
mod updates;
mod wheel;

pub use counting::{CountBatch, Counted, CountedKey, KeyCounts, NodeCounts};
pub use holds::Hold;
pub use key::{KeyError, StickKey};
pub use stats::TableStats;
pub use tentative::Tentative;
pub use updates::{Holder, Sink, UpdateRef, Updates};

/// Entries for which a table has one shard more, up to [`MAX_SHARDS`].
const SHARD_SIZE: usize = 1024;
const MAX_SHARDS: usize = 64;
/// Slots that [`StickTable::clear_all`] looks at under one hold of a shard's lock.
const CLEAR_STEP: u32 = 1024;
/// Entries that [`StickTable::expire`] looks at under one hold of a shard's lock.
const SWEEP_STEP: usize = 256;
/// The longest expiry, in milliseconds (9 million years): sums of times can't overflow.
const MAX_EXPIRE: u64 = 1 << 58;

/// A stick table.
pub struct StickTable {
    spec: RwLock<Arc<config::Table>>,
    kind: KeyKind,
    key_len: usize,
    env: Env,
    shards: Box<[Padded]>,
    /// From when the table has had counters.
    counting: OnceLock<Counting>,
    /// Updates refused before any shard was asked.
    bad_updates: AtomicU64,
    /// Who makes keys how fast.
    creators: creators::Creators,
    /// The shard that the next sweep begins with.
    sweep_from: AtomicUsize,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    armed: AtomicBool,
}

/// A shard on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl fmt::Debug for StickTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickTable")
            .field("spec", &self.spec)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
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
    /// Nodes with open sockets on it.
    pub holders: Vec<Holder>,
}

/// What merging many entries did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merges {
    /// Pins that are others now.
    pub applied: u32,
    /// Entries of which only the life or the holders changed.
    pub extended: u32,
    /// Nothing new.
    pub known: u32,
    /// Stamps too far ahead.
    pub absurd: u32,
    /// Keys that do not fit, entries without room or life.
    pub refused: u32,
}

impl Merges {
    /// Counts one more.
    pub fn add(&mut self, merged: Merged) {
        let count = match merged {
            Merged::Applied => &mut self.applied,
            Merged::Extended => &mut self.extended,
            Merged::Known => &mut self.known,
            Merged::TooFarAhead => &mut self.absurd,
            Merged::BadKey | Merged::Refused => &mut self.refused,
        };
        *count += 1;
    }
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

/// What [`StickTable::assign`] found or made.
#[derive(Debug)]
pub enum Assigned {
    /// The key is pinned.
    Pinned(Pin),
    /// The key is being tried on a server, perhaps by several requests at once.
    Tentative(Tentative),
}

impl StickTable {
    /// Buckets of [`Self::digest`].
    pub const BUCKETS: usize = digest::BUCKETS;

    /// An empty table. `seed` keys the hash that finds entries (so that clients cannot aim for collisions).
    pub fn new(spec: Arc<config::Table>, names: Arc<Names>, clock: Arc<Clock>, seed: u64) -> Self {
        let shards = (spec.size / SHARD_SIZE).next_power_of_two().clamp(1, MAX_SHARDS);
        let expire = millis(spec.expire).min(MAX_EXPIRE);
        let env = Env {
            names,
            clock,
            digest: digest::Digest::default(),
            size: AtomicUsize::new(spec.size),
            expire: AtomicU64::new(expire),
            max_life: AtomicU64::new(spec.max_life.map_or(u64::MAX, millis)),
            refuse: AtomicBool::new(spec.when_full == WhenFull::Refuse),
            held: AtomicUsize::new(0),
            tries: AtomicUsize::new(0),
            seed: seed.rotate_left(32),
            shared_seed: SharedSeed::from_u64(seed),
        };
        let table = Self {
            kind: spec.kind,
            key_len: spec.len,
            env,
            counting: OnceLock::new(),
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(spec.size / shards, expire)))).collect(),
            spec: RwLock::new(spec.clone()),
            bad_updates: AtomicU64::new(0),
            creators: creators::Creators::new(spec.max_new_keys, seed),
            sweep_from: AtomicUsize::new(0),
            wake: OnceLock::new(),
            armed: AtomicBool::new(true),
        };
        table.set_store(&spec.store);
        table
    }

    /// Its configuration. [`Self::kind`] and [`Self::key_len`] take no lock.
    pub fn spec(&self) -> Arc<config::Table> {
        self.spec.read().clone()
    }

    /// Type of its keys; a table keeps it for life.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Greatest length of its keys; a table keeps it for life.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Life of an entry that nobody uses.
    pub fn expire_after(&self) -> Duration {
        Duration::from_millis(self.env.expire())
    }

    /// Takes on a new configuration of the same type and length (a reload): size, expiry, `when_full`,
    /// `store`.
    ///
    /// Entries keep the life they have; the next touch gives them the new one if that ends later. A table made smaller
    /// shrinks as [`Self::expire`] runs and as keys come, unless it refuses: then nobody has to leave.
    pub fn reconfigure(&self, spec: Arc<config::Table>) {
        let mut held = self.spec.write();
        self.env.size.store(spec.size, Ordering::Relaxed);
        self.env.expire.store(millis(spec.expire).min(MAX_EXPIRE), Ordering::Relaxed);
        self.env.max_life.store(spec.max_life.map_or(u64::MAX, millis), Ordering::Relaxed);
        self.env.refuse.store(spec.when_full == WhenFull::Refuse, Ordering::Relaxed);
        self.creators.set(spec.max_new_keys);
        self.set_store(&spec.store);
        *held = spec;
    }

    /// The shard of a hash. The index of a shard places by the lowest bits and compares the highest seven, so that the
    /// choice of the shard must leave those alone.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[self.shard_of(hash)].0.lock()
    }

    fn shard_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize % self.shards.len()
    }

    fn lock(&self, key: &[u8]) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.env.hash(key);
        (hash, self.shard(hash))
    }

    /// The pin of a key, whose life slides to the full expiry.
    pub fn lookup(&self, key: &StickKey, now: Timestamp) -> Option<Pin> {
        let (hash, mut shard) = self.lock(key.bytes());
        let found = shard.lookup(&self.env, hash, key.bytes(), now);
        drop(shard);
        let (pin, told) = found?;
        self.wake_if(told);
        Some(pin)
    }

    /// The pin of a key, untouched.
    pub fn peek(&self, key: &StickKey, now: Timestamp) -> Option<Pin> {
        let (hash, shard) = self.lock(key.bytes());
        shard.peek(&self.env, hash, key.bytes(), now)
    }

    /// Pins a key to a server, or touches the pin it has there already. The pin is told to the peers.
    pub fn store(&self, key: &StickKey, server: NameId, now: Timestamp) -> Stored {
        let hash = self.env.hash(key.bytes());
        let store = || self.shard(hash).store(&self.env, hash, key.bytes(), server, now);
        let (mut stored, mut told) = store();
        if stored == Stored::Refused && self.evict_elsewhere(hash, now) {
            (stored, told) = store();
        }
        self.wake_if(told);
        stored
    }

    /// Removes a pin by a tombstone, and starts the key's counters from zero, which the peers get. False: there was
    /// neither.
    pub fn clear(&self, key: &StickKey, now: Timestamp) -> bool {
        let (hash, mut shard) = self.lock(key.bytes());
        let cleared = shard.clear_key(&self.env, hash, key.bytes(), now);
        drop(shard);
        self.wake_if(cleared);
        cleared | self.clear_counters(key, now)
    }

    /// Clears every entry (of `server`, if given: then pins only); returns how many pins and counted keys. Takes the locks shard by shard, a piece at a time.
    pub fn clear_all(&self, server: Option<NameId>, now: Timestamp) -> usize {
        let mut cleared = 0;
        for shard in &self.shards {
            let mut from = 0;
            loop {
                let mut shard = shard.0.lock();
                let to = shard.slab.slots().min(from + CLEAR_STEP);
                cleared += (from..to).filter(|slot| shard.clear(&self.env, *slot, server, now)).count();
                if to == shard.slab.slots() {
                    break;
                }
                from = to;
            }
        }
        self.wake_if(cleared > 0);
        cleared + if server.is_none() { self.clear_all_counters(now) } else { 0 }
    }

    /// Adds the names that its pins are made of. Takes the locks shard by shard, a piece at a time.
    pub fn names_used(&self, used: &mut HashSet<NameId>) {
        for shard in &self.shards {
            let mut from = 0;
            loop {
                let shard = shard.0.lock();
                let to = shard.slab.slots().min(from + CLEAR_STEP);
                let pins = (from..to).map(|slot| &shard.slab[slot]).filter(|entry| !entry.is_free());
                used.extend(pins.map(|entry| entry.pin.val));
                if to == shard.slab.slots() {
                    used.extend(shard.tries.servers());
                    break;
                }
                from = to;
            }
        }
    }

    /// Merges what a peer says. Commutative, associative, idempotent. Not put into the change log: in a full mesh
    /// its author tells everybody.
    pub fn merge(&self, update: &Update, now: Timestamp) -> Merged {
        let update = update.as_ref();
        if let Some(refused) = self.check(&update, now) {
            return refused;
        }
        let (hash, mut shard) = self.lock(update.key);
        shard.merge(&self.env, hash, &update, now)
    }

    /// [`Self::merge`] of many, which takes each shard's lock once.
    pub fn merge_all(&self, updates: &Updates, now: Timestamp) -> Merges {
        let mut merges = Merges::default();
        let mut by_shard: Vec<(u32, u32, u64)> = Vec::with_capacity(updates.len());
        for (i, update) in updates.iter().enumerate() {
            match self.check(&update, now) {
                Some(refused) => merges.add(refused),
                None => {
                    let hash = self.env.hash(update.key);
                    by_shard.push((self.shard_of(hash) as u32, i as u32, hash));
                }
            }
        }
        // By shard, and within it in the order in which they came.
        by_shard.sort_unstable_by_key(|(shard, i, _)| (*shard, *i));
        for group in by_shard.chunk_by(|a, b| a.0 == b.0) {
            let mut shard = self.shards[group[0].0 as usize].0.lock();
            for (_, i, hash) in group {
                merges.add(shard.merge(&self.env, *hash, &updates.get(*i as usize), now));
            }
        }
        merges
    }

    /// What speaks against an update before any shard is asked. Its stamp is taken in.
    fn check(&self, update: &UpdateRef<'_>, now: Timestamp) -> Option<Merged> {
        let refused = if self.env.clock.observe(update.stamp, now).is_err() {
            Merged::TooFarAhead
        } else if !StickKey::is_canonical(self.kind, self.key_len, update.key) {
            Merged::BadKey
        } else {
            return None;
        };
        self.bad_updates.fetch_add(1, Ordering::Relaxed);
        Some(refused)
    }

    /// Number of shards; change logs and scans go by shard.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Appends to `out` up to `max` entries of a shard changed here after `cursor`, in order of change, and moves the
    /// cursor. An entry that changed again meanwhile comes once. True: there may be more.
    pub fn changes(&self, shard: usize, cursor: &mut Cursor, max: usize, now: Timestamp, out: &mut impl Sink) -> bool {
        let Some(shard) = self.shards.get(shard).map(|s| s.0.lock()) else { return false };
        let mut slot = shard.log.after(&shard.slab, *cursor);
        for _ in 0..max {
            if slot == entry::NIL {
                break;
            }
            let entry = &shard.slab[slot];
            *cursor = Cursor { seq: entry.seq, slot };
            shard.tell(&self.env, slot, now, out);
            slot = entry.log_next;
        }
        if slot == entry::NIL {
            // Past changes whose entries have gone, too: a reader at the end is at the newest.
            cursor.seq = cursor.seq.max(shard.log.newest());
        }
        slot != entry::NIL
    }

    /// The sequence of the newest change in a shard: a cursor there has nothing left to read.
    pub fn newest(&self, shard: usize) -> u64 {
        self.shards.get(shard).map_or(0, |s| s.0.lock().log.newest())
    }

    /// How many changed entries lie behind a cursor, counted up to `limit`.
    pub fn backlog(&self, shard: usize, cursor: Cursor, limit: usize) -> usize {
        let Some(shard) = self.shards.get(shard).map(|s| s.0.lock()) else { return 0 };
        shard.log.behind(&shard.slab, cursor, limit)
    }

    /// Appends to `out` up to `max` entries of a shard from slot `from` on, tombstones included; returns the slot to go
    /// on from, `None` at the end. Entries that come or go meanwhile may or may not be seen.
    pub fn scan(&self, shard: usize, from: u32, max: usize, now: Timestamp, out: &mut impl Sink) -> Option<u32> {
        self.scan_where(shard, from, max, now, |_| true, out)
    }

    /// [`Self::scan`] of the entries whose key is `wanted`.
    pub fn scan_where(
        &self,
        shard: usize,
        from: u32,
        max: usize,
        now: Timestamp,
        wanted: impl Fn(&[u8]) -> bool,
        out: &mut impl Sink,
    ) -> Option<u32> {
        let shard = self.shards.get(shard)?.0.lock();
        let slots = shard.slab.slots();
        // Others are passed over, but not any number of them under one hold of the lock.
        let to = slots.min(from.saturating_add(u32::try_from(max.saturating_mul(4)).unwrap_or(u32::MAX)));
        let full = out.count() + max;
        let mut slot = from;
        while slot < to && out.count() < full {
            let entry = &shard.slab[slot];
            if !entry.is_free() && wanted(&entry.key) {
                shard.tell(&self.env, slot, now, out);
            }
            slot += 1;
        }
        (slot < slots).then_some(slot)
    }

    /// Drops entries past their deadline, at most `budget` looked at; returns how many went. A table that holds more
    /// than its size (it was made smaller) also drops those that are the next to go, unless it refuses newcomers.
    pub fn expire(&self, now: Timestamp, budget: usize) -> usize {
        let (mut gone, mut budget) = (self.expire_counters(now, budget), budget);
        let from = self.sweep_from.load(Ordering::Relaxed);
        for step in 0..self.shards.len() {
            let at = (from + step) % self.shards.len();
            gone += self.expire_shard(&self.shards[at], now, &mut budget);
            if budget == 0 {
                self.sweep_from.store(at, Ordering::Relaxed);
                break;
            }
        }
        gone
    }

    /// Sweeps a shard, a piece under each hold of its lock.
    fn expire_shard(&self, shard: &Padded, now: Timestamp, budget: &mut usize) -> usize {
        let (mut gone, mut told) = (0, false);
        loop {
            let given = SWEEP_STEP.min(*budget);
            let mut left = given;
            let mut shard = shard.0.lock();
            let newest = shard.log.newest();
            gone += shard.sweep(&self.env, now, &mut left);
            while left > 0 && self.env.is_over_full() && !self.env.refuses() && shard.evict(&self.env, now) {
                left -= 1;
                gone += 1;
            }
            told |= shard.log.newest() > newest;
            drop(shard);
            *budget -= given - left;
            if left > 0 || *budget == 0 {
                self.wake_if(told);
                return gone;
            }
        }
    }

    /// Digest over buckets: for each of [`Self::BUCKETS`] the XOR of a stable hash of (key, pin version) of its
    /// entries, tombstones included. Equal digests: equal pins.
    pub fn digest(&self) -> Vec<u64> {
        self.env.digest.read()
    }

    /// One hash over a digest: equal ones, equal digests.
    pub fn root(digest: &[u64]) -> u64 {
        digest::root(digest)
    }

    /// The entry of a key as a peer is told it, tombstones included; untouched.
    pub fn entry(&self, key: &[u8], now: Timestamp) -> Option<Update> {
        let (hash, shard) = self.lock(key);
        let mut told = Vec::new();
        shard.tell(&self.env, shard.find(hash, key)?, now, &mut told);
        told.pop()
    }

    /// Whether a new key can come only if another goes.
    pub fn is_full(&self) -> bool {
        self.env.is_full()
    }

    /// The bucket of [`Self::digest`] that a key is in.
    pub fn bucket(key: &[u8]) -> usize {
        digest::bucket(crate::hash::stable(key))
    }

    /// Counts.
    pub fn stats(&self) -> TableStats {
        let merge_refused = self.bad_updates.load(Ordering::Relaxed);
        let mut sum = TableStats { merge_refused, over_pace: self.creators.refused(), ..TableStats::default() };
        let own = size_of::<Self>() + size_of::<[u64; Self::BUCKETS]>();
        sum.memory = (own + self.counting_memory()) as u64;
        sum.counted = self.counted_keys();
        for shard in &self.shards {
            let shard = shard.0.lock();
            sum.add(&shard.stats, shard.memory());
        }
        sum
    }

    /// Calls `wake` when the change log has something new since the last [`Self::rearm`]; set once. It is called by
    /// whoever made the change, under no lock.
    pub fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        // A second one is not meant to come; the first stays.
        let _ = self.wake.set(wake);
    }

    /// Asks to be woken at the next change. Call it before reading the change log.
    pub fn rearm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Wakes the reader of the change log if it asked for that. A change comes before this and a reading after
    /// [`Self::rearm`], each under the shard's lock: either the reading sees the change, or this sees the arming.
    fn wake_if(&self, changed: bool) {
        let Some(wake) = self.wake.get().filter(|_| changed) else { return };
        // Most find it unarmed, and a load is cheaper than a swap.
        if self.armed.load(Ordering::Acquire) && self.armed.swap(false, Ordering::AcqRel) {
            wake();
        }
    }

    /// Makes room for a key whose own shard holds nobody who could go, as happens in a table made much smaller.
    fn evict_elsewhere(&self, hash: u64, now: Timestamp) -> bool {
        let none_here = self.shard(hash).is_empty();
        none_here && !self.env.refuses() && self.shards.iter().any(|shard| shard.0.lock().evict(&self.env, now))
    }
}
