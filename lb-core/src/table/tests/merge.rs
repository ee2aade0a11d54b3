//! Merging is a join: whatever the order, the grouping and the repetition, all tables end alike.
use super::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[test]
fn the_later_stamp_wins_whatever_comes_first() {
    let (old, new) = (update("k", s(1), 1, EXPIRE), update("k", s(2), 2, 1_000));
    let (t, u) = (table(spec(10)), table(spec(10)));
    assert_eq!(t.merge(&old, NOW), Merged::Applied);
    assert_eq!(t.merge(&new, NOW), Merged::Applied);
    assert_eq!(t.merge(&new, NOW), Merged::Known);
    assert_eq!(t.merge(&old, NOW), Merged::Known);
    assert_eq!(u.merge(&new, NOW), Merged::Applied);
    assert_eq!(u.merge(&old, NOW), Merged::Extended);
    assert_eq!(contents(&t, NOW), contents(&u, NOW));
    assert_eq!(t.digest(), u.digest());
    assert_eq!(server(&t, "k", NOW), Some(s(2)));
    assert_eq!(t.stats().merged, 2);
}

#[test]
fn a_tombstone_beats_a_late_older_update_and_the_entry_does_not_come_back() {
    let names = names();
    let (a, b) = (node_table("a", &names, spec(10)), node_table("b", &names, spec(10)));
    a.store(&key("k"), s(1), NOW);
    let late = read(&a, &mut Vec::new(), 10, NOW);
    assert!(a.clear(&key("k"), later(1)));
    let cleared = read(&a, &mut Vec::new(), 10, later(1));
    assert!(cleared.len() == 1 && cleared[0].server.is_none());
    b.merge(&cleared[0], later(1));
    // The peer was cut off: what it says arrives long after the entry's own time.
    for (at, t) in [(2, &a), (2, &b), (EXPIRE + entry::TOMBSTONE_EXTRA - 1, &b)] {
        t.expire(later(at), 100);
        assert_eq!(t.merge(&late[0], later(at)), Merged::Extended, "a life is all it can give");
        assert_eq!(server(t, "k", later(at)), None);
    }
    check(&a);
    check(&b);
}

#[test]
fn what_is_decided_after_an_update_was_seen_wins_over_it_whatever_the_wall_clocks_say() {
    let names = names();
    let (ahead, behind) = (node_table("a", &names, spec(10)), node_table("b", &names, spec(10)));
    ahead.store(&key("k"), s(1), later(3_600_000));
    let first = read(&ahead, &mut Vec::new(), 10, later(3_600_000)).remove(0);
    assert_eq!(behind.merge(&first, NOW), Merged::Applied);
    assert_eq!(behind.store(&key("k"), s(2), NOW), Stored::Pinned);
    let second = read(&behind, &mut Vec::new(), 10, NOW).remove(0);
    assert_eq!(ahead.merge(&second, later(3_600_000)), Merged::Applied);
    assert_eq!(server(&ahead, "k", later(3_600_000)), Some(s(2)));
}

#[test]
fn bad_updates_are_refused_and_counted() {
    let t = table(config::Table { kind: KeyKind::Ip, ..spec(10) });
    let absurd = Stamp::new(u64::MAX, crate::id::NodeId(1));
    assert_eq!(t.merge(&Update { stamp: absurd, ..update([1, 2, 3, 4], s(1), 1, 9) }, NOW), Merged::TooFarAhead);
    assert_eq!(t.merge(&update([1, 2, 3, 4, 5], s(1), 1, 9), NOW), Merged::BadKey);
    assert_eq!(t.merge(&update([], s(1), 1, 9), NOW), Merged::BadKey);
    assert_eq!(t.merge(&update([1, 2, 3, 4], s(1), 1, 0), NOW), Merged::Refused);
    assert_eq!((t.stats().merge_refused, t.stats().entries), (4, 0));
    t.store(&StickKey::from_canonical(KeyKind::Ip, 0, &[1, 2, 3, 4]).expect("a key"), s(1), NOW);
    let stamp = read(&t, &mut Vec::new(), 10, NOW)[0].stamp;
    assert_eq!(stamp.time(), NOW, "the absurd stamp did not move the clock");
}

