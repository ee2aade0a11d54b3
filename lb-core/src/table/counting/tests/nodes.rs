//! Several nodes that tell each other, in whatever order, against a model that just adds up.
use super::*;
use Counter::{ConnCur, Gpc, HttpReqCnt};
use proptest::prelude::*;

const STORE: [Counter; 4] = [HttpReqCnt, RATE, ConnCur, Gpc(0)];
const NODES: usize = 3;

/// Nodes in a full mesh whose messages wait, get lost and come twice.
struct Mesh {
    tables: Vec<Arc<StickTable>>,
    /// By who tells and who hears.
    cursors: Vec<Vec<Vec<Cursor>>>,
    under_way: Vec<(usize, CountBatch)>,
    open: Vec<(usize, u8, Counted)>,
    now: Timestamp,
}

#[derive(Clone, Debug)]
enum Op {
    Count(usize, u8, u64),
    Open(usize, u8),
    Close(usize),
    /// One node reads its changes for another, and the message goes on its way.
    Tell(usize, usize),
    /// A message comes, and may come again.
    Hear(usize),
    Lose(usize),
    Clear(usize, u8),
    Wait(u64),
}

proptest! {
    #[test]
    fn a_small_table_keeps_its_books_whatever_comes(
        ops in proptest::collection::vec((0u8..8, 0u8..12, 0..EXPIRE), 1..200),
        size in 1usize..6,
    ) {
        let (table, peer) = (counting("a", size, &STORE), counting("b", 100, &STORE));
        let (mut now, mut open, mut cursors) = (NOW, Vec::new(), Vec::new());
        for (what, k, ms) in ops {
            match what {
                0 | 1 => table.count(&name(k), &[Event::Request], now),
                2 => open.extend(table.open(&name(k), now)),
                3 if !open.is_empty() => drop(open.swap_remove(ms as usize % open.len())),
                4 => _ = table.clear(&name(k), now),
                5 => {
                    peer.count(&name(k), &[Event::Request], now);
                    peer.merge_counts(&changes(&table, &mut cursors, 3, now), now);
                    table.merge_counts(&whole(&peer, now), now);
                }
                6 => now = now.plus(Duration::from_millis(ms)),
                _ => _ = table.expire(now, ms as usize % 20),
            }
            check(&table);
            prop_assert!(table.stats().counted <= size as u64);
        }
        // In the end nothing is left.
        open.clear();
        for _ in 0..3 {
            now = now.plus(Duration::from_millis(2 * EXPIRE + 3_600_000));
            table.expire(now, 1000);
        }
        prop_assert_eq!(table.stats().counted, 0);
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (n, k) = (|| 0..NODES, || 0u8..3);
    let op = prop_oneof![
        8 => (n(), k(), 1u64..5).prop_map(|(n, k, c)| Op::Count(n, k, c)),
        2 => (n(), k()).prop_map(|(n, k)| Op::Open(n, k)),
        2 => (0usize..8).prop_map(Op::Close),
        6 => (n(), n()).prop_map(|(a, b)| Op::Tell(a, b)),
        6 => (0usize..8).prop_map(Op::Hear),
        1 => (0usize..8).prop_map(Op::Lose),
        3 => (n(), k()).prop_map(|(n, k)| Op::Clear(n, k)),
        2 => (0u64..2_000).prop_map(Op::Wait),
    ];
    proptest::collection::vec(op, 1..150)
}

fn name(k: u8) -> StickKey {
    key([b'k', k])
}

impl Mesh {
    fn new() -> Self {
        let tables = ["a", "b", "c"].map(|node| counting(node, 100, &STORE)).to_vec();
        let cursors = vec![vec![Vec::new(); NODES]; NODES];
        Self { tables, cursors, under_way: Vec::new(), open: Vec::new(), now: NOW }
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Count(n, k, c) => {
                (0..c).for_each(|_| self.tables[n].count(&name(k), &[Event::Request, Event::Gpc(0, 2)], self.now));
            }
            Op::Open(n, k) => {
                let open = self.tables[n].open(&name(k), self.now).expect("there is room");
                self.open.push((n, k, open));
            }
            Op::Close(at) if at < self.open.len() => drop(self.open.swap_remove(at)),
            Op::Tell(from, to) if from != to => {
                let batch = changes(&self.tables[from], &mut self.cursors[from][to], 2, self.now);
                self.under_way.push((to, batch));
            }
            Op::Hear(at) if at < self.under_way.len() => {
                let (to, batch) = &self.under_way[at];
                self.tables[*to].merge_counts(batch, self.now);
            }
            Op::Lose(at) if at < self.under_way.len() => drop(self.under_way.swap_remove(at)),
            Op::Clear(n, k) => _ = self.tables[n].clear(&name(k), self.now),
            Op::Wait(ms) => self.now = self.now.plus(Duration::from_millis(ms)),
            _ => {}
        }
    }

    /// Every node tells every other everything it counted, until nothing is new.
    fn meet(&mut self) {
        for _ in 0..2 {
            for (from, to) in (0..NODES * NODES).map(|i| (i / NODES, i % NODES)).filter(|(from, to)| from != to) {
                let batch = changes(&self.tables[from], &mut Vec::new(), 100, self.now);
                self.tables[to].merge_counts(&batch, self.now);
            }
        }
    }

    fn read(&self, k: u8, counter: Counter) -> [u64; NODES] {
        std::array::from_fn(|n| self.tables[n].counter(&name(k), counter, self.now))
    }

    fn open(&self, k: u8) -> u64 {
        self.open.iter().filter(|(_, key, _)| *key == k).count() as u64
    }
}

