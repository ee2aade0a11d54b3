//! Entries on their way from or to a table: one by one, or many of them end to end.
use super::Update;
use crate::hlc::Stamp;
use crate::id::{NameId, NodeId};
use crate::time::millis;
use std::time::Duration;

/// A node that has open sockets on an entry: its slot among the entry's holders. The later `seq` wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who; of its lives the one that wrote the slot.
    pub node: NodeId,
    /// Clock value of the node when it wrote the slot.
    pub seq: u64,
    /// How long its word holds from now on; zero: the last socket has closed.
    pub left: Duration,
}

/// An [`Update`] that lies in somebody else's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateRef<'a> {
    /// Canonical key bytes.
    pub key: &'a [u8],
    /// The pin; [`NameId::NONE`]: a tombstone.
    pub server: NameId,
    /// The pin's version.
    pub stamp: Stamp,
    /// Life left.
    pub left: Duration,
    /// Nodes with open sockets on it.
    pub holders: &'a [Holder],
}

impl Update {
    /// The same, lent.
    pub fn as_ref(&self) -> UpdateRef<'_> {
        let Self { key, server, stamp, left, holders } = self;
        UpdateRef { key, server: *server, stamp: *stamp, left: *left, holders }
    }
}

impl UpdateRef<'_> {
    /// A copy of its own.
    pub fn to_owned(&self) -> Update {
        let Self { key, server, stamp, left, holders } = *self;
        Update { key: key.into(), server, stamp, left, holders: holders.to_vec() }
    }
}

/// What a table writes entries to.
pub trait Sink {
    /// Entries held.
    fn count(&self) -> usize;
    /// Takes one more. `holders` is asked for those of the entry.
    fn take(&mut self, update: UpdateRef<'_>);
}

impl Sink for Vec<Update> {
    fn count(&self) -> usize {
        self.len()
    }

    fn take(&mut self, update: UpdateRef<'_>) {
        self.push(update.to_owned());
    }
}

/// Many entries, keys end to end: three allocations, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Updates {
    keys: Vec<u8>,
    rows: Vec<Row>,
    holders: Vec<Holder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Where its key ends, and its holders.
    key_end: u32,
    holders_end: u32,
    server: NameId,
    stamp: Stamp,
    left_ms: u64,
}

impl Sink for Updates {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn take(&mut self, update: UpdateRef<'_>) {
        self.keys.extend_from_slice(update.key);
        self.holders.extend_from_slice(update.holders);
        self.rows.push(Row {
            key_end: self.keys.len() as u32,
            holders_end: self.holders.len() as u32,
            server: update.server,
            stamp: update.stamp,
            left_ms: millis(update.left),
        });
    }
}

impl Updates {
    /// Room for `entries` with `key_bytes` in all.
    pub fn with_capacity(entries: usize, key_bytes: usize) -> Self {
        Self { keys: Vec::with_capacity(key_bytes), rows: Vec::with_capacity(entries), holders: Vec::new() }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The `i`th; panics past the end.
    pub fn get(&self, i: usize) -> UpdateRef<'_> {
        let (key, held) = i.checked_sub(1).map_or((0, 0), |b| (self.rows[b].key_end, self.rows[b].holders_end));
        let row = &self.rows[i];
        UpdateRef {
            key: &self.keys[key as usize..row.key_end as usize],
            server: row.server,
            stamp: row.stamp,
            left: Duration::from_millis(row.left_ms),
            holders: &self.holders[held as usize..row.holders_end as usize],
        }
    }

    /// All, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = UpdateRef<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// All keys end to end, taken out.
    pub fn into_keys(self) -> Vec<u8> {
        self.keys
    }
}

impl FromIterator<Update> for Updates {
    fn from_iter<I: IntoIterator<Item = Update>>(all: I) -> Self {
        let mut out = Self::default();
        all.into_iter().for_each(|u| out.take(u.as_ref()));
        out
    }
}
