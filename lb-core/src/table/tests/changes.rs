//! The change log and its readers.
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;

#[test]
fn a_key_that_changes_often_comes_once_at_its_last_change() {
    let t = table(spec(10));
    let mut cursors = Vec::new();
    t.store(&key("hot"), s(1), NOW);
    t.store(&key("cold"), s(1), NOW);
    for i in 0..1_000 {
        t.store(&key("hot"), s(1 + i % 2), later(1));
    }
    assert_eq!(t.backlog(0, Cursor::default(), 10), 2);
    assert_eq!(t.backlog(0, Cursor::default(), 1), 1);
    let told = read(&t, &mut cursors, 1, later(1));
    assert_eq!(told.iter().map(|u| (&*u.key, u.server)).collect::<Vec<_>>(), [(&b"cold"[..], s(1)), (b"hot", s(2))]);
    assert!(read(&t, &mut cursors, 1, later(1)).is_empty());
}

#[test]
fn a_merge_is_not_told_on_but_a_later_change_of_the_same_entry_is() {
    let t = table(spec(10));
    let mut cursors = Vec::new();
    t.merge(&update("k", s(1), 1, EXPIRE), NOW);
    assert!(read(&t, &mut cursors, 10, NOW).is_empty());
    t.store(&key("k"), s(2), NOW);
    assert_eq!(read(&t, &mut cursors, 10, NOW).len(), 1);
    // One that waits in the log stays in it, with what it has become.
    t.store(&key("k"), s(3), NOW);
    t.merge(&update("k", s(4), 1 << 30, EXPIRE), NOW);
    assert_eq!(read(&t, &mut cursors, 10, NOW)[0].server, s(4));
}

#[test]
fn look_ups_of_a_hot_key_cost_the_peers_nothing() {
    let t = table(spec(10));
    let mut cursors = Vec::new();
    t.store(&key("k"), s(1), NOW);
    read(&t, &mut cursors, 10, NOW);
    let told: usize = (0..10_000)
        .map(|i| {
            t.lookup(&key("k"), later(i * EXPIRE / 10_000));
            read(&t, &mut cursors, 10, later(i)).len()
        })
        .sum();
    assert!((7..=8).contains(&told), "{told}");
}

#[test]
fn a_life_that_grew_in_silence_is_told_before_the_one_that_peers_know_ends() {
    let (here, there) = (table(spec(10)), table(spec(10)));
    let mut cursors = Vec::new();
    let mut tell = |at: Timestamp| {
        let told = read(&here, &mut cursors, 10, at);
        for update in &told {
            there.merge(update, at);
        }
        told.len()
    };
    for name in ["touched", "idle"] {
        here.store(&key(name), s(1), NOW);
    }
    assert_eq!(tell(NOW), 2);
    // Too little for a mark, mostly; whatever was told, the rest is owed.
    let touched = EXPIRE / 16;
    here.lookup(&key("touched"), later(touched));
    let mut told = tell(later(touched));
    for at in (touched..EXPIRE + touched).step_by(10) {
        here.expire(later(at), 100);
        told += tell(later(at));
        there.expire(later(at), 100);
        assert!(there.peek(&key("touched"), later(at)).is_some(), "gone at {at}");
        assert_eq!(there.digest(), here.digest(), "at {at}");
    }
    assert_eq!(told, 1, "it is told once");
    assert!(there.peek(&key("touched"), later(EXPIRE + touched)).is_none());
}

#[test]
fn a_reader_at_the_end_is_at_the_newest_even_when_the_last_change_has_gone() {
    let t = table(spec(2));
    let mut cursor = Cursor::default();
    for i in 0..9u64 {
        t.store(&key(i.to_be_bytes()), s(1), later(i));
    }
    assert_eq!(t.newest(0), 9);
    assert!(!t.changes(0, &mut cursor, 10, later(EXPIRE * 2), &mut Vec::new()));
    t.expire(later(EXPIRE * 2), 10);
    assert_eq!(cursor.seq, 9);
    assert_eq!(t.newest(0), 9);
    let mut fresh = Cursor::default();
    assert!(!t.changes(0, &mut fresh, 10, later(EXPIRE * 2), &mut Vec::new()));
    assert_eq!(fresh.seq, 9);
    assert!(!t.changes(9, &mut fresh, 10, NOW, &mut Vec::new()), "there is no such shard");
}

#[test]
fn the_reader_is_woken_once_for_each_time_it_asks() {
    let t = table(spec(10));
    let woken = Arc::new(AtomicU32::new(0));
    let count = woken.clone();
    let table = Arc::downgrade(&t);
    t.on_change(Box::new(move || {
        // Under no lock: the table may be read.
        table.upgrade().expect("it lives").peek(&key("k"), NOW);
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let woken = || woken.load(Ordering::Relaxed);
    t.store(&key("k"), s(1), NOW);
    t.store(&key("k"), s(2), NOW);
    assert_eq!(woken(), 1);
    t.rearm();
    t.lookup(&key("k"), later(1));
    t.merge(&update("k", s(4), 1 << 30, EXPIRE), NOW);
    assert_eq!(woken(), 1, "nothing new in the log");
    t.clear(&key("k"), NOW);
    assert_eq!(woken(), 2);
    t.rearm();
    t.store(&key("k"), s(1), NOW);
    t.rearm();
    t.lookup(&key("k"), later(EXPIRE / 2));
    assert_eq!(woken(), 4);
}

proptest! {
    /// Readers of different habits and a model that knows each key's last change: whoever reads to the end knows all
    /// that is still held as it is now, wherever its cursor stood before.
    #[test]
    fn a_reader_that_resumes_misses_no_change(
        ops in proptest::collection::vec((0u8..5, 0u8..40, 1u32..9), 1..300),
        batch in 1usize..6,
    ) {
        let t = table(spec(25));
        let mut now = NOW;
        let (mut steady, mut slow) = (Vec::new(), Vec::new());
        let (mut known, mut slowly): (BTreeMap<Vec<u8>, Update>, BTreeMap<_, _>) = Default::default();
        for (op, k, n) in &ops {
            match op {
                0 | 1 => _ = t.store(&key([*k]), s(*n), now),
                2 => _ = t.clear(&key([*k]), now),
                3 => now = now.plus(Duration::from_millis(u64::from(*n) * EXPIRE / 100)),
                _ => _ = t.expire(now, 3),
            }
            if *k < 13 {
                // Now and then a batch, as a stream that trickles.
                let mut out = Vec::new();
                slow.resize(1, Cursor::default());
                t.changes(0, &mut slow[0], batch, now, &mut out);
                prop_assert!(out.len() <= batch);
                slowly.extend(out.into_iter().map(|u| (u.key.to_vec(), u)));
            }
            if *k > 35 {
                known.extend(read(&t, &mut steady, batch, now).into_iter().map(|u| (u.key.to_vec(), u)));
            }
        }
        known.extend(read(&t, &mut steady, batch, now).into_iter().map(|u| (u.key.to_vec(), u)));
        slowly.extend(read(&t, &mut slow, batch, now).into_iter().map(|u| (u.key.to_vec(), u)));
        for (k, server, stamp) in pins(&t, now) {
            for reader in [&known, &slowly] {
                let known = reader.get(&k);
                prop_assert_eq!(known.map(|u| (u.server, u.stamp)), Some((server, stamp)));
            }
        }
        check(&t);
    }
}
