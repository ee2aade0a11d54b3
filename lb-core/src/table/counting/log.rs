//! The keys of a shard whose counters changed here, in order of change. A record that no longer holds, because its key
//! has changed again or has gone, is passed over, and dropped when there are too many.
use super::entry::Entry;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Log {
    /// (sequence, place), ascending.
    records: VecDeque<(u64, u32)>,
    newest: u64,
}

impl Log {
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Puts a key at the end under a new sequence, wherever it was.
    pub(super) fn push(&mut self, entries: &mut [Entry], at: u32) {
        self.newest += 1;
        entries[at as usize].logged = self.newest;
        self.records.push_back((self.newest, at));
        if self.records.len() > 2 * entries.len() + 64 {
            self.records.retain(|(seq, at)| entries[*at as usize].logged == *seq);
        }
    }

    /// The records after a sequence that hold.
    pub(super) fn after<'a>(&'a self, entries: &'a [Entry], seq: u64) -> impl Iterator<Item = (u64, u32)> + 'a {
        let from = self.records.partition_point(|(record, _)| *record <= seq);
        self.records.range(from..).copied().filter(|(seq, at)| entries[*at as usize].logged == *seq)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.records.capacity() * size_of::<(u64, u32)>()
    }
}
