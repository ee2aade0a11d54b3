//! What happens to a simulated cluster: a scenario and a list of actions, both from one seed, so that a failing list
//! can be cut down to what it takes.
use crate::sim::model::{Bounds, View};
use crate::sim::node::{name, spec};
use crate::sim::random::Random;
use crate::sim::world::World;
use lb_core::config::{self, KeyKind, WhenFull};
use lb_peers::replicator::Input;
use std::time::Duration;

const SERVERS: u64 = 5;
/// The longest time that one direction of a stream stands still, in milliseconds.
const STALL: u64 = 4_000;
/// Open sockets of a node at most: fewer in all than a full table has places.
const SOCKETS: usize = 3;
/// Links are up and tables are equal this long after the last fault.
const PEACE: Duration = Duration::from_secs(25);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One thing that happens, on a node mostly. `pick` chooses among the streams that are open then.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Wait(u64),
    Pin { node: usize, table: usize, key: u64, server: u64 },
    Touch { node: usize, table: usize, key: u64 },
    Clear { node: usize, table: usize, key: u64 },
    ClearAll { node: usize, table: usize, server: Option<u64> },
    OpenSocket { node: usize, table: usize, key: u64 },
    CloseSocket { node: usize },
    Decide { node: usize, server: u64 },
    Ask { node: usize, key: u64 },
    Start { node: usize },
    Stop { node: usize },
    Kill { node: usize },
    PowerOff { node: usize },
    Freeze { node: usize, ms: u64 },
    SetClock { node: usize, skew: i64 },
    Cut { from: usize, to: usize },
    Heal,
    Break { pick: u64 },
    BreakUnevenly { pick: u64 },
    Stall { pick: u64, ms: u64 },
    Double { pick: u64 },
}

/// What is unlike the others in one node's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Odd {
    /// Its tables are smaller, and entries live for half the time.
    Less,
    /// A table has another type: the peers must refuse it, and go on without it.
    Type,
}

