//! Every part of an entry against an oracle that is told the same: the register of `crdts`, and maxima.
use super::*;
use crate::id::NodeId;
use crdts::{CvRDT, LWWReg};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;

/// Tables under test, by expiry: all are told the same and must agree, but none gives a longer life than its own.
const EXPIRES: [u64; 4] = [EXPIRE, EXPIRE, EXPIRE / 2, EXPIRE * 2];

/// An entry by the oracle.
struct Expected {
    pin: LWWReg<Option<String>, Stamp>,
    life: u64,
    holders: BTreeMap<u32, (u64, u64)>,
}

fn extra(server: NameId) -> u64 {
    if server.is_none() { entry::TOMBSTONE_EXTRA } else { 0 }
}

/// What a table with `expire` must hold after these updates, in whatever order.
fn oracle(updates: &[Update], names: &Names, expire: u64) -> BTreeMap<Vec<u8>, Expected> {
    let mut all: BTreeMap<Vec<u8>, Expected> = BTreeMap::new();
    for u in updates {
        let val = (!u.server.is_none()).then(|| names.name(u.server).to_string());
        let pin = LWWReg { val, marker: u.stamp };
        let life = NOW.0 + millis(u.left).min(expire + extra(u.server)) - extra(u.server);
        let new = || Expected { pin: pin.clone(), life, holders: BTreeMap::new() };
        let held = all.entry(u.key.to_vec()).or_insert_with(new);
        match held.pin.validate_merge(&pin) {
            Ok(()) => held.pin.merge(pin),
            // The register knows no answer to one stamp with two values; ours is the greater name.
            Err(_) => held.pin.val = held.pin.val.take().max(pin.val),
        }
        held.life = held.life.max(life);
        for h in &u.holders {
            let lease = (h.seq, millis(h.left).min(3 * (expire / 8).clamp(100, 30_000)));
            let slot = held.holders.entry(h.node.0).or_insert(lease);
            *slot = (*slot).max(lease);
        }
    }
    all
}

/// All that a table holds, as the oracle says it: server, stamp, life left, holders.
type Row = (Option<String>, Stamp, u64, BTreeMap<u32, (u64, u64)>);

fn rows(t: &StickTable, names: &Names, now: Timestamp) -> BTreeMap<Vec<u8>, Row> {
    let mut all = Vec::new();
    (0..t.shards()).for_each(|shard| assert_eq!(t.scan(shard, 0, 10_000, now, &mut all), None));
    let row = |u: Update| {
        let holders = u.holders.iter().map(|h| (h.node.0, (h.seq, millis(h.left)))).collect();
        let server = (!u.server.is_none()).then(|| names.name(u.server).to_string());
        (u.key.to_vec(), (server, u.stamp, millis(u.left), holders))
    };
    all.into_iter().map(row).collect()
}

prop_compose! {
    /// Few keys, stamps and nodes, so that they meet: one stamp may come with two servers, and a tombstone with a pin.
    fn any_update()(
        key in 0u8..3, server in 0u32..4, (clock, node) in (0u64..5, 0u32..2), left in 1u64..2 * EXPIRE,
        holder in proptest::option::of((1u32..4, 0u64..9)),
    ) -> Update {
        let stamp = Stamp::new((NOW.0 << 16) + clock, NodeId(node << 8));
        let holders = holder.map(|(node, seq)| {
            // A node says one thing at one time; every third is that its last socket has closed.
            let left = Duration::from_millis(if seq % 3 == 0 { 0 } else { seq * 11_000 });
            Holder { node: NodeId(node << 8), seq: (NOW.0 << 16) + seq, left }
        });
        let left = Duration::from_millis(left + extra(NameId(server)));
        Update { key: [key].into(), server: NameId(server), stamp, left, holders: holders.into_iter().collect() }
    }
}

fn tables(names: &Arc<Names>) -> Vec<Arc<StickTable>> {
    let spec = |expire| config::Table { expire: Duration::from_millis(expire), ..spec(100) };
    EXPIRES.iter().zip(["a", "b", "c", "d"]).map(|(expire, node)| node_table(node, names, spec(*expire))).collect()
}

/// What happens to one of three instances that hear of each other at once.
#[derive(Clone, Debug)]
enum Act {
    Store(u8, u32),
    Touch(u8),
    Clear(u8),
    Hold(u8),
    Release,
    Wait(u64),
    Sweep,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        4 => (0u8..4, 1u32..4).prop_map(|(k, n)| Act::Store(k, n)),
        4 => (0u8..4).prop_map(Act::Touch),
        1 => (0u8..4).prop_map(Act::Clear),
        1 => (0u8..4).prop_map(Act::Hold),
        1 => Just(Act::Release),
        4 => (0u64..EXPIRE / 6).prop_map(Act::Wait),
        2 => Just(Act::Sweep),
    ];
    proptest::collection::vec((0usize..3, act), 1..120)
}

