//! One node, no peers.
use super::*;
use Counter::{ConnCnt, ConnCur, HttpReqCnt};

#[test]
fn what_is_counted_is_read_by_its_name_and_nothing_else_is() {
    let store = [HttpReqCnt, RATE, Counter::BytesInCnt, Counter::Gpc(1), Counter::Gpt(0)];
    let t = counting("a", 100, &store);
    let events = [
        Event::Request,
        Event::BytesIn(500),
        Event::BytesOut(9),
        Event::Gpc(1, 3),
        Event::Gpc(2, 7),
        Event::Tag(0, 42),
    ];
    t.count(&key("k"), &events, NOW);
    requests(&t, "k", 4, later(1));
    let sums: Vec<u64> = t.counters(&key("k"), later(1)).expect("counted").into_iter().map(|(_, n)| n).collect();
    assert_eq!(sums, [5, 5, 500, 3, 42]);
    assert_eq!(t.counter(&key("k"), HttpReqCnt, later(1)), 5);
    assert_eq!(t.counter(&key("k"), Counter::Gpc(2), later(1)), 0);
    assert_eq!(t.counter(&key("other"), HttpReqCnt, later(1)), 0);
    assert_eq!(t.counters(&key("other"), later(1)), None);
    let all = counted(&t, later(1));
    assert_eq!(all.len(), 1);
    assert_eq!((&*all[0].key, all[0].left), (&b"k"[..], Duration::from_millis(EXPIRE)));
    assert_eq!(all[0].sums, t.counters(&key("k"), later(1)).unwrap());
}

#[test]
fn a_table_without_store_counts_nothing() {
    let t = counting("a", 100, &[]);
    requests(&t, "k", 3, NOW);
    assert!(t.open(&key("k"), NOW).is_none());
    assert_eq!(t.counters(&key("k"), NOW), None);
    assert_eq!(t.stats().counted, 0);
}

#[test]
fn a_rate_falls_as_its_period_passes() {
    let t = counting("a", 100, &[RATE]);
    requests(&t, "k", 100, NOW);
    assert_eq!(t.counter(&key("k"), RATE, later(9_999)), 100);
    assert_eq!(t.counter(&key("k"), RATE, later(15_000)), 50);
    assert_eq!(t.counter(&key("k"), RATE, later(20_000)), 0);
}

#[test]
fn a_connection_is_open_until_its_guard_goes() {
    let t = counting("a", 100, &[ConnCur, ConnCnt]);
    let first = t.open(&key("k"), NOW);
    let second = t.open(&key("k"), NOW);
    assert!(first.is_some());
    assert_eq!(t.counter(&key("k"), ConnCur, NOW), 2);
    drop(first);
    drop(second);
    assert_eq!(t.counter(&key("k"), ConnCur, NOW), 0);
    assert_eq!(t.counter(&key("k"), ConnCnt, NOW), 2);
}

#[test]
fn counters_end_with_the_expiry_and_begin_again_from_zero() {
    let t = counting("a", 100, &[HttpReqCnt]);
    requests(&t, "k", 3, NOW);
    assert_eq!(t.counter(&key("k"), HttpReqCnt, later(EXPIRE - 1)), 3);
    assert_eq!(t.counter(&key("k"), HttpReqCnt, later(EXPIRE)), 0);
    requests(&t, "k", 1, later(EXPIRE));
    assert_eq!(t.counter(&key("k"), HttpReqCnt, later(EXPIRE)), 1);
    assert_eq!(t.expire(later(2 * EXPIRE - 1), 1000), 0);
    assert_eq!(t.expire(later(2 * EXPIRE), 1000), 1);
    assert_eq!(t.stats().counted, 0);
}

#[test]
fn open_connections_keep_their_key() {
    let t = counting("a", 100, &[ConnCur, ConnCnt]);
    let open = t.open(&key("k"), NOW);
    assert_eq!(t.expire(later(EXPIRE), 1000), 0);
    assert_eq!(t.counter(&key("k"), ConnCur, later(3 * EXPIRE)), 1);
    drop(open);
    t.expire(later(5 * EXPIRE), 1000);
    assert_eq!(t.stats().counted, 0);
}

#[test]
fn a_full_table_lets_go_of_the_key_nearest_its_end_those_with_open_connections_last() {
    let t = counting("a", 10, &[HttpReqCnt, ConnCur]);
    let open = t.open(&key("open"), NOW);
    for i in 0..30 {
        requests(&t, &format!("k{i}"), 1, later(1 + i));
        assert!(t.stats().counted <= 10);
    }
    assert_eq!(t.counter(&key("open"), ConnCur, later(40)), 1);
    for i in 0..30 {
        let kept = u64::from(i >= 21);
        assert_eq!(t.counter(&key(format!("k{i}")), HttpReqCnt, later(40)), kept, "k{i}");
    }
    drop(open);
}

