//! A simulated cluster: nodes that are the real replicator over real tables, on one virtual clock, with a network
//! ([`Net`]) between them and a model ([`Model`]) that notes every write. Everything follows from the seed.
use super::agenda::{Agenda, Happening};
use super::model::{Model, View};
use super::net::{Arrival, Net, Owner};
use super::node::{Node, addr, make_table, name, spec};
use super::random::Random;
use lb_core::config::{self, PeerAddr};
use lb_core::decisions::Decisions;
use lb_core::hlc::Clock;
use lb_core::id::{Names, NodeId};
use lb_core::time::{Steady, Timestamp};
use lb_peers::Settings;
use lb_peers::replicator::{Failure, Input, LinkId, Now, Output, Replicator, Setup, Side};
use lb_peers::wire::Frame;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EPOCH: u64 = 1_790_000_000_000;
/// The least time between two turns of one node.
const TURN: Duration = Duration::from_micros(20);
/// How often a node drops what is past its end.
const SWEEP: Duration = Duration::from_secs(1);

pub(crate) struct World {
    pub(crate) agenda: Agenda,
    pub(crate) net: Net,
    pub(crate) model: Model,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Option<Node>>,
    /// Wall clocks, as offsets from the true time.
    pub(crate) skews: Vec<i64>,
    lives: u64,
    /// Grows with everything that happens; equal for equal seeds.
    pub(crate) trace: u64,
    pub(crate) frames: u64,
    /// Frames that arrived, and their bytes, by kind.
    pub(crate) kinds: BTreeMap<&'static str, (u64, u64)>,
    /// What went wrong meanwhile.
    pub(crate) wrong: Option<String>,
    /// Which nodes list which; all, if not said otherwise.
    pub(crate) join: Vec<Vec<usize>>,
    /// The tables of each node.
    pub(crate) specs: Vec<Vec<config::Table>>,
}

impl World {
    /// `n` nodes, none of them started, with wall clocks up to an hour apart.
    pub(crate) fn new(seed: u64, n: usize) -> Self {
        let mut random = Random(seed);
        let skews = (0..n).map(|_| random.skew()).collect();
        Self {
            agenda: Agenda::default(),
            net: Net::new(seed ^ 0x6e65_7477_6f72_6b00),
            model: Model::default(),
            random,
            nodes: (0..n).map(|_| None).collect(),
            skews,
            lives: 0,
            trace: seed,
            frames: 0,
            kinds: BTreeMap::new(),
            wrong: None,
            join: vec![(0..n).collect(); n],
            specs: vec![vec![spec("sessions")]; n],
        }
    }

    pub(crate) fn at(&self) -> Duration {
        self.agenda.at
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let wall = |skew| Timestamp((EPOCH + self.at().as_millis() as u64).saturating_add_signed(skew));
        let clock = self.skews[node];
        let steady = self.nodes[node].as_ref().map_or(clock, |n| n.skew);
        Now { at: self.at(), wall: wall(steady), clock: wall(clock) }
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.lives += 1;
        let life = self.lives;
        let names = Arc::new(Names::default());
        // Names have other numbers on every node.
        for i in 0..node {
            names.intern(&format!("only-{i}"));
        }
        let clock = Arc::new(Clock::new(NodeId::new(&name(node), life), Duration::from_secs(86_400)));
        let changed = Arc::new(AtomicBool::new(false));
        let tables: Vec<_> =
            self.specs[node].iter().map(|spec| make_table(spec, (&names, &clock), life, &changed)).collect();
        let decisions = Arc::new(Decisions::default());
        let settings = Settings {
            node: name(node),
            incarnation: life,
            config: self.config(node),
            names: names.clone(),
            clock: clock.clone(),
            decisions: decisions.clone(),
            shared: Arc::default(),
            time: Steady::new(std::time::Instant::now(), self.now(node).wall),
        };
        let setup = Setup { settings, listen: addr(node), seed: self.random.next() };
        let replicator = Replicator::new(setup, tables.clone(), self.now(node));
        let table = tables[0].clone();
        self.nodes[node] = Some(Node {
            replicator,
            table,
            tables,
            names,
            decisions,
            clock,
            asked: 0,
            answered: BTreeSet::new(),
            stopped: false,
            sockets: Vec::new(),
            life,
            born: self.at(),
            frozen: None,
            skew: self.skews[node],
            changed,
            accepted: 0,
            ends: HashMap::new(),
            next_tick: Duration::MAX,
        });
        self.agenda.add(self.at() + SWEEP, Happening::Sweep { node, life });
        self.after(node);
    }