/// Three tables, what each has told, and the sockets open on each.
struct Cluster {
    tables: Vec<Arc<StickTable>>,
    told: [Vec<Cursor>; 3],
    holds: [Vec<Hold>; 3],
}

impl Cluster {
    fn act(&mut self, n: usize, act: &Act, now: Timestamp) {
        let t = &self.tables[n];
        match act {
            Act::Store(k, server) => _ = t.store(&key([*k]), s(*server), now),
            Act::Touch(k) => _ = t.lookup(&key([*k]), now),
            Act::Clear(k) => _ = t.clear(&key([*k]), now),
            Act::Hold(k) => self.holds[n].push(t.hold(&key([*k]), now)),
            Act::Release => drop(self.holds[n].pop().map(|hold| hold.release(now))),
            Act::Sweep => _ = t.expire(now, usize::MAX),
            Act::Wait(_) => {}
        }
    }

    /// Everybody tells what is new.
    fn tell(&mut self, now: Timestamp) {
        self.tables.iter().for_each(|t| _ = t.renew(now));
        for n in 0..3 {
            let news: Updates = read(&self.tables[n], &mut self.told[n], 2, now).into_iter().collect();
            (0..3).filter(|other| *other != n).for_each(|other| _ = self.tables[other].merge_all(&news, now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_the_order_the_grouping_and_the_repetition_all_parts_are_what_the_oracle_says(
        updates in proptest::collection::vec(any_update(), 1..40),
        again in proptest::collection::vec(any::<Index>(), 4 * 20),
        shuffles in proptest::collection::vec(any::<u64>(), 4),
        group in 1usize..9,
    ) {
        let names = names();
        let mut digests = Vec::new();
        for (n, t) in tables(&names).iter().enumerate() {
            let repeated = again[n * 20..][..20].iter().map(|i| i.get(&updates));
            let mut told: Vec<&Update> = updates.iter().chain(repeated).collect();
            told.sort_by_key(|u| crate::hash::stable_seeded(format!("{u:?}").as_bytes(), shuffles[n]));
            for part in told.chunks(group + n) {
                t.merge_all(&part.iter().map(|u| (*u).clone()).collect(), NOW);
            }
            let expected: BTreeMap<_, Row> = oracle(&updates, &names, EXPIRES[n]).into_iter().map(|(key, e)| {
                let tombstone = if e.pin.val.is_none() { entry::TOMBSTONE_EXTRA } else { 0 };
                (key, (e.pin.val, e.pin.marker, e.life + tombstone - NOW.0, e.holders))
            }).collect();
            prop_assert_eq!(rows(t, &names, NOW), expected);
            check(t);
            digests.push(t.digest());
        }
        prop_assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn instances_that_hear_of_each_other_at_once_agree_while_entries_end_and_sockets_come_and_go(acts in acts()) {
        let names = names();
        let tables: Vec<_> = ["a", "b", "c"].map(|node| node_table(node, &names, spec(100))).into();
        let mut cluster = Cluster { tables, told: Default::default(), holds: Default::default() };
        let mut now = NOW;
        for (n, act) in &acts {
            // Sweeps and renewals come every second in earnest; here often enough for no lease to lapse.
            let mut wait = if let Act::Wait(ms) = act { *ms } else { 0 };
            while wait > 0 {
                let step = wait.min(20_000);
                (now, wait) = (now.plus(Duration::from_millis(step)), wait - step);
                cluster.tell(now);
            }
            cluster.act(*n, act, now);
            cluster.tell(now);
            let all: Vec<_> = cluster.tables.iter().map(|t| rows(t, &names, now)).collect();
            for k in 0..4u8 {
                let held: Vec<Option<&Row>> = all.iter().map(|rows| rows.get(&vec![k])).collect();
                let live = held.iter().flatten();
                let versions: Vec<_> = live.clone().map(|row| (&row.0, row.1)).collect();
                prop_assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "{versions:?}");
                let lefts: Vec<u64> = held.iter().map(|row| row.map_or(0, |row| row.2)).collect();
                let apart = lefts.iter().max().unwrap_or(&0) - lefts.iter().min().unwrap_or(&0);
                prop_assert!(apart <= EXPIRE / 8 || live.clone().any(|row| row.0.is_none()), "{held:?}");
                prop_assert!(lefts.iter().all(|left| *left <= EXPIRE + entry::TOMBSTONE_EXTRA));
                let sockets = cluster.tables.iter().map(|t| t.is_held(&key([k]), now)).collect::<Vec<_>>();
                prop_assert!(sockets.windows(2).all(|pair| pair[0] == pair[1]), "{sockets:?}");
            }
        }
        cluster.tables.iter().for_each(|t| check(t));
    }
}