proptest! {
    #[test]
    fn every_node_reads_what_all_have_counted(ops in ops(), clear in proptest::collection::vec((0usize..150, 0u8..3, 0..NODES), 0..3)) {
        let mut mesh = Mesh::new();
        let mut counted = [0u64; 3];
        for (i, op) in ops.iter().enumerate() {
            // A clearing that has heard of everything before it.
            for (_, k, n) in clear.iter().filter(|(at, ..)| *at == i) {
                mesh.meet();
                mesh.act(&Op::Clear(*n, *k));
                mesh.meet();
                counted[usize::from(*k)] = 0;
            }
            match op {
                Op::Clear(..) => continue,
                Op::Count(_, k, n) => counted[usize::from(*k)] += n,
                _ => {}
            }
            // Messages of before a clearing may still come after it.
            mesh.act(op);
        }
        mesh.meet();
        for k in 0..3u8 {
            let sum = counted[usize::from(k)];
            prop_assert_eq!(mesh.read(k, HttpReqCnt), [sum; NODES]);
            prop_assert_eq!(mesh.read(k, Gpc(0)), [2 * sum; NODES]);
            prop_assert_eq!(mesh.read(k, ConnCur), [mesh.open(k); NODES]);
            // A message that is under way for long makes a rate younger than it is, never greater than the count.
            prop_assert!(mesh.read(k, RATE).iter().all(|rate| *rate <= sum));
        }
        // Nobody comes any more: it ends everywhere.
        mesh.open.clear();
        mesh.meet();
        mesh.now = mesh.now.plus(Duration::from_millis(EXPIRE));
        for k in 0..3u8 {
            prop_assert_eq!(mesh.read(k, HttpReqCnt), [0; NODES]);
        }
    }

    #[test]
    fn nodes_agree_whoever_clears_what_and_when(ops in ops()) {
        let mut mesh = Mesh::new();
        ops.iter().for_each(|op| mesh.act(op));
        mesh.meet();
        mesh.tables.iter().for_each(|table| check(table));
        for k in 0..3u8 {
            let counts = mesh.read(k, HttpReqCnt);
            prop_assert_eq!(counts, [counts[0]; NODES]);
            prop_assert_eq!(mesh.read(k, ConnCur), [mesh.open(k); NODES]);
        }
    }
}

/// Tells what changed in `from` since the start to `to`.
fn tell(from: &StickTable, to: &StickTable, now: Timestamp) {
    to.merge_counts(&changes(from, &mut Vec::new(), 10, now), now);
}

#[test]
fn a_cleared_key_does_not_come_back_from_a_peer_that_was_cut_off() {
    let (a, b) = (counting("a", 100, &STORE), counting("b", 100, &STORE));
    requests(&a, "k", 5, NOW);
    let late = changes(&a, &mut Vec::new(), 10, NOW);
    b.merge_counts(&late, NOW);
    assert!(b.clear(&key("k"), later(1)));
    tell(&b, &a, later(1));
    for at in [2, EXPIRE + 1, EXPIRE + 3_000_000] {
        [&a, &b].iter().for_each(|t| _ = t.expire(later(at), 1000));
        b.merge_counts(&late, later(at));
        for table in [&a, &b] {
            assert_eq!(table.counter(&key("k"), HttpReqCnt, later(at)), 0);
        }
    }
}