#[test]
fn one_stamp_with_two_values_is_counted_and_settled_alike_everywhere() {
    let updates = [update("k", s(1), 1, EXPIRE), update("k", s(2), 1, EXPIRE), update("k", NameId::NONE, 1, EXPIRE)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let t = table(spec(10));
        order.iter().for_each(|i| _ = t.merge(&updates[*i], NOW));
        assert_eq!(server(&t, "k", NOW), Some(s(2)));
        assert_eq!(t.stats().conflicts, 2);
        check(&t);
    }
}

#[test]
fn keys_with_nul_bytes_and_keys_that_begin_alike_are_keys_of_their_own() {
    let t = table(spec(100));
    let keys: Vec<Vec<u8>> = (0..40).map(|n| [vec![0; n], vec![b'x'; n % 2 + 1]].concat()).collect();
    for (i, k) in keys.iter().enumerate() {
        t.store(&key(k), s(1 + i as u32 % 9), NOW);
    }
    for (i, k) in keys.iter().enumerate() {
        assert_eq!(server(&t, k, NOW), Some(s(1 + i as u32 % 9)));
    }
    check(&t);
}

#[test]
fn equal_digests_mean_equal_pins() {
    let names = names();
    let (a, b) = (node_table("a", &names, spec(5_000)), node_table("b", &names, spec(5_000)));
    for i in 0..3_000u64 {
        a.store(&key(i.to_be_bytes()), s(1), NOW);
    }
    for update in read(&a, &mut Vec::new(), 100, NOW) {
        b.merge(&update, NOW);
    }
    assert_eq!(a.digest(), b.digest());
    let apart = |a: &StickTable, b: &StickTable| a.digest().iter().zip(b.digest()).filter(|(x, y)| **x != *y).count();
    a.lookup(&key(7u64.to_be_bytes()), later(1));
    assert_eq!(apart(&a, &b), 0, "a life is no pin");
    a.store(&key(7u64.to_be_bytes()), s(2), later(1));
    b.clear(&key(8u64.to_be_bytes()), later(1));
    assert_eq!(apart(&a, &b), 2);
    a.expire(later(EXPIRE + 1), usize::MAX);
    b.expire(later(2 * EXPIRE + entry::TOMBSTONE_EXTRA), usize::MAX);
    assert!(a.digest().iter().chain(&b.digest()).all(|bucket| *bucket == 0), "empty again");
}

/// What happens to one of three replicas.
#[derive(Clone, Debug)]
enum Act {
    Store(u8, u32),
    Touch(u8),
    Clear(u8),
    Wait(u64),
    /// It reads what is new and sends it to the others, who get some of it.
    Send,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        4 => (0u8..6, 1u32..5).prop_map(|(k, n)| Act::Store(k, n)),
        2 => (0u8..6).prop_map(Act::Touch),
        1 => (0u8..6).prop_map(Act::Clear),
        1 => (0u64..EXPIRE / 20).prop_map(Act::Wait),
        2 => Just(Act::Send),
    ];
    proptest::collection::vec((0usize..3, act), 1..80)
}

