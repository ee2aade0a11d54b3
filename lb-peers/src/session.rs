//! One link to a peer, from the stream's opening to its end: greeting, heartbeats, and the two halves of its work
//! ([`Teacher`], [`Learner`]).
//!
//! Sans-IO. What concerns more than this link (who may speak to us, whom to pull from, decisions, questions for keys)
//! it hands to the replicator as an [`Event`].
use crate::cursor::Progress;
use crate::learner::{Learner, PullEnd};
use crate::replicator::{LinkId, Now, Side};
use crate::tables::{Common, Local};
use crate::teacher::{Memory, Teacher};
use crate::wire::{Entries, Frame, Garbage, Goodbye, Hello, LoadOf, PROTOCOL, Refusal, Schema};
use lb_core::decisions::Decision;
use lb_core::id::Names;
use lb_core::table::{StickKey, StickTable, Update};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

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
}

/// What a session needs to know of its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) names: &'a Names,
    /// Our tables are whole.
    pub(crate) pulled: bool,
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

    /// The peer may speak to us.
    pub(crate) fn accept(&mut self, now: Now, hello: Hello, common: Common, memory: Memory) {
        // A peer that pulls gets everything by that: its cursors start at the newest change as of now, before any scan
        // of the pull, so that nothing falls between. Any other gets every change it has not acknowledged.
        let begin: fn(&StickTable) -> Progress =
            if hello.pulled { Progress::from_start } else { Progress::from_newest };
        let teacher = Teacher::new(memory, &common, begin);
        let digests_due = common.tables().iter().map(|t| t.id).collect();
        // Two who knew each other bring each other up to date first: a digest taken before that differs for nothing.
        let catch_up = if self.said_pulled && hello.pulled { self.heartbeat / 2 } else { Duration::ZERO };
        self.up = Some(Up {
            pulled: hello.pulled,
            protocol: hello.protocol.min(PROTOCOL),
            hello,
            since: now.at,
            common,
            teacher,
            learner: Learner::default(),
            rtt: None,
            offset_ms: None,
            digests_due,
            digests_at: now.at + catch_up,
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
        }
        up.work(now, node, &mut self.out);
    }

    /// When [`Self::work`] or [`Self::is_dead`] want to be asked though nothing comes in.
    pub(crate) fn timeout(&self, now: Now) -> Duration {
        let dead = self.heard + self.heartbeat * DEAD_AFTER;
        let Some(up) = &self.up else { return dead };
        let digests = (!up.digests_due.is_empty() && up.digests_at > now.at).then_some(up.digests_at);
        let own = [Some(dead), Some(self.next_ping), up.teacher.timeout(now), up.learner.timeout(), digests];
        own.into_iter().flatten().min().unwrap_or(dead)
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
            Frame::PullRequest { pull, parts } => self.teacher.requested(pull, parts, &self.common, !node.pulled),
            Frame::PullBatch { pull, table, entries } => {
                let local = self.common.remote(table).map(|t| &**t);
                out.push_back(self.learner.pull_batch(now, pull, local, entries, node.names));
            }
            Frame::PullAck { pull } => self.teacher.pull_acked(pull),
            Frame::PullDone { pull, partial, .. } => {
                return Ok(self.learner.pull_done(now, pull, partial).map(Event::PullEnded));
            }
            Frame::Digest { table, buckets } => self.digest(table, &buckets, node)?,
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

    fn digest(&mut self, table: u32, buckets: &[u64], node: Node<'_>) -> Result<(), Garbage> {
        match self.common.remote(table).filter(|_| node.pulled) {
            Some(local) => self.learner.digest(local, buckets),
            None => Ok(()),
        }
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
        if node.pulled && self.pulled {
            self.send_digests(now, out);
            self.learner.repair(now, &self.common, out);
        }
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
        self.common = common;
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
