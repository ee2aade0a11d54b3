//! Open sockets on a key: they hold its entry alive, here and on every other instance.
//!
//! What this node knows of itself (sockets open by key) is apart from what the cluster knows of an entry (a lease for
//! each node that holds it), because a socket may outlive the entry: one that is cleared and pinned anew is held again.
//! A lease is renewed three times in its length, and each renewal slides the entry's life; so a held entry never ends,
//! its idle time begins when the last socket closes, and after the death of a node with its last renewal.
use super::compact::KeyBytes;
use super::entry::NIL;
use super::shard::{Env, Shard};
use super::{Holder, StickKey, StickTable};
use crate::hlc::Stamp;
use crate::time::{Timestamp, millis};
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Leases are renewed each time this share of the table's expiry has passed, within the bounds below.
const RENEW_PARTS: u64 = 8;
const RENEW: (u64, u64) = (100, 30_000);
/// A lease lasts for so many renewals.
const LEASE: u64 = 3;
/// Nodes that can hold one entry.
const MAX_HOLDERS: usize = 32;
/// Held entries that an eviction passes over before it takes one.
pub(super) const PASSED_OVER: usize = 64;

/// Milliseconds between two renewals.
fn renew_every(expire: u64) -> u64 {
    (expire / RENEW_PARTS).clamp(RENEW.0, RENEW.1)
}

/// One node's word that it has open sockets.
#[derive(Clone, Copy, Debug)]
struct Lease {
    holder: crate::id::NodeId,
    seq: u64,
    /// When it lapses; in the past when the last socket has closed.
    until: u64,
}

/// What a shard knows of open sockets.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Keys with sockets open here.
    open: HashTable<Open>,
    /// Leases by the entry's slot.
    leases: HashMap<u32, SmallVec<[Lease; 1]>, foldhash::fast::FixedState>,
    /// When this shard's leases are renewed next.
    due: u64,
}

#[derive(Debug)]
struct Open {
    key: KeyBytes,
    sockets: u32,
}

impl Holds {
    /// Whether somebody has a socket open on an entry.
    pub(super) fn is_held(&self, slot: u32, now: Timestamp) -> bool {
        !self.leases.is_empty() && self.leases.get(&slot).is_some_and(|all| all.iter().any(|l| l.until > now.0))
    }

    /// What peers are told of an entry's holders.
    pub(super) fn of(&self, slot: u32, now: Timestamp) -> SmallVec<[Holder; 1]> {
        if self.leases.is_empty() {
            return SmallVec::new();
        }
        let told = |l: &Lease| Holder {
            node: l.holder,
            seq: l.seq,
            left: Duration::from_millis(l.until.saturating_sub(now.0)),
        };
        self.leases.get(&slot).into_iter().flatten().map(told).collect()
    }

    /// Takes in a node's slot; true if it is news. Of one node's slots, whatever its life, the later wins.
    fn merge(&mut self, slot: u32, new: Lease) -> bool {
        let leases = self.leases.entry(slot).or_default();
        let known = leases.iter().position(|l| l.holder.same_name(new.holder));
        match known {
            Some(at) if leases[at].seq >= new.seq => return false,
            Some(at) => leases[at] = new,
            None if leases.len() < MAX_HOLDERS => leases.push(new),
            None => return false,
        }
        true
    }

    /// An entry has gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.leases.remove(&slot);
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let keys: usize = self.open.iter().map(|o| o.key.outside()).sum();
        self.open.allocation_size() + keys + self.leases.allocation_size()
    }
}

impl Shard {
    /// Merges what a peer says of an entry's holders; true if it is news.
    pub(super) fn merge_holders(&mut self, env: &Env, slot: u32, holders: &[Holder], now: Timestamp) -> bool {
        let mut news = false;
        for holder in holders {
            let left = millis(holder.left).min(LEASE * renew_every(env.expire()));
            let sane = env.clock.observe(Stamp::new(holder.seq, holder.node), now).is_ok();
            let lease = Lease { holder: holder.node, seq: holder.seq, until: now.0.saturating_add(left) };
            news |= sane && self.holds.merge(slot, lease);
        }
        news
    }

    /// Writes this node's own slot and slides the entry's life; the peers are told of both.
    fn hold_entry(&mut self, env: &Env, slot: u32, left: u64, now: Timestamp) {
        let stamp = env.clock.stamp(now);
        let lease = Lease { holder: stamp.node, seq: stamp.clock(), until: now.0.saturating_add(left) };
        self.holds.merge(slot, lease);
        let entry = &mut self.slab[slot];
        entry.extend(env.life(entry.pin.marker, now));
        self.log.push(&mut self.slab, slot);
    }

