//! The learning half of a link: batches of the peer are merged and acknowledged, tables are pulled from it.
//!
//! Sans-IO. Every update is merged by its version, those of a pull too, so that nothing newer here is overwritten.
use crate::compare::{self, Repair};
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
    /// What people want to see of the peer's tables, by number: it is shown, not merged.
    lists: VecDeque<(u64, Part)>,
    absurd: bool,
}

#[derive(Debug)]
struct Pulling {
    pull: u64,
    kind: Kind,
    entries: u64,
    /// What it did, by our numbers of the tables.
    tables: BTreeMap<u32, Repair>,
    started: Duration,
    progress: Duration,
}

/// What a pull is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All tables.
    Full,
    /// What differs.
    Repair,
    /// Shown to people, by number.
    List(u64),
}

/// A pull that has ended.
#[derive(Clone, Debug)]
pub(crate) struct PullEnd {
    pub(crate) kind: Kind,
    /// The source was not whole itself.
    pub(crate) partial: bool,
    pub(crate) entries: u64,
    /// What it did, by our numbers of the tables.
    pub(crate) tables: BTreeMap<u32, Repair>,
    pub(crate) took: Duration,
}

/// How merging some entries went.
#[derive(Clone, Copy, Debug)]
struct Tally {
    taken: u32,
    /// Of those, pins that were news.
    applied: u32,
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
            return Tally { taken: 0, applied: 0, refused: entries.len() as u32 };
        };
        let (updates, lost) = entries.unpack(names);
        let merges = local.table.merge_all(&updates, now.wall);
        self.absurd |= merges.absurd > 0;
        let taken = merges.applied + merges.extended + merges.known;
        Tally { taken, applied: merges.applied, refused: merges.refused + merges.absurd + lost }
    }

    /// Whether stamps too far ahead came since this was last asked.
    pub(crate) fn take_absurd(&mut self) -> bool {
        std::mem::take(&mut self.absurd)
    }

    /// Asks the peer for these buckets of all tables (none: for everything).
    pub(crate) fn pull(&mut self, now: Now, common: &Common, buckets: &[u8]) -> Frame {
        let part = |t: &std::sync::Arc<Local>| Part { table: t.id, buckets: buckets.to_vec() };
        self.repairs.clear();
        self.request(now, Kind::Full, common.tables().iter().map(part).collect())
    }

    fn request(&mut self, now: Now, kind: Kind, parts: Vec<Part>) -> Frame {
        self.last_pull += 1;
        let pull = self.last_pull;
        let tables = parts.iter().map(|p| (p.table, Repair::default())).collect();
        self.pulling = Some(Pulling { pull, kind, entries: 0, tables, started: now.at, progress: now.at });
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
        let tally = self.merge(now, local, &entries, names);
        if let Some(pulling) = self.pulling.as_mut().filter(|p| p.pull == pull) {
            pulling.entries += count;
            pulling.progress = now.at;
            if let Some(repair) = local.and_then(|t| pulling.tables.get_mut(&t.id)) {
                repair.applied += u64::from(tally.applied);
                repair.refused += u64::from(tally.refused);
            }
        }
        Frame::PullAck { pull }
    }

    /// More of a pull has come, other than entries.
    pub(crate) fn pull_goes_on(&mut self, now: Now, pull: u64) {
        if let Some(pulling) = self.pulling.as_mut().filter(|p| p.pull == pull) {
            pulling.progress = now.at;
        }
    }

    /// Whether a frame of this pull is for people, and by which number of theirs.
    pub(crate) fn listed(&mut self, now: Now, pull: u64) -> Option<u64> {
        let pulling = self.pulling.as_mut().filter(|p| p.pull == pull)?;
        let Kind::List(id) = pulling.kind else { return None };
        pulling.progress = now.at;
        Some(id)
    }

    /// People want to see buckets of a table of the peer.
    pub(crate) fn list(&mut self, id: u64, part: Part) {
        self.lists.push_back((id, part));
    }

    /// Whether a pull is on.
    pub(crate) fn is_pulling(&self) -> bool {
        self.pulling.is_some()
    }

    /// The source has sent all it was asked for.
    pub(crate) fn pull_done(&mut self, now: Now, pull: u64, partial: bool) -> Option<PullEnd> {
        let ended = self.pulling.take_if(|p| p.pull == pull)?;
        let took = now.at.saturating_sub(ended.started);
        Some(PullEnd { kind: ended.kind, partial, entries: ended.entries, tables: ended.tables, took })
    }

    /// The peer's digest of a table: what differs is pulled.
    pub(crate) fn digest(&mut self, local: &Local, theirs: &[u64]) {
        let mut bits = vec![0u8; StickTable::BUCKETS / 8];
        for (bucket, _) in compare::differing(&local.table.digest(), theirs) {
            bits[bucket / 8] |= 1 << (bucket % 8);
        }
        if bits.iter().any(|byte| *byte != 0) {
            self.differs(local, bits);
        }
    }

    /// Buckets of a table, as bits, are to be pulled.
    pub(crate) fn differs(&mut self, local: &Local, bits: Vec<u8>) {
        let due = self.repairs.entry(local.id).or_insert_with(|| vec![0; bits.len()]);
        due.iter_mut().zip(bits).for_each(|(due, bits)| *due |= bits);
    }

    /// Pulls what differs, and what people want to see, once no other pull is on.
    pub(crate) fn repair(&mut self, now: Now, common: &Common, out: &mut VecDeque<Frame>) {
        if self.pulling.is_some() {
            return;
        }
        if let Some((id, part)) = self.lists.pop_front() {
            out.push_back(self.request(now, Kind::List(id), vec![part]));
        } else if !self.repairs.is_empty() {
            let known = |(table, buckets)| common.local(table).map(|_| Part { table, buckets });
            let parts: Vec<Part> = std::mem::take(&mut self.repairs).into_iter().filter_map(known).collect();
            out.push_back(self.request(now, Kind::Repair, parts));
        }
    }

    /// When the source of a pull counts as stalled.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.pulling.as_ref().map(|p| p.progress + PULL_STALLED)
    }
}
