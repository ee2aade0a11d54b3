//! The teaching half of a link: what changed here goes out in batches, and tables that the peer pulls.
//!
//! Sans-IO. It must not know who the peer is or how the link came to be.
use crate::cursor::{Progress, Reached};
use crate::replicator::Now;
use crate::tables::{Common, Local};
use crate::tally::{self, is_wanted};
use crate::wire::{self, Entries, Frame, Garbage, Part};
use lb_core::id::Names;
use lb_core::table::{StickTable, Updates};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Batches out that the peer has not acknowledged, at most.
const WINDOW: usize = 64;
/// While a batch is out, changes gather for this long, or until it is acknowledged.
const GATHER: Duration = Duration::from_millis(1);
/// Frames of a pull out that the peer has not acknowledged, at most.
const PULL_WINDOW: usize = 8;
/// Scans of a pull in one turn; others want theirs.
const PULL_SCANS: usize = 8;
/// Where counting a backlog ends.
const BACKLOG_LIMIT: usize = 20_000;

/// What is remembered of a peer between two links.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) progress: Vec<(Arc<Local>, Progress)>,
    pub(crate) tally: tally::Memory,
    pub(crate) counts: Counts,
}

/// Live updates to a peer, since it was met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) refused_there: u64,
    pub(crate) received: u64,
    pub(crate) refused_here: u64,
    /// Entries that repairs brought from it.
    pub(crate) repaired: u64,
    /// Comparisons of tables that it answered.
    pub(crate) compared: u64,
}

/// A batch on its way.
#[derive(Debug)]
struct Sent {
    number: u64,
    table: u32,
    reached: Reached,
    entries: u64,
    at: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Teacher {
    pub(crate) memory: Memory,
    in_flight: VecDeque<Sent>,
    last_number: u64,
    last_sent: Duration,
    next_table: usize,
    /// There may be changes that were not read.
    dirty: bool,
    serving: Option<Serving>,
}

/// A pull that the peer asked for.
#[derive(Debug)]
struct Serving {
    pull: u64,
    parts: VecDeque<(Arc<Local>, Vec<u8>)>,
    shard: usize,
    slot: u32,
    outstanding: usize,
    entries: u64,
    partial: bool,
    /// The peer takes counters, too.
    counted: Option<tally::Serving>,
}

impl Teacher {
    /// Goes on from what the peer acknowledged on an earlier link. Tables it has no cursor in begin as `begin` says.
    pub(crate) fn new(mut memory: Memory, common: &Common, begin: fn(&StickTable) -> Progress) -> Self {
        memory.progress.iter_mut().for_each(|(_, progress)| progress.rewind());
        let mut teacher = Self {
            memory,
            in_flight: VecDeque::new(),
            last_number: 0,
            last_sent: Duration::ZERO,
            next_table: 0,
            dirty: true,
            serving: None,
        };
        teacher.set_tables(common, begin);
        teacher
    }

    /// Takes on another set of common tables.
    pub(crate) fn set_tables(&mut self, common: &Common, begin: fn(&StickTable) -> Progress) {
        let mut before = std::mem::take(&mut self.memory.progress);
        for local in common.tables() {
            let known = before.iter().position(|(t, _)| t.id == local.id).map(|at| before.swap_remove(at));
            self.memory.progress.push(known.unwrap_or_else(|| (local.clone(), begin(&local.table))));
        }
        self.dirty = true;
    }

    /// The tables have changed.
    pub(crate) fn wake(&mut self) {
        self.dirty = true;
    }

    /// Everything that had changed when this was last woken has been sent.
    pub(crate) fn is_read(&self) -> bool {
        !self.dirty
    }

    /// Everything has been sent and acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.dirty && self.in_flight.is_empty()
    }

    /// Whether it is time to read changes.
    pub(crate) fn is_ready(&self, now: Now) -> bool {
        self.dirty && self.in_flight.len() < WINDOW && (self.in_flight.is_empty() || now.at >= self.last_sent + GATHER)
    }

    /// Sends what changed.
    pub(crate) fn teach(&mut self, now: Now, names: &Names, out: &mut VecDeque<Frame>) {
        if !self.is_ready(now) {
            return;
        }
        while self.in_flight.len() < WINDOW {
            let Some((table, reached, updates)) = self.read(now) else {
                self.dirty = false;
                break;
            };
            self.last_number += 1;
            let (number, entries) = (self.last_number, updates.len() as u64);
            self.memory.counts.sent += entries;
            self.in_flight.push_back(Sent { number, table, reached, entries, at: now.at });
            self.last_sent = now.at;
            out.push_back(Frame::Batch { number, table, entries: Entries::pack(updates, names) });
        }
    }

    /// The next changes, of one table; every table has its turn.
    fn read(&mut self, now: Now) -> Option<(u32, Reached, Updates)> {
        let tables = self.memory.progress.len();
        let mut updates = Updates::default();
        for _ in 0..tables {
            self.next_table = (self.next_table + 1) % tables;
            let (local, progress) = &mut self.memory.progress[self.next_table];
            loop {
                let (reached, more) = progress.read(&local.table, local.batch, now.wall, &mut updates);
                if !updates.is_empty() {
                    return Some((local.id, reached, updates));
                }
                if !more {
                    break;
                }
            }
        }
        None
    }

