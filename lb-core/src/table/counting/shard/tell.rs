//! What a shard tells: changes and all slots to peers, sums to readers. Under the shard's lock, too.
use super::super::entry::{Entry, Slot, kept_for};
use super::super::{CountBatch, CountedKey, KeyCounts, NodeCounts, RELAY_STEP};
use super::{Cx, Shard};
use crate::counters::Counter;
use crate::id::NodeId;
use crate::table::Cursor;
use crate::time::Timestamp;
use std::time::Duration;

impl Shard {
    /// Appends keys changed here after `cursor`, each with this node's own slot. True: there may be more.
    pub(in super::super) fn changes(
        &mut self,
        cx: Cx<'_>,
        cursor: &mut Cursor,
        max: usize,
        out: &mut Vec<KeyCounts>,
    ) -> bool {
        self.renew(cx);
        let full = out.len() + max;
        let read: Vec<(u64, u32)> = self.log.after(&self.entries, cursor.seq).take(max).collect();
        let more = read.len() == max;
        for (seq, at) in read {
            cursor.seq = seq;
            self.publish(cx, at);
            let entry = &self.entries[at as usize];
            let own = self.own(cx, entry).into_iter().collect();
            out.extend(self.told(cx, entry, own));
        }
        debug_assert!(out.len() <= full);
        if !more {
            cursor.seq = cursor.seq.max(self.log.newest());
        }
        more
    }

    /// Gives this node's slot a version of its own, if it has changed since it was last told.
    fn publish(&mut self, cx: Cx<'_>, at: u32) {
        let entry = &mut self.entries[at as usize];
        if std::mem::replace(&mut entry.dirty, false) {
            entry.seq = cx.env.clock.stamp(cx.now).clock();
        }
    }

    fn own(&self, cx: Cx<'_>, entry: &Entry) -> Option<NodeCounts> {
        let node = cx.env.clock.node();
        let (seq, numbers) = entry.told(&self.store, node, cx.now)?;
        Some(NodeCounts { node, seq, age: Duration::ZERO, numbers })
    }

    /// Nothing once there is nothing to tell.
    fn told(&self, cx: Cx<'_>, entry: &Entry, slots: Vec<NodeCounts>) -> Option<KeyCounts> {
        let left = |end: u64| Duration::from_millis(end.saturating_sub(cx.now.0));
        let life = if entry.open > 0 { cx.life() } else { entry.life };
        let kept = if entry.cleared == 0 { Duration::ZERO } else { left(entry.kept) };
        let over = life <= cx.now.0;
        let slots = if over { Vec::new() } else { slots };
        let tells = !slots.is_empty() || !kept.is_zero();
        tells.then(|| KeyCounts { key: (*entry.key).into(), left: left(life), cleared: entry.cleared, kept, slots })
    }

    /// Appends keys from a place on with all their slots; returns the place to go on from.
    pub(in super::super) fn scan(
        &mut self,
        cx: Cx<'_>,
        (from, max): (u32, usize),
        wanted: impl Fn(&[u8]) -> bool,
        out: &mut CountBatch,
    ) -> Option<u32> {
        // Places that are free or not wanted are passed over, but not any number of them under one hold of the lock.
        let to = self.slots().min(from.saturating_add(u32::try_from(max.saturating_mul(4)).unwrap_or(u32::MAX)));
        let (full, mut room) = (out.keys.len() + max, out.room());
        let mut at = from;
        while at < to && out.keys.len() < full && room > 0 {
            let entry = &self.entries[at as usize];
            if !entry.is_free() && wanted(&entry.key) {
                let told = self.whole(cx, at);
                room = room.saturating_sub(told.as_ref().map_or(0, |counts| counts.slots.len()));
                out.keys.extend(told);
            }
            at += 1;
        }
        (at < self.slots()).then_some(at)
    }

    fn whole(&mut self, cx: Cx<'_>, at: u32) -> Option<KeyCounts> {
        let entry = &mut self.entries[at as usize];
        if entry.dirty {
            // The others read it again all the same.
            entry.seq = cx.env.clock.stamp(cx.now).clock();
        }
        let (entry, node) = (&self.entries[at as usize], cx.env.clock.node());
        let mut slots: Vec<NodeCounts> = self.own(cx, entry).into_iter().collect();
        slots.extend(entry.others.iter().filter(|slot| slot.node != node).map(|slot| self.other(cx, slot)));
        self.told(cx, entry, slots)
    }

    fn other(&self, cx: Cx<'_>, slot: &Slot) -> NodeCounts {
        NodeCounts {
            node: slot.node,
            seq: slot.seq,
            age: Duration::from_millis(cx.now.0.saturating_sub(slot.heard)),
            numbers: slot.cells.iter().zip(&*self.store).map(|(cell, c)| cell.told(c.kind(), cx.now)).collect(),
        }
    }

    /// Appends what came of third nodes since a time; returns the place to go on from.
    pub(in super::super) fn relay(
        &self,
        cx: Cx<'_>,
        (from, max): (u32, usize),
        (since, except): (Timestamp, NodeId),
        out: &mut Vec<KeyCounts>,
    ) -> Option<u32> {
        let to = self.slots().min(from.saturating_add(RELAY_STEP));
        let kept_for = kept_for(cx.env.expire());
        let own = cx.env.clock.node();
        let (mut at, mut room) = (from, max);
        while at < to && room > 0 {
            let entry = &self.entries[at as usize];
            let news = |slot: &&Slot| slot.heard >= since.0 && slot.node != except && slot.node != own;
            let slots: Vec<NodeCounts> = entry.others.iter().filter(news).map(|slot| self.other(cx, slot)).collect();
            let cleared = entry.cleared != 0 && entry.kept >= since.0.saturating_add(kept_for);
            if !slots.is_empty() || cleared {
                room = room.saturating_sub(slots.len().max(1));
                out.extend(self.told(cx, entry, slots));
            }
            at += 1;
        }
        (at < self.slots()).then_some(at)
    }

    /// Appends the live keys from a place on, with their sums; returns the place to go on from.
    pub(in super::super) fn read(&self, cx: Cx<'_>, from: u32, max: usize, out: &mut Vec<CountedKey>) -> Option<u32> {
        let to = self.slots().min(from.saturating_add(u32::try_from(max).unwrap_or(u32::MAX)));
        for at in from..to {
            let entry = &self.entries[at as usize];
            if !entry.is_free() && !entry.is_bare() && !entry.is_over(cx.now) {
                out.push(self.counted(entry, cx));
            }
        }
        (to < self.slots()).then_some(to)
    }

    /// A key as people read it.
    pub(in super::super) fn counted(&self, entry: &Entry, cx: Cx<'_>) -> CountedKey {
        let left = Duration::from_millis(entry.life.saturating_sub(cx.now.0));
        CountedKey { key: (*entry.key).into(), left, sums: self.sums(entry, cx) }
    }

    /// Every counter of a key, over all nodes.
    pub(in super::super) fn sums(&self, entry: &Entry, cx: Cx<'_>) -> Vec<(Counter, u64)> {
        let node = cx.env.clock.node();
        self.store.iter().enumerate().map(|(at, c)| (*c, entry.sum(*c, at, node, cx.now))).collect()
    }
}
