//! Nodes with a server each, and words between them that take their time.
use super::*;
use lb_core::id::NameId;
use lb_core::server::{AdminState, InFlight, Waiting};
use lb_core::time::Timestamp;
use proptest::prelude::*;
use std::collections::VecDeque;

const HEARTBEAT: Duration = Duration::from_millis(100);

struct Side {
    loads: Loads,
    server: Arc<ServerState>,
    inside: Vec<InFlight>,
    waiting: Vec<Waiting>,
}

struct World {
    bound: u32,
    ms: u64,
    sides: Vec<Side>,
    /// By sender and receiver: when it arrives, what.
    wires: Vec<Vec<VecDeque<(u64, Frame)>>>,
    delays: Vec<u64>,
    cut: Option<usize>,
    /// When each was let in that was let in of late.
    admitted: VecDeque<u64>,
}

impl World {
    fn new(nodes: usize, bound: u32, delays: Vec<u64>) -> Self {
        let side = |n: usize| {
            let server = Arc::new(ServerState::new("app", "node1", NameId(1), 1, 1, AdminState::Ready));
            server.set_bounds(None, Some(bound));
            let shared = Arc::new(SharedBounds::default());
            shared.set([server.clone()].into_iter());
            let loads = Loads::new(shared, &format!("lb{n}"));
            Side { loads, server, inside: Vec::new(), waiting: Vec::new() }
        };
        let wires = (0..nodes).map(|_| vec![VecDeque::new(); nodes]).collect();
        let mut world = Self {
            bound,
            ms: 0,
            sides: (0..nodes).map(side).collect(),
            wires,
            delays,
            cut: None,
            admitted: VecDeque::new(),
        };
        for us in 0..nodes {
            for other in (0..nodes).filter(|other| *other != us) {
                let now = world.now();
                world.sides[us].loads.up(now, &format!("lb{other}"), LinkId::accepted(other as u64));
            }
        }
        (0..nodes).for_each(|us| world.work(us));
        world
    }

    fn now(&self) -> Now {
        let at = Duration::from_millis(self.ms);
        Now { at, wall: Timestamp(self.ms), clock: Timestamp(self.ms) }
    }

    fn delay(&mut self) -> u64 {
        self.delays.rotate_left(1);
        self.delays[0]
    }

    fn work(&mut self, us: usize) {
        let now = self.now();
        for (link, frame) in self.sides[us].loads.work(now, HEARTBEAT) {
            let to = (0..self.sides.len()).find(|n| LinkId::accepted(*n as u64) == link).unwrap();
            let at = (self.ms + self.delay()).max(self.wires[us][to].back().map_or(0, |(at, _)| *at));
            self.wires[us][to].push_back((at, frame));
        }
    }

    /// A millisecond passes; then everybody lets in whom it may.
    fn step(&mut self) {
        self.ms += 1;
        for from in 0..self.sides.len() {
            for to in 0..self.sides.len() {
                while self.wires[from][to].front().is_some_and(|(at, _)| *at <= self.ms) {
                    let (_, frame) = self.wires[from][to].pop_front().unwrap();
                    let Frame::Loads { number, seen, loads } = frame else { panic!("{frame:?}") };
                    if self.cut != Some(from) && self.cut != Some(to) {
                        self.sides[to].loads.received(&format!("lb{from}"), (number, seen), loads).unwrap();
                        self.work(to);
                    }
                }
            }
        }
        for us in (0..self.sides.len()).filter(|us| self.cut != Some(*us)).collect::<Vec<_>>() {
            self.work(us);
            self.admit(us);
        }
    }

    fn admit(&mut self, us: usize) {
        while !self.sides[us].waiting.is_empty() {
            let side = &mut self.sides[us];
            let Some(inside) = side.server.try_enter() else { break };
            side.inside.push(inside);
            side.waiting.pop();
            self.admitted.push_back(self.ms);
            self.check();
        }
    }

    /// Between two nodes the bound is never passed. Among more, by no more than was let in while words were on their way.
    fn check(&mut self) {
        let over = self.active().saturating_sub(self.bound as usize);
        let under_way = 2 * (self.delays.iter().max().unwrap() + PERIOD.as_millis() as u64);
        self.admitted.retain(|at| at + under_way >= self.ms);
        let slack = if self.sides.len() == 2 { 0 } else { self.admitted.len() - 1 };
        assert!(over <= slack, "{over} over at {} ms, {slack} may be", self.ms);
    }

    fn arrive(&mut self, us: usize, count: usize) {
        let server = self.sides[us].server.clone();
        self.sides[us].waiting.extend((0..count).map(|_| server.wait()));
        self.admit(us);
    }

    fn leave(&mut self, us: usize, count: usize) {
        let inside = &mut self.sides[us].inside;
        inside.truncate(inside.len().saturating_sub(count));
        self.admit(us);
    }

    fn active(&self) -> usize {
        self.sides.iter().map(|s| s.inside.len()).sum()
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }
}

