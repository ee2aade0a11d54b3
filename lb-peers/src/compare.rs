//! Comparing the tables of one link now and then: what differs, whether it lasts, and when it is pulled.
//!
//! Sans-IO. It judges by digests alone and must not know how a pull goes.
//!
//! # A difference, or news on its way
//!
//! A bucket's digest is the XOR of the hashes of its entries. Ours XOR the peer's is therefore the hash of exactly what
//! differs, whatever else is in the bucket. News on its way differs now, and otherwise or not at all a second later; a
//! bucket that differs **by the same** in two comparisons holds a difference that lasts, and only that is repaired.
//!
//! # What a repair may cost
//!
//! At most an eighth of the buckets a round, each round others. A repair that brought nothing, or that a full table
//! could not take in, makes the next one wait twice as long: two tables of different size would else pull for ever.
use crate::replicator::Now;
use crate::tables::{Common, Local};
use crate::wire::{Frame, Garbage};
use lb_core::status::TableSync;
use lb_core::table::StickTable;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// After this time news has arrived: a second comparison tells what lasts.
const CONFIRM: Duration = Duration::from_secs(1);
/// Buckets that one round repairs.
const ROUND: usize = StickTable::BUCKETS / 8;
/// The longest wait between two repairs that bring nothing.
const LONGEST: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// By our numbers of the tables.
    tables: BTreeMap<u32, State>,
    /// Tables whose digest the peer waits for.
    answers: BTreeSet<u32>,
    /// Tables that people asked about, and the peer not yet.
    unasked: BTreeSet<u32>,
}

/// One table.
#[derive(Debug, Default)]
struct State {
    /// When the peer is asked next.
    due: Duration,
    /// When it was last compared, and what was found; `None`: too much is on its way to tell.
    at: Option<Duration>,
    equal: Option<bool>,
    /// Buckets that differed then, and by what.
    differed: Vec<(usize, u64)>,
    /// Those of them that had differed by the same before.
    lasting: usize,
    /// The next comparison tells whether a difference lasts.
    confirming: bool,
    /// The bucket that the next repair begins with, and not before when.
    from: usize,
    repair_at: Duration,
    /// Repairs in a row that brought nothing.
    fruitless: u32,
    repaired: u64,
    refused: u64,
    full_here: bool,
    full_there: bool,
}

/// What a pull did to one table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repair {
    pub(crate) applied: u64,
    pub(crate) refused: u64,
}

impl Comparison {
    /// Takes on a set of tables; those that are new are compared from `first` on.
    pub(crate) fn set_tables(&mut self, common: &Common, first: Duration) {
        self.tables.retain(|id, _| common.local(*id).is_some());
        for local in common.tables() {
            self.tables.entry(local.id).or_insert_with(|| State { due: first, ..State::default() });
        }
    }

    /// Asks and answers what is due; the changes that the digests count have been sent.
    pub(crate) fn send(&mut self, now: Now, every: Duration, common: &Common, out: &mut VecDeque<Frame>) {
        for local in std::mem::take(&mut self.answers).into_iter().filter_map(|id| common.local(id)) {
            out.push_back(Frame::Compared { table: local.id, buckets: local.table.digest() });
        }
        let mut asked = std::mem::take(&mut self.unasked);
        for (id, state) in self.tables.iter_mut().filter(|(_, s)| s.due <= now.at) {
            state.due = now.at + every;
            asked.insert(*id);
        }
        for local in asked.into_iter().filter_map(|id| common.local(id)) {
            let hash = StickTable::root(&local.table.digest());
            out.push_back(Frame::Root { table: local.id, hash, full: local.table.is_full() });
        }
    }

    /// The peer asks whether its table is ours. If not, it gets our digest, and repairs its own; our side asks in its
    /// turn. If so, both know, and we need not ask soon.
    pub(crate) fn root(
        &mut self,
        now: Now,
        every: Duration,
        local: &Local,
        (hash, full): (u64, bool),
    ) -> Option<Frame> {
        let state = self.tables.get_mut(&local.id)?;
        state.full_there = full;
        if StickTable::root(&local.table.digest()) != hash {
            self.answers.insert(local.id);
            return None;
        }
        state.is_equal(now);
        // A little later than the peer, who asks again by then.
        state.due = now.at + every + every / 8;
        Some(Frame::Compared { table: local.id, buckets: Vec::new() })
    }

