//! Open sockets hold their entry alive, everywhere.
use super::*;
use proptest::prelude::*;

/// Milliseconds between two renewals here.
const RENEW: u64 = 30_000;

/// Everything `from` has to say, said to `to`.
fn tell(from: &StickTable, cursors: &mut Vec<Cursor>, to: &StickTable, now: Timestamp) {
    let updates: Updates = read(from, cursors, 100, now).into_iter().collect();
    to.merge_all(&updates, now);
}

fn pair() -> [Arc<StickTable>; 2] {
    let names = names();
    ["a", "b"].map(|n| node_table(n, &names, spec(10)))
}

#[test]
fn a_held_entry_outlives_its_time_on_every_instance_and_its_idle_time_begins_at_the_last_close() {
    let [a, b] = pair();
    let mut cursors = Vec::new();
    a.store(&key("k"), s(1), NOW);
    let (first, second) = (a.hold(&key("k"), NOW), a.hold(&key("k"), NOW));
    for at in (0..3 * EXPIRE).step_by(RENEW as usize) {
        a.renew(later(at));
        tell(&a, &mut cursors, &b, later(at));
        for t in [&a, &b] {
            t.expire(later(at), 100);
            assert_eq!(server(t, "k", later(at)), Some(s(1)));
            assert!(t.is_held(&key("k"), later(at)));
        }
    }
    first.release(later(3 * EXPIRE));
    assert!(a.is_held(&key("k"), later(3 * EXPIRE)));
    second.release(later(3 * EXPIRE + 1));
    tell(&a, &mut cursors, &b, later(3 * EXPIRE + 1));
    for t in [&a, &b] {
        assert!(!t.is_held(&key("k"), later(3 * EXPIRE + 1)));
        assert_eq!(server(t, "k", later(4 * EXPIRE)), Some(s(1)));
        assert_eq!(server(t, "k", later(4 * EXPIRE + 1)), None);
        check(t);
    }
}

#[test]
fn what_a_dead_node_held_lapses_and_ends_one_expiry_after_its_last_renewal() {
    let [a, b] = pair();
    a.store(&key("k"), s(1), NOW);
    let hold = a.hold(&key("k"), NOW);
    tell(&a, &mut Vec::new(), &b, NOW);
    assert!(b.is_held(&key("k"), later(3 * RENEW - 1)));
    assert!(!b.is_held(&key("k"), later(3 * RENEW)));
    assert_eq!(server(&b, "k", later(EXPIRE - 1)), Some(s(1)));
    assert_eq!(server(&b, "k", later(EXPIRE)), None);
    drop(hold);
}

#[test]
fn an_entry_with_an_open_socket_is_the_last_to_be_evicted_here_and_there() {
    let [a, b] = pair();
    a.store(&key("held"), s(1), NOW);
    let _hold = a.hold(&key("held"), NOW);
    tell(&a, &mut Vec::new(), &b, NOW);
    for i in 0..100u64 {
        for t in [&a, &b] {
            assert_eq!(t.store(&key(i.to_be_bytes()), s(2), later(i)), Stored::Pinned);
            assert_eq!(server(t, "held", later(i)), Some(s(1)), "after {i}");
            assert!(t.stats().entries <= 10);
            check(t);
        }
    }
}

#[test]
fn a_table_full_of_held_entries_takes_a_newcomer_all_the_same() {
    let [a, _] = pair();
    let held: Vec<_> = (0..10u64)
        .map(|i| {
            a.store(&key(i.to_be_bytes()), s(1), later(i));
            a.hold(&key(i.to_be_bytes()), later(i))
        })
        .collect();
    assert_eq!(a.store(&key("new"), s(2), later(20)), Stored::Pinned);
    assert_eq!(a.stats().entries, 10);
    check(&a);
    held.into_iter().for_each(|h| h.release(later(30)));
    check(&a);
}

#[test]
fn a_socket_that_outlives_a_cleared_entry_holds_the_next_one() {
    let [a, _] = pair();
    a.store(&key("k"), s(1), NOW);
    let hold = a.hold(&key("k"), NOW);
    a.clear(&key("k"), later(1));
    a.renew(later(1));
    assert_eq!(server(&a, "k", later(1)), None, "a renewal brings nothing back");
    a.store(&key("k"), s(2), later(2));
    for at in (2..2 * EXPIRE).step_by(RENEW as usize) {
        a.renew(later(at));
        assert_eq!(server(&a, "k", later(at)), Some(s(2)));
    }
    hold.release(later(2 * EXPIRE));
}

proptest! {
    #[test]
    fn slots_of_holders_merge_alike_in_any_order_and_grouping(
        slots in proptest::collection::vec((1u32..4, 0u64..20), 1..30),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..60),
    ) {
        let updates: Vec<Update> = slots.iter().map(|(node, seq)| {
            // A node says one thing at one time; every third is that its last socket has closed.
            let left = Duration::from_millis(if seq % 3 == 0 { 0 } else { seq * 1_000 });
            let holder = Holder { node: crate::id::NodeId(node << 8), seq: (NOW.0 << 16) + seq, left };
            Update { holders: vec![holder], ..update("k", s(1), 1, EXPIRE) }
        }).collect();
        let [a, b] = pair();
        a.merge_all(&updates.iter().cloned().collect(), NOW);
        for i in &order {
            b.merge(i.get(&updates), NOW);
        }
        for u in updates.iter().rev() {
            b.merge(u, NOW);
        }
        let holders = |t: &StickTable| {
            let mut out = Vec::new();
            (0..t.shards()).for_each(|shard| _ = t.scan(shard, 0, 100, NOW, &mut out));
            let mut all = out.remove(0).holders;
            all.sort_by_key(|h| h.node);
            all
        };
        prop_assert_eq!(holders(&a), holders(&b));
    }
}
