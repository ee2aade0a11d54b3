//! A simulated cluster: nodes that are the real replicator over real tables, a network of streams with delays,
//! partitions, breaks and deaths, and one virtual clock. Everything follows from the seed.
use lb_core::config::{self, KeyKind, PeerAddr, WhenFull};
use lb_core::decisions::Decisions;
use lb_core::hlc::Clock;
use lb_core::id::{Names, NodeId};
use lb_core::table::{StickKey, StickTable};
use lb_core::time::{Steady, Timestamp};
use lb_peers::Settings;
use lb_peers::replicator::{Failure, Input, LinkId, Now, Output, Replicator, Setup, Side};
use lb_peers::wire::Frame;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EPOCH: u64 = 1_790_000_000_000;
/// The least time between two turns of one node.
const TURN: Duration = Duration::from_micros(20);

/// splitmix64
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from))
    }
}

/// One life of a node.
pub(crate) struct Node {
    pub(crate) replicator: Replicator,
    pub(crate) table: Arc<StickTable>,
    pub(crate) names: Arc<Names>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) answered: BTreeSet<u64>,
    pub(crate) stopped: bool,
    life: u64,
    changed: Arc<AtomicBool>,
    accepted: u64,
    /// The streams' ends here.
    ends: HashMap<LinkId, (usize, usize)>,
    next_tick: Duration,
}

/// One end of a stream.
#[derive(Clone, Copy)]
struct End {
    node: usize,
    life: u64,
    link: LinkId,
    open: bool,
    /// When the last thing that was sent to this end arrives: streams keep their order.
    arrives: Duration,
    on_the_way: usize,
}

enum Happening {
    Tick { node: usize, life: u64 },
    Arrive { stream: usize, end: usize, what: Arrival },
    Dialled { from: usize, life: u64, link: LinkId, to: usize },
}

enum Arrival {
    Frame(Vec<u8>),
    Closed(&'static str),
}

pub(crate) struct World {
    pub(crate) at: Duration,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Option<Node>>,
    skews: Vec<i64>,
    lives: u64,
    streams: Vec<[End; 2]>,
    cut: BTreeSet<(usize, usize)>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    last: u64,
    /// Grows with everything that happens; equal for equal seeds.
    pub(crate) trace: u64,
    pub(crate) frames: u64,
    /// Which nodes list which; all, if not said otherwise.
    pub(crate) join: Vec<Vec<usize>>,
}

pub(crate) fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 8405))
}

pub(crate) fn name(node: usize) -> String {
    format!("lb{node}")
}

impl World {
    /// `n` nodes, none of them started, with wall clocks up to an hour apart.
    pub(crate) fn new(seed: u64, n: usize) -> Self {
        let mut random = Random(seed);
        let skews = (0..n).map(|_| random.below(7_200_000) as i64 - 3_600_000).collect();
        Self {
            at: Duration::ZERO,
            random,
            nodes: (0..n).map(|_| None).collect(),
            skews,
            lives: 0,
            streams: Vec::new(),
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            last: 0,
            trace: seed,
            frames: 0,
            join: vec![(0..n).collect(); n],
        }
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let wall = (EPOCH + self.at.as_millis() as u64).saturating_add_signed(self.skews[node]);
        Now { at: self.at, wall: Timestamp(wall), clock: Timestamp(wall) }
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.lives += 1;
        let life = self.lives;
        let names = Arc::new(Names::default());
        // Names have other numbers on every node.
        for i in 0..node {
            names.intern(&format!("only-{i}"));
        }
        let (expire, when_full) = (Duration::from_secs(7200), WhenFull::Evict);
        let (kind, len, size) = (KeyKind::String, 64, 100_000);
        let spec = config::Table { name: "sessions".into(), kind, len, size, expire, when_full, replicate: true };
        let max_clock_ahead = Duration::from_secs(86_400);
        let clock = Arc::new(Clock::new(NodeId::new(&name(node), life), max_clock_ahead));
        let table = Arc::new(StickTable::new(Arc::new(spec), names.clone(), clock.clone(), life));
        let changed = Arc::new(AtomicBool::new(false));
        let wake = changed.clone();
        table.on_change(Box::new(move || wake.store(true, Ordering::Relaxed)));
        let config = config::Peers {
            cluster: "sim".into(),
            listen: addr(node),
            join: self.join[node].iter().map(|n| PeerAddr::Socket(addr(*n))).collect(),
            tls: None,
            join_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_millis(20),
            heartbeat: Duration::from_secs(1),
            max_clock_ahead,
        };
        let decisions = Arc::new(Decisions::default());
        let settings = Settings {
            node: name(node),
            incarnation: life,
            config,
            names: names.clone(),
            clock: clock.clone(),
            decisions: decisions.clone(),
            shared: Arc::default(),
            time: Steady::new(std::time::Instant::now(), self.now(node).wall),
        };
        let setup = Setup { settings, listen: addr(node), seed: self.random.next() };
        let replicator = Replicator::new(setup, vec![table.clone()], self.now(node));
        let (answered, ends, accepted, stopped) = (BTreeSet::new(), HashMap::new(), 0, false);
        let next_tick = Duration::MAX;
        self.nodes[node] = Some(Node {
            replicator,
            table,
            names,
            decisions,
            clock,
            answered,
            stopped,
            life,
            changed,
            accepted,
            ends,
            next_tick,
        });
        self.after(node);
    }

