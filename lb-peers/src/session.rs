//! One link to a peer, from the stream's opening to its end: greeting, heartbeats, and the two halves of its work
//! ([`Teacher`], [`Learner`]).
//!
//! Sans-IO. What concerns more than this link (who may speak to us, whom to pull from, decisions, questions for keys)
//! it hands to the replicator as an [`Event`].
use crate::compare::{self, Comparison};
use crate::cursor::Progress;
use crate::learner::{Kind, Learner, PullEnd};
use crate::replicator::{Inspect, Inspected, LinkId, Now, Side};
use crate::tables::{Common, Local};
use crate::tally::Tally;
use crate::teacher::{Memory, Teacher};
use crate::wire::{Entries, Frame, Garbage, Goodbye, Hello, LoadOf, PROTOCOL, Part, Refusal, Schema};
use lb_core::decisions::Decision;
use lb_core::id::{Names, NodeId};
use lb_core::status::TableSync;
use lb_core::table::{StickKey, Update};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The first protocol with counters.
const COUNTERS: u32 = 2;
/// Heartbeats without a word after which a link is dead.
const DEAD_AFTER: u32 = 3;

/// What a link says of itself when it ends on its own account.
pub(crate) const SILENT: &str = "it does not answer";

/// One link.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: LinkId,
    pub(crate) side: Side,
    pub(crate) remote: SocketAddr,
    /// Names in the peer's certificate; `None`: no TLS.
    pub(crate) certificate: Option<Vec<String>>,
    /// Name and listen address that the peer gave, welcome or not.
    pub(crate) greeted_as: Option<(String, SocketAddr)>,
    pub(crate) up: Option<Up>,
    /// What our greeting said of our tables: that they are whole.
    pub(crate) said_pulled: bool,
    heartbeat: Duration,
    heard: Duration,
    next_ping: Duration,
    pub(crate) out: VecDeque<Frame>,
}

/// A link whose greeting went well.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) hello: Hello,
    /// The protocol that both speak.
    pub(crate) protocol: u32,
    pub(crate) since: Duration,
    pub(crate) common: Common,
    pub(crate) teacher: Teacher,
    pub(crate) learner: Learner,
    /// `None`: the peer knows no counters.
    pub(crate) tally: Option<Tally>,
    pub(crate) comparison: Comparison,
    /// People who wait for an answer: by number, what they want to know of which table.
    inspections: BTreeMap<u64, (u32, Inspect)>,
    /// The peer's tables are whole.
    pub(crate) pulled: bool,
    pub(crate) rtt: Option<Duration>,
    /// The peer's wall clock minus ours, in milliseconds.
    pub(crate) offset_ms: Option<f64>,
    /// Tables (by our number) whose digest the peer is to get.
    digests_due: BTreeSet<u32>,
    /// Not before this.
    digests_at: Duration,
}

/// What a session leaves to the replicator.
#[derive(Debug)]
pub(crate) enum Event {
    Hello(Hello),
    Refused(Refusal),
    Goodbye(Goodbye),
    Tables(Vec<Schema>),
    /// The peer's tables are whole now.
    Pulled,
    PullEnded(PullEnd),
    Decisions(Vec<Decision>),
    /// What the peer has on servers with a shared bound.
    Loads {
        /// Of this frame, and of the last one from here that the peer has seen.
        numbers: (u64, u64),
        loads: Vec<LoadOf>,
    },
    /// A question was answered; what was found is merged.
    Answered {
        id: u64,
        found: bool,
    },
    /// What people wanted to know.
    Inspected(Vec<(u64, Inspected)>),
}

/// What a session needs to know of its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) names: &'a Names,
    /// Our tables are whole.
    pub(crate) pulled: bool,
    /// How often two peers compare their tables.
    pub(crate) anti_entropy: Duration,
}

impl Session {
    pub(crate) fn new(link: LinkId, side: Side, remote: SocketAddr, now: Now, heartbeat: Duration) -> Self {
        Self {
            link,
            side,
            remote,
            certificate: None,
            greeted_as: None,
            up: None,
            said_pulled: false,
            heartbeat,
            heard: now.at,
            next_ping: now.at,
            out: VecDeque::new(),
        }
    }

