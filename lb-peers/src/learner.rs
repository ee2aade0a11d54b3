//! The learning half of a link: batches of the peer are merged and acknowledged, tables are pulled from it.
//!
//! Sans-IO. Every update is merged by its version, those of a pull too, so that nothing newer here is overwritten.
use crate::replicator::Now;
use crate::tables::{Common, Local};
use crate::teacher::Counts;
use crate::wire::{Entries, Frame, Garbage, Part};
use lb_core::id::Names;
use lb_core::table::StickTable;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A source that serves nothing for this long is given up.
const PULL_STALLED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    last_number: u64,
    last_pull: u64,
    pulling: Option<Pulling>,
    /// Buckets of tables (by our number) that differ from the peer's, to be pulled.
    repairs: BTreeMap<u32, Vec<u8>>,
    absurd: bool,
}

#[derive(Debug)]
struct Pulling {
    pull: u64,
    full: bool,
    entries: u64,
    started: Duration,
    progress: Duration,
}

/// A pull that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PullEnd {
    /// All tables, not a repair.
    pub(crate) full: bool,
    /// The source was not whole itself.
    pub(crate) partial: bool,
    pub(crate) entries: u64,
    pub(crate) took: Duration,
}

/// How merging some entries went.
#[derive(Clone, Copy, Debug)]
struct Tally {
    taken: u32,
    refused: u32,
}

impl Learner {
    /// A batch of live updates.
    pub(crate) fn batch(
        &mut self,
        now: Now,
        number: u64,
        (local, entries): (Option<&Local>, Entries),
        names: &Names,
        counts: &mut Counts,
    ) -> Result<Frame, Garbage> {
        if number != self.last_number + 1 {
            return Err(Garbage("batches out of order"));
        }
        self.last_number = number;
        let tally = self.merge(now, local, &entries, names);
        counts.received += u64::from(tally.taken + tally.refused);
        counts.refused_here += u64::from(tally.refused);
        Ok(Frame::Ack { number, taken: tally.taken, refused: tally.refused })
    }

    fn merge(&mut self, now: Now, local: Option<&Local>, entries: &Entries, names: &Names) -> Tally {
        let Some(local) = local else {
            return Tally { taken: 0, refused: entries.len() as u32 };
        };
        let (updates, lost) = entries.unpack(names);
        let merges = local.table.merge_all(&updates, now.wall);
        self.absurd |= merges.absurd > 0;
        Tally { taken: merges.applied + merges.extended + merges.known, refused: merges.refused + merges.absurd + lost }
    }

    /// Whether stamps too far ahead came since this was last asked.
    pub(crate) fn take_absurd(&mut self) -> bool {
        std::mem::take(&mut self.absurd)
    }

    /// Asks the peer for these buckets of all tables (none: for everything).
    pub(crate) fn pull(&mut self, now: Now, common: &Common, buckets: &[u8]) -> Frame {
        let part = |t: &std::sync::Arc<Local>| Part { table: t.id, buckets: buckets.to_vec() };
        self.repairs.clear();
        self.request(now, true, common.tables().iter().map(part).collect())
    }

    fn request(&mut self, now: Now, full: bool, parts: Vec<Part>) -> Frame {
        self.last_pull += 1;
        let pull = self.last_pull;
        self.pulling = Some(Pulling { pull, full, entries: 0, started: now.at, progress: now.at });
        Frame::PullRequest { pull, parts }
    }

    /// A frame of a pull. One of an earlier pull is merged, too: it does no harm.
    pub(crate) fn pull_batch(
        &mut self,
        now: Now,
        pull: u64,
        local: Option<&Local>,
        entries: Entries,
        names: &Names,
    ) -> Frame {
        let count = entries.len() as u64;
        self.merge(now, local, &entries, names);
        if let Some(pulling) = self.pulling.as_mut().filter(|p| p.pull == pull) {
            pulling.entries += count;
            pulling.progress = now.at;
        }
        Frame::PullAck { pull }
    }

    /// The source has sent all it was asked for.
    pub(crate) fn pull_done(&mut self, now: Now, pull: u64, partial: bool) -> Option<PullEnd> {
        let ended = self.pulling.take_if(|p| p.pull == pull)?;
        let took = now.at.saturating_sub(ended.started);
        Some(PullEnd { full: ended.full, partial, entries: ended.entries, took })
    }

    /// The peer's digest of a table: what differs is pulled.
    pub(crate) fn digest(&mut self, local: &Local, theirs: &[u64]) -> Result<(), Garbage> {
        if theirs.len() != StickTable::BUCKETS {
            return Err(Garbage("a digest of another size"));
        }
        let ours = local.table.digest();
        let mut bits = vec![0u8; StickTable::BUCKETS / 8];
        for (bucket, _) in ours.iter().zip(theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs) {
            bits[bucket / 8] |= 1 << (bucket % 8);
        }
        if bits.iter().any(|byte| *byte != 0) {
            self.repairs.insert(local.id, bits);
        }
        Ok(())
    }

    /// Pulls what differs, once no other pull is on.
    pub(crate) fn repair(&mut self, now: Now, common: &Common, out: &mut VecDeque<Frame>) {
        if self.pulling.is_some() || self.repairs.is_empty() {
            return;
        }
        let known = |(table, buckets)| common.local(table).map(|_| Part { table, buckets });
        let parts: Vec<Part> = std::mem::take(&mut self.repairs).into_iter().filter_map(known).collect();
        out.push_back(self.request(now, false, parts));
    }

    /// When the source of a pull counts as stalled.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.pulling.as_ref().map(|p| p.progress + PULL_STALLED)
    }
}
