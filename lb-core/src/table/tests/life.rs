//! How long entries live.
use super::*;
use proptest::prelude::*;

#[test]
fn a_pin_lives_for_the_expiry_and_each_look_up_slides_it() {
    let t = table(spec(10));
    assert_eq!(t.store(&key("k"), s(1), NOW), Stored::Pinned);
    assert_eq!(server(&t, "k", later(EXPIRE - 1)), Some(s(1)));
    assert_eq!(server(&t, "k", later(EXPIRE)), None, "a peek does not slide it");
    let pin = t.lookup(&key("k"), later(EXPIRE - 1)).expect("it lives");
    assert_eq!(pin.left, Duration::from_millis(EXPIRE));
    assert_eq!(server(&t, "k", later(2 * EXPIRE - 2)), Some(s(1)));
    assert_eq!(t.lookup(&key("k"), later(2 * EXPIRE - 1)), None);
    assert_eq!((t.stats().hits, t.stats().misses), (1, 1));
}

#[test]
fn an_entry_past_its_end_is_a_miss_for_everybody_before_it_is_swept() {
    let t = table(spec(10));
    t.store(&key("k"), s(1), NOW);
    let over = later(EXPIRE);
    let stamp = t.peek(&key("k"), NOW).expect("it lives").stamp;
    assert_eq!(t.peek(&key("k"), over), None);
    assert!(!t.clear(&key("k"), over));
    assert!(contents(&t, over).is_empty());
    assert!(read(&t, &mut Vec::new(), 10, over).is_empty());
    assert_eq!(t.stats().entries, 1);
    assert_eq!(t.store(&key("k"), s(1), over), Stored::Pinned, "a fresh pin, not a touch");
    assert!(t.peek(&key("k"), over).expect("it lives").stamp > stamp);
    check(&t);
}

#[test]
fn a_sweep_takes_what_is_over_and_nothing_else() {
    let t = table(spec(10_000));
    for i in 0..2_000u64 {
        t.store(&key(i.to_be_bytes()), s(1), later(i * 100));
    }
    check(&t);
    for i in (0..2_000u64).step_by(2) {
        assert!(t.lookup(&key(i.to_be_bytes()), later(EXPIRE / 2)).is_some());
    }
    let mut gone = 0;
    for ms in (0..=EXPIRE + 200_000).step_by(1_717) {
        gone += t.expire(later(ms), usize::MAX);
        let over = (0..2_000u64).filter(|i| i % 2 == 1 && i * 100 + EXPIRE <= ms).count();
        let touched = (0..2_000u64).filter(|i| i % 2 == 0 && (i * 100).max(EXPIRE / 2) + EXPIRE <= ms).count();
        assert_eq!(gone, over + touched, "at {ms}");
    }
    check(&t);
    assert_eq!(t.expire(later(3 * EXPIRE), usize::MAX), 2_000 - gone);
    assert_eq!((t.stats().entries, t.stats().expired), (0, 2_000));
    check(&t);
}

#[test]
fn a_small_budget_gets_through_all_shards_in_the_end() {
    let t = table(spec(10_000));
    for i in 0..500u64 {
        t.store(&key(i.to_be_bytes()), s(1), NOW);
    }
    let calls = (0..10_000).take_while(|_| t.stats().entries > 0 && t.expire(later(EXPIRE), 7) <= 7).count();
    assert_eq!(t.stats().entries, 0);
    assert!((500 / 7..500).contains(&calls), "{calls}");
    check(&t);
}

#[test]
fn a_received_life_is_no_longer_than_the_tables_own() {
    let t = table(spec(10));
    t.merge(&update("pin", s(1), 1, u64::MAX), NOW);
    t.merge(&update("cleared", NameId::NONE, 1, u64::MAX), NOW);
    assert_eq!(t.peek(&key("pin"), NOW).expect("it lives").left, Duration::from_millis(EXPIRE));
    assert_eq!(t.expire(later(EXPIRE), 100), 1);
    assert_eq!(t.expire(later(EXPIRE + entry::TOMBSTONE_EXTRA - 1), 100), 0);
    assert_eq!(t.expire(later(EXPIRE + entry::TOMBSTONE_EXTRA), 100), 1);
    check(&t);
}

#[test]
fn a_pin_after_a_tombstone_lives_no_longer_than_any_other() {
    let t = table(spec(10));
    t.store(&key("k"), s(1), NOW);
    assert!(t.clear(&key("k"), later(1)));
    assert!(!t.clear(&key("k"), later(2)));
    assert_eq!((t.stats().entries, t.stats().tombstones), (0, 1));
    assert_eq!(t.store(&key("k"), s(1), later(3)), Stored::Pinned);
    assert_eq!(t.expire(later(EXPIRE + 2), 100), 0);
    assert_eq!(t.expire(later(EXPIRE + 3), 100), 1);
    check(&t);
}

#[test]
fn a_wall_clock_that_jumps_neither_kills_nor_blocks() {
    let t = table(spec(2));
    t.store(&key("a"), s(1), later(3_600_000));
    t.store(&key("b"), s(1), later(3_600_000));
    // Back by an hour: old entries live, new ones are taken.
    assert_eq!(server(&t, "a", NOW), Some(s(1)));
    assert_eq!(t.store(&key("c"), s(2), NOW), Stored::Pinned);
    assert_eq!(server(&t, "c", NOW), Some(s(2)));
    assert!(t.store(&key("a"), s(3), NOW) == Stored::Pinned);
    check(&t);
}