    /// The peer may speak to us. It gets every change that it has not acknowledged, as `memory` says.
    pub(crate) fn accept(&mut self, now: Now, hello: Hello, common: Common, mut memory: Memory) {
        let protocol = hello.protocol.min(PROTOCOL);
        let (counted, node) = (std::mem::take(&mut memory.tally), NodeId::new(&hello.node, hello.incarnation));
        let tally = (protocol >= COUNTERS).then(|| Tally::new(counted, &common, node, now));
        let teacher = Teacher::new(memory, &common, Progress::from_start);
        let digests_due = common.tables().iter().map(|t| t.id).collect();
        // Two who knew each other bring each other up to date first: a digest taken before that differs for nothing.
        let catch_up = if self.said_pulled && hello.pulled { self.heartbeat / 2 } else { Duration::ZERO };
        let digests_at = now.at + catch_up;
        let mut comparison = Comparison::default();
        // After what the digests of the beginning bring; and one side first: what it finds equal, the other knows.
        let turns = if self.side == Side::Dialler { 1 } else { 2 };
        comparison.set_tables(&common, digests_at + self.heartbeat * turns);
        self.up = Some(Up {
            comparison,
            inspections: BTreeMap::new(),
            pulled: hello.pulled,
            protocol,
            hello,
            since: now.at,
            common,
            teacher,
            learner: Learner::default(),
            tally,
            rtt: None,
            offset_ms: None,
            digests_due,
            digests_at,
        });
    }

    /// Whether the greeting went well.
    pub(crate) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Nothing was heard for so long that the peer counts as dead.
    pub(crate) fn is_dead(&self, now: Now) -> bool {
        now.at >= self.heard + self.heartbeat * DEAD_AFTER
    }

    /// A frame came in.
    pub(crate) fn receive(&mut self, now: Now, frame: Frame, node: Node<'_>) -> Result<Option<Event>, Garbage> {
        self.heard = now.at;
        match (frame, &mut self.up) {
            (Frame::Hello(hello), None) => Ok(Some(Event::Hello(hello))),
            (Frame::Refuse(refusal), _) => Ok(Some(Event::Refused(refusal))),
            (Frame::Goodbye(why), _) => Ok(Some(Event::Goodbye(why))),
            (_, None) => Err(Garbage("no hello at first")),
            (Frame::Hello(_), Some(_)) => Err(Garbage("two hellos")),
            (frame, Some(up)) => up.receive(now, frame, node, &mut self.out),
        }
    }

    /// Sends what is due.
    pub(crate) fn work(&mut self, now: Now, node: Node<'_>) {
        let Some(up) = &mut self.up else { return };
        if now.at >= self.next_ping {
            self.next_ping = now.at + self.heartbeat;
            self.out.push_back(Frame::Ping { sent: micros(now.at) });
            // Should a wake-up ever get lost, this is how long it costs.
            up.teacher.wake();
            if let Some(tally) = &mut up.tally {
                tally.beat();
            }
        }
        up.work(now, node, &mut self.out);
    }

    /// When [`Self::work`] or [`Self::is_dead`] want to be asked though nothing comes in.
    pub(crate) fn timeout(&self, now: Now) -> Duration {
        let dead = self.heard + self.heartbeat * DEAD_AFTER;
        let Some(up) = &self.up else { return dead };
        let digests = (!up.digests_due.is_empty() && up.digests_at > now.at).then_some(up.digests_at);
        let counters = up.tally.as_ref().and_then(Tally::timeout);
        let own = [Some(dead), Some(self.next_ping), up.teacher.timeout(now), up.learner.timeout(), digests, counters];
        let own = own.into_iter().chain([up.compares().then(|| up.comparison.timeout(now)).flatten()]);
        own.flatten().min().unwrap_or(dead)
    }

    /// The source of a pull serves nothing.
    pub(crate) fn is_stalled(&self, now: Now) -> bool {
        self.up.as_ref().and_then(|up| up.learner.timeout()).is_some_and(|at| now.at >= at)
    }
}

