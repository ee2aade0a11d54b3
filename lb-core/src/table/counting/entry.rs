//! What is counted of one key: a slot of each node. Pure merging and summing; knows no shard.
//!
//! A node writes its own slot only. Of two versions of a slot the later one holds, and a reader adds up what the slots
//! say. A slot whose version is not later than the last clearing of the key counts nothing. All of that is a join:
//! the greatest clearing, the greatest version of each slot, and of the slots the latest [`MAX_SLOTS`].
use super::cell::Cell;
use crate::counters::{Counter, Event, Kind};
use crate::hlc::Clock;
use crate::id::NodeId;
use crate::table::compact::KeyBytes;
use crate::table::entry::TOMBSTONE_EXTRA;
use crate::time::Timestamp;

/// Slots of other nodes and of former lives that a key has at most.
const MAX_SLOTS: usize = 32;
/// How long a node's open connections count after it was heard of, in milliseconds.
const LEASE: u64 = 60_000;

/// What another node counted, or this one in a former life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) node: NodeId,
    /// Clock value of when its owner told it.
    pub(super) seq: u64,
    /// When its owner told it, by our time.
    pub(super) heard: u64,
    /// In order of the table's counters.
    pub(super) cells: Box<[Cell]>,
}

/// The counters of a key. An empty key marks a free place.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) key: KeyBytes,
    /// What was counted here, in order of the table's counters; empty: nothing.
    pub(super) own: Box<[Cell]>,
    pub(super) others: Vec<Slot>,
    /// Connections open here.
    pub(super) open: u64,
    /// Version under which `own` was told; 0: not yet.
    pub(super) seq: u64,
    /// `own` or `cleared` changed since anybody read them.
    pub(super) dirty: bool,
    /// When the counters end if nothing changes.
    pub(super) life: u64,
    /// Clock value of the last clearing; 0: never.
    pub(super) cleared: u64,
    /// How long the clearing is remembered.
    pub(super) kept: u64,
    /// Tells this key from one that had its place before.
    pub(super) born: u64,
    /// Place in the change log; 0: not in it.
    pub(super) logged: u64,
    /// When the peers are to be told again of open connections; 0: not to be.
    pub(super) renew: u64,
    /// The record in the heap of ends that holds.
    pub(super) filed: (bool, u64),
}

impl Entry {
    pub(super) fn is_free(&self) -> bool {
        self.key.is_empty()
    }

