//! One shard: an index over a slab of entries, with the change log and the wheel that link them. Everything here runs
//! under the shard's lock, does no I/O and calls nothing foreign.
use super::changes::Log;
use super::digest::Digest;
use super::entry::{Entry, Register, received_life};
use super::holds::{Holds, PASSED_OVER};
use super::slab::Slab;
use super::tentative::Tries;
use super::wheel::Wheel;
use super::{Merged, Pin, Sink, Stored, TableStats, UpdateRef};
use crate::hlc::{Clock, Stamp};
use crate::id::{NameId, Names};
use crate::time::{Timestamp, millis};
use crdts::CvRDT;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use hashbrown::HashTable;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Touches are told to the peers each time a life has grown by this share of the table's expiry.
pub(super) const TOLD_PARTS: u64 = 8;

/// Entries that a shard's index has room for from the start, at most.
const MAX_RESERVED: usize = 28_672;

/// What the shards of a table share.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) names: Arc<Names>,
    pub(super) clock: Arc<Clock>,
    pub(super) digest: Digest,
    /// Greatest number of entries, tombstones included.
    pub(super) size: AtomicUsize,
    /// Life of an entry, in milliseconds.
    pub(super) expire: AtomicU64,
    /// How long after it was made a pin ends, used or not, in milliseconds; `u64::MAX`: no bound.
    pub(super) max_life: AtomicU64,
    /// A full table refuses newcomers.
    pub(super) refuse: AtomicBool,
    /// Entries held, tombstones included. The one number that all shards write.
    pub(super) held: AtomicUsize,
    /// Tentative pins.
    pub(super) tries: AtomicUsize,
    /// Keys of the hash that finds entries; nothing that leaves the process depends on them.
    pub(super) seed: u64,
    pub(super) shared_seed: SharedSeed,
}

impl Env {
    /// The end of a pin's life if it is used now. How old it is, is told by its stamp and the clock that stamps follow:
    /// the same for all who know the pin, but for what their wall clocks differ by.
    pub(super) fn life(&self, pin: Stamp, now: Timestamp) -> u64 {
        now.0.saturating_add(self.expire().min(self.life_left(pin, now)))
    }

    /// What is left of the longest life of a pin.
    pub(super) fn life_left(&self, pin: Stamp, now: Timestamp) -> u64 {
        match self.max_life.load(Ordering::Relaxed) {
            u64::MAX => u64::MAX,
            max => max.saturating_sub(millis(self.clock.reading(now).since(pin.time()))),
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(key);
        hasher.finish()
    }

    pub(super) fn expire(&self) -> u64 {
        self.expire.load(Ordering::Relaxed)
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuse.load(Ordering::Relaxed)
    }

    /// Takes a place for one more entry, if there is one.
    fn reserve(&self) -> bool {
        let size = self.size.load(Ordering::Relaxed);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < size).then_some(n + 1)).is_ok()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.size.load(Ordering::Relaxed)
    }

    /// Holds more than its size: it was made smaller.
    pub(super) fn is_over_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.size.load(Ordering::Relaxed)
    }
}

/// A shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) slab: Slab,
    pub(super) log: Log,
    pub(super) tries: Tries,
    pub(super) holds: Holds,
    /// Counts; `memory` is not kept here.
    pub(super) stats: TableStats,
    index: HashTable<u32>,
    wheel: Wheel,
}

impl Shard {
    /// A shard that is to hold about `entries`. Its index has room for them from the start (within reason), because to
    /// grow it later means to read every key under the lock.
    pub(super) fn new(entries: usize, expire: u64) -> Self {
        // Shards fill unevenly: an eighth more is four standard deviations at a thousand entries.
        let reserved = (entries + entries / 8).min(MAX_RESERVED);
        Self {
            slab: Slab::default(),
            log: Log::default(),
            tries: Tries::default(),
            holds: Holds::default(),
            stats: TableStats::default(),
            index: HashTable::with_capacity(reserved),
            wheel: Wheel::new(expire),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.len() == 0
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |slot| *self.slab[*slot].key == *key).copied()
    }

    /// Writes an entry to `out`, unless it is over.
    pub(super) fn tell(&self, env: &Env, slot: u32, now: Timestamp, out: &mut impl Sink) {
        let holders = self.holds.of(slot, now);
        if let Some(update) = self.slab[slot].update(now, env.expire(), &holders) {
            out.take(update);
        }
    }