/// Runs acts on three replicas that hear some of each other; returns every update that was ever made, and the end.
fn history(acts: &[(usize, Act)]) -> (Vec<Update>, Timestamp) {
    let names = names();
    let replicas = ["a", "b", "c"].map(|node| node_table(node, &names, spec(100)));
    let mut cursors = [vec![], vec![], vec![]];
    let (mut now, mut all) = (NOW, Vec::new());
    for (n, act) in acts {
        match act {
            Act::Store(k, server) => _ = replicas[*n].store(&key([*k]), s(*server), now),
            Act::Touch(k) => _ = replicas[*n].lookup(&key([*k]), now),
            Act::Clear(k) => _ = replicas[*n].clear(&key([*k]), now),
            Act::Wait(ms) => now = now.plus(Duration::from_millis(*ms)),
            Act::Send => {
                let sent = read(&replicas[*n], &mut cursors[*n], 3, now);
                for (i, update) in sent.iter().enumerate() {
                    replicas[(n + 1 + i % 2) % 3].merge(update, now);
                }
                all.extend(sent);
            }
        }
    }
    for (replica, cursors) in replicas.iter().zip(&mut cursors) {
        check(replica);
        all.extend(read(replica, cursors, 3, now));
    }
    (all, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_order_any_repetition_and_any_grouping_end_in_the_same_table(
        acts in acts(),
        shuffle in Just((0..200usize).collect::<Vec<_>>()).prop_shuffle(),
        again in proptest::collection::vec(any::<Index>(), 0..40),
        cut in any::<Index>(),
    ) {
        let (updates, now) = history(&acts);
        prop_assume!(!updates.is_empty());
        let plain = table(spec(100));
        updates.iter().for_each(|u| _ = plain.merge(u, now));

        // Commutative and idempotent: shuffled, and some twice.
        let shuffled = table(spec(100));
        shuffle.iter().filter_map(|i| updates.get(*i)).for_each(|u| _ = shuffled.merge(u, now));
        again.iter().for_each(|i| _ = shuffled.merge(i.get(&updates), now));
        updates.iter().skip(200).for_each(|u| _ = shuffled.merge(u, now));
        prop_assert_eq!(contents(&shuffled, now), contents(&plain, now));
        prop_assert_eq!(shuffled.digest(), plain.digest());

        // Associative: two parts merged on their own, then one table pulled into the other.
        let (left, right) = (table(spec(100)), table(spec(100)));
        let (first, second) = updates.split_at(cut.index(updates.len()));
        second.iter().for_each(|u| _ = left.merge(u, now));
        first.iter().for_each(|u| _ = right.merge(u, now));
        let mut pulled = Vec::new();
        let end = left.scan(0, 0, 1_000, now, &mut pulled);
        prop_assert_eq!(end, None);
        pulled.iter().for_each(|u| _ = right.merge(u, now));
        prop_assert_eq!(contents(&right, now), contents(&plain, now));
        check(&right);
    }

    #[test]
    fn two_instances_that_pin_one_key_at_once_converge(stores in proptest::collection::vec((0usize..3, 1u32..9), 1..9)) {
        let names = names();
        let tables = ["a", "b", "c"].map(|node| node_table(node, &names, spec(10)));
        stores.iter().for_each(|(n, server)| _ = tables[*n].store(&key("k"), s(*server), NOW));
        let updates: Vec<_> = tables.iter().flat_map(|t| read(t, &mut Vec::new(), 10, NOW)).collect();
        tables.iter().for_each(|t| updates.iter().for_each(|u| _ = t.merge(u, NOW)));
        prop_assert_eq!(pins(&tables[0], NOW), pins(&tables[1], NOW));
        prop_assert_eq!(pins(&tables[0], NOW), pins(&tables[2], NOW));
    }

    #[test]
    fn updates_of_a_full_table_that_evicts_are_the_same_in_any_order_too(
        lives in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(),
        size in select(vec![1usize, 5, 39]),
    ) {
        // Those that live longest stay, whatever came first: a pull into a full table churns nothing.
        let t = table(spec(size));
        for life in &lives {
            t.merge(&update(life.to_be_bytes(), s(1), *life, life * 1_000), NOW);
        }
        let held: Vec<u64> = contents(&t, NOW).values().map(|(_, _, left)| left / 1_000).collect();
        prop_assert_eq!(held, ((41 - size as u64)..=40).collect::<Vec<_>>());
        check(&t);
    }
}
