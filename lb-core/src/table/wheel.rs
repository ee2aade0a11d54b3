//! Which entry ends next: pins in a coarse timing wheel, tombstones in a heap of their own.
//!
//! A touch is one store to the entry and leaves the wheel as it is: an entry is filed no later than it ends, and is
//! filed again when it is met before its time. Only the wheel's front, the slot that is being emptied, is in exact
//! order; so finding the entry nearest its end is exact, and costs O(log n) however many entries share a slot.
use super::entry::NIL;
use super::slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slots of the wheel.
const SLOTS: u64 = 256;
/// Slots that one full life spans: a few less, so that a new pin is not filed short.
const LIFE_SLOTS: u64 = 240;

// Where an entry is, in its `due_prev`: another slot when it stands within a list, else one of these.
/// In no list.
pub(super) const NOWHERE: u32 = NIL;
/// In the front heap, by the record of the end that `due_next` holds the low half of.
const FRONT: u32 = NIL - 1;
/// In the heap of tombstones.
const GRAVE: u32 = NIL - 2;
/// At the head of a list: this, and the list's number.
const HEAD: u32 = NIL - 512;

/// Records of (end, slot). They are not searched for: one that no longer holds, because its entry has gone or has been
/// filed anew, is dropped when it is met.
type Heap = BinaryHeap<Reverse<(u64, u32)>>;

#[derive(Debug)]
pub(super) struct Wheel {
    lists: Box<[u32; SLOTS as usize]>,
    /// Entries in lists.
    listed: usize,
    /// Milliseconds of a slot. Fixed: entries that live longer than the wheel spans wait in its last slot.
    width: u64,
    /// Number (time / width) of the slot being emptied: everything that ends there or earlier is in `front`.
    base: u64,
    front: Heap,
    graves: Heap,
}

impl Wheel {
    /// A wheel for lives of about `expire` milliseconds.
    pub(super) fn new(expire: u64) -> Self {
        Self {
            lists: Box::new([NIL; SLOTS as usize]),
            listed: 0,
            width: expire.div_ceil(LIFE_SLOTS).max(1),
            base: 0,
            front: Heap::new(),
            graves: Heap::new(),
        }
    }

    /// Files an entry anew: it has come, has become a pin or a tombstone, or is a tombstone that ends later.
    pub(super) fn place(&mut self, slab: &mut Slab, slot: u32) {
        self.unlink(slab, slot);
        if slab[slot].is_tombstone() {
            self.bury(slab, slot);
        } else {
            self.file(slab, slot);
        }
    }

    /// Takes an entry out; at once from a list, while a heap's record stays behind until it is met.
    pub(super) fn unlink(&mut self, slab: &mut Slab, slot: u32) {
        let (prev, next) = (slab[slot].due_prev, slab[slot].due_next);
        slab[slot].due_prev = NOWHERE;
        match prev {
            FRONT => return drop_first(&mut self.front, slot),
            GRAVE => return drop_first(&mut self.graves, slot),
            NOWHERE => return,
            head if head >= HEAD => self.lists[(head - HEAD) as usize] = next,
            prev => slab[prev].due_next = next,
        }
        self.listed -= 1;
        if next != NIL {
            slab[next].due_prev = prev;
        }
    }

    fn bury(&mut self, slab: &mut Slab, slot: u32) {
        if self.graves.len() >= 2 * slab.len() + 64 {
            self.graves.retain(|Reverse(record)| is_grave(slab, *record));
        }
        slab[slot].due_prev = GRAVE;
        self.graves.push(Reverse((slab[slot].ends(), slot)));
    }

    fn put_in_front(&mut self, slab: &mut Slab, slot: u32) {
        if self.front.len() >= 2 * slab.len() + 64 {
            self.front.retain(|Reverse(record)| is_front(slab, *record));
        }
        let life = slab[slot].life;
        slab[slot].due_prev = FRONT;
        slab[slot].due_next = life as u32;
        self.front.push(Reverse((life, slot)));
    }

