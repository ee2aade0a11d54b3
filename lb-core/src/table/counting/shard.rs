//! One shard of counters. Everything here runs under the shard's lock, does no I/O and calls nothing foreign.
use super::KeyCounts;
use super::cell::Cell;
use super::ends::Ends;
use super::entry::{Entry, Slot, kept_for};
use super::log::Log;
use crate::counters::{Counter, Event};
use crate::table::shard::Env;
use crate::time::{Timestamp, millis};
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod tell;

/// Keys with open connections that are passed over when one has to go; then one of them goes.
const SPARED: usize = 64;
/// Peers are told again of open connections after this, in milliseconds, and at least three times in a key's life.
const RENEW: u64 = 20_000;

/// What a shard works with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cx<'a> {
    pub(super) env: &'a Env,
    /// Keys held, in all shards.
    pub(super) held: &'a AtomicUsize,
    pub(super) now: Timestamp,
}

impl Cx<'_> {
    fn size(&self) -> usize {
        self.env.size.load(Ordering::Relaxed)
    }

    fn reserve(&self) -> bool {
        let size = self.size();
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < size).then_some(n + 1)).is_ok()
    }

    fn is_over_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.size()
    }

    fn life(&self) -> u64 {
        self.now.0.saturating_add(self.env.expire())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) store: Arc<[Counter]>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    log: Log,
    ends: Ends,
    /// Keys with open connections, by when the peers are to be told again.
    renewals: VecDeque<(u64, u32)>,
    born: u64,
    /// Bytes of memory that entries have beside their places.
    outside: usize,
}

impl Shard {
    pub(super) fn new(store: Arc<[Counter]>) -> Self {
        Self { store, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |at| *self.entries[*at as usize].key == *key).copied()
    }

    /// A key that lives, read only.
    pub(super) fn get(&self, hash: u64, key: &[u8], now: Timestamp) -> Option<&Entry> {
        self.find(hash, key).map(|at| &self.entries[at as usize]).filter(|entry| !entry.is_over(now))
    }

    /// The place of a key that lives until `life` at least, made if there is room.
    pub(super) fn place(&mut self, cx: Cx<'_>, hash: u64, key: &[u8], life: u64) -> Option<u32> {
        let at = match self.find(hash, key) {
            Some(at) => at,
            None if self.make_room(cx, life) => self.insert(cx, hash, key),
            None => return None,
        };
        if self.entries[at as usize].is_over(cx.now) {
            self.reweigh(at, Entry::begin_anew);
        }
        let entry = &mut self.entries[at as usize];
        entry.life = entry.life.max(life);
        Some(at)
    }

    /// Changes an entry, and keeps count of its memory.
    fn reweigh<R>(&mut self, at: u32, change: impl FnOnce(&mut Entry) -> R) -> R {
        let entry = &mut self.entries[at as usize];
        let before = entry.outside();
        let done = change(entry);
        self.outside = (self.outside + entry.outside()).saturating_sub(before);
        done
    }

    fn insert(&mut self, cx: Cx<'_>, hash: u64, key: &[u8]) -> u32 {
        self.born += 1;
        let entry = Entry { key: key.into(), born: self.born, ..Entry::default() };
        self.outside += entry.outside();
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.index.insert_unique(hash, at, |at| cx.env.hash(&self.entries[*at as usize].key));
        at
    }

    /// Files a key whose kind of end may have changed.
    fn settle(&mut self, at: u32) {
        let entry = &self.entries[at as usize];
        if entry.filed.1 == 0 || entry.filed.0 != entry.is_bare() {
            self.ends.file(&mut self.entries, at);
        }
    }

    /// Notes that a key changed here. True: the peers do not know that there is something to read.
    fn changed(&mut self, at: u32) -> bool {
        if std::mem::replace(&mut self.entries[at as usize].dirty, true) {
            return false;
        }
        self.log.push(&mut self.entries, at);
        true
    }

    pub(super) fn count(&mut self, cx: Cx<'_>, at: u32, events: &[Event]) -> bool {
        let entry = &mut self.entries[at as usize];
        let first = entry.own.is_empty();
        entry.count(&self.store, events, &cx.env.clock, cx.now);
        if first {
            self.outside += size_of_val(&*entry.own);
            self.settle(at);
        }
        self.changed(at)
    }