    fn config(&self, node: usize) -> config::Peers {
        config::Peers {
            cluster: "sim".into(),
            listen: addr(node),
            join: self.join[node].iter().map(|n| PeerAddr::Socket(addr(*n))).collect(),
            resolver: None,
            tls: None,
            join_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_millis(20),
            heartbeat: Duration::from_secs(1),
            anti_entropy: Duration::from_secs(10),
            max_clock_ahead: Duration::from_secs(86_400),
        }
    }

    fn bury(&mut self, node: usize) -> Vec<(usize, usize)> {
        let Some(dead) = self.nodes[node].take() else { return Vec::new() };
        let survivors: Vec<View> = self.alive().into_iter().map(|n| self.view(n)).collect();
        let decided: Vec<_> = self.alive().into_iter().map(|n| self.node(n).decisions.clone()).collect();
        self.model.died(&survivors, &decided);
        let mut ends: Vec<_> = dead.ends.into_values().collect();
        ends.sort_unstable();
        ends
    }

    /// The process is gone; the kernel closes its streams.
    pub(crate) fn kill(&mut self, node: usize) {
        for (stream, end) in self.bury(node) {
            self.net.close(&mut self.agenda, stream, end, "reset by peer");
        }
    }

    /// The machine is gone; nobody is told.
    pub(crate) fn power_off(&mut self, node: usize) {
        for (stream, end) in self.bury(node) {
            self.net.vanish(stream, end);
        }
    }

    /// The process does nothing for a time, and goes on as if none had passed.
    pub(crate) fn freeze(&mut self, node: usize, time: Duration) {
        let until = self.at() + time;
        if let Some(it) = &mut self.nodes[node] {
            it.frozen = Some(until);
        }
    }