impl Up {
    fn receive(
        &mut self,
        now: Now,
        frame: Frame,
        node: Node<'_>,
        out: &mut VecDeque<Frame>,
    ) -> Result<Option<Event>, Garbage> {
        match frame {
            Frame::Ping { sent } => out.push_back(Frame::Pong { sent, wall_ms: now.clock.0 }),
            Frame::Pong { sent, wall_ms } => self.pong(now, sent, wall_ms),
            Frame::Batch { number, table, entries } => {
                let part = (self.common.remote(table).map(|t| &**t), entries);
                let counts = &mut self.teacher.memory.counts;
                out.push_back(self.learner.batch(now, number, part, node.names, counts)?);
            }
            Frame::Ack { number, refused, .. } => self.teacher.acked(number, refused)?,
            Frame::PullRequest { pull, parts } => {
                self.teacher.requested(pull, parts, &self.common, (!node.pulled, self.protocol >= COUNTERS));
            }
            Frame::PullBatch { pull, table, entries } => {
                if let Some(id) = self.learner.listed(now, pull) {
                    out.push_back(Frame::PullAck { pull });
                    return Ok(Some(Event::Inspected(vec![(id, Inspected::Entries(entries))])));
                }
                let local = self.common.remote(table).map(|t| &**t);
                out.push_back(self.learner.pull_batch(now, pull, local, entries, node.names));
            }
            Frame::PullAck { pull } => self.teacher.pull_acked(pull),
            Frame::PullDone { pull, partial, .. } => {
                let end = self.learner.pull_done(now, pull, partial);
                return Ok(end.map(|end| self.pull_ended(now, end, node)));
            }
            Frame::Counts { pull, .. } if self.learner.listed(now, pull).is_some() => {
                // People see pins only.
                out.push_back(Frame::PullAck { pull });
            }
            Frame::Counts { number, pull, table, counts } => {
                let part = (self.common.remote(table).map(|t| &**t), counts);
                let tally = self.tally.as_mut().ok_or(Garbage("counters, which its protocol does not have"))?;
                out.push_back(tally.received(now, (number, pull), part, &mut self.learner)?);
            }
            Frame::CountsAck { number, .. } => {
                let tally = self.tally.as_mut().ok_or(Garbage("counters, which its protocol does not have"))?;
                tally.acked(number)?;
            }
            Frame::Digest { table, buckets } => self.digest(table, &buckets, node)?,
            Frame::Root { table, hash, full } => {
                if let Some(local) = self.common.remote(table).filter(|_| node.pulled) {
                    out.extend(self.comparison.root(now, node.anti_entropy, local, (hash, full)));
                }
            }
            Frame::Compared { table, buckets } => return self.compared(now, table, &buckets, node),
            Frame::Ask { id, table, key } => out.push_back(self.answer(now, id, table, &key, node.names)),
            Frame::Answer { id, table, entries } => {
                return Ok(Some(self.answered(now, id, table, entries, node.names)));
            }
            Frame::Tables(tables) => return Ok(Some(Event::Tables(tables))),
            Frame::Decisions(all) => return Ok(Some(Event::Decisions(all))),
            Frame::Loads { number, seen, loads } => return Ok(Some(Event::Loads { numbers: (number, seen), loads })),
            Frame::Pulled => return Ok(Some(Event::Pulled)),
            Frame::Unknown | Frame::Hello(_) | Frame::Refuse(_) | Frame::Goodbye(_) => {}
        }
        Ok(None)
    }

    fn pong(&mut self, now: Now, sent: u64, wall_ms: u64) {
        let Some(rtt) = micros(now.at).checked_sub(sent) else { return };
        self.rtt = Some(Duration::from_micros(rtt));
        // Its clock was read half a round trip ago, if both ways are alike.
        self.offset_ms = Some(wall_ms as f64 + rtt as f64 / 2000.0 - now.clock.0 as f64);
    }

    /// A pull has ended: what it did counts for the comparisons to come.
    fn pull_ended(&mut self, now: Now, end: PullEnd, node: Node<'_>) -> Event {
        if let Kind::List(id) = end.kind {
            self.inspections.remove(&id);
            return Event::Inspected(vec![(id, Inspected::End)]);
        }
        if end.kind == Kind::Repair {
            for (id, repair) in &end.tables {
                self.teacher.memory.counts.repaired += repair.applied;
                if let Some(local) = self.common.local(*id) {
                    self.comparison.pulled(now, node.anti_entropy, local, *repair);
                }
            }
        }
        Event::PullEnded(end)
    }

    /// The peer's answer to a root. People get it as it is; without them, it may lead to a repair.
    fn compared(&mut self, now: Now, table: u32, theirs: &[u64], node: Node<'_>) -> Result<Option<Event>, Garbage> {
        if !theirs.is_empty() {
            compare::check(theirs)?;
        }
        let Some(local) = self.common.remote(table).cloned() else { return Ok(None) };
        self.teacher.memory.counts.compared += 1;
        let asked = self.inspections.extract_if(.., |_, (id, what)| *id == local.id && *what == Inspect::Compare);
        let asked: Vec<u64> = asked.map(|(id, _)| id).collect();
        if !asked.is_empty() {
            let buckets: Vec<usize> =
                compare::differing(&local.table.digest(), theirs).into_iter().map(|(bucket, _)| bucket).collect();
            let found = asked.into_iter().map(|id| (id, Inspected::Differ(buckets.clone())));
            return Ok(Some(Event::Inspected(found.collect())));
        }
        if let Some(bits) = self.comparison.compared(now, node.anti_entropy, &local, theirs) {
            self.learner.differs(&local, bits);
        }
        Ok(None)
    }

    fn digest(&mut self, table: u32, buckets: &[u64], node: Node<'_>) -> Result<(), Garbage> {
        compare::check(buckets)?;
        if let Some(local) = self.common.remote(table).filter(|_| node.pulled) {
            self.learner.digest(local, buckets);
        }
        Ok(())
    }

