//! Stories of one fault each, told on the simulated network.
use crate::sim::node::name;
use crate::sim::world::World;
use lb_peers::replicator::Input;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A cluster of which all nodes are started and linked.
fn cluster(seed: u64, n: usize) -> World {
    let mut world = World::new(seed, n);
    (0..n).for_each(|node| world.start(node));
    world.run(3 * SECOND);
    assert_meshed(&world);
    world
}

fn assert_meshed(world: &World) {
    let alive = world.alive();
    for node in &alive {
        let others: Vec<String> = alive.iter().filter(|n| *n != node).map(|n| name(*n)).collect();
        assert_eq!(world.ups(*node), others, "peers of {}", name(*node));
        assert!(world.node(*node).replicator.is_pulled(), "{} is ready", name(*node));
    }
    assert_eq!(world.net.open_streams(), alive.len() * (alive.len() - 1) / 2, "one stream for each pair");
}

fn assert_equal(world: &World) {
    let alive = world.alive();
    let first = world.node(alive[0]);
    for node in &alive[1..] {
        let other = world.node(*node);
        let differ = first.table.digest().iter().zip(other.table.digest()).filter(|(a, b)| **a != *b).count();
        assert_eq!(differ, 0, "{} and {} differ in so many buckets", name(alive[0]), name(*node));
        assert_eq!(first.table.stats().entries, other.table.stats().entries);
        assert_eq!(first.decisions.all(lb_core::time::Timestamp(0)), other.decisions.all(lb_core::time::Timestamp(0)));
    }
}

#[test]
fn a_change_is_on_its_way_at_once_and_coalesces_while_the_peer_is_slow() {
    let mut world = cluster(1, 2);
    world.pin(0, "k", "app1");
    world.run(ms(25));
    assert_eq!(world.server_of(1, "k").as_deref(), Some("app1"));
    world.cut(0, 1);
    for i in 0..1000 {
        world.pin(0, "hot", &format!("app{}", i % 3));
        world.run(Duration::from_micros(1500));
    }
    world.net.heal();
    world.run(SECOND);
    assert_eq!(world.server_of(1, "hot"), world.server_of(0, "hot"));
    let sent = world.node(0).replicator.status(world.now(0)).peers[0].sent;
    assert!(sent < 80, "sent {sent} times, though the peer heard nothing for 1.5 s");
}

#[test]
fn a_broken_stream_goes_on_where_the_peer_had_acknowledged() {
    let mut world = cluster(2, 2);
    for i in 0..3000 {
        world.pin(0, &format!("client-{i}"), "app1");
    }
    world.run(SECOND);
    let sent = |world: &World| world.node(0).replicator.status(world.now(0)).peers[0].sent;
    assert_eq!(sent(&world), 3000);
    world.break_a_stream();
    world.run(Duration::from_micros(1));
    world.pin(0, "one-more", "app2");
    world.run(2 * SECOND);
    assert_meshed(&world);
    assert_eq!(world.server_of(1, "one-more").as_deref(), Some("app2"));
    assert_eq!(sent(&world), 3001, "what was acknowledged is not sent again");
}

#[test]
fn what_was_on_its_way_when_the_stream_broke_is_sent_again() {
    for part_is_acknowledged in [false, true] {
        let mut world = cluster(11, 2);
        let acked = |world: &World| world.node(0).replicator.status(world.now(0)).peers[0].acked;
        for i in 0..3000 {
            world.pin(0, &format!("client-{i}"), "app1");
            world.run(Duration::from_micros(20));
        }
        while part_is_acknowledged && acked(&world) == 0 {
            world.run(Duration::from_micros(20));
        }
        assert!(acked(&world) < 3000);
        world.break_a_stream();
        world.run(2 * SECOND);
        assert_meshed(&world);
        assert_equal(&world);
        for node in [0, 1] {
            let peer = &world.node(node).replicator.status(world.now(node)).peers[0];
            // At the start they pulled nothing from each other; and now it took no pull.
            assert_eq!(peer.pulled.map_or(0, |(entries, _)| entries), 0, "{} had to pull", name(node));
        }
    }
}

