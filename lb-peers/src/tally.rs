//! Counters on a link: what changed here goes out a few times a second, what the peer says is merged.
//!
//! Sans-IO. A counter changes all the time, so unlike a pin it is not told at once every time: readings lie
//! [`GATHER`] apart, and a key that is counted a thousand times between two of them is told once. What a peer has not
//! acknowledged is told again, as it is by then. A peer is a cursor here, too, never a queue.
//!
//! A node tells its own slots only, and what it could not tell somebody (it died halfway, or two of three have no link)
//! the others pass on: slowly, a piece with each heartbeat, what has come of third nodes since the last time around.
use crate::cursor::{Progress, Reached};
use crate::learner::Learner;
use crate::replicator::Now;
use crate::tables::{Common, Local};
use crate::wire::{Counts, Frame, Garbage};
use lb_core::id::NodeId;
use lb_core::table::{CountBatch, StickTable};
use lb_core::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Frames out that the peer has not acknowledged, at most.
const WINDOW: usize = 16;
/// Between two readings.
const GATHER: Duration = Duration::from_millis(100);

/// Slots of third nodes that are passed on with one heartbeat, at most, and shards' pieces that are looked at for them.
const RELAYED: usize = 512;
const RELAY_LOOKS: usize = 64;

/// A peer's cursors, kept between two links.
pub(crate) type Memory = Vec<(Arc<Local>, Progress)>;

/// A frame on its way.
#[derive(Debug)]
struct Sent {
    number: u64,
    table: u32,
    reached: Reached,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    memory: Memory,
    in_flight: VecDeque<Sent>,
    last_sent: u64,
    last_received: u64,
    next_table: usize,
    /// There may be changes that were not read.
    dirty: bool,
    /// The next reading, not before this.
    not_before: Duration,
    peer: NodeId,
    relay: Relay,
    /// A heartbeat ago or more something was passed on.
    relays: bool,
}

/// Where passing on has got to, around and around through all tables.
#[derive(Debug, Default)]
struct Relay {
    table: usize,
    shard: usize,
    slot: u32,
    /// When this time around began.
    began: Timestamp,
    /// When the last one did: what came before that was passed on by it.
    since: Timestamp,
}

impl Tally {
    /// Goes on from what the peer acknowledged on an earlier link. A peer in a new life gets everything that was
    /// counted here, whatever it pulls: nobody else knows our slots better.
    pub(crate) fn new(mut memory: Memory, common: &Common, peer: NodeId, now: Now) -> Self {
        memory.iter_mut().for_each(|(_, progress)| progress.rewind());
        let mut tally = Self {
            memory,
            in_flight: VecDeque::new(),
            last_sent: 0,
            last_received: 0,
            next_table: 0,
            dirty: true,
            not_before: now.at,
            peer,
            relay: Relay { began: now.wall, ..Relay::default() },
            relays: false,
        };
        tally.set_tables(common);
        tally
    }

    /// Takes on another set of common tables.
    pub(crate) fn set_tables(&mut self, common: &Common) {
        let mut before = std::mem::take(&mut self.memory);
        for local in common.tables() {
            let known = before.iter().position(|(t, _)| t.id == local.id).map(|at| before.swap_remove(at));
            self.memory.push(known.unwrap_or_else(|| (local.clone(), Progress::from_start(&local.table))));
        }
        (self.relay.table, self.relay.shard, self.relay.slot) = (0, 0, 0);
        self.dirty = true;
    }

    /// Time for something more to be passed on; and should a wake-up ever get lost, this is how long it costs.
    pub(crate) fn beat(&mut self) {
        self.dirty = true;
        self.relays = true;
    }

    /// What is to be known of the peer when it comes again.
    pub(crate) fn into_memory(self) -> Memory {
        self.memory
    }

    /// The counters have changed.
    pub(crate) fn wake(&mut self) {
        self.dirty = true;
    }

