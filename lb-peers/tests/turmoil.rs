//! The gRPC transport on a simulated network (`turmoil`): messages late, held up, lost one way and both, nodes that crash.
//! Time is simulated, too; a seed that fails does so again.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::time::Steady;
use lb_tests::Dice;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use support::{Node, now, settings};
use turmoil::{Builder, Sim};

const NAMES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 8405;
const TICK: Duration = Duration::from_millis(5);

struct World<'a> {
    sim: Sim<'a>,
    /// Nodes; `None`: crashed.
    nodes: [Rc<RefCell<Option<Node>>>; 3],
    dice: Dice,
}

async fn start(name: &str) -> Node {
    let others = NAMES.iter().filter(|other| **other != name);
    let join: Vec<_> = others.map(|other| SocketAddr::new(turmoil::lookup(*other), PORT)).collect();
    let mut settings = settings(name, &join);
    settings.config.listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
    settings.config.heartbeat = Duration::from_secs(1);
    settings.time = Steady::new(tokio::time::Instant::now().into_std(), now());
    Node::start(settings).await
}

impl World<'_> {
    fn new(seed: u64) -> Self {
        let mut builder = Builder::new();
        builder.rng_seed(seed).tick_duration(TICK).simulation_duration(Duration::from_secs(3600));
        builder.min_message_latency(Duration::from_millis(1)).max_message_latency(Duration::from_millis(100));
        builder.tcp_capacity(4096);
        let (mut sim, nodes) = (builder.build(), <[Rc<RefCell<Option<Node>>>; 3]>::default());
        for (name, place) in NAMES.into_iter().zip(&nodes) {
            let place = place.clone();
            sim.host(name, move || {
                let place = place.clone();
                async move {
                    let node = start(name).await;
                    place.replace(Some(node));
                    std::future::pending().await
                }
            });
        }
        let mut world = Self { sim, nodes, dice: Dice::new(seed) };
        world.until("all are linked", Self::is_whole);
        world
    }

    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.sim.step().unwrap();
        }
    }

    fn until(&mut self, what: &str, holds: fn(&Self) -> bool) {
        for _ in 0..60 {
            self.pass(Duration::from_secs(1));
            if holds(self) {
                return;
            }
        }
        panic!("never within a minute of simulated time: {what}");
    }

    fn is_whole(&self) -> bool {
        let up = |node: &Node| node.peers.status().peers.iter().filter(|p| p.state == "up").count();
        self.nodes.iter().all(|place| place.borrow().as_ref().is_some_and(|node| up(node) == 2))
    }

    fn is_equal(&self) -> bool {
        let digest = |place: &Rc<RefCell<Option<Node>>>| place.borrow().as_ref().map(|node| node.table.digest());
        let first = digest(&self.nodes[0]);
        first.is_some() && self.nodes.iter().all(|node| digest(node) == first)
    }

    fn go_wrong(&mut self) {
        let first = self.dice.below(3);
        let (a, b) = (NAMES[first], NAMES[(first + 1 + self.dice.below(2)) % 3]);
        match self.dice.below(8) {
            0 => self.sim.partition(a, b),
            1 => self.sim.partition_oneway(a, b),
            2 => self.sim.hold(a, b),
            3 => {
                self.sim.crash(a);
                self.nodes[first].replace(None);
            }
            4 => self.sim.set_link_fail_rate(a, b, 0.05),
            _ => self.heal(),
        }
    }

    fn heal(&mut self) {
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            self.sim.set_link_fail_rate(NAMES[a], NAMES[b], 0.0);
            self.sim.release(NAMES[a], NAMES[b]);
            self.sim.repair(NAMES[a], NAMES[b]);
        }
        for (name, node) in NAMES.into_iter().zip(&self.nodes) {
            if node.borrow().is_none() {
                self.sim.bounce(name);
            }
        }
    }

    fn change(&mut self) {
        let at = self.dice.below(3);
        if let Some(node) = &*self.nodes[at].borrow() {
            for _ in 0..self.dice.below(40) {
                let key = format!("k{}", self.dice.below(500));
                match self.dice.below(8) {
                    0 => node.clear(&key),
                    server => node.pin(&key, &format!("app{server}")),
                }
            }
        }
    }
}

#[test]
fn after_any_faults_of_a_simulated_network_all_tables_are_equal() {
    let mut apart = 0;
    for seed in 1..=20 {
        let mut world = World::new(seed);
        for _ in 0..30 {
            world.go_wrong();
            world.change();
            let time = Duration::from_millis(world.dice.below(2500) as u64);
            world.pass(time);
        }
        apart += u32::from(!world.is_equal());
        world.heal();
        world.until(&format!("all are linked again, seed {seed}"), World::is_whole);
        world.until(&format!("all tables are equal, seed {seed}"), World::is_equal);
    }
    assert!(apart > 5, "{apart}: the faults do part them");
}
