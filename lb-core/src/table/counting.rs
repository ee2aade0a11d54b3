//! The counters of a table's keys, which add up over the cluster: for each key a slot of each node (see `entry`).
//!
//! They lie beside the pins, in shards of their own: a key may be counted and not pinned, and a table without `store`
//! pays nothing. Replication reads them by [`StickTable::count_changes`], [`StickTable::scan_counts`] and
//! [`StickTable::relay_counts`], and writes by [`StickTable::merge_counts`].
//!
//! # What holds
//!
//! - **A node writes its own slot only**, and gives it a version when a peer reads it: however often a key is counted
//!   meanwhile, it is in the change log once.
//! - **Counters end** when the key was not counted anywhere for the table's expiry. Open connections hold them.
//! - **A full table** lets go of the key nearest its end, those with open connections last. `size` bounds counted keys
//!   as it bounds pins, each for itself.
//! - **Clearing** starts a key from zero everywhere, except for what is open.
use super::shard::Env;
use super::{Cursor, StickKey, StickTable};
use crate::counters::{Counter, Event};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::time::{Timestamp, millis};
use parking_lot::{Mutex, MutexGuard};
use shard::{Cx, Shard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

mod batch;
mod cell;
mod ends;
mod entry;
mod log;
mod shard;
#[cfg(test)]
mod tests;

pub use batch::{CountBatch, CountedKey, KeyCounts, NodeCounts};

/// Keys that one hold of a shard's lock looks at for a relay.
const RELAY_STEP: u32 = 256;
/// Keys that one hold of a shard's lock clears.
const CLEAR_STEP: u32 = 1024;
/// Keys that one hold of a shard's lock looks at when sweeping.
const SWEEP_STEP: usize = 256;
/// An open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    table: Arc<StickTable>,
    key: StickKey,
    born: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(counting) = self.table.counting.get() else { return };
        let hash = self.table.env.hash(self.key.bytes());
        let told = counting.shard(hash).close(hash, self.key.bytes(), self.born);
        self.table.wake_counting(told);
    }
}

/// The shards.
#[derive(Debug)]
pub(super) struct Counting {
    shards: Box<[Padded]>,
    held: AtomicUsize,
    armed: AtomicBool,
}

/// A shard on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl Counting {
    fn new(shards: usize, store: &Arc<[Counter]>) -> Self {
        Self {
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(store.clone())))).collect(),
            held: AtomicUsize::new(0),
            armed: AtomicBool::new(true),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[(hash >> 40) as usize % self.shards.len()].0.lock()
    }

    fn cx<'a>(&'a self, env: &'a Env, now: Timestamp) -> Cx<'a> {
        Cx { env, held: &self.held, now }
    }

    /// Does something to the place of a key, made if there is room for one that lives until `life`.
    fn with<R>(&self, cx: Cx<'_>, key: &[u8], life: u64, act: impl FnOnce(&mut Shard, u32) -> R) -> Option<R> {
        let hash = cx.env.hash(key);
        let mut shard = self.shard(hash);
        let mut at = shard.place(cx, hash, key, life);
        if at.is_none() && shard.len() == 0 && !cx.env.refuses() {
            // Nobody here could go, as happens in a table made much smaller.
            drop(shard);
            self.shards.iter().any(|shard| shard.0.lock().evict(cx));
            shard = self.shard(hash);
            at = shard.place(cx, hash, key, life);
        }
        at.map(|at| act(&mut shard, at))
    }
}

/// Where each of `to` is in `from`.
fn places(from: &[Counter], to: &[Counter]) -> Vec<Option<usize>> {
    to.iter().map(|counter| from.iter().position(|held| held == counter)).collect()
}

impl StickTable {
    /// Takes on a list of counters; those that stay keep their numbers.
    pub(super) fn set_store(&self, store: &[Counter]) {
        if store.is_empty() && self.counting.get().is_none() {
            return;
        }
        let store: Arc<[Counter]> = store.into();
        let counting = self.counting.get_or_init(|| Counting::new(self.shards(), &store));
        for shard in &counting.shards {
            let mut shard = shard.0.lock();
            if shard.store != store {
                shard.set_store(&counting.held, store.clone());
            }
        }
    }

    fn life(&self, now: Timestamp) -> u64 {
        now.0.saturating_add(self.env.expire())
    }

    /// Counts events of a key. Nothing happens in a table without `store`, or one that is full and refuses newcomers.
    pub fn count(&self, key: &StickKey, events: &[Event], now: Timestamp) {
        let Some(counting) = self.counting.get() else { return };
        let cx = counting.cx(&self.env, now);
        let told = counting.with(cx, key.bytes(), self.life(now), |shard, at| shard.count(cx, at, events));
        self.wake_counting(told == Some(true));
    }