#[test]
fn a_connection_whose_key_was_evicted_is_not_taken_from_the_next_that_has_it() {
    let t = counting("a", 1, &[ConnCur]);
    let first = t.open(&key("k"), NOW);
    requests(&t, "other", 1, later(1));
    let again = t.open(&key("k"), later(2));
    drop(first);
    assert_eq!(t.counter(&key("k"), ConnCur, later(2)), 1);
    drop(again);
}

#[test]
fn a_full_table_that_refuses_newcomers_counts_those_that_it_has() {
    let t = node_table(
        "a",
        &names(),
        config::Table { store: vec![HttpReqCnt], when_full: config::WhenFull::Refuse, ..spec(2) },
    );
    for name in ["a", "b", "c", "a"] {
        requests(&t, name, 1, NOW);
    }
    let counts = ["a", "b", "c"].map(|name| t.counter(&key(name), HttpReqCnt, NOW));
    assert_eq!(counts, [2, 1, 0]);
}

#[test]
fn a_table_made_smaller_shrinks_and_takes_keys_again() {
    let t = counting("a", 5_000, &[HttpReqCnt]);
    (0..5_000).for_each(|i| requests(&t, &format!("k{i}"), 1, NOW));
    t.reconfigure(Arc::new(config::Table { store: vec![HttpReqCnt], ..spec(2) }));
    t.expire(later(1), 10_000);
    assert_eq!(t.stats().counted, 2);
    requests(&t, "new", 1, later(2));
    assert_eq!(t.counter(&key("new"), HttpReqCnt, later(2)), 1);
    assert_eq!(t.stats().counted, 2);
}

#[test]
fn a_reload_keeps_the_counters_that_are_still_there() {
    let t = counting("a", 100, &[HttpReqCnt, RATE, ConnCur]);
    requests(&t, "k", 3, NOW);
    let open = t.open(&key("k"), NOW);
    let reload = |store: &[Counter]| {
        t.reconfigure(Arc::new(config::Table { store: store.to_vec(), ..spec(100) }));
    };
    reload(&[ConnCnt, ConnCur, HttpReqCnt]);
    t.count(&key("k"), &[Event::Connection, Event::Request], NOW);
    assert_eq!(t.counters(&key("k"), NOW), Some(vec![(ConnCnt, 1), (ConnCur, 1), (HttpReqCnt, 4)]));
    reload(&[]);
    assert_eq!((t.counters(&key("k"), NOW), t.stats().counted), (None, 0));
    requests(&t, "k", 1, NOW);
    reload(&[ConnCur]);
    drop(open);
    assert_eq!(t.counters(&key("k"), NOW), None);
}

#[test]
fn clearing_starts_from_zero_except_for_what_is_open() {
    let t = counting("a", 100, &[HttpReqCnt, ConnCur]);
    requests(&t, "k", 3, NOW);
    requests(&t, "idle", 3, NOW);
    let open = t.open(&key("k"), NOW);
    assert!(t.clear(&key("k"), NOW));
    assert!(!t.clear(&key("never"), NOW));
    assert_eq!(t.counters(&key("k"), NOW), Some(vec![(HttpReqCnt, 0), (ConnCur, 1)]));
    requests(&t, "k", 1, NOW);
    assert_eq!(t.clear_all(None, NOW), 2);
    assert_eq!(t.counters(&key("idle"), NOW), None);
    drop(open);
    assert_eq!(t.counter(&key("k"), ConnCur, NOW), 0);
}

#[test]
fn cleared_keys_do_not_crowd_out_those_that_count() {
    let t = counting("a", 10, &[HttpReqCnt]);
    (0..10).for_each(|i| requests(&t, &format!("k{i}"), 1, NOW));
    assert_eq!(t.clear_all(None, NOW), 10);
    (0..10).for_each(|i| requests(&t, &format!("n{i}"), 1, later(1)));
    assert_eq!(counted(&t, later(1)).len(), 10);
    // What is remembered of a clearing goes in the end, too.
    t.clear_all(None, later(2));
    assert_eq!(t.expire(later(EXPIRE + 10), 1000), 0);
    t.expire(later(2 * EXPIRE + 3_600_000), 1000);
    assert_eq!(t.stats().counted, 0);
}

#[test]
fn a_hot_key_wakes_the_reader_once_until_it_reads() {
    let t = counting("a", 100, &[HttpReqCnt]);
    let woken = Arc::new(AtomicU32::new(0));
    let count = woken.clone();
    t.on_change(Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
    requests(&t, "k", 1000, NOW);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    t.rearm_counting();
    requests(&t, "k", 1000, NOW);
    assert_eq!(woken.load(Ordering::Relaxed), 1, "it is still to be read");
    let mut batch = CountBatch::default();
    assert!(!t.count_changes(0, &mut Cursor::default(), 10, NOW, &mut batch));
    assert_eq!(batch.keys[0].slots[0].numbers, [[2000, 0, 0]]);
    requests(&t, "k", 1000, NOW);
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}
