//! Counters on their way: plain values.
use crate::counters::Counter;
use crate::id::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Numbers in one batch, about.
const BATCH_NUMBERS: usize = 16_384;

/// The counters of one key on their way to a peer, or from one. Ages and lives, never dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCounts {
    /// Canonical key bytes.
    pub key: Box<[u8]>,
    /// How long they last.
    pub left: Duration,
    /// Clock value of the last clearing: slots of that version or earlier count nothing. 0: never cleared.
    pub cleared: u64,
    /// How long the clearing is remembered.
    pub kept: Duration,
    /// What each node counted.
    pub slots: Vec<NodeCounts>,
}

/// What one node counted of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// Which node, in which life.
    pub node: NodeId,
    /// Version: the clock value of when it told this.
    pub seq: u64,
    /// How long ago that was.
    pub age: Duration,
    /// For each counter its value; for a rate, too, the count of the period before and the age in milliseconds of the
    /// one that runs; for a tag, as the last of the three, the clock value of when it was set.
    pub numbers: Vec<[u64; 3]>,
}

/// Counters of many keys of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountBatch {
    /// What the numbers are, in order. Fixed by what is put in first.
    pub store: Option<Arc<[Counter]>>,
    /// By key.
    pub keys: Vec<KeyCounts>,
}

impl CountBatch {
    /// Whether counters in this order may go in.
    pub(super) fn takes(&mut self, store: &Arc<[Counter]>) -> bool {
        !store.is_empty() && *self.store.get_or_insert_with(|| store.clone()) == *store
    }

    /// How many slots more there is room for, about.
    pub(super) fn room(&self) -> usize {
        let counters = self.store.as_ref().map_or(1, |store| store.len().max(1));
        let held: usize = self.keys.iter().map(|key| key.slots.len()).sum();
        (BATCH_NUMBERS / counters).max(1).saturating_sub(held)
    }
}

/// A key with its counters, as people and rules read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedKey {
    /// Canonical key bytes.
    pub key: Box<[u8]>,
    /// How long the counters last if nothing more is counted here.
    pub left: Duration,
    /// Sums over the cluster, in order of the table's `store`.
    pub sums: Vec<(Counter, u64)>,
}
