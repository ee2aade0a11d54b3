//! The whole node's share in the protocol: links and the peers behind them, whom to dial and to pull from, questions
//! for keys, operators' decisions.
//!
//! Sans-IO: it opens no socket and reads no clock. Everything that happens comes in by [`Replicator::handle`],
//! everything to be done goes out by [`Replicator::poll_output`], and [`Replicator::poll_timeout`] says when to call
//! again if nothing happens. A simulation drives it as well as the network does.
use crate::learner::Kind;
use crate::session::{Event, Node, SILENT, Session};
use crate::tables::Tables;
use crate::teacher::Memory;
use crate::wire::{self, Frame, Goodbye, Hello, Refusal, RefuseCode, Schema};
use ask::Asks;
use dial::{Due, Targets};
use lb_core::config;
use lb_core::decisions::{Decision, Decisions};
use lb_core::hlc::Clock;
use lb_core::id::Names;
use lb_core::table::StickTable;
use loads::Loads;
use peer::{Peer, Strangers};
use pull::{Ended, Plan, Source, Step};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod ask;
mod dial;
mod face;
mod greet;
mod loads;
mod peer;
mod pull;
mod status;

pub use dial::{Failure, Found};
pub use face::{Input, Inspect, Inspected, LinkId, Now, Output, Setup, Side};

/// Decisions in one frame.
const DECISIONS_A_FRAME: usize = 256;

/// Why a link ends.
#[derive(Debug)]
enum End {
    /// It broke, or the peer is gone.
    Lost(String),
    /// The two must not speak to each other.
    Refused(Refusal),
    /// Nothing is wrong: the pair has another stream, or we dialled ourselves.
    Needless,
}

/// See the module.
#[derive(Debug)]
pub struct Replicator {
    setup: Setup,
    names: Arc<Names>,
    clock: Arc<Clock>,
    decisions: Arc<Decisions>,
    tables: Tables,
    sessions: BTreeMap<LinkId, Session>,
    peers: BTreeMap<String, Peer>,
    strangers: Strangers,
    targets: Targets,
    plan: Plan,
    asks: Asks,
    loads: Loads,
    outputs: VecDeque<Output>,
    last_link: u64,
    /// A table's change log has something new since it was last read.
    woken: bool,
    /// The node stops, at this time at the latest.
    stopping: Option<Duration>,
    stopped: bool,
}

impl Replicator {
    /// A node that begins now.
    pub fn new(setup: Setup, tables: Vec<Arc<StickTable>>, now: Now) -> Self {
        let settings = &setup.settings;
        let mut replicator = Self {
            names: settings.names.clone(),
            clock: settings.clock.clone(),
            decisions: settings.decisions.clone(),
            tables: Tables::default(),
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            strangers: Strangers::default(),
            targets: Targets::new(setup.listen, setup.seed),
            plan: Plan::new(now.at + settings.config.join_timeout),
            asks: Asks::default(),
            loads: Loads::new(settings.shared.clone(), &settings.node),
            outputs: VecDeque::new(),
            last_link: 0,
            woken: true,
            stopping: None,
            stopped: false,
            setup,
        };
        replicator.tables.set(tables);
        replicator.targets.configure(&replicator.setup.settings.config.join, now.at);
        replicator.settle(now);
        replicator
    }

