//! Entries of a table as columns: keys end to end, server names and node ids once each, clocks as differences.
use super::{Garbage, pb};
use lb_core::hlc::Stamp;
use lb_core::id::{NameId, Names, NodeId};
use lb_core::table::{Holder, Sink, UpdateRef, Updates};
use std::time::Duration;

/// The greatest number of entries in a frame, and of slots of holders.
const MAX_ENTRIES: usize = 1 << 16;

/// Entries of one table, on their way: the columns, whose lengths and places fit together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries(Box<pb::Entries>);

/// A list in which each value has one place. Values mostly repeat, and there are few.
struct Places<T> {
    all: Vec<T>,
    index: foldhash::HashMap<T, u32>,
    last: Option<(T, u32)>,
}

impl<T: Copy + Eq + std::hash::Hash> Places<T> {
    fn new() -> Self {
        Self { all: Vec::new(), index: foldhash::HashMap::default(), last: None }
    }

    fn of(&mut self, value: T) -> u32 {
        if let Some((_, place)) = self.last.filter(|(last, _)| *last == value) {
            return place;
        }
        let place = *self.index.entry(value).or_insert_with(|| {
            self.all.push(value);
            self.all.len() as u32 - 1
        });
        self.last = Some((value, place));
        place
    }
}

impl Entries {
    /// Packs what a table gave.
    pub fn pack(updates: Updates, names: &Names) -> Self {
        let n = updates.len();
        let mut out = pb::Entries::default();
        for column in [&mut out.key_len, &mut out.server, &mut out.node] {
            column.reserve_exact(n);
        }
        out.clock.reserve_exact(n);
        out.left_ms.reserve_exact(n);
        let (mut servers, mut nodes) = (Places::<NameId>::new(), Places::<u32>::new());
        let (mut clock, mut held_clock) = (0, 0);
        for (i, update) in updates.iter().enumerate() {
            out.key_len.push(update.key.len() as u32);
            out.server.push(if update.server.is_none() { 0 } else { 1 + servers.of(update.server) });
            out.clock.push(difference(update.stamp.clock(), &mut clock));
            out.node.push(nodes.of(update.stamp.node.0));
            out.left_ms.push(lb_core::time::millis(update.left));
            for holder in update.holders {
                out.held.push(i as u32);
                out.holder.push(nodes.of(holder.node.0));
                out.held_clock.push(difference(holder.seq, &mut held_clock));
                out.held_ms.push(lb_core::time::millis(holder.left));
            }
        }
        out.servers = servers.all.into_iter().map(|id| names.name(id).to_string()).collect();
        out.nodes = nodes.all;
        out.keys = updates.into_keys();
        Self(Box::new(out))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.key_len.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a table takes; and how many it can't, because their server's name can't be remembered here: as pins of no
    /// server they would clear the entries.
    pub fn unpack(&self, names: &Names) -> (Updates, u32) {
        let e = &self.0;
        let servers: Vec<NameId> = e.servers.iter().map(|s| names.intern(s)).collect();
        let node = |place: u32| NodeId(e.nodes.get(place as usize).copied().unwrap_or_default());
        let mut out = Updates::with_capacity(self.len(), e.keys.len());
        let (mut keys, mut clock, mut held_clock, mut lost) = (e.keys.as_slice(), 0, 0, 0);
        let (mut held, mut holders) = (0, Vec::new());
        for i in 0..self.len() {
            let Some((key, rest)) = keys.split_at_checked(e.key_len[i] as usize) else { break };
            keys = rest;
            let stamp = Stamp::new(sum(e.clock[i], &mut clock), node(e.node[i]));
            holders.clear();
            while held < e.held.len() && e.held[held] as usize == i {
                let seq = sum(e.held_clock[held], &mut held_clock);
                let left = Duration::from_millis(e.held_ms[held]);
                holders.push(Holder { node: node(e.holder[held]), seq, left });
                held += 1;
            }
            let server = match e.server[i] {
                0 => NameId::NONE,
                place => match servers.get(place as usize - 1) {
                    Some(id) if !id.is_none() => *id,
                    _ => {
                        lost += 1;
                        continue;
                    }
                },
            };
            out.take(UpdateRef { key, server, stamp, left: Duration::from_millis(e.left_ms[i]), holders: &holders });
        }
        (out, lost)
    }
}

fn difference(clock: u64, last: &mut u64) -> i64 {
    clock.wrapping_sub(std::mem::replace(last, clock)).cast_signed()
}

fn sum(difference: i64, last: &mut u64) -> u64 {
    *last = last.wrapping_add(difference.cast_unsigned());
    *last
}

impl From<Entries> for pb::Entries {
    fn from(entries: Entries) -> Self {
        *entries.0
    }
}

impl TryFrom<pb::Entries> for Entries {
    type Error = Garbage;

    fn try_from(e: pb::Entries) -> Result<Self, Garbage> {
        let n = e.key_len.len();
        if n > MAX_ENTRIES || e.held.len() > MAX_ENTRIES {
            return Err(Garbage("too many entries in a frame"));
        }
        if [e.server.len(), e.clock.len(), e.node.len(), e.left_ms.len()] != [n; 4] {
            return Err(Garbage("columns of entries differ in length"));
        }
        if [e.holder.len(), e.held_clock.len(), e.held_ms.len()] != [e.held.len(); 3] {
            return Err(Garbage("columns of holders differ in length"));
        }
        match e.key_len.iter().map(|len| u64::from(*len)).sum::<u64>().cmp(&(e.keys.len() as u64)) {
            std::cmp::Ordering::Less => return Err(Garbage("keys are longer than their lengths")),
            std::cmp::Ordering::Greater => return Err(Garbage("keys are shorter than their lengths")),
            std::cmp::Ordering::Equal => {}
        }
        if e.node.iter().chain(&e.holder).any(|place| *place as usize >= e.nodes.len()) {
            return Err(Garbage("an entry of no node"));
        }
        if e.server.iter().any(|place| *place as usize > e.servers.len()) {
            return Err(Garbage("an entry on no server"));
        }
        if !e.held.is_sorted() || e.held.last().is_some_and(|i| *i as usize >= n) {
            return Err(Garbage("holders of no entry"));
        }
        Ok(Self(Box::new(e)))
    }
}