    fn answer(&self, now: Now, id: u64, table: u32, key: &[u8], names: &Names) -> Frame {
        let found = self.common.remote(table).and_then(|local| Some((local.id, peek(local, key, now)?)));
        let (table, found) = found.map_or((0, None), |(table, update)| (table, Some(update)));
        Frame::Answer { id, table, entries: Entries::pack(found.into_iter().collect(), names) }
    }

    fn answered(&mut self, now: Now, id: u64, table: u32, entries: Entries, names: &Names) -> Event {
        let mut found = false;
        if let Some(local) = self.common.remote(table) {
            let (updates, _) = entries.unpack(names);
            found = !updates.is_empty();
            local.table.merge_all(&updates, now.wall);
        }
        Event::Answered { id, found }
    }

    fn work(&mut self, now: Now, node: Node<'_>, out: &mut VecDeque<Frame>) {
        self.teacher.teach(now, node.names, out);
        self.teacher.serve(now, node.names, out);
        if let Some(tally) = &mut self.tally {
            tally.teach(now, out);
        }
        if node.pulled && self.pulled {
            self.send_digests(now, out);
            if self.compares() && self.teacher.is_read() && !self.learner.is_pulling() {
                self.comparison.send(now, node.anti_entropy, &self.common, out);
            }
            self.learner.repair(now, &self.common, out);
        }
    }

    /// Whether both ends compare tables by themselves.
    pub(crate) fn compares(&self) -> bool {
        self.protocol >= 2
    }

    /// What is known of the tables that both have.
    pub(crate) fn known(&self, now: Now, every: Duration) -> Vec<TableSync> {
        let known = |local: &Arc<Local>| {
            let mut known = self.comparison.known(now, every, local);
            if !self.compares() {
                known.note = Some("its release does not compare tables by itself".into());
            }
            known
        };
        self.common.tables().iter().map(known).collect()
    }

    /// People want to know something of the peer's table.
    pub(crate) fn inspect(&mut self, id: u64, table: u32, what: Inspect) {
        match &what {
            Inspect::Compare => self.comparison.ask(table),
            Inspect::List(buckets) => self.learner.list(id, Part { table, buckets: buckets.clone() }),
        }
        self.inspections.insert(id, (table, what));
    }

    /// People who wait for an answer.
    pub(crate) fn inspections(&self) -> Vec<u64> {
        self.inspections.keys().copied().collect()
    }

    /// Digests go out once the changes that they count have.
    fn send_digests(&mut self, now: Now, out: &mut VecDeque<Frame>) {
        if self.digests_due.is_empty() || now.at < self.digests_at || !self.teacher.is_read() {
            return;
        }
        for id in std::mem::take(&mut self.digests_due) {
            if let Some(local) = self.common.local(id) {
                out.push_back(Frame::Digest { table: id, buckets: local.table.digest() });
            }
        }
    }

    /// The peer is to get the digests of all tables, from `at` on.
    pub(crate) fn compare(&mut self, at: Duration) {
        self.digests_due = self.common.tables().iter().map(|t| t.id).collect();
        self.digests_at = at;
    }

    /// Takes on another set of common tables; those that are new are compared.
    pub(crate) fn set_common(&mut self, common: Common) {
        let new = common.tables().iter().filter(|t| self.common.local(t.id).is_none()).map(|t| t.id);
        self.digests_due.extend(new.collect::<Vec<_>>());
        self.teacher.set_tables(&common, Progress::from_start);
        if let Some(tally) = &mut self.tally {
            tally.set_tables(&common);
        }
        self.comparison.set_tables(&common, self.digests_at);
        self.common = common;
    }

    /// The tables have changed.
    pub(crate) fn wake(&mut self) {
        self.teacher.wake();
        if let Some(tally) = &mut self.tally {
            tally.wake();
        }
    }

    /// Everything has been sent and acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.teacher.is_flushed() && self.tally.as_ref().is_none_or(Tally::is_flushed)
    }

    /// What is to be known of the peer when it comes again.
    pub(crate) fn into_memory(self) -> (Hello, Memory) {
        let mut memory = self.teacher.memory;
        memory.tally = self.tally.map_or_else(Vec::new, Tally::into_memory);
        (self.hello, memory)
    }
}

fn peek(local: &Local, key: &[u8], now: Now) -> Option<Update> {
    let canonical = StickKey::from_canonical(local.table.kind(), local.table.key_len(), key)?;
    let pin = local.table.peek(&canonical, now.wall)?;
    Some(Update { key: key.into(), server: pin.server, stamp: pin.stamp, left: pin.left, holders: Vec::new() })
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}
