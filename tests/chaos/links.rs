//! Two instances whose only ways to each other are links that can be made bad.
use crate::{CLIENTS, HEALED, Servers, agree, equal, nobody_moved};
use lb_tests::crowd::{Pins, newcomers};
use lb_tests::instance::free_port;
use lb_tests::{Crowd, Dice, Fate, Instance, Link, eventually, within};
use std::time::{Duration, Instant};

struct Pair {
    /// Kept: the servers behind.
    _servers: Servers,
    cluster: Vec<Instance>,
    /// The way to each instance.
    links: Vec<Link>,
    /// Clients that came before there was any trouble.
    old: Pins,
    crowd: Crowd,
}

impl Pair {
    /// Linked, with clients that come back to both all the while.
    fn new() -> Self {
        let servers = Servers::new();
        let ports = [free_port(), free_port()];
        let links: Vec<_> = ports.iter().map(|port| Link::to(*port)).collect();
        let start = |i: usize| {
            let (port, join, rest) = (ports[i], links[1 - i].addr, servers.config());
            let peers = format!("[peers]\ncluster = \"test\"\nlisten = \"127.0.0.1:{port}\"\njoin = [\"{join}\"]\n");
            Instance::spawn(&format!("lb{}", i + 1), port, &(peers + &rest))
        };
        let cluster: Vec<_> = (0..2).map(start).collect();
        for lb in &cluster {
            lb.wait_ready();
            eventually("the link is up", || lb.peers_up() == 1);
        }
        let old = newcomers(&cluster[0], "old", CLIENTS);
        agree(&cluster, CLIENTS);
        let crowd = Crowd::of(&old, &[&cluster[0], &cluster[1]]);
        Self { _servers: servers, cluster, links, old, crowd }
    }

    /// New clients on both sides.
    fn newcomers(&self, name: &str) -> Pins {
        let at = |i: usize| newcomers(&self.cluster[i], &format!("{name}{i}-"), CLIENTS / 2);
        [at(0), at(1)].concat()
    }

    fn noticed(&self) {
        for lb in &self.cluster {
            eventually(&format!("{} notices", lb.name), || lb.peers_up() == 0);
        }
    }

    /// Within seconds of the healing both tables are equal, and none of these clients nor any older one was moved.
    fn heal(self, new: &Pins) {
        self.links.iter().for_each(Link::heal);
        agree(&self.cluster, self.old.len() + new.len());
        nobody_moved(&self.cluster, &[&self.old[..], new].concat());
        assert_eq!(self.crowd.complaints(), [""; 0]);
        assert!(equal(&self.cluster, self.old.len() + new.len()));
    }
}

#[test]
fn over_a_long_and_uneven_way_pins_arrive_and_no_client_moves() {
    let pair = Pair::new();
    pair.links.iter().for_each(|l| l.slow(Duration::from_millis(200), Duration::from_millis(100)));
    let new = pair.newcomers("far");
    // While it is slow.
    agree(&pair.cluster, pair.old.len() + new.len());
    nobody_moved(&pair.cluster, &new);
    assert!(pair.cluster.iter().all(|lb| lb.peers_up() == 1), "a long way is no broken one");
    pair.heal(&new);
}

#[test]
fn a_link_that_comes_up_over_a_long_way_brings_everything() {
    let pair = Pair::new();
    pair.links.iter().for_each(Link::cut);
    pair.noticed();
    let new = pair.newcomers("far");
    pair.links.iter().for_each(Link::heal);
    pair.links.iter().for_each(|l| l.slow(Duration::from_millis(200), Duration::from_millis(100)));
    within(HEALED * 2, "all has come", || equal(&pair.cluster, pair.old.len() + new.len()));
    pair.heal(&new);
}

#[test]
fn a_link_that_stalls_is_noticed_and_heals() {
    let pair = Pair::new();
    pair.links.iter().for_each(|l| l.fate(Fate::Wait, Fate::Wait));
    pair.noticed();
    let new = pair.newcomers("stalled");
    pair.heal(&new);
}

#[test]
fn a_link_that_swallows_everything_is_noticed_and_heals() {
    let pair = Pair::new();
    pair.links.iter().for_each(|l| l.fate(Fate::Lost, Fate::Lost));
    pair.noticed();
    let new = pair.newcomers("swallowed");
    pair.heal(&new);
}

#[test]
fn a_link_that_works_one_way_only_is_noticed_and_heals() {
    let pair = Pair::new();
    // What the first says does not reach the second.
    pair.links[1].fate(Fate::Lost, Fate::Pass);
    pair.links[0].fate(Fate::Pass, Fate::Lost);
    eventually("the deaf one notices", || pair.cluster[1].peers_up() == 0);
    let new = pair.newcomers("deaf");
    pair.heal(&new);
}

#[test]
fn links_that_are_reset_at_random_lose_no_pin() {
    let pair = Pair::new();
    let (mut dice, mut new, until) = (Dice::new(7), Pins::new(), Instant::now() + Duration::from_secs(10));
    while Instant::now() < until {
        pair.links[dice.below(2)].reset();
        new.extend(newcomers(&pair.cluster[dice.below(2)], &format!("reset{}-", new.len()), 1 + dice.below(9)));
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
    }
    pair.heal(&new);
}
