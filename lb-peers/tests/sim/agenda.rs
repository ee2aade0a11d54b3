//! Virtual time, and what happens when.
use lb_peers::replicator::LinkId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

pub(crate) enum Happening {
    Tick { node: usize, life: u64 },
    Sweep { node: usize, life: u64 },
    Exit { node: usize, life: u64 },
    Deliver { stream: usize, end: usize },
    Dialled { from: usize, life: u64, link: LinkId, to: usize },
}

/// What happens when, and the time.
#[derive(Default)]
pub(crate) struct Agenda {
    pub(crate) at: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    last: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Duration, what: Happening) {
        self.last += 1;
        self.happenings.insert(self.last, what);
        self.queue.push(Reverse((at, self.last)));
    }

    /// The next thing up to `until`, at its time.
    pub(crate) fn next(&mut self, until: Duration) -> Option<Happening> {
        let Reverse((at, id)) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= until)?;
        self.queue.pop();
        self.at = self.at.max(at);
        self.happenings.remove(&id)
    }
}