#[test]
fn what_changes_while_a_peer_pulls_is_told_to_it_and_needs_no_repair() {
    let mut world = cluster(14, 3);
    for i in 0..20_000 {
        world.pin(0, &format!("client-{i}"), "app1");
    }
    world.run(3 * SECOND);
    world.kill(2);
    world.run(SECOND);
    world.start(2);
    while world.node(2).table.stats().entries == 0 {
        world.run(ms(1));
    }
    // Enough is left of the pull for these to arrive before it is over.
    while world.node(2).table.stats().entries < 8_000 {
        for (node, server) in [(0, "app2"), (1, "app3")] {
            let key = world.random.below(20_000);
            world.pin(node, &format!("client-{key}"), server);
        }
        world.run(Duration::from_micros(500));
    }
    assert!(!world.node(2).replicator.is_pulled());
    world.run(3 * SECOND);
    assert_equal(&world);
    let peers = world.node(2).replicator.status(world.now(2)).peers;
    // A repair would have come last.
    assert!(peers.iter().all(|p| p.pulled.is_some_and(|(entries, _)| entries > 8_000)), "{peers:#?}");
}

#[test]
fn a_use_that_the_source_of_a_pull_has_not_heard_of_is_told_to_the_one_that_pulls() {
    let mut world = cluster(15, 3);
    let keys: Vec<String> = (0..50).map(|i| format!("client-{i}")).collect();
    keys.iter().for_each(|key| world.pin(0, key, "app1"));
    world.run(3000 * SECOND);
    world.kill(2);
    world.cut(0, 1);
    keys.iter().for_each(|key| world.touch(0, 0, key));
    world.run(SECOND);
    world.start(2);
    world.run(3 * SECOND);
    assert!(world.node(2).replicator.is_pulled());
    let (view, expire) = (world.view(2), Duration::from_secs(7200));
    for (place, held) in &view.held {
        assert!(held.left > expire * 7 / 8 - 10 * SECOND, "{place:?} has {held:?}");
    }
    assert_eq!(view.held.len(), 50);
}

#[test]
fn a_pull_takes_a_part_from_each_peer_and_goes_on_from_the_other_when_one_dies() {
    let mut world = cluster(3, 3);
    for i in 0..20_000 {
        world.pin(i % 2, &format!("client-{i}"), "app1");
    }
    world.run(3 * SECOND);
    assert_equal(&world);
    world.kill(2);
    world.run(SECOND);
    world.start(2);
    // Into the pull.
    while world.node(2).table.stats().entries < 3000 {
        world.run(ms(1));
    }
    let how = |world: &World| world.node(2).replicator.status(world.now(2)).pull;
    assert!(!world.node(2).replicator.is_pulled());
    assert_eq!(how(&world), "pulling from lb0, lb1");
    world.kill(1);
    world.run(3 * SECOND);
    assert!(world.node(2).replicator.is_pulled(), "{}", how(&world));
    assert!(how(&world).contains("from lb0, lb1"), "{}", how(&world));
    assert_equal(&world);
}

#[test]
fn a_pull_from_two_peers_gets_half_from_each() {
    let mut world = cluster(13, 3);
    for i in 0..10_000 {
        world.pin(0, &format!("client-{i}"), "app1");
    }
    world.run(3 * SECOND);
    world.kill(2);
    world.run(SECOND);
    world.start(2);
    world.run(2 * SECOND);
    assert_equal(&world);
    let peers = world.node(2).replicator.status(world.now(2)).peers;
    let parts: Vec<u64> = peers.iter().map(|p| p.pulled.map_or(0, |(entries, _)| entries)).collect();
    assert_eq!(parts.iter().sum::<u64>(), 10_000, "every entry once: {parts:?}");
    assert!(parts.iter().all(|part| *part > 4_000), "{parts:?}");
}