    /// Everything has been sent and acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.dirty && self.in_flight.is_empty()
    }

    /// Whether it is time to read changes.
    pub(crate) fn is_ready(&self, now: Now) -> bool {
        self.dirty && self.in_flight.len() < WINDOW && now.at >= self.not_before
    }

    /// When [`Self::teach`] wants to be called though nothing comes in.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        (self.dirty && self.in_flight.len() < WINDOW).then_some(self.not_before)
    }

    /// Sends what changed.
    pub(crate) fn teach(&mut self, now: Now, out: &mut VecDeque<Frame>) {
        if !self.is_ready(now) {
            return;
        }
        while self.in_flight.len() < WINDOW {
            let Some(read) = self.read(now) else {
                self.dirty = false;
                self.not_before = now.at + GATHER;
                break;
            };
            self.send(read, out);
        }
        if self.relays && self.in_flight.len() < WINDOW {
            self.relays = false;
            self.pass_on(now, out);
        }
    }

    /// Sends the next piece of what came of third nodes.
    fn pass_on(&mut self, now: Now, out: &mut VecDeque<Frame>) {
        let (relay, mut batch, mut of) = (&mut self.relay, CountBatch::default(), 0);
        for _ in 0..RELAY_LOOKS {
            let Some((local, _)) = self.memory.get(relay.table) else {
                *relay = Relay { since: relay.began, began: now.wall, ..Relay::default() };
                break;
            };
            of = local.id;
            let held: usize = batch.keys.iter().map(|counts| counts.slots.len().max(1)).sum();
            let from = (relay.slot, RELAYED.saturating_sub(held));
            let next = local.table.relay_counts(relay.shard, from, (relay.since, self.peer), now.wall, &mut batch);
            relay.slot = next.unwrap_or(0);
            relay.shard += usize::from(next.is_none());
            let end = relay.shard >= local.table.shards();
            if end {
                (relay.table, relay.shard) = (relay.table + 1, 0);
            }
            match batch.keys.is_empty() {
                false if end || held >= RELAYED => break,
                true if end => batch = CountBatch::default(),
                _ => {}
            }
        }
        if !batch.keys.is_empty() {
            self.send((of, Reached::new(), batch), out);
        }
    }

    fn send(&mut self, (table, reached, batch): (u32, Reached, CountBatch), out: &mut VecDeque<Frame>) {
        self.last_sent += 1;
        let number = self.last_sent;
        self.in_flight.push_back(Sent { number, table, reached });
        out.push_back(Frame::Counts { number, pull: 0, table, counts: Counts::pack(batch) });
    }

    /// The next changes, of one table; every table has its turn.
    fn read(&mut self, now: Now) -> Option<(u32, Reached, CountBatch)> {
        let tables = self.memory.len();
        for _ in 0..tables {
            self.next_table = (self.next_table + 1) % tables;
            let (local, progress) = &mut self.memory[self.next_table];
            loop {
                let mut batch = CountBatch::default();
                let (reached, more) = progress.read_by(local.batch, |shard, cursor, room| {
                    let had = batch.keys.len();
                    let more = local.table.count_changes(shard, cursor, room, now.wall, &mut batch);
                    (batch.keys.len() - had, more)
                });
                if !batch.keys.is_empty() {
                    return Some((local.id, reached, batch));
                }
                if !more {
                    break;
                }
            }
        }
        None
    }

    /// The peer has handled frames.
    pub(crate) fn acked(&mut self, number: u64) -> Result<(), Garbage> {
        if number > self.last_sent {
            return Err(Garbage("an acknowledgement of what was not sent"));
        }
        while let Some(sent) = self.in_flight.pop_front_if(|sent| sent.number <= number) {
            if let Some((_, progress)) = self.memory.iter_mut().find(|(t, _)| t.id == sent.table) {
                progress.acked(&sent.reached);
            }
        }
        Ok(())
    }

    /// Counters that the peer tells. Returns the answer.
    pub(crate) fn received(
        &mut self,
        now: Now,
        (number, pull): (u64, u64),
        (local, counts): (Option<&Local>, Counts),
        learner: &mut Learner,
    ) -> Result<Frame, Garbage> {
        let keys = counts.keys.len();
        let merge = |local: &Local| local.table.merge_counts(&counts.unpack(), now.wall);
        // A table without counters has no use for any; that is no fault of the peer's.
        let refused = local.map_or(keys, merge) as u32;
        if pull != 0 {
            learner.pull_goes_on(now, pull);
            return Ok(Frame::PullAck { pull });
        }
        if number != self.last_received + 1 {
            return Err(Garbage("counters out of order"));
        }
        self.last_received = number;
        Ok(Frame::CountsAck { number, refused })
    }
}

/// The counters that go with a pull: of every table that is asked for, after its pins.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    parts: VecDeque<(Arc<Local>, Vec<u8>)>,
    shard: usize,
    slot: u32,
}

impl Serving {
    /// A table's pins are out.
    pub(crate) fn then(&mut self, local: Arc<Local>, buckets: Vec<u8>) {
        self.parts.push_back((local, buckets));
    }

    /// The next counters of the pull, one table's; none of them may be wanted. `None`: that was all.
    pub(crate) fn next(&mut self, now: Now, scans: &mut usize) -> Option<(Arc<Local>, CountBatch)> {
        let (local, buckets) = self.parts.front()?;
        let local = local.clone();
        let wanted = |key: &[u8]| buckets.is_empty() || is_wanted(buckets, key);
        let mut batch = CountBatch::default();
        while self.shard < local.table.shards() && *scans > 0 && batch.keys.len() < local.batch {
            *scans -= 1;
            let room = local.batch - batch.keys.len();
            let next = local.table.scan_counts(self.shard, self.slot, room, now.wall, wanted, &mut batch);
            if next == Some(self.slot) {
                // It is full, or the table has another list of counters since.
                break;
            }
            self.slot = next.unwrap_or(0);
            self.shard += usize::from(next.is_none());
        }
        if self.shard >= local.table.shards() {
            self.parts.pop_front();
            self.shard = 0;
        }
        Some((local, batch))
    }
}

/// Whether a key is in a bucket that is asked for.
pub(crate) fn is_wanted(buckets: &[u8], key: &[u8]) -> bool {
    let bucket = StickTable::bucket(key);
    buckets.get(bucket / 8).is_some_and(|byte| byte & (1 << (bucket % 8)) != 0)
}
