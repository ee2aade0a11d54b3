//! Where the entries of a shard lie: chunks that are never moved, so that growth copies and doubles nothing.
use super::entry::{Entry, NIL, Register};
use std::ops::{Index, IndexMut};

/// Entries in one chunk: a little under 8 KiB, so that what allocators add to align it stays within the size class.
const CHUNK: usize = (8192 - 64) / size_of::<Entry>();

/// Slots, numbered from 0; a slot keeps its number for as long as its entry lives.
#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<Vec<Entry>>,
    /// First free slot; the others follow by `due_next`.
    free: u32,
    len: usize,
    /// Bytes of keys that lie outside of their entries.
    key_bytes: usize,
}

impl Default for Slab {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NIL, len: 0, key_bytes: 0 }
    }
}

impl Slab {
    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots ever used: all numbers below are valid.
    pub(super) fn slots(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        (full + self.chunks.last().map_or(0, Vec::len)) as u32
    }

    /// Puts an entry, whose key is not empty, into a slot.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        debug_assert!(!entry.is_free());
        self.len += 1;
        self.key_bytes += entry.key.outside();
        if self.free != NIL {
            let slot = self.free;
            self.free = self[slot].due_next;
            self[slot] = entry;
            return slot;
        }
        let slot = self.slots();
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        slot
    }

    /// Frees a slot that nothing links to any more.
    pub(super) fn remove(&mut self, slot: u32) {
        debug_assert!(!self[slot].is_free());
        self.len -= 1;
        self.key_bytes -= self[slot].key.outside();
        self[slot] = Entry { due_next: self.free, ..Entry::new(&[], Register::default(), 0) };
        self.free = slot;
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry>()
            + self.chunks.capacity() * size_of::<Vec<Entry>>()
            + self.key_bytes
    }
}

impl Index<u32> for Slab {
    type Output = Entry;

    fn index(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}
