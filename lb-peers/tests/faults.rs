//! The whole of it, gRPC and sockets included, over links that go bad in every way by chance: slow, stalled, deaf, cut,
//! reset, one by one and together. After the last fault all tables are equal.
#![allow(clippy::unwrap_used)]

mod support;

use lb_tests::{Dice, Fate, Link};
use std::net::SocketAddr;
use std::time::Duration;
use support::*;

const NODES: usize = 3;
const STEPS: usize = 60;

/// Every node reaches every other by a link of its own.
struct Mesh {
    nodes: Vec<Node>,
    links: Vec<Link>,
    dice: Dice,
}

impl Mesh {
    async fn new(seed: u64) -> Self {
        let ports: Vec<SocketAddr> = (0..NODES).map(|_| kept_port()).collect();
        let (mut nodes, mut links) = (Vec::new(), Vec::new());
        for (i, port) in ports.iter().enumerate() {
            let others = ports.iter().filter(|other| *other != port);
            let ways: Vec<Link> = others.map(|other| Link::to(other.port())).collect();
            let mut settings = settings(&format!("n{i}"), &ways.iter().map(|way| way.addr).collect::<Vec<_>>());
            settings.config.listen = *port;
            nodes.push(Node::start(settings).await);
            links.extend(ways);
        }
        let mesh = Self { nodes, links, dice: Dice::new(seed) };
        mesh.is_whole().await;
        mesh
    }

    /// All are linked with all.
    async fn is_whole(&self) {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.settings.node != node.settings.node) {
                node.sees(&other.settings.node).await;
            }
        }
    }

    fn go_wrong(&mut self) {
        let link = &self.links[self.dice.below(self.links.len())];
        let fates = [Fate::Pass, Fate::Wait, Fate::Lost];
        match self.dice.below(6) {
            0 => link.cut(),
            1 => link.reset(),
            2 => link.slow(Duration::from_millis(self.dice.below(100) as u64), Duration::from_millis(50)),
            3 => link.fate(fates[self.dice.below(3)], fates[self.dice.below(3)]),
            _ => link.heal(),
        }
    }

    fn change(&mut self) {
        let node = &self.nodes[self.dice.below(NODES)];
        for _ in 0..self.dice.below(40) {
            let key = format!("k{}", self.dice.below(500));
            match self.dice.below(8) {
                0 => node.clear(&key),
                server => node.pin(&key, &format!("app{server}")),
            }
        }
    }

    fn is_equal(&self) -> bool {
        let first = self.nodes[0].table.digest();
        self.nodes.iter().all(|node| node.table.digest() == first)
    }
}

async fn any_faults(seed: u64) {
    let mut mesh = Mesh::new(seed).await;
    for _ in 0..STEPS {
        mesh.go_wrong();
        mesh.change();
        tokio::time::sleep(Duration::from_millis(mesh.dice.below(150) as u64)).await;
    }
    mesh.links.iter().for_each(Link::heal);
    mesh.is_whole().await;
    eventually(&format!("all tables are equal after seed {seed}"), || mesh.is_equal()).await;
    assert!(mesh.nodes[0].table.stats().entries > 100);
}

#[test]
fn after_any_faults_all_are_equal_1() {
    on_one_thread(any_faults(1));
}

#[test]
fn after_any_faults_all_are_equal_2() {
    on_one_thread(any_faults(2));
}

#[test]
fn after_any_faults_all_are_equal_3() {
    on_one_thread(any_faults(3));
}

#[test]
fn after_any_faults_all_are_equal_4() {
    on_one_thread(any_faults(4));
}