    /// Counts a connection of a key, and that it is open until what comes back is dropped. `None`: as for
    /// [`Self::count`], nothing happens.
    pub fn open(self: &Arc<Self>, key: &StickKey, now: Timestamp) -> Option<Counted> {
        let counting = self.counting.get()?;
        let cx = counting.cx(&self.env, now);
        let (born, told) = counting.with(cx, key.bytes(), self.life(now), |shard, at| shard.open(cx, at))?;
        self.wake_counting(told);
        Some(Counted { table: self.clone(), key: key.clone(), born })
    }

    /// What a counter of a key reads: the sum over the cluster, of a tag the last value set. 0 for what is not counted.
    pub fn counter(&self, key: &StickKey, counter: Counter, now: Timestamp) -> u64 {
        let Some(counting) = self.counting.get() else { return 0 };
        let hash = self.env.hash(key.bytes());
        let shard = counting.shard(hash);
        let Some(at) = shard.store.iter().position(|held| *held == counter) else { return 0 };
        let entry = shard.get(hash, key.bytes(), now);
        entry.map_or(0, |entry| entry.sum(counter, at, self.env.clock.node(), now))
    }

    /// Every counter of a key. `None`: nothing is counted of it.
    pub fn counters(&self, key: &StickKey, now: Timestamp) -> Option<Vec<(Counter, u64)>> {
        let counting = self.counting.get()?;
        let hash = self.env.hash(key.bytes());
        let shard = counting.shard(hash);
        let entry = shard.get(hash, key.bytes(), now).filter(|entry| !entry.is_bare())?;
        Some(shard.sums(entry, counting.cx(&self.env, now)))
    }

    /// A key with its counters. `None`: nothing is counted of it.
    pub fn counted(&self, key: &StickKey, now: Timestamp) -> Option<CountedKey> {
        let counting = self.counting.get()?;
        let hash = self.env.hash(key.bytes());
        let shard = counting.shard(hash);
        let entry = shard.get(hash, key.bytes(), now).filter(|entry| !entry.is_bare())?;
        Some(shard.counted(entry, counting.cx(&self.env, now)))
    }

    /// Appends to `out` the keys of a shard that are counted, from place `from` on, of up to `max` places; returns the
    /// place to go on from, `None` at the end. Keys that come or go meanwhile may or may not be seen.
    pub fn scan_counters(
        &self,
        shard: usize,
        from: u32,
        max: usize,
        now: Timestamp,
        out: &mut Vec<CountedKey>,
    ) -> Option<u32> {
        let counting = self.counting.get()?;
        let shard = counting.shards.get(shard)?.0.lock();
        shard.read(counting.cx(&self.env, now), from, max, out)
    }

    /// Keys that are counted.
    pub(super) fn counted_keys(&self) -> u64 {
        self.counting.get().map_or(0, |counting| counting.held.load(Ordering::Relaxed) as u64)
    }

    /// Bytes of memory.
    pub(super) fn counting_memory(&self) -> usize {
        let Some(counting) = self.counting.get() else { return 0 };
        counting.shards.iter().map(|shard| shard.0.lock().memory()).sum()
    }

    /// Starts a key from zero on every node. False: nothing was counted.
    pub(super) fn clear_counters(&self, key: &StickKey, now: Timestamp) -> bool {
        let Some(counting) = self.counting.get() else { return false };
        let hash = self.env.hash(key.bytes());
        let cleared = counting.shard(hash).clear_key(counting.cx(&self.env, now), hash, key.bytes());
        self.wake_counting(cleared);
        cleared
    }

    /// Starts every key from zero; returns how many were counted.
    pub(super) fn clear_all_counters(&self, now: Timestamp) -> usize {
        let Some(counting) = self.counting.get() else { return 0 };
        let cx = counting.cx(&self.env, now);
        let mut cleared = 0;
        for shard in &counting.shards {
            let mut from = Some(0);
            while let Some(at) = from {
                let mut shard = shard.0.lock();
                let to = shard.slots().min(at + CLEAR_STEP);
                cleared += (at..to).filter(|at| shard.clear(cx, *at)).count();
                from = (to < shard.slots()).then_some(to);
            }
        }
        self.wake_counting(cleared > 0);
        cleared
    }

    /// Drops keys that are over, at most `budget` looked at; returns how many went.
    pub(super) fn expire_counters(&self, now: Timestamp, budget: usize) -> usize {
        let Some(counting) = self.counting.get() else { return 0 };
        let cx = counting.cx(&self.env, now);
        let (mut gone, mut budget) = (0, budget);
        for shard in &counting.shards {
            loop {
                let given = SWEEP_STEP.min(budget);
                let mut left = given;
                gone += shard.0.lock().sweep(cx, &mut left);
                budget -= given - left;
                if left > 0 || budget == 0 {
                    break;
                }
            }
        }
        gone
    }

