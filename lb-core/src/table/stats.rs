//! Counts of a table.

/// Counts of one table since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableStats {
    /// Live entries now, tombstones not counted.
    pub entries: u64,
    /// Tombstones now.
    pub tombstones: u64,
    /// Keys with counters now, those included that only remember a clearing.
    pub counted: u64,
    /// Pins written here.
    pub stores: u64,
    /// Look-ups that found a pin.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Entries that went because the table was full.
    pub evictions: u64,
    /// New keys refused because the table was full.
    pub refused: u64,
    /// New keys that were not pinned because their client's address made too many.
    pub over_pace: u64,
    /// Entries that reached their deadline.
    pub expired: u64,
    /// Updates from peers that changed something.
    pub merged: u64,
    /// Updates from peers refused: absurd stamp, wrong key, no room.
    pub merge_refused: u64,
    /// Updates with a stamp known here under another value: somebody reuses stamps.
    pub conflicts: u64,
    /// Bytes of memory, as the table counts them.
    pub memory: u64,
}

impl TableStats {
    /// Adds a shard's counts and its bytes of memory.
    pub(super) fn add(&mut self, shard: &Self, memory: usize) {
        self.entries += shard.entries;
        self.tombstones += shard.tombstones;
        self.stores += shard.stores;
        self.hits += shard.hits;
        self.misses += shard.misses;
        self.evictions += shard.evictions;
        self.refused += shard.refused;
        self.expired += shard.expired;
        self.merged += shard.merged;
        self.merge_refused += shard.merge_refused;
        self.conflicts += shard.conflicts;
        self.memory += memory as u64;
    }
}