    fn file(&mut self, slab: &mut Slab, slot: u32) {
        let at = slab[slot].life / self.width;
        if self.listed == 0 && self.front.is_empty() {
            // Nothing to sweep on the way.
            self.base = self.base.max(at.saturating_sub(SLOTS - 1));
        }
        if at <= self.base {
            return self.put_in_front(slab, slot);
        }
        let list = at.min(self.base + SLOTS - 1) % SLOTS;
        let first = std::mem::replace(&mut self.lists[list as usize], slot);
        self.listed += 1;
        slab[slot].due_prev = HEAD + list as u32;
        slab[slot].due_next = first;
        if first != NIL {
            slab[first].due_prev = slot;
        }
    }

    /// The pin nearest its end, if that is at `until` or before. `budget` pays for each entry met; at zero the answer
    /// is `None`, and the next call goes on from there. `filed_anew` is told of those whose life has grown since they
    /// were filed, before the end that they were filed for.
    pub(super) fn first_pin(
        &mut self,
        slab: &mut Slab,
        until: u64,
        budget: &mut usize,
        mut filed_anew: impl FnMut(&mut Slab, u32),
    ) -> Option<u32> {
        while *budget > 0 {
            let met = self.lists[(self.base % SLOTS) as usize];
            if met != NIL {
                *budget -= 1;
                filed_anew(slab, met);
                self.place(slab, met);
            } else if let Some(Reverse((life, slot))) = self.front.peek().copied() {
                if life > until {
                    return None;
                }
                let holds = is_front(slab, (life, slot));
                if holds && slab[slot].life == life {
                    return Some(slot);
                }
                *budget -= 1;
                match holds {
                    true => {
                        filed_anew(slab, slot);
                        self.place(slab, slot);
                    }
                    false => _ = self.front.pop(),
                }
            } else if self.listed == 0 || self.base >= until / self.width {
                return None;
            } else {
                self.base += 1;
            }
        }
        None
    }

    /// The tombstone nearest its end.
    pub(super) fn first_tombstone(&mut self, slab: &Slab) -> Option<u32> {
        while let Some(Reverse(record)) = self.graves.peek().copied() {
            if is_grave(slab, record) {
                return Some(record.1);
            }
            self.graves.pop();
        }
        None
    }

    /// Gives memory back that a burst has left.
    pub(super) fn trim(&mut self) {
        for heap in [&mut self.front, &mut self.graves] {
            if heap.capacity() > 64 && heap.len() < heap.capacity() / 4 {
                heap.shrink_to(heap.len() * 2);
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.lists) + (self.front.capacity() + self.graves.capacity()) * size_of::<Reverse<(u64, u32)>>()
    }

    /// Every entry the wheel knows, once: by its list or by a record that holds.
    #[cfg(test)]
    pub(super) fn slots(&self, slab: &Slab) -> std::collections::BTreeSet<u32> {
        let mut all = std::collections::BTreeSet::new();
        for list in 0..SLOTS {
            let mut slot = self.lists[list as usize];
            let mut prev = HEAD + list as u32;
            while slot != NIL {
                assert!(all.insert(slot), "listed twice");
                assert_eq!(slab[slot].due_prev, prev);
                assert!(slab[slot].life / self.width > self.base || list == self.base % SLOTS);
                (prev, slot) = (slot, slab[slot].due_next);
            }
        }
        assert_eq!(all.len(), self.listed);
        let front = self.front.iter().map(|r| r.0).filter(|r| is_front(slab, *r) && slab[r.1].life >= r.0);
        let graves = self.graves.iter().map(|r| r.0).filter(|r| is_grave(slab, *r));
        all.extend(front.chain(graves).map(|r| r.1));
        all
    }
}

/// Takes the record of an entry that leaves, where that costs nothing.
fn drop_first(heap: &mut Heap, slot: u32) {
    if heap.peek().is_some_and(|Reverse((_, first))| *first == slot) {
        heap.pop();
    }
}

fn is_front(slab: &Slab, (life, slot): (u64, u32)) -> bool {
    slab[slot].due_prev == FRONT && slab[slot].due_next == life as u32
}

fn is_grave(slab: &Slab, (ends, slot): (u64, u32)) -> bool {
    slab[slot].due_prev == GRAVE && slab[slot].ends() == ends
}
