//! Tables that are compared now and then: what differs heals without a new link, what cannot heal does not cost much,
//! and a quiet pair says next to nothing.
#![allow(clippy::unwrap_used)]

#[path = "sim/mod.rs"]
#[allow(dead_code)]
mod sim;

use lb_core::status::{PeerStatus, TableSync};
use sim::world::World;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// `peers.anti_entropy`
const PERIOD: Duration = Duration::from_secs(10);

/// Two nodes that are linked, have compared their tables and know it.
fn pair(seed: u64, sizes: [usize; 2]) -> World {
    let mut world = World::new(seed, 2);
    world.specs.iter_mut().zip(sizes).for_each(|(specs, size)| specs[0].size = size);
    (0..2).for_each(|node| world.start(node));
    world.run(6 * SECOND);
    world
}

fn peer(world: &World, node: usize) -> PeerStatus {
    world.node(node).replicator.status(world.now(node)).peers.remove(0)
}

fn table(world: &World, node: usize) -> TableSync {
    peer(world, node).tables.remove(0)
}

fn count(world: &World, kind: &str) -> u64 {
    world.kinds.get(kind).map_or(0, |(frames, _)| *frames)
}

fn are_equal(world: &World) -> bool {
    world.node(0).table.digest() == world.node(1).table.digest()
}

#[test]
fn a_pair_knows_soon_that_it_is_in_sync() {
    let world = pair(1, [1000, 1000]);
    for node in [0, 1] {
        assert_eq!(peer(&world, node).in_sync, Some(true), "{:?}", peer(&world, node));
        assert!(table(&world, node).compared_ago.unwrap() <= 5);
    }
}

#[test]
fn a_lost_update_heals_within_a_period_and_is_counted() {
    for side in [0, 1] {
        let mut world = pair(2 + side as u64, [1000, 1000]);
        for i in 0..500 {
            world.pin(i % 2, &format!("client-{i}"), "app1");
        }
        world.run(SECOND);
        world.lose(side, "lost", "app7");
        world.run(PERIOD + PERIOD / 4 + 2 * SECOND);
        assert_eq!(world.server_of(1 - side, "lost").as_deref(), Some("app7"));
        assert_eq!(table(&world, 1 - side).repaired, 1);
        assert_eq!(table(&world, side).repaired, 0);
        world.run(PERIOD);
        assert_eq!((peer(&world, 0).in_sync, peer(&world, 1).in_sync), (Some(true), Some(true)));
    }
}

#[test]
fn a_difference_is_shown_until_it_is_healed() {
    let mut world = pair(4, [1000, 1000]);
    world.lose(0, "lost", "app7");
    let mut seen = 0;
    for _ in 0..150 {
        world.run(SECOND / 10);
        seen += u32::from(peer(&world, 0).in_sync == Some(false));
    }
    assert!(seen > 0 && are_equal(&world));
    assert_eq!(peer(&world, 0).in_sync, Some(true));
}

#[test]
fn a_quiet_pair_sends_two_small_frames_a_period() {
    let mut world = pair(5, [200_000, 200_000]);
    for i in 0..50_000 {
        world.pin(i % 2, &format!("client-{i}"), "app1");
        if i % 1000 == 0 {
            world.run(SECOND / 100);
        }
    }
    world.run(3 * PERIOD);
    world.kinds.clear();
    world.run(60 * PERIOD);
    assert_eq!((count(&world, "digest"), count(&world, "pull")), (0, 0));
    let (roots, bytes) = world.kinds["root"];
    assert!((58..=62).contains(&roots), "{roots} roots in 60 periods");
    let (equal, more) = world.kinds["equal"];
    assert_eq!(equal, roots);
    assert!(bytes + more < 30 * roots, "{bytes} and {more} bytes");
    assert!(table(&world, 0).compared_ago.unwrap() <= 10 && table(&world, 1).compared_ago.unwrap() <= 12);
}

#[test]
fn what_changes_all_the_time_is_no_difference_and_pulls_nothing() {
    let mut world = pair(6, [100_000, 100_000]);
    world.kinds.clear();
    for i in 0..30_000u32 {
        world.pin(i as usize % 2, &format!("client-{i}"), "app1");
        world.run(Duration::from_millis(2));
        assert_ne!(peer(&world, 0).in_sync, Some(false));
    }
    assert!(count(&world, "digest") > 0, "nothing was on its way at any comparison");
    assert_eq!(count(&world, "pull"), 0);
    assert_eq!(peer(&world, 0).in_sync, Some(true), "{:?}", peer(&world, 0));
}

#[test]
fn a_lost_update_heals_in_the_midst_of_changes() {
    let mut world = pair(7, [100_000, 100_000]);
    world.lose(0, "lost", "app7");
    for i in 0..20_000u32 {
        world.pin(i as usize % 2, &format!("client-{i}"), "app1");
        world.run(Duration::from_millis(1));
    }
    assert_eq!(world.server_of(1, "lost").as_deref(), Some("app7"));
    assert_eq!(table(&world, 1).repaired, 1, "nothing but that was pulled");
}

#[test]
fn a_small_full_table_and_a_great_one_pull_less_and_less() {
    let mut world = pair(8, [100, 10_000]);
    for i in 0..2000 {
        world.pin(1, &format!("client-{i}"), "app1");
        world.run(Duration::from_millis(1));
    }
    world.run(60 * SECOND);
    world.kinds.clear();
    world.run(3600 * SECOND);
    // Every five minutes, each side.
    let pulls = count(&world, "pull");
    assert!(pulls <= 2 * (3600 / 300 + 6), "{pulls} pulls in an hour");
    let pulled = world.kinds.get("pulled").map_or(0, |(_, bytes)| *bytes);
    assert!(pulled < pulls * 2000 * 60 / 4, "{pulled} bytes in {pulls} pulls: a round is an eighth of the table");
    for (node, place) in [(0, "here"), (1, "there")] {
        let known = table(&world, node);
        assert_eq!(known.equal, Some(false));
        assert!(known.note.as_ref().unwrap().contains(place), "{known:?}");
    }
}

#[test]
fn many_lost_updates_heal_an_eighth_of_the_buckets_at_a_time() {
    let mut world = pair(9, [100_000, 100_000]);
    for i in 0..20_000 {
        world.lose(0, &format!("lost-{i}"), "app7");
    }
    world.run(PERIOD + PERIOD / 4 + 2 * SECOND);
    let healed = world.node(1).table.stats().entries;
    assert!((2000..3000).contains(&healed), "{healed}");
    world.run(9 * PERIOD);
    assert!(are_equal(&world));
    assert_eq!(peer(&world, 1).in_sync, Some(true), "{:?}", peer(&world, 1));
}
