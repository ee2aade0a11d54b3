//! What a full table does.
use super::*;
use proptest::prelude::*;

fn refusing(size: usize) -> config::Table {
    config::Table { when_full: WhenFull::Refuse, ..spec(size) }
}

#[test]
fn a_full_table_still_updates_the_keys_it_holds() {
    for spec in [spec(3), refusing(3)] {
        let t = table(spec);
        for k in ["a", "b", "c"] {
            t.store(&key(k), s(1), NOW);
        }
        assert_eq!(t.store(&key("a"), s(2), later(1)), Stored::Pinned);
        assert_eq!(t.store(&key("b"), s(1), later(1)), Stored::Same);
        assert_eq!(t.merge(&update("c", s(3), 1 << 40, EXPIRE), later(1)), Merged::Applied);
        assert_eq!(["a", "b", "c"].map(|k| server(&t, k, later(1))), [Some(s(2)), Some(s(1)), Some(s(3))]);
        assert!(t.clear(&key("a"), later(2)));
        assert_eq!((t.stats().evictions, t.stats().refused), (0, 0));
        check(&t);
    }
}

#[test]
fn a_table_that_refuses_takes_no_newcomer_until_somebody_is_over_or_cleared() {
    let t = table(refusing(2));
    t.store(&key("a"), s(1), NOW);
    t.store(&key("b"), s(1), later(10));
    assert_eq!(t.store(&key("c"), s(1), later(20)), Stored::Refused);
    assert_eq!(t.merge(&update("c", s(1), 1, EXPIRE), later(20)), Merged::Refused);
    assert_eq!((t.stats().refused, t.stats().merge_refused), (1, 1));
    // Over, though not swept.
    assert_eq!(t.store(&key("c"), s(1), later(EXPIRE)), Stored::Pinned);
    assert!(t.clear(&key("b"), later(EXPIRE)));
    assert_eq!(t.store(&key("d"), s(1), later(EXPIRE)), Stored::Pinned);
    assert_eq!(t.store(&key("e"), s(1), later(EXPIRE)), Stored::Refused);
    check(&t);
}

#[test]
fn tombstones_make_room_before_pins_and_push_none_out() {
    let t = table(spec(4));
    for k in ["a", "b", "c", "d"] {
        t.store(&key(k), s(1), NOW);
    }
    t.clear(&key("c"), later(1));
    t.clear(&key("d"), later(2));
    assert_eq!(t.merge(&update("e", NameId::NONE, 1, 1_000), later(2)), Merged::Refused, "ends before all others");
    assert_eq!(t.merge(&update("x", s(1), 1, 1_000), later(3)), Merged::Applied, "however short it lives");
    t.store(&key("y"), s(1), later(3));
    assert_eq!((t.stats().entries, t.stats().tombstones), (4, 0));
    assert_eq!(server(&t, "a", later(3)), Some(s(1)));
    assert_eq!(t.merge(&update("e", NameId::NONE, 1, u64::MAX), later(4)), Merged::Refused, "there are only pins");
    check(&t);
}

#[test]
fn after_a_clear_of_a_full_table_there_is_room_for_all() {
    let t = table(spec(3_000));
    for round in 0..3u64 {
        for i in 0..3_000u64 {
            assert_eq!(t.store(&key((round * 3_000 + i).to_be_bytes()), s(1), later(round)), Stored::Pinned);
        }
        assert_eq!(t.clear_all(Some(s(2)), later(round)), 0);
        let cleared = t.clear_all(None, later(round));
        // Shards are filled unevenly, and each makes room only within itself.
        assert!(cleared > 2_800, "{cleared}");
        check(&t);
    }
}

#[test]
fn an_eviction_is_not_told_to_the_peers() {
    let t = table(spec(1));
    let mut cursors = Vec::new();
    t.store(&key("a"), s(1), NOW);
    t.store(&key("b"), s(1), later(1));
    let told = read(&t, &mut cursors, 10, later(1));
    assert_eq!(told.iter().map(|u| (&*u.key, u.server)).collect::<Vec<_>>(), [(&b"b"[..], s(1))]);
    assert_eq!(t.stats().evictions, 1);
}

