//! The change log of a shard: the entries changed here, linked in order of change. An entry is in it once, at its
//! last change, so that the log can't outgrow the shard whatever its readers do.
use super::Cursor;
use super::entry::NIL;
use super::slab::Slab;

/// Ends of the list, and the sequence of the newest change.
#[derive(Debug)]
pub(super) struct Log {
    head: u32,
    tail: u32,
    newest: u64,
    /// A bit for each slot: the entry's life has grown since the peers were told of it.
    owed: Vec<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, newest: 0, owed: Vec::new() }
    }
}

impl Log {
    /// Sequence of the newest change, whether its entry is still held or not.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Puts an entry at the end under a new sequence, wherever it was.
    pub(super) fn push(&mut self, slab: &mut Slab, slot: u32) {
        self.unlink(slab, slot);
        self.newest += 1;
        let tail = std::mem::replace(&mut self.tail, slot);
        let entry = &mut slab[slot];
        entry.seq = self.newest;
        entry.log_prev = tail;
        entry.log_next = NIL;
        match tail {
            NIL => self.head = slot,
            tail => slab[tail].log_next = slot,
        }
    }

    /// The peers are to be told of an entry's life before the life that they know of ends.
    pub(super) fn owe(&mut self, slot: u32) {
        let (word, bit) = (slot as usize / 64, slot % 64);
        if self.owed.len() <= word {
            self.owed.resize(word + 1, 0);
        }
        self.owed[word] |= 1 << bit;
    }

    /// Tells what is owed for an entry.
    pub(super) fn settle(&mut self, slab: &mut Slab, slot: u32) {
        if self.owed.get(slot as usize / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0) {
            self.push(slab, slot);
        }
    }

    /// Bytes of memory, beside its own.
    pub(super) fn memory(&self) -> usize {
        self.owed.capacity() * size_of::<u64>()
    }

    /// Takes an entry out, if it is in.
    pub(super) fn unlink(&mut self, slab: &mut Slab, slot: u32) {
        if let Some(word) = self.owed.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
        let (seq, prev, next) = (slab[slot].seq, slab[slot].log_prev, slab[slot].log_next);
        if seq == 0 {
            return;
        }
        slab[slot].seq = 0;
        match prev {
            NIL => self.head = next,
            prev => slab[prev].log_next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => slab[next].log_prev = prev,
        }
    }

    /// The first entry changed after `cursor`; [`NIL`]: none.
    ///
    /// At once where the entry last read has not moved since, which a reader that keeps up mostly finds. Otherwise a
    /// walk from both ends at a time, so that it costs the smaller of what was read and what is left.
    pub(super) fn after(&self, slab: &Slab, cursor: Cursor) -> u32 {
        if cursor.seq >= self.newest {
            return NIL;
        }
        if cursor.seq > 0 && cursor.slot < slab.slots() && slab[cursor.slot].seq == cursor.seq {
            return slab[cursor.slot].log_next;
        }
        let (mut front, mut back) = (self.head, self.tail);
        loop {
            if front == NIL || slab[front].seq > cursor.seq {
                return front;
            }
            if slab[back].seq <= cursor.seq {
                return slab[back].log_next;
            }
            front = slab[front].log_next;
            back = slab[back].log_prev;
        }
    }

    /// Entries changed after `cursor`, counted up to `limit`.
    pub(super) fn behind(&self, slab: &Slab, cursor: Cursor, limit: usize) -> usize {
        let (mut count, mut slot) = (0, self.tail);
        while count < limit && slot != NIL && slab[slot].seq > cursor.seq {
            count += 1;
            slot = slab[slot].log_prev;
        }
        count
    }

    /// The entries in order of change.
    #[cfg(test)]
    pub(super) fn slots(&self, slab: &Slab) -> Vec<u32> {
        let next = |slot: &u32| Some(slab[*slot].log_next).filter(|s| *s != NIL);
        let slots: Vec<u32> = std::iter::successors(Some(self.head).filter(|s| *s != NIL), next).collect();
        assert_eq!(slots.last().copied().unwrap_or(NIL), self.tail);
        for (i, slot) in slots.iter().enumerate() {
            assert_eq!(slab[*slot].log_prev, if i == 0 { NIL } else { slots[i - 1] });
        }
        slots
    }
}
