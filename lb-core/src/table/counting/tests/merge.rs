//! Merging is a join: whatever the order, the grouping and the repetition, all tables end alike.
use super::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;

const STORE: [Counter; 3] = [Counter::HttpReqCnt, RATE, Counter::Gpt(0)];

fn clock(n: u64) -> u64 {
    (NOW.0 << 16) + n
}

/// A version of a slot: one content for each, as its owner makes them.
fn slot(node: u32, version: u64) -> NodeCounts {
    let n = u64::from(node) * 1000 + version;
    let numbers = vec![[n, 0, 0], [n, n / 2, version % 20_000], [n, 0, clock(version)]];
    NodeCounts { node: NodeId(node << 8), seq: clock(version), age: Duration::from_millis(version), numbers }
}

prop_compose! {
    fn any_counts(nodes: u32)(
        key in select(vec!["k", "l", "m"]),
        left in 1..EXPIRE,
        cleared in prop_oneof![4 => Just(0), 1 => (0u64..100).prop_map(clock)],
        slots in proptest::collection::vec((1..=nodes, 0u64..100), 0..6),
    ) -> KeyCounts {
        let kept = if cleared == 0 { Duration::ZERO } else { Duration::from_millis(EXPIRE) };
        let slots = slots.into_iter().map(|(node, version)| slot(node, version)).collect();
        KeyCounts { key: key.as_bytes().into(), left: Duration::from_millis(left), cleared, kept, slots }
    }
}

fn merge(table: &StickTable, keys: Vec<KeyCounts>) -> usize {
    table.merge_counts(&CountBatch { store: Some(STORE.into()), keys }, NOW)
}

/// What a table holds, in an order of its own.
type State = BTreeMap<Vec<u8>, (Duration, u64, BTreeMap<NodeId, (u64, Vec<[u64; 3]>)>)>;

fn state(table: &StickTable) -> State {
    let slots = |slots: Vec<NodeCounts>| slots.into_iter().map(|s| (s.node, (s.seq, s.numbers))).collect();
    let keys = whole(table, NOW).keys.into_iter();
    keys.map(|k| (k.key.into_vec(), (k.left, k.cleared, slots(k.slots)))).collect()
}