    /// The live pin of a key, untouched.
    pub(super) fn peek(&self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> Option<Pin> {
        self.slab[self.find(hash, key)?].live_pin(now, env.expire())
    }

    /// The live pin of a key, touched; and whether the change log has something new.
    pub(super) fn lookup(&mut self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> Option<(Pin, bool)> {
        let found = self.lookup_again(env, hash, key, now);
        self.stats.misses += u64::from(found.is_none());
        found
    }

    /// As [`Self::lookup`] by one whose miss was counted a moment ago.
    pub(super) fn lookup_again(&mut self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> Option<(Pin, bool)> {
        let slot = self.find(hash, key).filter(|slot| self.slab[*slot].live_pin(now, 0).is_some())?;
        self.stats.hits += 1;
        let told = self.touch(env, hash, slot, now);
        self.slab[slot].live_pin(now, env.expire()).map(|pin| (pin, told))
    }

    /// Slides a life to the full expiry. The peers are told when it passes one of the marks that lie an eighth of the
    /// expiry apart: the life they know is then never further behind than from mark to mark. Where the marks lie
    /// differs from key to key, so that busy keys do not all speak at one moment. What grows between two marks is owed:
    /// [`Self::first_pin`].
    fn touch(&mut self, env: &Env, hash: u64, slot: u32, now: Timestamp) -> bool {
        let expire = env.expire();
        let mark = (expire / TOLD_PARTS).max(1);
        let marks = |life: u64| life.saturating_add(hash % mark) / mark;
        let entry = &mut self.slab[slot];
        let before = marks(entry.life);
        let grown = entry.extend(env.life(entry.pin.marker, now));
        let passed = marks(entry.life) > before;
        if passed {
            self.log.push(&mut self.slab, slot);
        } else if grown {
            self.log.owe(slot);
        }
        passed
    }

    /// Pins a key, or touches the pin it has there; and whether the change log has something new.
    pub(super) fn store(&mut self, env: &Env, hash: u64, key: &[u8], server: NameId, now: Timestamp) -> (Stored, bool) {
        match self.find(hash, key) {
            // A name that could not be kept ([`Names::MAX`]) is no server, nor a wish to clear the key.
            _ if server.is_none() => return self.refuse(),
            Some(slot) if self.slab[slot].live_pin(now, 0).is_some_and(|pin| pin.server == server) => {
                return (Stored::Same, self.touch(env, hash, slot, now));
            }
            Some(slot) => self.write(env, slot, server, now),
            // Whatever the wall clock says meanwhile: who comes now outlives who is here.
            None if self.make_room(env, server, u64::MAX, now) => {
                let pin = Register { val: server, marker: env.clock.stamp(now) };
                let life = env.life(pin.marker, now);
                let slot = self.insert(env, hash, Entry::new(key, pin, life));
                self.log.push(&mut self.slab, slot);
            }
            None => return self.refuse(),
        }
        self.stats.stores += 1;
        (Stored::Pinned, true)
    }

    fn refuse(&mut self) -> (Stored, bool) {
        self.stats.refused += 1;
        (Stored::Refused, false)
    }

    /// Puts a tombstone on a live pin (of `server`, if given). False: there is none.
    pub(super) fn clear(&mut self, env: &Env, slot: u32, server: Option<NameId>, now: Timestamp) -> bool {
        let pin = self.slab[slot].live_pin(now, 0);
        let clears = pin.is_some_and(|pin| server.is_none_or(|s| env.names.is_at(pin.server, s)));
        if clears {
            self.write(env, slot, NameId::NONE, now);
        }
        clears
    }

    /// [`Self::clear`] by key.
    pub(super) fn clear_key(&mut self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> bool {
        self.find(hash, key).is_some_and(|slot| self.clear(env, slot, None, now))
    }

    /// A new version of an entry that is held, decided here. Its stamp is later than every one merged before, because
    /// the clock has seen those.
    fn write(&mut self, env: &Env, slot: u32, server: NameId, now: Timestamp) {
        let pin = Register { val: server, marker: env.clock.stamp(now) };
        // A tombstone lives as long as whatever it buries could.
        let life = if server.is_none() { now.0.saturating_add(env.expire()) } else { env.life(pin.marker, now) };
        self.change(env, slot, life, |held| {
            debug_assert!(held.marker < pin.marker);
            held.merge(pin);
            true
        });
        self.log.push(&mut self.slab, slot);
    }

    /// Changes an entry's pin and extends its life, and keeps counts, digest and wheel true. Returns whether the pin
    /// (as `change` says) and the life did change.
    fn change(&mut self, env: &Env, slot: u32, life: u64, change: impl FnOnce(&mut Register) -> bool) -> (bool, bool) {
        let entry = &mut self.slab[slot];
        let was_tombstone = entry.is_tombstone();
        let version = entry.pin.marker;
        let changed = change(&mut entry.pin);
        if changed {
            env.digest.toggle(&entry.key, &[version, entry.pin.marker]);
        }
        let grown = entry.extend(life);
        let tombstone = entry.is_tombstone();
        if tombstone != was_tombstone {
            *self.count(was_tombstone) -= 1;
            *self.count(tombstone) += 1;
        }
        if tombstone != was_tombstone || (tombstone && grown) {
            self.wheel.place(&mut self.slab, slot);
        }
        (changed, grown)
    }

    /// Merges what a peer says; its stamp has been observed and its key checked.
    pub(super) fn merge(&mut self, env: &Env, hash: u64, update: &UpdateRef<'_>, now: Timestamp) -> Merged {
        let mut life = received_life(update, now, env.expire());
        if !update.server.is_none() {
            life = life.min(now.0.saturating_add(env.life_left(update.stamp, now)));
        }
        let pin = Register { val: update.server, marker: update.stamp };
        let (slot, merged) = match self.find(hash, update.key) {
            _ if update.left.is_zero() => (None, Merged::Refused),
            Some(slot) => (Some(slot), self.merge_held(env, slot, pin, life)),
            None if self.make_room(env, update.server, life, now) => {
                (Some(self.insert(env, hash, Entry::new(update.key, pin, life))), Merged::Applied)
            }
            None => (None, Merged::Refused),
        };
        let merged = match slot {
            Some(slot) if self.merge_holders(env, slot, update.holders, now) && merged == Merged::Known => {
                Merged::Extended
            }
            _ => merged,
        };
        match merged {
            Merged::Applied | Merged::Extended => self.stats.merged += 1,
            Merged::Refused => self.stats.merge_refused += 1,
            Merged::Known | Merged::TooFarAhead | Merged::BadKey => {}
        }
        merged
    }

    /// The later stamp wins, and on its own the later life. One stamp with two values can't be, unless somebody
    /// reuses stamps; even then all instances agree: the greater name wins.
    fn merge_held(&mut self, env: &Env, slot: u32, pin: Register, life: u64) -> Merged {
        let mut conflict = false;
        let merged = self.change(env, slot, life, |held| {
            conflict = held.validate_merge(&pin).is_err();
            let wins =
                if conflict { env.names.name(pin.val) > env.names.name(held.val) } else { held.marker < pin.marker };
            match conflict && wins {
                true => held.val = pin.val,
                false => held.merge(pin),
            }
            wins
        });
        self.stats.conflicts += u64::from(conflict);
        match merged {
            (true, _) => Merged::Applied,
            (false, true) => Merged::Extended,
            (false, false) => Merged::Known,
        }
    }

    /// Takes a place for a new key that would live until `life`. In a full table the next to go makes room, if it may.
    fn make_room(&mut self, env: &Env, server: NameId, life: u64, now: Timestamp) -> bool {
        if env.reserve() {
            return true;
        }
        let Some(slot) = self.next_to_go(env, now) else { return false };
        if !self.gives_way(env, slot, server, life, now) {
            return false;
        }
        // The newcomer takes over its place in the count, too: given back, another shard could take it first.
        self.remove(env, slot, now);
        // In a table that was made smaller one more goes for each that comes.
        if env.is_over_full() && !env.refuses() {
            self.evict(env, now);
        }
        true
    }

    /// No entry gives way to one that would end before it, and no pin to a tombstone; a tombstone gives way to any pin.
    fn gives_way(&self, env: &Env, slot: u32, server: NameId, life: u64, now: Timestamp) -> bool {
        let held = &self.slab[slot];
        match (held.is_tombstone(), server.is_none()) {
            _ if held.is_over(now) => true,
            (true, false) => true,
            (false, true) => false,
            (true, true) => life >= held.life,
            (false, false) => life >= held.life && !env.refuses(),
        }
    }

    /// Drops the entry that is the next to go. False: there is none.
    pub(super) fn evict(&mut self, env: &Env, now: Timestamp) -> bool {
        let slot = self.next_to_go(env, now);
        if let Some(slot) = slot {
            self.drop_entry(env, slot, now);
        }
        slot.is_some()
    }

    /// A pin past its end; else the tombstone, else the pin nearest its end.
    fn next_to_go(&mut self, env: &Env, now: Timestamp) -> Option<u32> {
        let mut unlimited = usize::MAX;
        let over = self.first_pin(now.0, &mut unlimited);
        over.or_else(|| self.wheel.first_tombstone(&self.slab)).or_else(|| self.first_idle(env, now))
    }

    /// The pin nearest its end, but one with an open socket only if many of those come first: they are used now, and
    /// their life slides to the full.
    fn first_idle(&mut self, env: &Env, now: Timestamp) -> Option<u32> {
        let mut unlimited = usize::MAX;
        let mut passed = Vec::new();
        let mut found = self.first_pin(u64::MAX, &mut unlimited);
        while let Some(slot) = found.filter(|s| passed.len() < PASSED_OVER && self.holds.is_held(*s, now)) {
            self.wheel.unlink(&mut self.slab, slot);
            passed.push(slot);
            found = self.first_pin(u64::MAX, &mut unlimited);
        }
        for slot in &passed {
            let entry = &mut self.slab[*slot];
            entry.extend(env.life(entry.pin.marker, now));
            self.wheel.place(&mut self.slab, *slot);
        }
        found.or_else(|| passed.first().copied())
    }

    /// The pin nearest its end, see the wheel. An entry is filed for an end that the peers know; when it is met there
    /// and has been touched since, they are told before that end comes.
    fn first_pin(&mut self, until: u64, budget: &mut usize) -> Option<u32> {
        let Self { wheel, slab, log, .. } = self;
        wheel.first_pin(slab, until, budget, |slab, slot| log.settle(slab, slot))
    }

    /// Drops entries that are over; returns how many. `budget` pays for each looked at.
    pub(super) fn sweep(&mut self, env: &Env, now: Timestamp, budget: &mut usize) -> usize {
        let mut gone = 0;
        while *budget > 0 {
            let tombstone = self.wheel.first_tombstone(&self.slab).filter(|s| self.slab[*s].is_over(now));
            let Some(slot) = tombstone.or_else(|| self.first_pin(now.0, budget)) else { break };
            self.drop_entry(env, slot, now);
            *budget = budget.saturating_sub(1);
            gone += 1;
        }
        self.wheel.trim();
        gone
    }

    fn insert(&mut self, env: &Env, hash: u64, entry: Entry) -> u32 {
        *self.count(entry.is_tombstone()) += 1;
        env.digest.toggle(&entry.key, &[entry.pin.marker]);
        let slot = self.slab.insert(entry);
        self.index.insert_unique(hash, slot, |slot| env.hash(&self.slab[*slot].key));
        self.wheel.place(&mut self.slab, slot);
        slot
    }

    fn drop_entry(&mut self, env: &Env, slot: u32, now: Timestamp) {
        self.remove(env, slot, now);
        env.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes an entry out of everything but the count of places.
    fn remove(&mut self, env: &Env, slot: u32, now: Timestamp) {
        let entry = &self.slab[slot];
        env.digest.toggle(&entry.key, &[entry.pin.marker]);
        if let Ok(indexed) = self.index.find_entry(env.hash(&entry.key), |s| *s == slot) {
            indexed.remove();
        }
        match entry.is_over(now) {
            true => self.stats.expired += 1,
            false => self.stats.evictions += 1,
        }
        *self.count(self.slab[slot].is_tombstone()) -= 1;
        self.holds.forget(slot);
        self.log.unlink(&mut self.slab, slot);
        self.wheel.unlink(&mut self.slab, slot);
        self.slab.remove(slot);
    }

    fn count(&mut self, tombstone: bool) -> &mut u64 {
        if tombstone { &mut self.stats.tombstones } else { &mut self.stats.entries }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.slab.memory()
            + self.log.memory()
            + self.index.allocation_size()
            + self.wheel.memory()
            + self.tries.memory()
            + self.holds.memory()
    }

    /// Holds the parts of the shard against each other.
    #[cfg(test)]
    pub(super) fn check(&self, env: &Env) {
        let used: std::collections::BTreeSet<u32> =
            (0..self.slab.slots()).filter(|s| !self.slab[*s].is_free()).collect();
        assert_eq!(used.len(), self.slab.len());
        assert_eq!(self.index.iter().copied().collect::<std::collections::BTreeSet<_>>(), used, "index");
        assert_eq!(self.wheel.slots(&self.slab), used, "wheel");
        for slot in &used {
            assert_eq!(self.find(env.hash(&self.slab[*slot].key), &self.slab[*slot].key), Some(*slot));
        }
        let log = self.log.slots(&self.slab);
        assert!(log.iter().map(|s| self.slab[*s].seq).is_sorted_by(|a, b| a < b), "log");
        assert_eq!(used.iter().filter(|s| self.slab[**s].seq > 0).count(), log.len());
        let tombstones = used.iter().filter(|s| self.slab[**s].is_tombstone()).count() as u64;
        assert_eq!(self.stats.tombstones, tombstones);
        assert_eq!(self.stats.entries + tombstones, used.len() as u64);
    }
}