#[test]
fn a_question_is_answered_while_the_pull_is_on() {
    let mut world = cluster(4, 2);
    for i in 0..60_000 {
        world.pin(0, &format!("client-{i}"), "app1");
    }
    world.run(3 * SECOND);
    world.kill(1);
    world.run(SECOND);
    world.start(1);
    while world.node(1).table.stats().entries == 0 {
        world.run(ms(1));
    }
    let missing = (0..60_000).map(|i| format!("client-{i}")).find(|k| world.server_of(1, k).is_none()).unwrap();
    let (table, key) = ("sessions".to_owned(), missing.clone().into_bytes());
    world.input(1, Input::Ask { id: 1, table, key });
    for _ in 0..60 {
        world.run(ms(1));
        if world.node(1).answered.contains(&1) {
            break;
        }
    }
    assert!(world.node(1).answered.contains(&1));
    // Bounded: it is answered, or the time for it is up.
    world.run(ms(40));
    assert_eq!(world.server_of(1, &missing).as_deref(), Some("app1"));
}

#[test]
fn what_was_pinned_on_both_sides_of_a_partition_is_one_pin_after_it() {
    let mut world = cluster(5, 2);
    world.cut(0, 1);
    world.run(5 * SECOND);
    assert!(world.ups(0).is_empty(), "a silent peer is dead after three heartbeats");
    for i in 0..100 {
        world.pin(0, &format!("client-{i}"), "app1");
        world.pin(1, &format!("client-{i}"), "app2");
    }
    world.run(SECOND);
    world.net.heal();
    world.run(6 * SECOND);
    assert_meshed(&world);
    assert_equal(&world);
    let all: std::collections::BTreeSet<_> = (0..100).map(|i| world.server_of(0, &format!("client-{i}"))).collect();
    assert_eq!(all.len(), 1, "one side's clock is ahead, and all its pins win");
}

#[test]
fn what_a_dead_node_told_only_one_of_two_reaches_the_other_without_a_new_link() {
    let mut world = cluster(6, 3);
    world.cut(1, 2);
    world.pin(2, "last-words", "app1");
    world.run(ms(100));
    assert_eq!(world.server_of(0, "last-words").as_deref(), Some("app1"));
    assert_eq!(world.server_of(1, "last-words"), None);
    world.kill(2);
    world.run(6 * SECOND);
    assert_eq!(world.server_of(1, "last-words").as_deref(), Some("app1"));
}

#[test]
fn one_list_with_one_name_on_one_side_is_enough_for_a_link() {
    let mut world = World::new(8, 2);
    world.join = vec![vec![], vec![0]];
    world.start(0);
    assert!(world.node(0).replicator.is_pulled());
    world.start(1);
    world.run(2 * SECOND);
    assert_meshed(&world);
}

#[test]
fn a_decision_is_passed_on_to_those_whom_its_author_does_not_know() {
    let mut world = World::new(12, 3);
    world.join = vec![vec![], vec![0], vec![0]];
    (0..3).for_each(|node| world.start(node));
    world.run(2 * SECOND);
    assert_eq!(world.ups(1), [name(0)]);
    world.decide(2, "app3");
    world.run(ms(100));
    assert!(world.node(1).decisions.get("web", "app3", lb_core::time::Timestamp(0)).is_some());
}

#[test]
fn a_node_that_stops_tells_its_peers_what_they_do_not_have() {
    let mut world = cluster(9, 3);
    for i in 0..5000 {
        world.pin(1, &format!("client-{i}"), "app1");
    }
    world.input(1, Input::Stop { within: 10 * SECOND });
    while !world.node(1).stopped {
        world.run(ms(1));
        assert!(world.at() < 13 * SECOND);
    }
    world.run(ms(30));
    world.kill(1);
    assert_eq!(world.node(0).table.stats().entries, 5000);
    assert_equal(&world);
}

#[test]
fn a_quiet_cluster_says_little() {
    let mut world = cluster(10, 3);
    world.run(5 * SECOND);
    let before = world.frames;
    world.run(60 * SECOND);
    // Three pairs: in both directions a ping and a pong each second, and a root and its answer every ten.
    assert!(world.frames - before <= 60 * 3 * 4 + 12 + 3 * 2 * 7, "{} frames in a minute", world.frames - before);
}