    /// A connection opens. Returns what [`Self::close`] is to be given.
    pub(super) fn open(&mut self, cx: Cx<'_>, at: u32) -> (u64, bool) {
        self.entries[at as usize].open += 1;
        let told = self.count(cx, at, &[Event::Connection]);
        self.renew_later(cx, at);
        (self.entries[at as usize].born, told)
    }

    pub(super) fn close(&mut self, hash: u64, key: &[u8], born: u64) -> bool {
        let Some(at) = self.find(hash, key).filter(|at| self.entries[*at as usize].born == born) else { return false };
        let entry = &mut self.entries[at as usize];
        entry.open = entry.open.saturating_sub(1);
        self.settle(at);
        self.changed(at)
    }

    fn renew_later(&mut self, cx: Cx<'_>, at: u32) {
        let entry = &mut self.entries[at as usize];
        if entry.renew == 0 {
            entry.renew = cx.now.0.saturating_add(RENEW.min(cx.env.expire() / 3)).max(1);
            self.renewals.push_back((entry.renew, at));
        }
    }

    /// Keys with open connections count as changed from time to time, so that the peers see that somebody is there.
    fn renew(&mut self, cx: Cx<'_>) {
        while let Some((_, at)) = self.renewals.pop_front_if(|(due, _)| *due <= cx.now.0) {
            let entry = &mut self.entries[at as usize];
            if entry.renew == 0 || entry.renew > cx.now.0 {
                continue;
            }
            entry.renew = 0;
            if entry.open > 0 {
                entry.life = entry.life.max(cx.life());
                self.changed(at);
                self.renew_later(cx, at);
            }
        }
    }

    /// Clears a key. False: there was nothing.
    pub(super) fn clear(&mut self, cx: Cx<'_>, at: u32) -> bool {
        let entry = &mut self.entries[at as usize];
        if entry.is_free() || entry.is_bare() || entry.is_over(cx.now) {
            return false;
        }
        let kept = cx.now.0.saturating_add(kept_for(cx.env.expire()));
        let cleared = cx.env.clock.stamp(cx.now).clock();
        self.reweigh(at, |entry| entry.clear(cleared, kept));
        self.settle(at);
        self.changed(at);
        true
    }

    pub(super) fn clear_key(&mut self, cx: Cx<'_>, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some_and(|at| self.clear(cx, at))
    }

    /// Merges what a peer says of a key. True: that makes something to be told.
    pub(super) fn merge(&mut self, cx: Cx<'_>, at: u32, counts: &KeyCounts, from: &[Option<usize>]) -> bool {
        let (store, node, expire) = (self.store.clone(), cx.env.clock.node(), cx.env.expire());
        let kept = cx.now.0.saturating_add(millis(counts.kept).min(kept_for(expire)));
        let tells = self.reweigh(at, |entry| {
            let counted = !entry.own.is_empty();
            let mut tells = entry.clear(counts.cleared, kept);
            for slot in &counts.slots {
                let numbers = |at: Option<usize>| at.and_then(|at| slot.numbers.get(at)).copied().unwrap_or_default();
                let cell =
                    |(counter, at): (&Counter, &Option<usize>)| Cell::heard(counter.kind(), numbers(*at), cx.now);
                let cells = store.iter().zip(from).map(cell).collect();
                let heard = cx.now.0.saturating_sub(millis(slot.age));
                let news = entry.merge(Slot { node: slot.node, seq: slot.seq, heard, cells }, node);
                // A former life's counts are told with ours.
                tells |= news && slot.node == node;
            }
            tells && counted
        });
        self.settle(at);
        tells && self.changed(at)
    }

    /// Takes on another list of counters.
    pub(super) fn set_store(&mut self, held: &AtomicUsize, store: Arc<[Counter]>) {
        if store.is_empty() {
            held.fetch_sub(self.len(), Ordering::Relaxed);
            // What is open now is not to be closed for a later key.
            *self = Self { born: self.born, ..Self::new(store) };
            return;
        }
        let from = super::places(&self.store, &store);
        for at in 0..self.slots() {
            self.reweigh(at, |entry| entry.store_others(&from));
        }
        self.store = store;
    }

    /// Takes a place for a new key that would live until `life`. In a full table the next to go makes room, if it may.
    fn make_room(&mut self, cx: Cx<'_>, life: u64) -> bool {
        if self.store.is_empty() {
            return false;
        }
        if cx.reserve() {
            return true;
        }
        let Some(at) = self.next_to_go(cx) else { return false };
        let entry = &self.entries[at as usize];
        let gives_way = entry.is_bare() || entry.is_over(cx.now) || (entry.life <= life && !cx.env.refuses());
        if gives_way {
            // The newcomer takes over its place in the count, too.
            self.remove(cx, at);
        }
        gives_way
    }