    /// What is to be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`] if nothing happens before; it may lie in the past.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        let sessions = self.sessions.values().map(|s| s.timeout(now));
        let dial = self.stopping.is_none().then(|| self.targets.next_due(|n| self.is_up(n))).flatten();
        sessions
            .chain(dial)
            .chain(self.plan.timeout())
            .chain(self.asks.timeout())
            .chain(self.loads.timeout())
            .chain(self.stopping)
            .min()
    }

    /// Whether the tables are whole.
    pub fn is_pulled(&self) -> bool {
        self.plan.is_done()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Opened { link, side, remote, certificate } => self.opened(now, (link, side), remote, certificate),
            Input::NotOpened { link, failure, error } => self.not_opened(now, link, failure, error),
            Input::Stranger { remote, why } => self.strangers.note(now, &remote.ip().to_string(), remote, why),
            Input::Received { link, frame } => self.received(now, link, frame),
            Input::Garbage { link, garbage } => self.garbage(now, link, garbage),
            Input::Closed { link, error } => self.end(now, link, End::Lost(error)),
            Input::LookedUp { name, result } => self.targets.looked_up(&name, result, now.at),
            Input::Changed => self.changed(),
            Input::Tick => {}
            Input::Ask { id, table, key } => self.ask(now, id, &table, key),
            Input::Inspect { id, peer, table, what } => self.inspect(id, &peer, &table, what),
            Input::Decided(decision) => self.broadcast(&Frame::Decisions(vec![*decision]), None),
            Input::Configure { config, tables } => self.configure(now, *config, tables),
            Input::Stop { within } => self.stop(now, within),
        }
        self.settle(now);
    }

    fn is_up(&self, node: &str) -> bool {
        self.peers.get(node).is_some_and(|p| p.link.is_some())
    }

    fn changed(&mut self) {
        self.woken = true;
        self.sessions.values_mut().filter_map(|s| s.up.as_mut()).for_each(|up| up.wake());
    }

    fn opened(&mut self, now: Now, (link, side): (LinkId, Side), remote: SocketAddr, certificate: Option<Vec<String>>) {
        if self.stopping.is_some() {
            return self.outputs.push_back(Output::Close { link });
        }
        let heartbeat = self.setup.settings.config.heartbeat;
        let mut session = Session::new(link, side, remote, now, heartbeat);
        session.certificate = certificate;
        session.said_pulled = self.is_pulled();
        session.out.push_back(Frame::Hello(self.hello(now)));
        self.sessions.insert(link, session);
    }

    fn not_opened(&mut self, now: Now, link: LinkId, failure: Failure, error: String) {
        if let Some(addr) = self.targets.ended(link, Some((failure, error.clone())), now.at) {
            match failure {
                Failure::Refused(_) => self.strangers.warn(addr, &error),
                _ => tracing::debug!(%addr, error, "peer cannot be reached"),
            }
        }
    }

    fn garbage(&mut self, now: Now, link: LinkId, garbage: wire::Garbage) {
        let refusal = Refusal { code: RefuseCode::Malformed, text: garbage.to_string() };
        self.refuse(now, link, refusal);
    }

    fn received(&mut self, now: Now, link: LinkId, frame: Frame) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let node = node(&self.names, &self.plan, &self.setup);
        match session.receive(now, frame, node) {
            Ok(None) => {}
            Ok(Some(event)) => self.event(now, link, event),
            Err(garbage) => self.garbage(now, link, garbage),
        }
    }

    fn event(&mut self, now: Now, link: LinkId, event: Event) {
        match event {
            Event::Hello(hello) => self.greeted(now, link, hello),
            Event::Refused(refusal) => self.end(now, link, End::Refused(refusal)),
            Event::Goodbye(Goodbye::Stopping) => {
                let name = self.name_of(link).map(str::to_owned);
                self.end(now, link, End::Lost("it was stopped".into()));
                name.iter().for_each(|name| self.loads.left(name));
            }
            // The peer keeps another stream of this pair.
            Event::Goodbye(Goodbye::Double) => self.end(now, link, End::Needless),
            Event::Goodbye(Goodbye::SelfDialled) => {
                self.targets.found_self(link);
                self.end(now, link, End::Needless);
            }
            Event::Goodbye(Goodbye::Other) => self.end(now, link, End::Lost("it closed the link".into())),
            Event::Tables(tables) => self.tables_of(now, link, tables),
            Event::Pulled => drop(self.up_mut(link).map(|up| up.pulled = true)),
            Event::PullEnded(end) => self.pull_ended(now, link, end),
            Event::Decisions(all) => self.decided(now, link, all),
            Event::Inspected(found) => {
                self.outputs.extend(found.into_iter().map(|(id, found)| Output::Inspected { id, found }));
            }
            Event::Loads { numbers, loads } => {
                let Some(name) = self.name_of(link).map(str::to_owned) else { return };
                if let Err(garbage) = self.loads.received(&name, numbers, loads) {
                    self.garbage(now, link, garbage);
                }
            }
            Event::Answered { id, found } => {
                let whole = self.up_mut(link).is_some_and(|up| up.pulled);
                if self.asks.answered(id, link, found, whole) {
                    self.outputs.push_back(Output::Answered { id });
                }
            }
        }
    }

    fn up_mut(&mut self, link: LinkId) -> Option<&mut crate::session::Up> {
        self.sessions.get_mut(&link)?.up.as_mut()
    }

    /// The name of the peer behind a link.
    fn name_of(&self, link: LinkId) -> Option<&str> {
        self.sessions.get(&link)?.up.as_ref().map(|up| up.hello.node.as_str())
    }

    /// The peer's tables are others now.
    fn tables_of(&mut self, now: Now, link: LinkId, tables: Vec<Schema>) {
        let Some(up) = self.sessions.get_mut(&link).and_then(|s| s.up.as_mut()) else { return };
        up.hello.tables = tables;
        self.match_tables(now, link);
    }

    fn match_tables(&mut self, now: Now, link: LinkId) {
        let us = &self.setup.settings.node;
        let Some(up) = self.sessions.get_mut(&link).and_then(|s| s.up.as_mut()) else { return };
        match self.tables.matched(us, &up.hello.node, &up.hello.tables) {
            Ok(common) => up.set_common(common),
            Err(refusal) => self.refuse(now, link, refusal),
        }
    }

    fn pull_ended(&mut self, now: Now, link: LinkId, end: crate::learner::PullEnd) {
        let Some(name) = self.name_of(link).map(str::to_owned) else { return };
        let ms = u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX);
        if let Some(peer) = self.peers.get_mut(&name).filter(|_| end.kind == Kind::Full) {
            peer.pulled = Some((end.entries, ms));
        }
        let (entries, partial) = (end.entries, end.partial);
        let applied: u64 = end.tables.values().map(|t| t.applied).sum();
        match end.kind == Kind::Full {
            true => tracing::info!(peer = name, entries, ms, partial, "tables pulled"),
            false if applied == 0 => tracing::debug!(peer = name, entries, "nothing that differed was news"),
            false => tracing::info!(peer = name, entries, applied, ms, "what differed was pulled"),
        }
        let ended = Ended { link, partial, entries };
        if end.kind == Kind::Full && self.plan.ended(now.at, ended) {
            self.whole();
        }
    }

    /// Our tables are whole from now on.
    fn whole(&mut self) {
        tracing::info!(how = self.plan.how(), "tables are ready");
        self.outputs.push_back(Output::Pulled);
        self.broadcast(&Frame::Pulled, None);
    }

    /// Merges decisions of a peer, and passes on those that are news.
    fn decided(&mut self, now: Now, link: LinkId, all: Vec<Decision>) {
        let mut news = Vec::new();
        for decision in all {
            if self.clock.observe(decision.stamp, now.wall).is_err() {
                tracing::warn!(server = ?decision.server, stamp = ?decision.stamp, "a decision from too far ahead");
            } else if self.decisions.merge(decision.clone(), now.wall) {
                news.push(decision);
            }
        }
        if !news.is_empty() {
            self.outputs.push_back(Output::DecisionsChanged);
            self.broadcast(&Frame::Decisions(news), Some(link));
        }
    }

    fn broadcast(&mut self, frame: &Frame, except: Option<LinkId>) {
        for session in self.sessions.values_mut().filter(|s| s.is_up() && Some(s.link) != except) {
            session.out.push_back(frame.clone());
        }
    }

    fn ask(&mut self, now: Now, id: u64, table: &str, key: Vec<u8>) {
        if !self.asks.open(id, table, key, now.at + self.setup.settings.config.ask_timeout) {
            self.outputs.push_back(Output::Answered { id });
        }
    }

    /// Puts open questions to the peers that were not asked yet, and ends those that need no more answers.
    fn settle_asks(&mut self, now: Now) {
        if !self.asks.any() {
            return;
        }
        for session in self.sessions.values_mut() {
            let Some(up) = &session.up else { continue };
            let number =
                |name: &str| self.tables.by_name(name).map(|t| t.id).filter(|id| up.common.local(*id).is_some());
            let put = self.asks.put_to(session.link, number);
            session.out.extend(put.into_iter().map(|(id, table, key)| Frame::Ask { id, table, key }));
        }
        let mut ended = self.asks.expired(now.at);
        if self.plan.is_done() {
            ended.extend(self.asks.whole());
        }
        self.outputs.extend(ended.into_iter().map(|id| Output::Answered { id }));
    }

    /// Shares the servers that have a bound for the whole cluster.
    fn settle_loads(&mut self, now: Now) {
        let to_meet = |t: &dial::Target| t.node.as_ref().is_none_or(|node| !self.is_up(node));
        let strangers = if self.plan.is_done() { 0 } else { self.targets.others().filter(|(_, t)| to_meet(t)).count() };
        self.loads.expect(strangers);
        for (link, frame) in self.loads.work(now, self.setup.settings.config.heartbeat) {
            if let Some(session) = self.sessions.get_mut(&link) {
                session.out.push_back(frame);
            }
        }
        if self.loads.take_grown() {
            self.outputs.push_back(Output::AllowanceGrew);
        }
    }

    fn configure(&mut self, now: Now, config: config::Peers, tables: Vec<Arc<StickTable>>) {
        self.targets.configure(&config.join, now.at);
        self.setup.settings.config = config;
        self.loads.configured();
        if self.tables.set(tables) {
            self.woken = true;
            self.broadcast(&Frame::Tables(self.tables.schemas()), None);
            for link in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.match_tables(now, link);
            }
        }
    }

    fn stop(&mut self, now: Now, within: Duration) {
        self.stopping = Some(now.at + within);
        self.changed();
    }

    /// Does everything that is due.
    fn settle(&mut self, now: Now) {
        self.bury(now);
        self.seek(now);
        self.settle_asks(now);
        self.settle_loads(now);
        self.work(now);
        match self.stopping {
            None => self.dial(now),
            Some(until) => self.finish(now, until),
        }
    }

    /// Ends links that are silent.
    fn bury(&mut self, now: Now) {
        let dead = |s: &&Session| s.is_dead(now) || s.is_stalled(now);
        for link in self.sessions.values().filter(dead).map(|s| s.link).collect::<Vec<_>>() {
            self.end(now, link, End::Lost(SILENT.into()));
        }
    }

    /// Goes on with the start: pulls, or has waited enough.
    fn seek(&mut self, now: Now) {
        if self.plan.is_done() || self.stopping.is_some() {
            return;
        }
        let ups = self.sessions.values().filter_map(|s| Some((s.link, s.up.as_ref()?)));
        let sources: Vec<Source<'_>> =
            ups.map(|(link, up)| Source { link, name: &up.hello.node, pulled: up.pulled }).collect();
        let accounted = self.targets.are_accounted_for(|n| self.is_up(n));
        match self.plan.step(now.at, &sources, accounted) {
            Step::Wait => {}
            Step::Done => self.whole(),
            Step::PullFrom(parts) => {
                for (link, buckets) in parts {
                    let Some(session) = self.sessions.get_mut(&link) else { continue };
                    let Some(up) = &mut session.up else { continue };
                    session.out.push_back(up.learner.pull(now, &up.common, &buckets));
                }
            }
        }
    }

    /// Lets the sessions send what they have.
    fn work(&mut self, now: Now) {
        let is_ready = |s: &Session| s.up.as_ref().is_some_and(|up| up.teacher.is_ready(now));
        if self.woken && self.sessions.values().any(is_ready) {
            // Before anything is read: what changes from here on wakes us again.
            self.woken = false;
            self.tables.all().iter().for_each(|t| t.table.rearm());
        }
        let counters = |s: &Session| s.up.as_ref().and_then(|up| up.tally.as_ref()).is_some_and(|t| t.is_ready(now));
        if self.sessions.values().any(counters) {
            self.tables.all().iter().for_each(|t| t.table.rearm_counting());
        }
        let node = node(&self.names, &self.plan, &self.setup);
        for (link, session) in &mut self.sessions {
            session.work(now, node);
            self.outputs.extend(session.out.drain(..).map(|frame| Output::Send { link: *link, frame }));
            if session.up.as_mut().is_some_and(|up| up.learner.take_absurd()) {
                self.strangers.absurd(session);
            }
        }
    }

    fn dial(&mut self, now: Now) {
        let peers = &self.peers;
        let is_up = |node: &str| peers.get(node).is_some_and(|p| p.link.is_some());
        while let Some(due) = self.targets.due(now.at, is_up) {
            match due {
                Due::LookUp(name) => {
                    let resolver = self.setup.settings.config.resolver;
                    self.outputs.push_back(Output::LookUp { name, resolver });
                }
                Due::Dial(addr) => {
                    self.last_link += 1;
                    let link = LinkId::dialled(self.last_link);
                    self.targets.dialling(addr, link);
                    self.outputs.push_back(Output::Dial { link, addr });
                }
            }
        }
    }

    /// Says goodbye to peers that have everything; in the end, to all.
    fn finish(&mut self, now: Now, until: Duration) {
        let told = |s: &&Session| now.at >= until || s.up.as_ref().is_none_or(|up| up.is_flushed());
        for link in self.sessions.values().filter(told).map(|s| s.link).collect::<Vec<_>>() {
            self.outputs.push_back(Output::Send { link, frame: Frame::Goodbye(Goodbye::Stopping) });
            self.end(now, link, End::Needless);
        }
        if self.sessions.is_empty() && !self.stopped {
            self.stopped = true;
            self.outputs.push_back(Output::Stopped);
        }
    }

    /// A link ends, whoever ended it.
    fn end(&mut self, now: Now, link: LinkId, why: End) {
        let Some(mut session) = self.sessions.remove(&link) else {
            // It never came to a stream.
            let error = Some((Failure::Unreachable, "the attempt was given up".to_owned()));
            self.targets.ended(link, error, now.at);
            return;
        };
        self.outputs.extend(session.out.drain(..).map(|frame| Output::Send { link, frame }));
        self.outputs.push_back(Output::Close { link });
        for id in self.asks.gone(link) {
            self.outputs.push_back(Output::Answered { id });
        }
        for id in session.up.iter().flat_map(|up| up.inspections()) {
            self.outputs.push_back(Output::Inspected { id, found: Inspected::Failed("the link ended".into()) });
        }
        self.plan.lost(link);
        self.note_end(now, &session, &why);
        let error = match why {
            End::Lost(error) => Some((Failure::Unreachable, error)),
            End::Refused(why) => Some((Failure::Refused(why.code), why.text)),
            End::Needless => None,
        };
        self.targets.ended(link, error.clone(), now.at);
        if let Some(up) = session.up {
            self.down(now, link, up, error);
        }
    }

    fn note_end(&mut self, now: Now, session: &Session, why: &End) {
        let name = session.up.as_ref().map(|up| up.hello.node.as_str());
        match (why, name) {
            (End::Refused(why), _) if session.side == Side::Dialler => self.strangers.warn(session.remote, &why.text),
            (End::Refused(why), None) => {
                let unnamed = || (session.remote.ip().to_string(), session.remote);
                let (name, addr) = session.greeted_as.clone().unwrap_or_else(unnamed);
                // Where we dial it, too, that shows the trouble.
                if !self.targets.others().any(|(target, _)| target == addr) {
                    self.strangers.note(now, &name, addr, why.clone());
                }
            }
            (End::Lost(error), Some(peer)) => tracing::warn!(peer, error, "peer is down"),
            (End::Refused(why), Some(peer)) => tracing::warn!(peer, error = why.text, "peer is refused"),
            _ => {}
        }
    }

    /// A peer's link is gone.
    fn down(&mut self, now: Now, link: LinkId, up: crate::session::Up, error: Option<(Failure, String)>) {
        let (Hello { node, .. }, memory) = up.into_memory();
        let Some(peer) = self.peers.get_mut(&node).filter(|p| p.link == Some(link)) else { return };
        peer.link = None;
        peer.since = now.at;
        peer.memory = memory;
        self.loads.down(now, &node);
        let lost = error.is_some();
        peer.error = error;
        self.targets.lost(&node, now.at);
        if !lost {
            return;
        }
        // It may have told some of us what it did not tell others: those who are left compare their tables, when they
        // have noticed, too.
        let at = now.at + self.setup.settings.config.heartbeat;
        self.sessions.values_mut().filter_map(|s| s.up.as_mut()).for_each(|up| up.compare(at));
    }

    fn hello(&self, now: Now) -> Hello {
        let settings = &self.setup.settings;
        Hello {
            protocol: wire::PROTOCOL,
            min_protocol: wire::MIN_PROTOCOL,
            cluster: settings.config.cluster.clone(),
            node: settings.node.clone(),
            incarnation: settings.incarnation,
            listen: self.setup.listen.to_string(),
            wall_ms: now.clock.0,
            pulled: self.is_pulled(),
            tables: self.tables.schemas(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What sessions need to know of their node.
fn node<'a>(names: &'a Names, plan: &Plan, setup: &Setup) -> Node<'a> {
    Node { names, pulled: plan.is_done(), anti_entropy: setup.settings.config.anti_entropy }
}

#[cfg(test)]
mod tests;
