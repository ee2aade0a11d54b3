//! Which key of a shard is the next to go. As in the wheel of pins, records are not searched for: one that no longer
//! holds is dropped when it is met, and a key that has got more life since is filed anew.
use super::entry::Entry;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records of (end, place).
type Heap = BinaryHeap<Reverse<(u64, u32)>>;

#[derive(Debug, Default)]
pub(super) struct Ends {
    counting: Heap,
    /// Keys with nothing but the memory of a clearing.
    bare: Heap,
}

impl Ends {
    /// Files a key by the end that it has now: it has come, or has become bare or is it no longer.
    pub(super) fn file(&mut self, entries: &mut [Entry], at: u32) {
        let entry = &mut entries[at as usize];
        let bare = entry.is_bare();
        let filed = (bare, entry.ends());
        if entry.filed == filed {
            return;
        }
        entry.filed = filed;
        let heap = self.heap(bare);
        heap.push(Reverse((filed.1, at)));
        if heap.len() > 2 * entries.len() + 64 {
            // Made anew, because a record may be there twice: of a key, and of one that had its place and its end.
            let held = entries.iter().zip(0..).filter(|(entry, _)| !entry.is_free() && entry.filed.0 == bare);
            *heap = held.map(|(entry, at)| Reverse((entry.filed.1, at))).collect();
        }
    }

    /// Takes the record of a key that goes, where that costs nothing.
    pub(super) fn drop_first(&mut self, bare: bool, at: u32) {
        let heap = self.heap(bare);
        if heap.peek().is_some_and(|Reverse((_, first))| *first == at) {
            heap.pop();
        }
    }

    fn heap(&mut self, bare: bool) -> &mut Heap {
        if bare { &mut self.bare } else { &mut self.counting }
    }

    /// The key nearest its end of those that count, or of those that are bare, if that is at `until` or before.
    /// `budget` pays for each key met; at zero the answer is `None`, and the next call goes on from there.
    pub(super) fn first(&mut self, bare: bool, entries: &mut [Entry], until: u64, budget: &mut usize) -> Option<u32> {
        while *budget > 0 {
            let Reverse((end, at)) = *self.heap(bare).peek().filter(|Reverse((end, _))| *end <= until)?;
            let entry = &entries[at as usize];
            let holds = !entry.is_free() && entry.filed == (bare, end);
            if holds && entry.is_bare() == bare && entry.ends() == end {
                return Some(at);
            }
            *budget -= 1;
            self.heap(bare).pop();
            if holds {
                self.file(entries, at);
            }
        }
        None
    }

    /// Gives memory back that a burst has left.
    pub(super) fn trim(&mut self) {
        for heap in [&mut self.counting, &mut self.bare] {
            if heap.capacity() > 64 && heap.len() < heap.capacity() / 4 {
                heap.shrink_to(heap.len() * 2);
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        (self.counting.capacity() + self.bare.capacity()) * size_of::<Reverse<(u64, u32)>>()
    }

    #[cfg(test)]
    pub(super) fn holds(&self, (bare, end): (bool, u64), at: u32) -> bool {
        let heap = if bare { &self.bare } else { &self.counting };
        heap.iter().any(|record| *record == Reverse((end, at)))
    }
}