/// A cluster and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    nodes: usize,
    /// Greatest delay of a frame, in milliseconds.
    delay: u64,
    expire: Duration,
    size: usize,
    when_full: WhenFull,
    keys: u64,
    /// Greatest pause between two actions, in milliseconds.
    pause: u64,
    /// The longest time that a node stands still, in milliseconds.
    freeze: u64,
    odd: Option<(usize, Odd)>,
    pub(crate) actions: Vec<Action>,
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7363_656e_6172_696f);
        let nodes = [2, 3, 3, 4, 5, 6, 7][random.below(7) as usize];
        let odd = match random.below(8) {
            0 => Some((random.below(nodes as u64) as usize, Odd::Less)),
            1 => Some((random.below(nodes as u64) as usize, Odd::Type)),
            _ => None,
        };
        let mut it = Self {
            seed,
            nodes,
            delay: [2, 20, 20, 300, 2_000][random.below(5) as usize],
            expire: Duration::from_secs(7200),
            size: 4_000,
            when_full: if random.below(2) == 0 { WhenFull::Evict } else { WhenFull::Refuse },
            keys: 120,
            pause: 40,
            freeze: 40_000,
            odd,
            actions: Vec::new(),
        };
        match random.below(4) {
            // Entries expire meanwhile.
            0 => (it.expire, it.pause, it.keys, it.freeze) = (Duration::from_secs(100), 800, 40, 6_000),
            // Tables are full.
            1 => (it.size, it.keys) = (50, 200),
            _ => {}
        }
        it.actions = (0..500).map(|_| it.action(&mut random)).collect();
        it
    }

    /// The same cluster with other things happening to it.
    pub(crate) fn with(&self, actions: &[Action]) -> Self {
        Self { actions: actions.to_vec(), ..self.clone() }
    }

    /// One random thing, waiting included.
    fn action(&self, random: &mut Random) -> Action {
        let (node, to) = (random.below(self.nodes as u64) as usize, random.below(self.nodes as u64) as usize);
        let (pick, server) = (random.next(), random.below(SERVERS));
        let (table, key) = (random.below(2) as usize, random.below(self.keys));
        match random.below(1000) {
            0..8 => Action::Kill { node },
            8..12 => Action::PowerOff { node },
            12..16 => Action::Stop { node },
            16..45 => Action::Start { node },
            45..50 => Action::Freeze { node, ms: 1_000 + pick % self.freeze },
            50..65 if node != to => Action::Cut { from: node, to },
            65..80 => Action::Heal,
            80..88 => Action::Break { pick },
            88..100 => Action::BreakUnevenly { pick },
            100..108 => Action::Stall { pick, ms: pick % STALL },
            108..111 => Action::Double { pick },
            111..118 => Action::Decide { node, server },
            118..124 => Action::Ask { node, key },
            124..126 => Action::ClearAll { node, table, server: (pick % 2 == 0).then_some(server) },
            126..130 => Action::SetClock { node, skew: random.skew() },
            130..134 => Action::Wait(pick % 10_000),
            134..150 => Action::OpenSocket { node, table, key },
            150..165 => Action::CloseSocket { node },
            165..400 => Action::Wait(pick % (2 * self.pause)),
            400..470 => Action::Clear { node, table, key },
            470..650 => Action::Touch { node, table, key },
            _ => Action::Pin { node, table, key, server },
        }
    }

    /// The tables of a node.
    fn tables(&self, node: usize) -> Vec<config::Table> {
        let odd = self.odd.filter(|(n, _)| *n == node).map(|(_, odd)| odd);
        let table = |name: &str| {
            let mut spec =
                config::Table { size: self.size, expire: self.expire, when_full: self.when_full, ..spec(name) };
            match odd {
                Some(Odd::Less) => (spec.size, spec.expire) = (spec.size / 2, spec.expire / 2),
                Some(Odd::Type) => spec.kind = KeyKind::Integer,
                None => {}
            }
            spec
        };
        // Every third node has no carts.
        let names: &[&str] = if node % 3 == 2 { &["sessions"] } else { &["sessions", "carts"] };
        names.iter().map(|name| table(name)).collect()
    }

    /// Whether a node may have peers.
    fn is_member(&self, node: usize) -> bool {
        self.odd != Some((node, Odd::Type))
    }

    fn bounds(&self) -> Bounds {
        let shortest = if self.odd.is_some_and(|(_, odd)| odd == Odd::Less) { self.expire / 2 } else { self.expire };
        // Twice: what was pulled from one who had pulled it.
        let slack = 2 * ms(self.freeze + STALL + 2 * self.delay);
        Bounds { expire: (shortest, self.expire), slack, full: self.is_full() }
    }

    fn is_full(&self) -> bool {
        self.size < self.keys as usize
    }

    /// Whether nothing ever expires or has to leave.
    fn keeps_all(&self) -> bool {
        !self.is_full() && self.expire > Duration::from_secs(3600)
    }

    /// Faults and writes, then peace: what a failing run says, or the trace.
    pub(crate) fn run(&self) -> Result<u64, String> {
        let mut world = World::new(self.seed, self.nodes);
        world.net.rough = true;
        world.net.delay = self.delay * 1_000;
        world.specs = (0..self.nodes).map(|node| self.tables(node)).collect();
        (0..self.nodes).for_each(|node| world.start(node));
        for (n, action) in self.actions.iter().enumerate() {
            self.act(&mut world, action);
            if n % 16 == 0 {
                self.watch(&mut world).map_err(|why| format!("at action {n}, {:?}: {why}", world.at()))?;
            }
        }
        self.settle(&mut world);
        self.check(&mut world)?;
        // Nothing lives on its own account.
        if self.expire < Duration::from_secs(3600) {
            world.run(self.expire / 2);
            self.check(&mut world)?;
            world.run(self.expire / 2 + self.bounds().slack);
            self.check(&mut world)?;
        }
        Ok(world.trace)
    }

    fn act(&self, world: &mut World, action: &Action) {
        use Action::*;
        let runs = |node: &usize| world.is_running(*node) && self.is_member(*node);
        let key = |n: &u64| format!("client-{n}");
        let app = |n: &u64| format!("app{n}");
        match action {
            Wait(time) => world.run(ms(*time)),
            Pin { node, table, key: k, server } if runs(node) => world.pin_in(*node, *table, &key(k), &app(server)),
            Touch { node, table, key: k } if runs(node) => world.touch(*node, *table, &key(k)),
            Clear { node, table, key: k } if runs(node) => world.clear(*node, *table, &key(k)),
            ClearAll { node, table, server } if runs(node) => {
                world.clear_all(*node, *table, server.as_ref().map(app).as_deref());
            }
            OpenSocket { node, table, key: k } if runs(node) && world.node(*node).sockets.len() < SOCKETS => {
                world.open_socket(*node, *table, &key(k));
            }
            CloseSocket { node } if runs(node) => world.close_socket(*node),
            Decide { node, server } if runs(node) => world.decide(*node, &app(server)),
            Ask { node, key: k } if runs(node) => world.ask(*node, &key(k)),
            Start { node } if world.nodes[*node].is_none() => world.start(*node),
            Stop { node } if runs(node) => {
                world.input(*node, Input::Stop { within: ms(3_000) });
            }
            Kill { node } => world.kill(*node),
            PowerOff { node } => world.power_off(*node),
            Freeze { node, ms: time } if world.is_running(*node) => world.freeze(*node, ms(*time)),
            SetClock { node, skew } => world.skews[*node] = *skew,
            Cut { from, to } => world.net.cut(*from, *to),
            Heal => world.net.heal(),
            Break { pick } => world.net.break_one(&mut world.agenda, *pick),
            BreakUnevenly { pick } => world.net.break_unevenly(&mut world.agenda, *pick),
            Stall { pick, ms: time } => world.net.stall(&world.agenda, *pick, ms(*time)),
            Double { pick } => world.net.double(*pick),
            _ => {}
        }
    }

    /// What holds at any time.
    fn watch(&self, world: &mut World) -> Result<(), String> {
        if let Some(wrong) = world.wrong.take() {
            return Err(wrong);
        }
        for node in world.alive().into_iter().filter(|n| self.is_member(*n)) {
            let view = world.view(node);
            world.model.known(&view)?;
            if self.keeps_all() {
                world.model.watch(&view)?;
            }
            for (spec, table) in world.specs[node].iter().zip(&world.node(node).tables) {
                let stats = table.stats();
                if stats.entries + stats.tombstones > spec.size as u64 {
                    return Err(format!("{} holds more than its size: {stats:?}", name(node)));
                }
            }
        }
        Ok(())
    }

    /// The last fault is over.
    fn settle(&self, world: &mut World) {
        world.net.heal();
        while world.alive().into_iter().any(|n| !world.is_running(n)) {
            world.run(ms(1_000));
        }
        // Those who were told to stop have.
        world.run(ms(4_000));
        for node in (0..self.nodes).filter(|n| world.nodes[*n].is_none()).collect::<Vec<_>>() {
            world.start(node);
        }
        world.run(PEACE);
    }

    fn check(&self, world: &mut World) -> Result<(), String> {
        self.watch(world)?;
        let members: Vec<usize> = world.alive().into_iter().filter(|n| self.is_member(*n)).collect();
        for node in world.alive() {
            let others = |n: &usize| *n != node && self.is_member(*n) && self.is_member(node);
            let peers: Vec<String> = (0..self.nodes).filter(others).map(name).collect();
            if world.ups(node) != peers {
                let status = world.node(node).replicator.status(world.now(node));
                return Err(format!("{} should have the peers {peers:?}: {status:#?}", name(node)));
            }
            if !world.node(node).replicator.is_pulled() {
                return Err(format!("{} is not ready", name(node)));
            }
            let it = world.node(node);
            if !(1..=it.asked).all(|id| it.answered.contains(&id)) {
                return Err(format!("{} has questions without an answer", name(node)));
            }
        }
        members.iter().for_each(|node| world.look_at_sockets(*node));
        let views: Vec<View> = members.iter().map(|node| world.view(*node)).collect();
        world.model.settled(world.at(), &views, self.bounds())?;
        world.model.decisions_settled(&members.iter().map(|n| world.node(*n).decisions.clone()).collect::<Vec<_>>())?;
        if self.keeps_all() { equal_digests(world, &members) } else { Ok(()) }
    }
}

/// What the nodes compare tells the same as what they hold.
fn equal_digests(world: &World, members: &[usize]) -> Result<(), String> {
    for table in 0..2 {
        let digests = members.iter().filter_map(|n| Some(world.node(*n).tables.get(table)?.digest()));
        let digests: Vec<Vec<u64>> = digests.collect();
        if digests.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("digests of table {table} differ"));
        }
    }
    Ok(())
}