    /// Nothing is counted any more. Open connections keep a key.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.life <= now.0 && self.open == 0
    }

    /// Holds no counts, only the memory that they were cleared.
    pub(super) fn is_bare(&self) -> bool {
        self.own.is_empty() && self.others.is_empty() && self.open == 0
    }

    /// Until when its place is needed.
    pub(super) fn ends(&self) -> u64 {
        if self.is_bare() { self.kept } else { self.life }
    }

    /// Forgets what was counted before its end.
    pub(super) fn begin_anew(&mut self) {
        self.own = Box::default();
        self.others = Vec::new();
    }

    /// Counts events here.
    pub(super) fn count(&mut self, store: &[Counter], events: &[Event], clock: &Clock, now: Timestamp) {
        if self.own.is_empty() {
            self.own = vec![Cell::default(); store.len()].into();
        }
        for (cell, counter) in self.own.iter_mut().zip(store) {
            for n in events.iter().filter_map(|event| counter.takes(*event)) {
                match counter.kind() {
                    Kind::Tag => *cell = Cell { value: n, before: 0, at: clock.stamp(now).clock() },
                    kind => cell.add(kind, n, now),
                }
            }
        }
    }

    /// What the counter at a place of the table's list reads, over all nodes. `node` is this one.
    pub(super) fn sum(&self, counter: Counter, at: usize, node: NodeId, now: Timestamp) -> u64 {
        let cell = |slot: &Slot| slot.cells.get(at).copied().unwrap_or_default();
        let own = self.own.get(at).copied().unwrap_or_default();
        let others = self.others.iter();
        match counter.kind() {
            Kind::Count => others.fold(own.value, |sum, slot| sum.saturating_add(cell(slot).value)),
            Kind::Rate(period) => {
                others.fold(own.rate(period, now), |sum, slot| sum.saturating_add(cell(slot).rate(period, now)))
            }
            Kind::Current => others
                .filter(|slot| self.holds(slot, node, now))
                .fold(self.open, |sum, slot| sum.saturating_add(cell(slot).value)),
            Kind::Tag => {
                let mine = (own.at, node, own.value);
                others.map(|slot| (cell(slot).at, slot.node, cell(slot).value)).fold(mine, Ord::max).2
            }
        }
    }

    /// Whether what a slot says of open connections still holds: its owner was heard of, and has not begun a new life.
    fn holds(&self, slot: &Slot, node: NodeId, now: Timestamp) -> bool {
        let reborn = |other: &Slot| other.node.same_name(slot.node) && other.seq > slot.seq;
        now.0 < slot.heard.saturating_add(LEASE) && !slot.node.same_name(node) && !self.others.iter().any(reborn)
    }

    /// This node's slot and its version, as the peers are to know it: with what it counted in a former life that had
    /// the same id, or before the key was evicted here.
    pub(super) fn told(&self, store: &[Counter], node: NodeId, now: Timestamp) -> Option<(u64, Vec<[u64; 3]>)> {
        let former = self.others.iter().find(|slot| slot.node == node);
        let seq = if self.own.is_empty() { former?.seq } else { self.seq };
        let number = |(at, counter): (usize, &Counter)| {
            let own = self.own.get(at).copied().unwrap_or_default();
            let before = former.and_then(|slot| slot.cells.get(at)).copied().unwrap_or_default();
            match counter.kind() {
                Kind::Current => [self.open, 0, 0],
                Kind::Count => [own.value.saturating_add(before.value), 0, 0],
                // What the former life counted within a period is soon of the past.
                kind @ Kind::Rate(_) => own.told(kind, now),
                Kind::Tag => if before.at > own.at { before } else { own }.told(Kind::Tag, now),
            }
        };
        Some((seq, store.iter().enumerate().map(number).collect()))
    }

    /// Merges a slot. True: it said something new.
    pub(super) fn merge(&mut self, slot: Slot, node: NodeId) -> bool {
        if slot.seq <= self.cleared || (slot.node == node && slot.seq <= self.seq) {
            return false;
        }
        match self.others.iter_mut().find(|held| held.node == slot.node) {
            Some(held) if held.seq > slot.seq => false,
            Some(held) if held.seq == slot.seq => fill(&mut held.cells, &slot.cells),
            Some(held) => {
                *held = slot;
                true
            }
            None => self.add_slot(slot),
        }
    }

    /// Beyond the bound the slot with the oldest version goes.
    fn add_slot(&mut self, slot: Slot) -> bool {
        if self.others.len() < MAX_SLOTS {
            self.others.push(slot);
            return true;
        }
        let oldest = self.others.iter_mut().min_by_key(|held| (held.seq, held.node));
        let Some(oldest) = oldest.filter(|held| (held.seq, held.node) < (slot.seq, slot.node)) else { return false };
        *oldest = slot;
        true
    }

    /// Clears everything told up to a clock value. What is open stays open. True: that is news.
    pub(super) fn clear(&mut self, cleared: u64, kept: u64) -> bool {
        if cleared <= self.cleared {
            return false;
        }
        self.cleared = cleared;
        self.kept = self.kept.max(kept);
        self.others.retain(|slot| slot.seq > cleared);
        let blank = vec![Cell::default(); self.own.len()].into();
        // Where the peers' version of our slot does not count any more there is nothing to tell them. It does if we told
        // it before we knew of the clearing, and then they are told zeros.
        self.own = if self.open == 0 && self.seq <= cleared { Box::default() } else { blank };
        true
    }

    /// Takes on another list of counters: those that are in both keep their numbers.
    pub(super) fn store_others(&mut self, from: &[Option<usize>]) {
        let moved = |cells: &[Cell]| -> Box<[Cell]> {
            from.iter().map(|at| at.and_then(|at| cells.get(at)).copied().unwrap_or_default()).collect()
        };
        if !self.own.is_empty() {
            self.own = moved(&self.own);
        }
        self.others.iter_mut().for_each(|slot| slot.cells = moved(&slot.cells));
    }

    /// Bytes of memory beside these.
    pub(super) fn outside(&self) -> usize {
        let cells = self.own.len() + self.others.iter().map(|slot| slot.cells.len()).sum::<usize>();
        self.key.outside() + cells * size_of::<Cell>() + self.others.capacity() * size_of::<Slot>()
    }
}

/// One version of a slot, told twice: by its owner, and by somebody who did not know all of its counters.
fn fill(held: &mut [Cell], told: &[Cell]) -> bool {
    let mut filled = false;
    for (held, told) in held.iter_mut().zip(told) {
        if *held == Cell::default() && *told != Cell::default() {
            *held = *told;
            filled = true;
        }
    }
    filled
}

/// How long a clearing is remembered, in milliseconds: that long a peer may have been cut off.
pub(super) fn kept_for(expire: u64) -> u64 {
    expire.saturating_add(TOMBSTONE_EXTRA)
}
