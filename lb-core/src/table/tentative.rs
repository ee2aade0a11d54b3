//! Tentative pins: the server that a new key is being tried on, so that requests which come at once share it.
//!
//! They live beside the entries and are never told to the peers: a server that never answered keeps no pin. A pin in
//! the table is always stronger, so the first holder whose server answers decides for all.
use super::compact::KeyBytes;
use super::shard::Env;
use super::{Assigned, StickKey, StickTable, Stored};
use crate::id::NameId;
use crate::time::Timestamp;
use hashbrown::HashTable;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Tentative pins of a table at most; who comes past that tries a server for itself alone.
const MAX: usize = 65_536;

/// The tentative pins of a shard.
#[derive(Debug, Default)]
pub(super) struct Tries {
    by_key: HashTable<Try>,
    last_id: u64,
}

#[derive(Debug)]
struct Try {
    key: KeyBytes,
    server: NameId,
    holders: usize,
    /// Tells it from another that the same key had before.
    id: u64,
}

impl Tries {
    /// The hold of one more request on the key's tentative pin.
    fn join(&mut self, hash: u64, key: &[u8]) -> Option<(NameId, u64)> {
        let found = self.by_key.find_mut(hash, |t| *t.key == *key)?;
        found.holders += 1;
        Some((found.server, found.id))
    }

    /// A new one with one holder; its id, or 0 where there are too many.
    fn add(&mut self, env: &Env, hash: u64, key: &[u8], server: NameId) -> u64 {
        if env.tries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX).then_some(n + 1)).is_err() {
            return 0;
        }
        self.last_id += 1;
        let new = Try { key: key.into(), server, holders: 1, id: self.last_id };
        self.by_key.insert_unique(hash, new, |t| env.hash(&t.key));
        self.last_id
    }

    fn get_mut(&mut self, hash: u64, id: u64) -> Option<&mut Try> {
        self.by_key.find_mut(hash, |t| t.id == id)
    }

    fn remove(&mut self, env: &Env, hash: u64, id: u64) {
        if let Ok(found) = self.by_key.find_entry(hash, |t| t.id == id) {
            found.remove();
            env.tries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn leave(&mut self, env: &Env, hash: u64, id: u64) {
        if let Some(held) = self.get_mut(hash, id) {
            held.holders -= 1;
            if held.holders == 0 {
                self.remove(env, hash, id);
            }
        }
    }

    /// The servers that are tried.
    pub(super) fn servers(&self) -> impl Iterator<Item = NameId> {
        self.by_key.iter().map(|t| t.server)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.by_key.allocation_size() + self.by_key.iter().map(|t| t.key.outside()).sum::<usize>()
    }
}

impl StickTable {
    /// As [`Self::lookup`]; on a miss the server that `choose` gives becomes the key's *tentative* pin, known to
    /// this instance only: others that ask for the key meanwhile get the same one. `None`: `choose` gave none.
    ///
    /// Its caller has looked the key up before, so a miss is not counted again.
    ///
    /// `choose` runs under the lock of the key's shard, so that one key is chosen for once: it must be short and must
    /// not touch this table.
    pub fn assign(
        self: &Arc<Self>,
        key: &StickKey,
        now: Timestamp,
        choose: impl FnOnce() -> Option<NameId>,
    ) -> Option<Assigned> {
        let (hash, mut shard) = self.lock(key.bytes());
        if let Some((pin, told)) = shard.lookup_again(&self.env, hash, key.bytes(), now) {
            drop(shard);
            self.wake_if(told);
            return Some(Assigned::Pinned(pin));
        }
        let (server, id) = match shard.tries.join(hash, key.bytes()) {
            Some(joined) => joined,
            None => {
                let server = choose()?;
                (server, shard.tries.add(&self.env, hash, key.bytes(), server))
            }
        };
        let (table, key) = (self.clone(), key.clone());
        Some(Assigned::Tentative(Tentative { table, key, hash, id, server, since: now, refuted: NameId::NONE }))
    }
}

/// A hold on a tentative pin. [`Tentative::confirm`] it when the server has answered, [`Tentative::replace`] it when
/// it has not; the last holder to drop it unconfirmed removes it.
#[derive(Debug)]
#[must_use]
pub struct Tentative {
    table: Arc<StickTable>,
    key: StickKey,
    hash: u64,
    /// 0: held by nobody else.
    id: u64,
    server: NameId,
    since: Timestamp,
    /// A server that the table pins the key to and that failed this holder.
    refuted: NameId,
}

impl Tentative {
    /// The server to try.
    pub fn server(&self) -> NameId {
        self.server
    }

    /// `failed` did not take it: another holder's replacement if there is one by now, else the server that `choose`
    /// gives, which the other holders follow from here on. `None`: `choose` gave none.
    ///
    /// A pin that another holder has confirmed meanwhile counts as its replacement. `choose` runs under the lock of the
    /// key's shard: it must be short and must not touch this table.
    pub fn replace(&mut self, failed: NameId, choose: impl FnOnce() -> Option<NameId>) -> Option<NameId> {
        let mut shard = self.table.shard(self.hash);
        // A pin made since this hold began outlives the moment it began.
        let pinned = shard.peek(&self.table.env, self.hash, self.key.bytes(), self.since).map(|pin| pin.server);
        let shared = shard.tries.get_mut(self.hash, self.id);
        let known = [pinned, shared.as_ref().map(|t| t.server)];
        let server = match known.into_iter().flatten().find(|server| *server != failed) {
            Some(server) => server,
            None => choose()?,
        };
        if let Some(shared) = shared {
            shared.server = server;
        }
        if pinned == Some(failed) {
            self.refuted = failed;
        }
        self.server = server;
        Some(server)
    }

    /// The server answered: pins the key to it for everybody.
    ///
    /// Unless the key has a live pin by now, because another holder was answered first or a peer told of one: that pin
    /// stays ([`Stored::Same`]), so that those who come next all meet. Only a pin to the very server that failed this
    /// holder is moved.
    pub fn confirm(mut self, now: Timestamp) -> Stored {
        let id = std::mem::take(&mut self.id);
        let (env, key) = (&self.table.env, self.key.bytes());
        let mut shard = self.table.shard(self.hash);
        shard.tries.remove(env, self.hash, id);
        let pinned = shard.peek(env, self.hash, key, now).map(|pin| pin.server);
        if pinned.is_some_and(|pinned| pinned != self.server && pinned != self.refuted) {
            return Stored::Same;
        }
        let (stored, told) = shard.store(env, self.hash, key, self.server, now);
        drop(shard);
        self.table.wake_if(told);
        stored
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        if self.id != 0 {
            self.table.shard(self.hash).tries.leave(&self.table.env, self.hash, self.id);
        }
    }
}