    fn next_to_go(&mut self, cx: Cx<'_>) -> Option<u32> {
        let mut unlimited = usize::MAX;
        if let Some(bare) = self.ends.first(true, &mut self.entries, u64::MAX, &mut unlimited) {
            return Some(bare);
        }
        let mut last = None;
        for _ in 0..SPARED {
            last = self.ends.first(false, &mut self.entries, u64::MAX, &mut unlimited);
            let Some(at) = last.filter(|at| self.entries[*at as usize].open > 0) else { break };
            self.put_off(cx, at);
        }
        last
    }

    /// A key with open connections lives on.
    fn put_off(&mut self, cx: Cx<'_>, at: u32) {
        let entry = &mut self.entries[at as usize];
        entry.life = entry.life.max(cx.life()).saturating_add(1);
        self.ends.file(&mut self.entries, at);
    }

    /// Drops the key that is the next to go. False: there is none.
    pub(super) fn evict(&mut self, cx: Cx<'_>) -> bool {
        let at = self.next_to_go(cx);
        if let Some(at) = at {
            self.drop_key(cx, at);
        }
        at.is_some()
    }

    /// Drops keys that are over, and those that are too many; returns how many. `budget` pays for each looked at.
    pub(super) fn sweep(&mut self, cx: Cx<'_>, budget: &mut usize) -> usize {
        self.renew(cx);
        let mut gone = 0;
        for bare in [false, true] {
            while *budget > 0 {
                let Some(at) = self.ends.first(bare, &mut self.entries, cx.now.0, budget) else { break };
                *budget = budget.saturating_sub(1);
                gone += usize::from(self.end(cx, at));
            }
        }
        while *budget > 0 && cx.is_over_full() && !cx.env.refuses() && self.evict(cx) {
            *budget -= 1;
            gone += 1;
        }
        self.ends.trim();
        gone
    }

    /// A key has come to its end. True: it is gone.
    fn end(&mut self, cx: Cx<'_>, at: u32) -> bool {
        let entry = &mut self.entries[at as usize];
        if entry.open > 0 {
            self.put_off(cx, at);
            return false;
        }
        if !entry.is_bare() && entry.kept > cx.now.0 {
            self.reweigh(at, Entry::begin_anew);
            self.settle(at);
            return false;
        }
        self.drop_key(cx, at);
        true
    }

    fn drop_key(&mut self, cx: Cx<'_>, at: u32) {
        self.remove(cx, at);
        cx.held.fetch_sub(1, Ordering::Relaxed);
    }

    fn remove(&mut self, cx: Cx<'_>, at: u32) {
        let entry = std::mem::take(&mut self.entries[at as usize]);
        self.ends.drop_first(entry.filed.0, at);
        self.outside = self.outside.saturating_sub(entry.outside());
        if let Ok(indexed) = self.index.find_entry(cx.env.hash(&entry.key), |held| *held == at) {
            indexed.remove();
        }
        self.free.push(at);
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.outside
            + self.free.capacity() * size_of::<u32>()
            + self.index.allocation_size()
            + self.log.memory()
            + self.ends.memory()
            + self.renewals.capacity() * size_of::<(u64, u32)>()
    }

    /// Holds the parts of the shard against each other.
    #[cfg(test)]
    pub(super) fn check(&self, env: &Env) {
        let used: Vec<u32> = (0..self.slots()).filter(|at| !self.entries[*at as usize].is_free()).collect();
        assert_eq!((used.len(), self.index.len()), (self.len(), self.len()));
        let logged: Vec<u32> = self.log.after(&self.entries, 0).map(|(_, at)| at).collect();
        for at in &used {
            let entry = &self.entries[*at as usize];
            assert_eq!(self.find(env.hash(&entry.key), &entry.key), Some(*at));
            assert!(self.ends.holds(entry.filed, *at), "it would never end");
            assert_eq!(entry.filed.0, entry.is_bare());
            assert!(entry.filed.1 <= entry.ends());
            assert_eq!(logged.iter().filter(|place| *place == at).count(), usize::from(entry.logged != 0));
            assert!(!entry.dirty || entry.logged != 0, "nobody would read it");
        }
        assert_eq!(self.outside, used.iter().map(|at| self.entries[*at as usize].outside()).sum::<usize>());
    }
}