fn joins(all: Vec<KeyCounts>, order: &[Index], cuts: &[Index]) -> Result<(), TestCaseError> {
    let (one, other, third) = (counting("x", 100, &STORE), counting("x", 100, &STORE), counting("x", 100, &STORE));
    for counts in &all {
        prop_assert_eq!(merge(&one, vec![counts.clone()]), 0);
    }
    // In another order, some of it twice, in batches.
    let mut shuffled = all.clone();
    order.iter().for_each(|at| shuffled.push(at.get(&all).clone()));
    order.iter().enumerate().for_each(|(i, at)| shuffled.swap(i % all.len(), at.index(all.len())));
    let mut rest = shuffled;
    for cut in cuts {
        let tail = rest.split_off(cut.index(rest.len() + 1));
        merge(&other, std::mem::replace(&mut rest, tail));
    }
    merge(&other, rest);
    prop_assert_eq!(state(&one), state(&other));
    // Grouped: by way of a table that had all of it.
    let relayed = whole(&one, NOW);
    third.merge_counts(&relayed, NOW);
    third.merge_counts(&relayed, NOW);
    prop_assert_eq!(state(&one), state(&third));
    for table in [&one, &other, &third] {
        for name in ["k", "l", "m"] {
            prop_assert_eq!(table.counters(&key(name), NOW), one.counters(&key(name), NOW));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_same_counts_in_any_order_any_batches_and_doubled_give_the_same_table(
        all in proptest::collection::vec(any_counts(4), 1..30),
        order in proptest::collection::vec(any::<Index>(), 0..40),
        cuts in proptest::collection::vec(any::<Index>(), 0..5),
    ) {
        joins(all, &order, &cuts)?;
    }

    #[test]
    fn so_do_those_of_more_nodes_than_a_key_has_slots(
        all in proptest::collection::vec(any_counts(60), 30..60),
        order in proptest::collection::vec(any::<Index>(), 0..40),
        cuts in proptest::collection::vec(any::<Index>(), 0..5),
    ) {
        joins(all, &order, &cuts)?;
    }

    #[test]
    fn a_key_reads_the_latest_of_each_slot_that_was_not_cleared(
        all in proptest::collection::vec(any_counts(4), 1..30),
    ) {
        let table = counting("x", 100, &STORE);
        merge(&table, all.clone());
        for name in ["k", "l", "m"] {
            let of: Vec<&KeyCounts> = all.iter().filter(|counts| &*counts.key == name.as_bytes()).collect();
            let cleared = of.iter().map(|counts| counts.cleared).max().unwrap_or(0);
            let mut latest = BTreeMap::new();
            for slot in of.iter().flat_map(|counts| &counts.slots).filter(|slot| slot.seq > cleared) {
                let held = latest.entry(slot.node).or_insert(slot);
                *held = if held.seq < slot.seq { slot } else { held };
            }
            let sum: u64 = latest.values().map(|slot| slot.numbers[0][0]).sum();
            let tag = latest.values().max_by_key(|slot| (slot.seq, slot.node)).map_or(0, |slot| slot.numbers[2][0]);
            prop_assert_eq!(table.counter(&key(name), Counter::HttpReqCnt, NOW), sum);
            prop_assert_eq!(table.counter(&key(name), Counter::Gpt(0), NOW), tag);
        }
    }
}

#[test]
fn no_peer_can_fill_a_table_past_its_size_or_overflow_a_sum() {
    let table = counting("x", 10, &STORE);
    let huge = |node| NodeCounts { numbers: vec![[u64::MAX; 3]; 3], age: Duration::MAX, ..slot(node, 1) };
    let counts = |i: u32| KeyCounts {
        key: format!("k{i}").into_bytes().into(),
        left: Duration::MAX,
        cleared: 0,
        kept: Duration::MAX,
        slots: (1..50).map(huge).collect(),
    };
    let refused = merge(&table, (0..100).map(counts).collect());
    assert_eq!((refused, table.stats().counted), (0, 10));
    let sums = table.counters(&key("k99"), NOW).expect("the last that came");
    assert_eq!(sums[0].1, u64::MAX);
    assert_eq!(whole(&table, NOW).keys.iter().map(|k| k.slots.len()).max(), Some(32));
    // Nor make it last longer than it lasts here.
    table.expire(later(2 * EXPIRE + 3_600_001), 1000);
    assert_eq!(table.stats().counted, 0);
}

#[test]
fn what_fits_no_table_is_refused_key_by_key() {
    let table = counting("x", 10, &STORE);
    let good = KeyCounts {
        key: (*b"k").into(),
        left: Duration::from_secs(1),
        cleared: 0,
        kept: Duration::ZERO,
        slots: vec![slot(1, 1)],
    };
    let absurd = NodeCounts { seq: u64::MAX, ..slot(2, 1) };
    let bad = [
        KeyCounts { key: Box::default(), ..good.clone() },
        KeyCounts { key: [1; 65].into(), ..good.clone() },
        KeyCounts { slots: vec![absurd], ..good.clone() },
        KeyCounts { cleared: u64::MAX, ..good.clone() },
        KeyCounts { left: Duration::ZERO, ..good.clone() },
    ];
    assert_eq!(merge(&table, bad.to_vec()), bad.len());
    assert_eq!(table.stats().counted, 0);
    // Numbers that are not there are zeros, and too many are passed over.
    for numbers in [vec![], vec![[1, 1, 1]; 9]] {
        merge(&table, vec![KeyCounts { slots: vec![NodeCounts { numbers, ..slot(3, 5) }], ..good.clone() }]);
    }
    assert_eq!(table.counter(&key("k"), Counter::HttpReqCnt, NOW), 1);
}