    /// Appends to `out` up to `max` keys of a shard counted or cleared here after `cursor`, in order of change, each
    /// with this node's slot, and moves the cursor. True: there may be more; that is so, too, when `out` holds keys of
    /// another list of counters, as happens while a reload goes on.
    pub fn count_changes(
        &self,
        shard: usize,
        cursor: &mut Cursor,
        max: usize,
        now: Timestamp,
        out: &mut CountBatch,
    ) -> bool {
        let Some(counting) = self.counting.get() else { return false };
        let Some(mut shard) = counting.shards.get(shard).map(|s| s.0.lock()) else { return false };
        if shard.store.is_empty() {
            return false;
        }
        let max = max.min(out.room());
        if max == 0 || !out.takes(&shard.store) {
            return true;
        }
        shard.changes(counting.cx(&self.env, now), cursor, max, &mut out.keys)
    }

    /// Appends to `out` up to `max` keys of a shard that are `wanted`, from place `from` on, with the slots of all
    /// nodes; returns the place to go on from, `None` at the end.
    pub fn scan_counts(
        &self,
        shard: usize,
        from: u32,
        max: usize,
        now: Timestamp,
        wanted: impl Fn(&[u8]) -> bool,
        out: &mut CountBatch,
    ) -> Option<u32> {
        let counting = self.counting.get()?;
        let mut shard = counting.shards.get(shard)?.0.lock();
        if shard.store.is_empty() {
            return None;
        }
        match out.takes(&shard.store) {
            true => shard.scan(counting.cx(&self.env, now), (from, max), wanted, out),
            false => Some(from),
        }
    }

    /// Appends to `out` keys of a shard with up to `max` slots of third nodes that came here since a time, and keys whose
    /// clearing did, from place `from` on; returns the place to go on from, `None` at the end. What `except` counted is
    /// left out: it is what it told itself.
    pub fn relay_counts(
        &self,
        shard: usize,
        (from, max): (u32, usize),
        (since, except): (Timestamp, NodeId),
        now: Timestamp,
        out: &mut CountBatch,
    ) -> Option<u32> {
        let counting = self.counting.get()?;
        let shard = counting.shards.get(shard)?.0.lock();
        if shard.store.is_empty() {
            return None;
        }
        match out.takes(&shard.store) {
            true => shard.relay(counting.cx(&self.env, now), (from, max), (since, except), &mut out.keys),
            false => Some(from),
        }
    }

    /// Merges what a peer says; returns how many keys were refused: no key of this table, a version from too far
    /// ahead, no room. Commutative, associative, idempotent. Not passed on: in a full mesh its author tells everybody.
    pub fn merge_counts(&self, batch: &CountBatch, now: Timestamp) -> usize {
        let (Some(counting), Some(store)) = (self.counting.get(), &batch.store) else { return 0 };
        let cx = counting.cx(&self.env, now);
        let (mut refused, mut told) = (0, false);
        // The list of counters here, and where each is in the batch.
        let (mut own, mut from): (Arc<[Counter]>, _) = (Arc::default(), Vec::new());
        for counts in &batch.keys {
            let left = millis(counts.left).min(self.env.expire());
            let lives = left > 0 || !counts.kept.is_zero();
            let known =
                lives && StickKey::is_canonical(self.kind, self.key_len, &counts.key) && self.follows(counts, now);
            let life = now.0.saturating_add(left);
            let merged = known.then(|| {
                counting.with(cx, &counts.key, life, |shard, at| {
                    if !Arc::ptr_eq(&own, &shard.store) {
                        own = shard.store.clone();
                        from = places(store, &own);
                    }
                    shard.merge(cx, at, counts, &from)
                })
            });
            match merged.flatten() {
                Some(tells) => told |= tells,
                None => refused += 1,
            }
        }
        self.wake_counting(told);
        refused
    }

    /// Whether this node's clock can follow all versions.
    fn follows(&self, counts: &KeyCounts, now: Timestamp) -> bool {
        let stamps = counts.slots.iter().map(|slot| Stamp::new(slot.seq, slot.node));
        let cleared = Stamp::new(counts.cleared, self.env.clock.node());
        stamps.chain([cleared]).all(|stamp| self.env.clock.observe(stamp, now).is_ok())
    }

    /// Asks to be woken (see [`Self::on_change`]) at the next change of a counter. Call it before reading the changes.
    pub fn rearm_counting(&self) {
        if let Some(counting) = self.counting.get() {
            counting.armed.store(true, Ordering::Release);
        }
    }

    /// As `wake_if` for pins: counters have an arming of their own, because they are read less often.
    fn wake_counting(&self, changed: bool) {
        let (Some(wake), Some(counting)) = (self.wake.get().filter(|_| changed), self.counting.get()) else { return };
        if counting.armed.load(Ordering::Acquire) && counting.armed.swap(false, Ordering::AcqRel) {
            wake();
        }
    }
}