#[test]
fn one_node_alone_gets_the_whole_bound_and_gives_way_when_another_wants_its_part() {
    let mut world = World::new(2, 300, vec![1]);
    world.arrive(0, 1000);
    world.run(200);
    assert_eq!(world.active(), 300, "all of it through one");
    world.arrive(1, 200);
    world.run(200);
    assert_eq!(world.sides[1].inside.len(), 0, "nobody is thrown out");
    for _ in 0..40 {
        world.leave(0, 5);
        world.run(30);
    }
    assert_eq!((world.sides[0].inside.len(), world.sides[1].inside.len()), (150, 150));
}

#[test]
fn a_lost_peer_keeps_what_it_had_for_three_heartbeats() {
    let mut world = World::new(2, 100, vec![2]);
    world.arrive(0, 1000);
    world.arrive(1, 1000);
    world.run(200);
    assert_eq!(world.sides[0].inside.len(), 50);
    world.cut = Some(1);
    let now = world.now();
    world.sides[0].loads.down(now, "lb1");
    world.run(299);
    assert_eq!(world.sides[0].inside.len(), 50);
    world.sides[1].inside.clear();
    world.run(30);
    assert_eq!(world.sides[0].inside.len(), 100);
}

#[test]
fn a_peer_that_says_nothing_holds_a_server_back_for_one_heartbeat() {
    let mut world = World::new(2, 100, vec![1]);
    world.cut = Some(1);
    world.arrive(0, 1000);
    world.run(90);
    assert_eq!(world.active(), 0);
    world.run(30);
    assert_eq!(world.active(), 100);
}

#[test]
fn who_is_to_meet_others_takes_an_even_part_until_its_tables_are_whole() {
    let mut world = World::new(1, 90, vec![1]);
    let allowance = |world: &World| world.sides[0].server.bounds().allowance;
    world.sides[0].loads.expect(2);
    world.work(0);
    assert_eq!(allowance(&world), Some(30));
    world.sides[0].loads.expect(0);
    world.work(0);
    assert_eq!(allowance(&world), Some(90));
}

#[test]
fn a_peer_whose_numbers_make_no_sense_is_told_so() {
    let mut world = World::new(2, 10, vec![1]);
    let loads = &mut world.sides[0].loads;
    assert!(loads.received("lb1", (1, 5), Vec::new()).is_err(), "it has seen what was never sent");
    assert!(loads.received("lb1", (7, 0), Vec::new()).is_ok());
    assert!(loads.received("lb1", (6, 0), Vec::new()).is_err(), "it goes back");
    assert!(loads.received("nobody", (1, 1), Vec::new()).is_ok(), "late words of one that has gone");
}

#[test]
fn what_the_others_have_is_known_once_all_have_told_and_nothing_of_before_counts() {
    let mut world = World::new(3, 300, vec![5]);
    let elsewhere = |world: &World| world.sides[0].server.elsewhere();
    assert_eq!(elsewhere(&world), None);
    world.arrive(1, 3);
    world.arrive(2, 4);
    world.run(150);
    assert_eq!(elsewhere(&world), Some(7));
    world.leave(1, 3);
    world.run(50);
    assert_eq!(elsewhere(&world), Some(4));
    let tell = |world: &mut World, us: usize, on: bool| {
        let server = world.sides[us].server.clone();
        world.sides[us].loads.shared.set([server].into_iter().filter(|_| on));
    };
    (0..3).for_each(|us| tell(&mut world, us, false));
    world.run(50);
    tell(&mut world, 0, true);
    assert_eq!(elsewhere(&world), None);
    tell(&mut world, 1, true);
    world.run(50);
    assert_eq!(elsewhere(&world), None, "one is yet to tell");
    tell(&mut world, 2, true);
    world.run(50);
    assert_eq!(elsewhere(&world), Some(4));
}

#[test]
fn who_never_tells_of_a_server_has_none_after_three_heartbeats() {
    let mut world = World::new(2, 300, vec![1]);
    world.sides[1].loads.shared.set(std::iter::empty());
    world.run(299);
    assert_eq!(world.sides[0].server.elsewhere(), None);
    world.run(40);
    assert_eq!(world.sides[0].server.elsewhere(), Some(0));
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_wherever_the_bound_holds_and_is_used(
        nodes in 2usize..5,
        bound in 1u32..60,
        delays in proptest::collection::vec(0u64..40, 1..20),
        events in proptest::collection::vec((0usize..5, 0usize..40, 0usize..40, 1u64..50), 1..60),
    ) {
        let mut world = World::new(nodes, bound, delays);
        for (at, come, go, ms) in events {
            world.arrive(at % nodes, come);
            world.leave((at + 1) % nodes, go);
            world.run(ms);
        }
        world.arrive(0, bound as usize);
        for us in 1..nodes {
            world.leave(us, usize::MAX);
            world.sides[us].waiting.clear();
            world.leave(us, usize::MAX);
        }
        world.run(1000);
        prop_assert_eq!(world.sides[0].inside.len(), bound as usize, "one who wants all of it gets it from the idle");
    }
}