    /// The process is gone; the kernel closes its streams.
    pub(crate) fn kill(&mut self, node: usize) {
        let Some(dead) = self.nodes[node].take() else { return };
        let mut ends: Vec<_> = dead.ends.into_values().collect();
        ends.sort_unstable();
        for (stream, end) in ends {
            self.close(stream, end, "reset by peer");
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// A stream breaks: what is on its way is lost, both ends are told.
    pub(crate) fn break_a_stream(&mut self) {
        let open: Vec<usize> = (0..self.streams.len()).filter(|s| self.streams[*s].iter().all(|e| e.open)).collect();
        if open.is_empty() {
            return;
        }
        let stream = open[self.random.below(open.len() as u64) as usize];
        let lost = |h: &Happening| matches!(h, Happening::Arrive { stream: s, .. } if *s == stream);
        self.happenings.retain(|_, h| !lost(h));
        for end in 0..2 {
            self.schedule(self.at, Happening::Arrive { stream, end, what: Arrival::Closed("broken") });
        }
    }

    fn schedule(&mut self, at: Duration, what: Happening) {
        self.last += 1;
        self.happenings.insert(self.last, what);
        self.queue.push(Reverse((at, self.last)));
    }

    /// Lets a time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.at + time;
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            let Some(what) = self.happenings.remove(&id) else { continue };
            self.at = self.at.max(at);
            self.trace = lb_core::hash::stable_seeded(&self.at.as_micros().to_le_bytes(), self.trace);
            self.happen(what);
        }
        self.at = until;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Tick { node, life } => {
                if self.nodes[node].as_ref().is_some_and(|n| n.life == life && n.next_tick <= self.at) {
                    self.input(node, Input::Tick);
                }
            }
            Happening::Dialled { from, life, link, to } => self.dialled((from, life, link), to),
            Happening::Arrive { stream, end, what } => self.arrive(stream, end, what),
        }
    }

    fn dialled(&mut self, (from, life, link): (usize, u64, LinkId), to: usize) {
        if self.nodes[from].as_ref().is_none_or(|n| n.life != life) {
            return;
        }
        if self.is_cut(from, to) {
            let (failure, error) = (Failure::Unreachable, "no route".to_owned());
            return self.input(from, Input::NotOpened { link, failure, error });
        }
        let Some(acceptor) = &mut self.nodes[to] else {
            let (failure, error) = (Failure::NobodyThere, "refused".to_owned());
            return self.input(from, Input::NotOpened { link, failure, error });
        };
        acceptor.accepted += 1;
        let (at_acceptor, acceptor_life) = (LinkId::accepted(acceptor.accepted), acceptor.life);
        let end = |node, life, link| End { node, life, link, open: true, arrives: Duration::ZERO, on_the_way: 0 };
        self.streams.push([end(from, life, link), end(to, acceptor_life, at_acceptor)]);
        let stream = self.streams.len() - 1;
        for (n, (node, link)) in [(from, link), (to, at_acceptor)].into_iter().enumerate() {
            if let Some(node) = &mut self.nodes[node] {
                node.ends.insert(link, (stream, n));
            }
        }
        let opened = |link, side, remote| Input::Opened { link, side, remote, certificate: None };
        self.input(to, opened(at_acceptor, Side::Acceptor, addr(from)));
        self.input(from, opened(link, Side::Dialler, addr(to)));
    }

    fn arrive(&mut self, stream: usize, end: usize, what: Arrival) {
        let [one, other] = self.streams[stream];
        if self.is_cut(one.node, other.node) {
            // TCP tries again and again.
            let later = self.at + Duration::from_millis(50);
            self.streams[stream][end].arrives = self.streams[stream][end].arrives.max(later);
            return self.schedule(later, Happening::Arrive { stream, end, what });
        }
        let End { node, life, link, open, .. } = self.streams[stream][end];
        self.streams[stream][end].on_the_way = self.streams[stream][end].on_the_way.saturating_sub(1);
        if !open || self.nodes[node].as_ref().is_none_or(|n| n.life != life) {
            return;
        }
        match what {
            Arrival::Frame(bytes) => {
                self.frames += 1;
                self.trace = lb_core::hash::stable_seeded(&bytes, self.trace);
                let frame = Frame::from_bytes(&bytes).expect("what we send can be read");
                self.input(node, Input::Received { link, frame });
            }
            Arrival::Closed(error) => {
                self.streams[stream][end].open = false;
                if let Some(node) = &mut self.nodes[node] {
                    node.ends.remove(&link);
                }
                self.input(node, Input::Closed { link, error: error.to_owned() });
            }
        }
    }

    /// One end closes; the other is told after all that was sent before.
    fn close(&mut self, stream: usize, end: usize, why: &'static str) {
        if std::mem::replace(&mut self.streams[stream][end].open, false) {
            self.send(stream, 1 - end, Arrival::Closed(why));
        }
    }

    fn send(&mut self, stream: usize, to: usize, what: Arrival) {
        let arrives = (self.at + self.random.micros(100, 20_000)).max(self.streams[stream][to].arrives);
        let end = &mut self.streams[stream][to];
        end.arrives = arrives;
        end.on_the_way += 1;
        assert!(end.on_the_way < 300, "memory for a peer is bounded whatever it does");
        self.schedule(arrives, Happening::Arrive { stream, end: to, what });
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
            let (at, life) = (at.max(self.at + TURN), it.life);
            if at != it.next_tick {
                it.next_tick = at;
                self.schedule(at, Happening::Tick { node, life });
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let Some(it) = &mut self.nodes[node] else { return };
        match output {
            Output::Dial { link, addr: to } => {
                let (life, to) = (it.life, (0..).find(|n| addr(*n) == to).unwrap_or_default());
                let takes = if self.is_cut(node, to) { 3_000_000 } else { 40_000 };
                let at = self.at + self.random.micros(200, takes);
                self.schedule(at, Happening::Dialled { from: node, life, link, to });
            }
            Output::Send { link, frame } => {
                if let Some((stream, end)) = it.ends.get(&link).copied() {
                    self.send(stream, 1 - end, Arrival::Frame(frame.to_bytes()));
                }
            }
            Output::Close { link } => {
                if let Some((stream, end)) = it.ends.remove(&link) {
                    self.close(stream, end, "closed");
                }
            }
            Output::Answered { id } => drop(it.answered.insert(id)),
            Output::Stopped => it.stopped = true,
            Output::LookUp { .. } | Output::Pulled | Output::DecisionsChanged => {}
        }
    }

    pub(crate) fn pin(&mut self, node: usize, key: &str, server: &str) {
        let now = self.now(node).wall;
        if let Some(it) = &mut self.nodes[node] {
            it.table.store(&text(key), it.names.intern(server), now);
            self.after(node);
        }
    }

    pub(crate) fn clear(&mut self, node: usize, key: &str) {
        let now = self.now(node).wall;
        if let Some(it) = &mut self.nodes[node] {
            it.table.clear(&text(key), now);
            self.after(node);
        }
    }

    pub(crate) fn server_of(&self, node: usize, key: &str) -> Option<String> {
        let it = self.nodes[node].as_ref()?;
        let pin = it.table.peek(&text(key), self.now(node).wall)?;
        Some(it.names.name(pin.server).to_string())
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].is_some()).collect()
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("alive")
    }

    /// Names of the peers that are up for a node.
    pub(crate) fn ups(&self, node: usize) -> Vec<String> {
        let peers = self.node(node).replicator.status(self.now(node)).peers;
        peers.into_iter().filter(|p| p.state == "up").map(|p| p.name).collect()
    }

    /// Open streams whose both ends live.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.iter().filter(|s| s.iter().all(|e| e.open)).count()
    }
}

fn text(key: &str) -> StickKey {
    StickKey::parse(KeyKind::String, 64, key).expect("a key")
}