#[test]
fn a_table_made_smaller_shrinks_and_one_that_refuses_waits() {
    let t = table(spec(70_000));
    assert_eq!(t.shards(), 64);
    for i in 0..5_000u64 {
        t.store(&key(i.to_be_bytes()), s(1), later(i));
    }
    t.reconfigure(Arc::new(refusing(10)));
    t.expire(later(5_000), usize::MAX);
    assert_eq!(t.store(&key("new"), s(1), later(5_000)), Stored::Refused);
    assert_eq!(t.stats().entries, 5_000);
    t.reconfigure(Arc::new(spec(10)));
    assert_eq!(t.expire(later(5_000), 100), 100);
    assert_eq!(t.expire(later(5_000), usize::MAX), 4_890);
    for i in 0..500u64 {
        let new = key((1_000_000 + i).to_be_bytes());
        assert_eq!(t.store(&new, s(1), later(6_000)), Stored::Pinned, "though its shard may be empty");
        assert!(t.peek(&new, later(6_000)).is_some());
    }
    assert_eq!((t.stats().entries, t.spec().size), (10, 10));
    check(&t);
}

#[test]
fn memory_and_slots_are_used_again() {
    let t = table(spec(5_000));
    let fill = |round: u64| {
        let now = later(round * EXPIRE);
        t.expire(now, usize::MAX);
        (0..5_000u64).for_each(|i| _ = t.store(&key([i.to_be_bytes(); 4].concat()), s(1), now));
        t.stats().memory
    };
    let once = fill(0);
    let often = (1..6).map(fill).max().unwrap_or_default();
    assert!(often <= once + once / 20, "{once} then {often}");
    check(&t);
}

#[test]
fn a_server_without_a_name_is_not_stored_and_clears_nothing() {
    let t = table(spec(10));
    t.store(&key("k"), s(1), NOW);
    assert_eq!(t.store(&key("k"), NameId::NONE, NOW), Stored::Refused);
    assert_eq!(t.store(&key("l"), NameId::NONE, NOW), Stored::Refused);
    assert_eq!(server(&t, "k", NOW), Some(s(1)));
    check(&t);
}

#[test]
fn workers_that_use_a_full_table_at_once_never_overfill_it() {
    let t = table(spec(4_096));
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let t = &t;
            scope.spawn(move || {
                for i in 0..10_000u64 {
                    let now = later(i * 10);
                    let n = crate::hash::stable_seeded(&i.to_le_bytes(), worker) % 10_000;
                    let k = key(n.to_be_bytes());
                    match i % 7 {
                        0 => _ = t.merge(&update(k.bytes(), s(n as u32 % 9), i * 4 + worker, EXPIRE), now),
                        1 => _ = t.lookup(&k, now),
                        2 => _ = t.clear(&k, now),
                        3 => _ = t.assign(&k, now, || Some(s(1))),
                        4 if i % 100 == 4 => _ = t.expire(now, 100),
                        _ => assert_ne!(t.store(&k, s(n as u32 % 9 + 1), now), Stored::Refused),
                    }
                    assert!(t.env.held.load(Ordering::Relaxed) <= 4_096);
                }
            });
        }
    });
    check(&t);
    assert_eq!(t.env.tries.load(Ordering::Relaxed), 0);
    assert!(t.stats().evictions > 0);
}

proptest! {
    #[test]
    fn the_entry_nearest_its_end_goes_first(ops in proptest::collection::vec((0u8..60, 0u64..5_000, 0u8..3), 1..400)) {
        let t = table(spec(20));
        let mut model = std::collections::BTreeMap::new();
        let mut now = NOW;
        for (k, wait, op) in ops {
            now = now.plus(Duration::from_millis(wait));
            model.retain(|_, life: &mut u64| *life > now.0);
            if op == 0 && !model.contains_key(&k) && model.len() == 20 {
                let least = model.values().min().copied();
                let gone: Vec<u8> = model.iter().filter(|(_, life)| Some(**life) == least).map(|(k, _)| *k).collect();
                t.store(&key([k]), s(1), now);
                let missing: Vec<u8> = model.keys().filter(|k| server(&t, [**k], now).is_none()).copied().collect();
                prop_assert!(missing.len() == 1 && gone.contains(&missing[0]), "{:?} of {:?}", missing, gone);
                model.remove(&missing[0]);
                model.insert(k, now.0 + EXPIRE);
            } else if op == 0 {
                t.store(&key([k]), s(1), now);
                model.insert(k, now.0 + EXPIRE);
            } else {
                let hit = t.lookup(&key([k]), now).is_some();
                prop_assert_eq!(hit, model.contains_key(&k));
                model.entry(k).and_modify(|life| *life = now.0 + EXPIRE);
            }
        }
        check(&t);
    }
}