    /// The live entry of a key.
    fn live(&self, hash: u64, key: &[u8], now: Timestamp) -> Option<u32> {
        self.find(hash, key).filter(|slot| self.slab[*slot].live_pin(now, 0).is_some())
    }

    /// One more socket on a key; whether the change log has something new.
    fn open(&mut self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> bool {
        if let Some(open) = self.holds.open.find_mut(hash, |o| *o.key == *key) {
            open.sockets += 1;
            return false;
        }
        self.holds.open.insert_unique(hash, Open { key: key.into(), sockets: 1 }, |o| env.hash(&o.key));
        let slot = self.live(hash, key, now);
        if let Some(slot) = slot {
            self.hold_entry(env, slot, LEASE * renew_every(env.expire()), now);
        }
        slot.is_some()
    }

    /// A socket has closed.
    fn close(&mut self, env: &Env, hash: u64, key: &[u8], now: Timestamp) -> bool {
        let Ok(mut found) = self.holds.open.find_entry(hash, |o| *o.key == *key) else { return false };
        found.get_mut().sockets -= 1;
        if found.get().sockets > 0 {
            return false;
        }
        found.remove();
        let slot = self.live(hash, key, now);
        if let Some(slot) = slot {
            self.hold_entry(env, slot, 0, now);
        }
        slot.is_some()
    }

    /// Renews the leases of the keys with open sockets; returns how many.
    fn renew(&mut self, env: &Env, now: Timestamp) -> usize {
        let left = LEASE * renew_every(env.expire());
        let slots: Vec<u32> = {
            let open = self.holds.open.iter();
            open.map(|o| self.live(env.hash(&o.key), &o.key, now).unwrap_or(NIL)).filter(|s| *s != NIL).collect()
        };
        slots.iter().for_each(|slot| self.hold_entry(env, *slot, left, now));
        // A slot that lapsed is kept for as long again, so that no late update brings it back.
        self.holds.leases.retain(|_, all| {
            all.retain(|l| l.until.saturating_add(left) > now.0);
            !all.is_empty()
        });
        slots.len()
    }
}

impl StickTable {
    /// Holds a key's entry alive, on every instance, until the hold is released: for an open socket.
    ///
    /// A key without an entry is held all the same, from when it gets one.
    pub fn hold(self: &Arc<Self>, key: &StickKey, now: Timestamp) -> Hold {
        let (hash, mut shard) = self.lock(key.bytes());
        let told = shard.open(&self.env, hash, key.bytes(), now);
        drop(shard);
        self.wake_if(told);
        Hold { table: self.clone(), key: key.bytes().into() }
    }

    /// Renews what is due of the holds: call it several times in [`Self::renew_every`]. Returns how many were renewed.
    pub fn renew(&self, now: Timestamp) -> usize {
        let every = renew_every(self.env.expire());
        let mut renewed = 0;
        for (i, shard) in self.shards.iter().enumerate() {
            let mut shard = shard.0.lock();
            if shard.holds.due > now.0 {
                continue;
            }
            // Shards have their turns one after the other, not all at one moment.
            let first = shard.holds.due == 0;
            let share = every * (i as u64 + 1) / self.shards.len() as u64;
            shard.holds.due = now.0.saturating_add(if first { share } else { every });
            renewed += shard.renew(&self.env, now);
        }
        self.wake_if(renewed > 0);
        renewed
    }

    /// How often leases are renewed.
    pub fn renew_every(&self) -> Duration {
        Duration::from_millis(renew_every(self.env.expire()))
    }

    /// Whether some instance has a socket open on a key.
    pub fn is_held(&self, key: &StickKey, now: Timestamp) -> bool {
        let (hash, shard) = self.lock(key.bytes());
        shard.find(hash, key.bytes()).is_some_and(|slot| shard.holds.is_held(slot, now))
    }
}

/// An open socket on a key. [`Hold::release`] it; dropped without, its lease lapses by itself, but not its count.
#[derive(Debug)]
#[must_use]
pub struct Hold {
    table: Arc<StickTable>,
    key: Box<[u8]>,
}

impl Hold {
    /// The socket has closed: the entry's idle time begins, if it was the last.
    pub fn release(self, now: Timestamp) {
        let (hash, mut shard) = self.table.lock(&self.key);
        let told = shard.close(&self.table.env, hash, &self.key, now);
        drop(shard);
        self.table.wake_if(told);
    }
}