    /// The peer's answer: nothing, for equal tables, or its digest. Returns the buckets to be pulled.
    pub(crate) fn compared(&mut self, now: Now, every: Duration, local: &Local, theirs: &[u64]) -> Option<Vec<u8>> {
        let state = self.tables.get_mut(&local.id)?;
        let differed = differing(&local.table.digest(), theirs);
        if differed.is_empty() {
            state.is_equal(now);
            return None;
        }
        let lasting: Vec<usize> = differed.iter().filter(|d| state.differed.contains(d)).map(|d| d.0).collect();
        state.differed = differed;
        state.at = Some(now.at);
        state.lasting = lasting.len();
        if !lasting.is_empty() {
            (state.equal, state.confirming) = (Some(false), false);
            return (now.at >= state.repair_at).then(|| state.round(&lasting));
        }
        if std::mem::replace(&mut state.confirming, true) {
            // It differs by something else each time.
            state.confirming = false;
            state.equal = (state.differed.len() <= StickTable::BUCKETS / 2).then_some(true);
        } else {
            state.due = state.due.min(now.at + CONFIRM.min(every / 2));
        }
        None
    }

    /// A pull of a table has ended.
    pub(crate) fn pulled(&mut self, now: Now, every: Duration, local: &Local, repair: Repair) {
        let Some(state) = self.tables.get_mut(&local.id) else { return };
        state.repaired += repair.applied;
        state.refused += repair.refused;
        state.full_here = local.table.is_full();
        let fruitful = repair.applied > 0 && repair.refused == 0 && !state.full_here;
        state.fruitless = if fruitful { 0 } else { state.fruitless + 1 };
        state.repair_at = now.at + state.wait(every);
        state.due = state.due.min(now.at + CONFIRM.min(every / 2));
    }

    /// When [`Self::send`] wants to be called though nothing comes in.
    pub(crate) fn timeout(&self, now: Now) -> Option<Duration> {
        self.tables.values().map(|s| s.due).filter(|due| *due > now.at).min()
    }

    /// People want to know now.
    pub(crate) fn ask(&mut self, table: u32) {
        self.unasked.insert(table);
    }

    /// What is known of a table.
    pub(crate) fn known(&self, now: Now, every: Duration, local: &Local) -> TableSync {
        self.tables.get(&local.id).unwrap_or(&State::default()).known(now, every, &local.name)
    }
}

impl State {
    fn is_equal(&mut self, now: Now) {
        let (due, from) = (self.due, self.from);
        let (repaired, refused, full_there) = (self.repaired, self.refused, self.full_there);
        let (at, equal) = (Some(now.at), Some(true));
        *self = Self { due, from, repaired, refused, full_there, at, equal, ..Self::default() };
    }

    /// The buckets of one round, as bits.
    fn round(&mut self, lasting: &[usize]) -> Vec<u8> {
        let mut bits = vec![0u8; StickTable::BUCKETS / 8];
        let split = lasting.partition_point(|bucket| *bucket < self.from);
        for bucket in lasting[split..].iter().chain(&lasting[..split]).take(ROUND) {
            bits[bucket / 8] |= 1 << (bucket % 8);
            self.from = bucket + 1;
        }
        bits
    }

    /// From one repair to the next.
    fn wait(&self, every: Duration) -> Duration {
        let doubled = every.saturating_mul(1 << self.fruitless.saturating_sub(1).min(16));
        doubled.min(LONGEST.max(every))
    }

    fn known(&self, now: Now, every: Duration, name: &str) -> TableSync {
        let news = self.equal != Some(false) && !self.differed.is_empty();
        let wait = lb_core::time::format_duration(self.wait(every));
        let note = match (self.at, self.lasting) {
            (None, _) => Some("not compared yet".to_owned()),
            (_, 0) if news => Some(format!("{} buckets differ by what is on its way", self.differed.len())),
            (_, 0) => None,
            _ if self.full_here => Some("the table is full here: entries of the peer find no room".to_owned()),
            _ if self.full_there => Some("the table is full there: entries find no room".to_owned()),
            _ if self.fruitless > 0 => Some(format!("pulling brought nothing; the next try comes within {wait}")),
            _ => Some("repairing".to_owned()),
        };
        TableSync {
            table: name.to_owned(),
            equal: self.equal,
            compared_ago: self.at.map(|at| now.at.saturating_sub(at).as_secs()),
            buckets_differed: self.lasting as u64,
            repaired: self.repaired,
            refused: self.refused,
            note,
        }
    }
}

/// Buckets that differ, and by what. No digest: there is no difference.
pub(crate) fn differing(ours: &[u64], theirs: &[u64]) -> Vec<(usize, u64)> {
    let by = ours.iter().zip(theirs).map(|(ours, theirs)| ours ^ theirs);
    by.enumerate().filter(|(_, by)| *by != 0).collect()
}

/// A digest has its one size.
pub(crate) fn check(digest: &[u64]) -> Result<(), Garbage> {
    match digest.len() == StickTable::BUCKETS {
        true => Ok(()),
        false => Err(Garbage("a digest of another size")),
    }
}