    /// Until when a node does nothing.
    fn frozen(&self, node: usize) -> Option<Duration> {
        self.nodes[node].as_ref()?.frozen.filter(|until| *until > self.at())
    }

    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].is_some() && self.frozen(node).is_none()
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.net.cut(a, b);
        self.net.cut(b, a);
    }

    pub(crate) fn break_a_stream(&mut self) {
        let pick = self.random.next();
        self.net.break_one(&mut self.agenda, pick);
    }

    /// Lets a time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.at() + time;
        while let Some(what) = self.agenda.next(until) {
            self.trace = lb_core::hash::stable_seeded(&self.at().as_micros().to_le_bytes(), self.trace);
            self.happen(what);
        }
        self.agenda.at = until;
    }

    fn happen(&mut self, what: Happening) {
        let (node, life) = match &what {
            Happening::Tick { node, life } | Happening::Sweep { node, life } | Happening::Exit { node, life } => {
                (*node, *life)
            }
            Happening::Dialled { from, life, .. } => (*from, *life),
            Happening::Deliver { stream, end } => return self.deliver(*stream, *end),
        };
        if self.nodes[node].as_ref().is_none_or(|n| n.life != life) {
            return;
        }
        if let Some(until) = self.frozen(node) {
            return self.agenda.add(until, what);
        }
        match what {
            Happening::Tick { .. } if self.node(node).next_tick <= self.at() => self.input(node, Input::Tick),
            Happening::Sweep { .. } => self.sweep(node, life),
            Happening::Exit { .. } => self.kill(node),
            Happening::Dialled { link, to, .. } => self.dialled((node, life, link), to),
            Happening::Tick { .. } | Happening::Deliver { .. } => {}
        }
    }

    fn sweep(&mut self, node: usize, life: u64) {
        let now = self.now(node).wall;
        for table in &self.node(node).tables {
            table.expire(now, 10_000);
            table.renew(now);
        }
        self.look_at_sockets(node);
        self.after(node);
        self.agenda.add(self.at() + SWEEP, Happening::Sweep { node, life });
    }

    fn dialled(&mut self, (from, life, link): (usize, u64, LinkId), to: usize) {
        if self.net.are_apart(from, to) || self.frozen(to).is_some() {
            let (failure, error) = (Failure::Unreachable, "no route".to_owned());
            return self.input(from, Input::NotOpened { link, failure, error });
        }
        let Some(acceptor) = &mut self.nodes[to] else {
            let (failure, error) = (Failure::NobodyThere, "refused".to_owned());
            return self.input(from, Input::NotOpened { link, failure, error });
        };
        acceptor.accepted += 1;
        let accepted = Owner { node: to, life: acceptor.life, link: LinkId::accepted(acceptor.accepted) };
        let owners = [Owner { node: from, life, link }, accepted];
        let stream = self.net.open(owners);
        for (end, owner) in owners.into_iter().enumerate() {
            if let Some(node) = &mut self.nodes[owner.node] {
                node.ends.insert(owner.link, (stream, end));
            }
        }
        let opened = |link, side, remote| Input::Opened { link, side, remote, certificate: None };
        self.input(to, opened(accepted.link, Side::Acceptor, addr(from)));
        self.input(from, opened(link, Side::Dialler, addr(to)));
    }

    fn deliver(&mut self, stream: usize, end: usize) {
        let Owner { node, life, link } = self.net.owner(stream, end);
        let lives = self.nodes[node].as_ref().is_some_and(|n| n.life == life);
        let frozen = self.frozen(node).filter(|_| lives);
        let what = self.net.deliver(&mut self.agenda, (stream, end), frozen);
        match what.filter(|_| lives) {
            None => {}
            Some(Arrival::Frame(bytes)) => {
                self.frames += 1;
                self.trace = lb_core::hash::stable_seeded(&bytes, self.trace);
                let frame = Frame::from_bytes(&bytes).expect("what we send can be read");
                let counts = self.kinds.entry(kind(&frame)).or_default();
                *counts = (counts.0 + 1, counts.1 + bytes.len() as u64);
                self.input(node, Input::Received { link, frame });
            }
            Some(Arrival::Closed(error)) => {
                if let Some(node) = &mut self.nodes[node] {
                    node.ends.remove(&link);
                }
                self.input(node, Input::Closed { link, error: error.to_owned() });
            }
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let now = self.now(node);
        if let Some(it) = &mut self.nodes[node] {
            it.replicator.handle(now, input);
            self.after(node);
        }
    }

    /// Something was done on a node: its replicator is woken, its outputs are carried out.
    pub(crate) fn after(&mut self, node: usize) {
        let now = self.now(node);
        let Some(it) = &mut self.nodes[node] else { return };
        if it.changed.swap(false, Ordering::Relaxed) {
            it.replicator.handle(now, Input::Changed);
        }
        let outputs: Vec<Output> = std::iter::from_fn(|| it.replicator.poll_output()).collect();
        outputs.into_iter().for_each(|output| self.output(node, output));
        let Some(it) = &mut self.nodes[node] else { return };
        if let Some(at) = it.replicator.poll_timeout(now) {
            let (at, life) = (at.max(now.at + TURN), it.life);
            if at != it.next_tick {
                it.next_tick = at;
                self.agenda.add(at, Happening::Tick { node, life });
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let now = self.now(node);
        let Some(it) = &mut self.nodes[node] else { return };
        match output {
            Output::Dial { link, addr: to } => {
                let (life, to) = (it.life, (0..).find(|n| addr(*n) == to).unwrap_or_default());
                let is_apart = self.net.are_apart(node, to) || self.frozen(to).is_some();
                let at = self.at() + self.random.micros(200, if is_apart { 3_000_000 } else { 40_000 });
                self.agenda.add(at, Happening::Dialled { from: node, life, link, to });
            }
            Output::Send { link, frame } => {
                if let Some((stream, end)) = it.ends.get(&link).copied() {
                    self.net.send(&mut self.agenda, stream, 1 - end, Arrival::Frame(frame.to_bytes()));
                }
            }
            Output::Close { link } => {
                if let Some((stream, end)) = it.ends.remove(&link) {
                    self.net.close(&mut self.agenda, stream, end, "closed");
                }
            }
            Output::Answered { id } => drop(it.answered.insert(id)),
            Output::Stopped => {
                it.stopped = true;
                let (at, life) = (now.at + Duration::from_millis(50), it.life);
                self.agenda.add(at, Happening::Exit { node, life });
            }
            Output::LookUp { .. }
            | Output::Pulled
            | Output::DecisionsChanged
            | Output::AllowanceGrew
            | Output::Inspected { .. } => {}
        }
    }
}

fn kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Root { .. } => "root",
        Frame::Compared { buckets, .. } if buckets.is_empty() => "equal",
        Frame::Compared { .. } | Frame::Digest { .. } => "digest",
        Frame::PullRequest { .. } => "pull",
        Frame::PullBatch { .. } => "pulled",
        _ => "other",
    }
}
