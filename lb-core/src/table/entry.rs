//! One entry: a key, its pin (a last-writer-wins register) and its life. Pure merging; knows no shard and no clock.
use super::compact::KeyBytes;
use super::{Holder, Pin, UpdateRef};
use crate::hlc::Stamp;
use crate::id::NameId;
use crate::time::Timestamp;
use crdts::LWWReg;
use std::time::Duration;

/// A pin with its version.
pub(super) type Register = LWWReg<NameId, Stamp>;

/// "No slot" in every link.
pub(super) const NIL: u32 = u32::MAX;

/// How much longer a tombstone is kept than a pin of the same age, in milliseconds. A peer that was cut off for up to
/// the table's expiry plus this hour can't bring a cleared entry back.
pub(super) const TOMBSTONE_EXTRA: u64 = 3_600_000;

/// An entry in its slot: one cache line, and the key's bytes if it is long. An empty key marks a free slot.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) key: KeyBytes,
    pub(super) pin: Register,
    /// When the pin ends if nobody touches it, in milliseconds; it never goes back. A tombstone counts as a pin made
    /// when the entry was cleared, so that the later of two lives is right whatever the pins are.
    pub(super) life: u64,
    /// Place in the change log; 0: not in it.
    pub(super) seq: u64,
    /// Links of the change log.
    pub(super) log_prev: u32,
    pub(super) log_next: u32,
    /// Links of the wheel, which says what they mean.
    pub(super) due_prev: u32,
    pub(super) due_next: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    /// An entry that stands in no list yet.
    pub(super) fn new(key: &[u8], pin: Register, life: u64) -> Self {
        Self { key: key.into(), pin, life, seq: 0, log_prev: NIL, log_next: NIL, due_prev: NIL, due_next: NIL }
    }

    pub(super) fn is_free(&self) -> bool {
        self.key.is_empty()
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.pin.val.is_none()
    }

    /// When the entry may be forgotten.
    pub(super) fn ends(&self) -> u64 {
        ends(self.pin.val, self.life)
    }

    /// Past its time: to every reader as if it were not there.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.ends() <= now.0
    }

    /// The pin, if it is one and lives.
    pub(super) fn live_pin(&self, now: Timestamp, expire: u64) -> Option<Pin> {
        let live = !self.is_tombstone() && !self.is_over(now);
        live.then(|| Pin { server: self.pin.val, stamp: self.pin.marker, left: self.left(now, expire) })
    }

    /// What a peer is told; nothing once it is over.
    pub(super) fn update<'a>(&'a self, now: Timestamp, expire: u64, holders: &'a [Holder]) -> Option<UpdateRef<'a>> {
        (!self.is_over(now)).then(|| UpdateRef {
            key: &self.key,
            server: self.pin.val,
            stamp: self.pin.marker,
            left: self.left(now, expire),
            holders,
        })
    }

    fn left(&self, now: Timestamp, expire: u64) -> Duration {
        Duration::from_millis(self.ends().saturating_sub(now.0).min(ends(self.pin.val, expire)))
    }

    /// Takes the later life; true if it grew.
    pub(super) fn extend(&mut self, life: u64) -> bool {
        let grows = life > self.life;
        self.life = self.life.max(life);
        grows
    }
}

/// When an entry that has `life` may be forgotten.
pub(super) fn ends(server: NameId, life: u64) -> u64 {
    if server.is_none() { life.saturating_add(TOMBSTONE_EXTRA) } else { life }
}

/// The life that an update gives, at most what this table would give itself: a peer can't make an entry immortal.
pub(super) fn received_life(update: &UpdateRef<'_>, now: Timestamp, expire: u64) -> u64 {
    let left = crate::time::millis(update.left).min(ends(update.server, expire));
    let end = now.0.saturating_add(left);
    if update.server.is_none() { end.saturating_sub(TOMBSTONE_EXTRA) } else { end }
}