#[test]
fn a_new_expiry_holds_from_the_next_touch_on() {
    let t = table(spec(10));
    t.store(&key("k"), s(1), NOW);
    t.reconfigure(Arc::new(config::Table { expire: Duration::from_millis(10 * EXPIRE), ..spec(10) }));
    assert_eq!(server(&t, "k", later(EXPIRE)), None);
    t.lookup(&key("k"), later(1));
    assert_eq!(server(&t, "k", later(10 * EXPIRE)), Some(s(1)));
    assert_eq!(t.expire(later(10 * EXPIRE), 100), 0);
    assert_eq!(t.expire(later(10 * EXPIRE + 1), 100), 1);
    check(&t);
}

proptest! {
    #[test]
    fn a_peer_that_reads_on_never_lags_by_more_than_an_eighth_and_hears_little(
        steps in proptest::collection::vec(0u64..EXPIRE / 3, 1..200),
        learned: bool,
    ) {
        let names = names();
        let (here, peer) = (node_table("a", &names, spec(10)), node_table("b", &names, spec(10)));
        let (mut now, mut cursors, mut told) = (NOW, Vec::new(), 0);
        if learned {
            // An entry learned from a peer is told on when its life grows here.
            let update = update("k", s(1), 1, EXPIRE);
            here.merge(&update, now);
            peer.merge(&update, now);
        } else {
            here.store(&key("k"), s(1), now);
        }
        for step in &steps {
            for update in read(&here, &mut cursors, 10, now) {
                told += 1;
                peer.merge(&update, now);
            }
            let left = |t: &StickTable| millis(t.peek(&key("k"), now).expect("it lives").left);
            prop_assert!(left(&here) - left(&peer) <= EXPIRE / 8);
            now = now.plus(Duration::from_millis(*step));
            prop_assert!(here.lookup(&key("k"), now).is_some());
        }
        prop_assert!(told <= 2 + 8 * now.since(NOW).as_millis() as u64 / EXPIRE);
    }

    #[test]
    fn a_life_never_depends_on_the_pins_it_came_with(
        updates in proptest::collection::vec((1u32..4, 0u64..20, 1u64..EXPIRE), 1..20),
    ) {
        let t = table(spec(10));
        for (server, clock, left) in &updates {
            t.merge(&update("k", s(*server), *clock * 16 + u64::from(*server), *left), NOW);
        }
        let pin = t.peek(&key("k"), NOW).expect("it lives");
        prop_assert_eq!(Some(millis(pin.left)), updates.iter().map(|u| u.2).max());
    }
}

#[test]
fn a_pin_ends_at_its_longest_life_however_much_it_is_used() {
    let max = 2 * EXPIRE + EXPIRE / 2;
    let bounded = || config::Table { max_life: Some(Duration::from_millis(max)), ..spec(10) };
    let names = names();
    let (t, peer) = (node_table("a", &names, bounded()), node_table("b", &names, bounded()));
    t.store(&key("k"), s(1), NOW);
    let first = t.peek(&key("k"), NOW).expect("it lives").stamp;
    let _socket = t.hold(&key("k"), NOW);
    for ms in (0..max).step_by(EXPIRE as usize / 2) {
        let pin = t.lookup(&key("k"), later(ms)).unwrap_or_else(|| panic!("{ms}"));
        assert_eq!(pin.left, Duration::from_millis(EXPIRE.min(max - ms)));
        t.store(&key("k"), s(1), later(ms));
        t.renew(later(ms));
    }
    // A peer that hears of it late gives it no more.
    let told = read(&t, &mut Vec::new(), 10, later(max - 1000));
    assert!(told.iter().all(|u| peer.merge(u, later(max - 1000)) == Merged::Applied), "{told:?}");
    let long = Update { left: Duration::from_millis(EXPIRE), ..told[0].clone() };
    peer.merge(&long, later(max - 1000));
    for table in [&t, &peer] {
        assert_eq!(server(table, "k", later(max - 1)), Some(s(1)));
        assert_eq!(server(table, "k", later(max)), None);
        assert_eq!(table.lookup(&key("k"), later(max)), None);
    }
    assert_eq!(t.store(&key("k"), s(1), later(max)), Stored::Pinned, "pinned anew, if to the same server");
    assert!(t.peek(&key("k"), later(max)).expect("it lives").stamp > first);
    assert_eq!(t.peek(&key("k"), later(max)).map(|pin| pin.left), Some(Duration::from_millis(EXPIRE)));
    check(&t);
    check(&peer);
}

#[test]
fn a_moved_pin_has_a_longest_life_of_its_own() {
    let t = table(config::Table { max_life: Some(Duration::from_millis(EXPIRE)), ..spec(10) });
    t.store(&key("k"), s(1), NOW);
    t.store(&key("k"), s(2), later(EXPIRE - 1));
    assert_eq!(server(&t, "k", later(2 * EXPIRE - 2)), Some(s(2)));
    assert_eq!(server(&t, "k", later(2 * EXPIRE - 1)), None);
}