    /// The peer has handled batches.
    pub(crate) fn acked(&mut self, number: u64, refused: u32) -> Result<(), Garbage> {
        if number > self.last_number {
            return Err(Garbage("an acknowledgement of what was not sent"));
        }
        let counts = &mut self.memory.counts;
        counts.refused_there += u64::from(refused);
        while let Some(sent) = self.in_flight.pop_front_if(|sent| sent.number <= number) {
            counts.acked += sent.entries;
            if let Some((_, progress)) = self.memory.progress.iter_mut().find(|(t, _)| t.id == sent.table) {
                progress.acked(&sent.reached);
            }
        }
        Ok(())
    }

    /// The peer wants tables as they stand.
    pub(crate) fn requested(&mut self, pull: u64, parts: Vec<Part>, common: &Common, (partial, counts): (bool, bool)) {
        let known = |p: Part| common.remote(p.table).map(|local| (local.clone(), p.buckets));
        let parts = parts.into_iter().filter_map(known).collect();
        let counted = counts.then(tally::Serving::default);
        self.serving = Some(Serving { pull, parts, shard: 0, slot: 0, outstanding: 0, entries: 0, partial, counted });
    }

    /// The peer has handled a frame of a pull.
    pub(crate) fn pull_acked(&mut self, pull: u64) {
        if let Some(serving) = self.serving.as_mut().filter(|s| s.pull == pull) {
            serving.outstanding = serving.outstanding.saturating_sub(1);
        }
    }

    /// Sends the next entries of a pull.
    pub(crate) fn serve(&mut self, now: Now, names: &Names, out: &mut VecDeque<Frame>) {
        let Some(serving) = &mut self.serving else { return };
        let mut scans = PULL_SCANS;
        while serving.outstanding < PULL_WINDOW && scans > 0 {
            let Some((local, updates)) = serving.next(now, &mut scans) else {
                if serving.counts(now, &mut scans, out) {
                    continue;
                }
                let (pull, entries, partial) = (serving.pull, serving.entries, serving.partial);
                out.push_back(Frame::PullDone { pull, entries, partial });
                self.serving = None;
                return;
            };
            if !updates.is_empty() {
                serving.outstanding += 1;
                serving.entries += updates.len() as u64;
                let entries = Entries::pack(updates, names);
                out.push_back(Frame::PullBatch { pull: serving.pull, table: local.id, entries });
            }
        }
    }

    /// When [`Self::teach`] or [`Self::serve`] want to be called though nothing comes in.
    pub(crate) fn timeout(&self, now: Now) -> Option<Duration> {
        let serve = self.serving.as_ref().filter(|s| s.outstanding < PULL_WINDOW).map(|_| now.at);
        let can = self.dirty && self.in_flight.len() < WINDOW;
        let teach = can.then(|| if self.in_flight.is_empty() { now.at } else { self.last_sent + GATHER });
        [serve, teach].into_iter().flatten().min()
    }

    /// Entries not sent yet, up to a limit.
    pub(crate) fn backlog(&self) -> u64 {
        let count = |(local, progress): &(Arc<Local>, Progress)| progress.backlog(&local.table, BACKLOG_LIMIT) as u64;
        self.memory.progress.iter().map(count).sum()
    }

    /// How long the oldest batch that is out has been.
    pub(crate) fn lag(&self, now: Now) -> Duration {
        self.in_flight.front().map_or(Duration::ZERO, |sent| now.at.saturating_sub(sent.at))
    }
}

impl Serving {
    /// The next entries of the pull, one table's; none of them may be wanted. `None`: that was all.
    fn next(&mut self, now: Now, scans: &mut usize) -> Option<(Arc<Local>, Updates)> {
        let mut updates = Updates::default();
        while let Some((local, buckets)) = self.parts.front() {
            let wanted = |key: &[u8]| buckets.is_empty() || is_wanted(buckets, key);
            while self.shard < local.table.shards() {
                if *scans == 0 || updates.len() >= local.pull_batch {
                    return Some((local.clone(), updates));
                }
                *scans -= 1;
                let room = local.pull_batch - updates.len();
                let next = local.table.scan_where(self.shard, self.slot, room, now.wall, wanted, &mut updates);
                self.slot = next.unwrap_or(0);
                self.shard += usize::from(next.is_none());
            }
            let (local, buckets) = self.parts.pop_front()?;
            self.shard = 0;
            if let Some(counted) = &mut self.counted {
                counted.then(local.clone(), buckets);
            }
            if !updates.is_empty() {
                return Some((local, updates));
            }
        }
        None
    }

    /// Sends the next counters of the pull, after all entries. False: that was all.
    fn counts(&mut self, now: Now, scans: &mut usize, out: &mut VecDeque<Frame>) -> bool {
        let next = self.counted.as_mut().and_then(|counted| counted.next(now, scans));
        let Some((local, batch)) = next else { return false };
        if !batch.keys.is_empty() {
            self.outstanding += 1;
            let counts = wire::Counts::pack(batch);
            out.push_back(Frame::Counts { number: 0, pull: self.pull, table: local.id, counts });
        }
        true
    }
}