#[test]
fn open_connections_of_a_node_that_is_silent_for_a_minute_count_no_more() {
    let (a, b) = (counting("a", 100, &STORE), counting("b", 100, &STORE));
    let open = a.open(&key("k"), NOW);
    let (mut cursors, mut at) = (Vec::new(), 0);
    b.merge_counts(&changes(&a, &mut cursors, 10, NOW), NOW);
    // Every 20 seconds it says that it is still there, though nothing changes.
    while at < 200_000 {
        at += 1_000;
        let batch = changes(&a, &mut cursors, 10, later(at));
        assert_eq!(batch.keys.len(), usize::from(at % 20_000 == 0), "at {at} ms");
        b.merge_counts(&batch, later(at));
        assert_eq!(b.counter(&key("k"), ConnCur, later(at)), 1);
    }
    assert_eq!(b.counter(&key("k"), ConnCur, later(at + 59_999)), 1);
    assert_eq!(b.counter(&key("k"), ConnCur, later(at + 60_000)), 0);
    b.merge_counts(&changes(&a, &mut cursors, 10, later(at + 60_000)), later(at + 60_000));
    assert_eq!(b.counter(&key("k"), ConnCur, later(at + 60_000)), 1);
    drop(open);
}

#[test]
fn what_a_third_node_counted_is_passed_on_with_its_age() {
    let (a, b, c) = (counting("a", 100, &STORE), counting("b", 100, &STORE), counting("c", 100, &STORE));
    let open = c.open(&key("k"), NOW);
    requests(&c, "k", 7, NOW);
    tell(&c, &a, NOW);
    // The source of the pull heard of it 40 seconds ago, by a clock of its own.
    let (at, there) = (later(40_000), later(9_000_000));
    b.merge_counts(&whole(&a, at), there);
    let read = |counter, ms| b.counter(&key("k"), counter, there.plus(Duration::from_millis(ms)));
    assert_eq!((read(HttpReqCnt, 0), read(ConnCur, 19_999), read(ConnCur, 20_000)), (7, 1, 0));
    drop(open);
}

#[test]
fn a_new_life_adds_to_the_former_and_ends_what_was_open_in_it() {
    let b = counting("b", 100, &STORE);
    let first = counting("a", 100, &STORE);
    let open = first.open(&key("k"), NOW);
    requests(&first, "k", 7, NOW);
    tell(&first, &b, NOW);
    let second = {
        let clock = crate::hlc::Clock::new(NodeId::new("a", 2), Duration::from_secs(86_400));
        let spec = config::Table { store: STORE.to_vec(), ..spec(100) };
        Arc::new(StickTable::new(Arc::new(spec), names(), Arc::new(clock), 7))
    };
    second.merge_counts(&whole(&b, later(1)), later(1));
    assert_eq!(second.counter(&key("k"), ConnCur, later(1)), 0);
    requests(&second, "k", 1, later(1));
    tell(&second, &b, later(1));
    for table in [&b, &second] {
        let read = |counter| table.counter(&key("k"), counter, later(1));
        assert_eq!((read(HttpReqCnt), read(ConnCur)), (8, 0));
    }
    drop(open);
}

#[test]
fn a_new_life_whose_id_is_that_of_the_former_goes_on_from_its_counts() {
    // One in 256 restarts.
    let (b, first, second) = (counting("b", 100, &STORE), counting("a", 100, &STORE), counting("a", 100, &STORE));
    requests(&first, "k", 7, NOW);
    tell(&first, &b, NOW);
    requests(&second, "k", 1, later(1));
    second.merge_counts(&whole(&b, later(1)), later(1));
    second.merge_counts(&whole(&b, later(1)), later(1));
    tell(&second, &b, later(2));
    second.merge_counts(&whole(&b, later(2)), later(2));
    for table in [&b, &second] {
        assert_eq!(table.counter(&key("k"), HttpReqCnt, later(2)), 8);
    }
}

#[test]
fn what_came_of_third_nodes_is_relayed_once_and_not_to_its_owner() {
    let (a, b, c) = (counting("a", 100, &STORE), counting("b", 100, &STORE), counting("c", 100, &STORE));
    requests(&c, "k", 7, NOW);
    requests(&a, "own", 1, NOW);
    tell(&c, &a, NOW);
    let relayed = |since, except| {
        let mut batch = CountBatch::default();
        assert_eq!(a.relay_counts(0, (0, 100), (since, NodeId::new(except, 1)), later(2), &mut batch), None);
        batch
    };
    assert!(relayed(NOW, "c").keys.is_empty());
    assert!(relayed(later(1), "b").keys.is_empty());
    b.merge_counts(&relayed(NOW, "b"), later(2));
    assert_eq!((b.counter(&key("k"), HttpReqCnt, later(2)), b.stats().counted), (7, 1));
    a.clear(&key("own"), later(3));
    assert_eq!(relayed(later(3), "b").keys.len(), 1, "a clearing is passed on");
}
