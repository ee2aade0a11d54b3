//! The table against a slow, obvious model: any operations, the same answers.
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An entry of the model: server, stamp, life (as a pin's).
type Model = BTreeMap<Vec<u8>, (NameId, Stamp, u64)>;

fn ends((server, _, life): &(NameId, Stamp, u64)) -> u64 {
    if server.is_none() { life + entry::TOMBSTONE_EXTRA } else { *life }
}

fn live(model: &Model, k: &[u8], now: Timestamp) -> Option<(NameId, Stamp, u64)> {
    model.get(k).filter(|e| !e.0.is_none() && ends(e) > now.0).copied()
}

#[derive(Clone, Debug)]
enum Op {
    Store(u16, u32),
    Lookup(u16),
    Clear(u16),
    ClearServer(u32),
    Merge(u16, u32, u64, u64),
    Wait(u64),
    Sweep,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let k = || 0u16..300;
    let op = prop_oneof![
        6 => (k(), 1u32..5).prop_map(|(k, n)| Op::Store(k, n)),
        4 => k().prop_map(Op::Lookup),
        2 => k().prop_map(Op::Clear),
        1 => (1u32..5).prop_map(Op::ClearServer),
        // Some servers are none: tombstones. Stamps of one value each.
        4 => (k(), 0u32..4, 0u64..1 << 33, 0u64..2 * EXPIRE).prop_map(|(k, n, c, left)| Op::Merge(k, n, c / 4 * 4 + u64::from(n), left)),
        3 => (0..EXPIRE / 4).prop_map(Op::Wait),
        1 => (0..4 * EXPIRE).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ];
    proptest::collection::vec(op, 1..400)
}

fn store(t: &StickTable, model: &mut Model, k: &[u8], server: NameId, now: Timestamp) {
    let held = live(model, k, now).filter(|e| e.0 == server);
    let stored = t.store(&key(k), server, now);
    assert_eq!(stored, if held.is_some() { Stored::Same } else { Stored::Pinned });
    let before = model.get(k).copied();
    let stamp = t.peek(&key(k), now).expect("just stored").stamp;
    match (held, before) {
        (Some(held), _) => assert_eq!(stamp, held.1),
        (None, Some(before)) => assert!(stamp > before.1),
        (None, None) => {}
    }
    model.insert(k.to_vec(), (server, stamp, before.map_or(0, |b| b.2).max(now.0 + EXPIRE)));
}

fn clear(model: &mut Model, table: &StickTable, k: &[u8], now: Timestamp) {
    let stamp = contents(table, now)[k].1;
    model.insert(k.to_vec(), (NameId::NONE, stamp, now.0 + EXPIRE));
}

fn merge(t: &StickTable, model: &mut Model, update: &Update, now: Timestamp) {
    let merged = t.merge(update, now);
    if update.left.is_zero() {
        assert_eq!(merged, Merged::Refused);
        return;
    }
    let extra = if update.server.is_none() { entry::TOMBSTONE_EXTRA } else { 0 };
    let life = now.0 + millis(update.left).min(EXPIRE + extra) - extra;
    let held = model.get(&*update.key).copied();
    let new = match held {
        Some(held) if held.1 >= update.stamp => (held.0, held.1, held.2.max(life)),
        held => (update.server, update.stamp, held.map_or(0, |h| h.2).max(life)),
    };
    let expected = match held {
        Some(held) if held == new => Merged::Known,
        Some(held) if held.1 == new.1 => Merged::Extended,
        _ => Merged::Applied,
    };
    assert_eq!(merged, expected);
    model.insert(update.key.to_vec(), new);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_operations_give_the_answers_of_the_model(ops in ops(), size in prop_oneof![Just(1_000usize), Just(9_000)]) {
        let t = table(spec(size));
        let (mut model, mut now) = (Model::new(), NOW);
        for op in &ops {
            match op {
                Op::Store(k, n) => store(&t, &mut model, &k.to_be_bytes(), s(*n), now),
                Op::Lookup(k) => {
                    let k = k.to_be_bytes();
                    let expected = live(&model, &k, now);
                    let found = t.lookup(&key(k), now);
                    prop_assert_eq!(found.map(|p| (p.server, p.stamp)), expected.map(|e| (e.0, e.1)));
                    if let (Some(_), Some(e)) = (found, model.get_mut(&k[..])) {
                        e.2 = e.2.max(now.0 + EXPIRE);
                    }
                }
                Op::Clear(k) => {
                    let k = k.to_be_bytes();
                    let expected = live(&model, &k, now).is_some();
                    prop_assert_eq!(t.clear(&key(k), now), expected);
                    if expected {
                        clear(&mut model, &t, &k, now);
                    }
                }
                Op::ClearServer(n) => {
                    let hit: Vec<_> = model.keys().filter(|k| live(&model, k, now).is_some_and(|e| e.0 == s(*n))).cloned().collect();
                    prop_assert_eq!(t.clear_all(Some(s(*n)), now), hit.len());
                    hit.iter().for_each(|k| clear(&mut model, &t, k, now));
                }
                Op::Merge(k, n, clock, left) => merge(&t, &mut model, &update(k.to_be_bytes(), s(*n), *clock, *left), now),
                Op::Wait(ms) => now = now.plus(Duration::from_millis(*ms)),
                Op::Sweep => {
                    let over = model.values().filter(|e| ends(e) <= now.0).count();
                    model.retain(|_, e| ends(e) > now.0);
                    prop_assert_eq!(t.expire(now, usize::MAX), over);
                }
            }
        }
        let expected: BTreeMap<_, _> = model.iter().filter(|(_, e)| ends(e) > now.0)
            .map(|(k, e)| (k.clone(), (e.0, e.1, ends(e) - now.0))).collect();
        prop_assert_eq!(contents(&t, now), expected);
        check(&t);
    }
}
