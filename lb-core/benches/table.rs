//! What a stick table costs: memory for each entry, and the time of its operations at a million entries with keys of
//! 32 bytes. Run by `cargo bench -p lb-core --bench table`; the allocator is the one that `lb` runs with.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
use divan::{Bencher, black_box};
use lb_core::config::{self, KeyKind};
use lb_core::counters::{Counter, Event};
use lb_core::hlc::{Clock, Stamp};
use lb_core::id::{NameId, Names, NodeId};
use lb_core::table::{Cursor, StickKey, StickTable, Update};
use lb_core::time::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTRIES: u64 = 1_000_000;
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const EXPIRE: Duration = Duration::from_secs(1800);

fn main() {
    // `cargo test --benches` runs this file, too, and is not interested in figures.
    if std::env::args().any(|arg| arg == "--bench") {
        memory();
    }
    divan::main();
}

fn table(size: usize) -> Arc<StickTable> {
    let spec = config::Table { size, ..config::Table::new("sessions", KeyKind::Binary) };
    let clock = Clock::new(NodeId::new("a", 1), Duration::from_secs(86_400));
    Arc::new(StickTable::new(Arc::new(spec), Arc::new(Names::default()), Arc::new(clock), 0x5eed))
}

/// The `i`th key; nothing in it tells where it will lie.
fn key(i: u64) -> StickKey {
    let hash = lb_core::hash::stable(&i.to_le_bytes());
    let text = format!("{hash:016x}{:016x}", hash.rotate_left(32) ^ i);
    StickKey::from_canonical(KeyKind::Binary, 64, text.as_bytes()).unwrap()
}

fn fill(table: &StickTable, entries: u64) {
    for i in 0..entries {
        table.store(&key(i), NameId(1 + (i % 3) as u32), NOW);
    }
}

/// Resident memory of this process, so that the allocator's own losses count.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn memory() {
    let before = resident();
    let table = table(ENTRIES as usize);
    fill(&table, ENTRIES);
    let (resident, stats) = ((resident() - before) as f64, table.stats());
    let held = stats.entries as f64;
    println!(
        "memory of {held} entries with 32-byte keys: {:.1} B an entry resident, {:.1} B by the table's own count",
        resident / held,
        stats.memory as f64 / held,
    );
}

static FULL: LazyLock<Arc<StickTable>> = LazyLock::new(|| {
    let table = table(2 * ENTRIES as usize);
    fill(&table, ENTRIES);
    table
});

/// Keys in an order that has nothing to do with where they lie.
static KEYS: LazyLock<Vec<StickKey>> =
    LazyLock::new(|| (0..ENTRIES).map(|i| key(i.wrapping_mul(7_919) % ENTRIES)).collect());

fn keys() -> impl FnMut() -> &'static StickKey {
    let mut at = 0;
    move || {
        at = (at + 1) % KEYS.len();
        &KEYS[at]
    }
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn lookup(bencher: Bencher<'_, '_>) {
    LazyLock::force(&FULL);
    let next = keys();
    bencher.with_inputs(next).bench_local_values(|key| FULL.lookup(black_box(key), NOW));
}

/// The same keys in a plain map: what this machine's memory makes of any look-up.
#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn lookup_in_a_plain_map(bencher: Bencher<'_, '_>) {
    let map: HashMap<Box<[u8]>, u64> = (0..ENTRIES).map(|i| (key(i).bytes().into(), i)).collect();
    bencher.with_inputs(keys()).bench_local_values(|key| map.get(black_box(key.bytes())));
}

#[divan::bench(sample_count = 50, sample_size = 10_000, threads = [1, 2])]
fn lookup_of_one_hot_key(bencher: Bencher<'_, '_>) {
    LazyLock::force(&FULL);
    bencher.bench(|| FULL.lookup(black_box(&KEYS[0]), NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn miss(bencher: Bencher<'_, '_>) {
    LazyLock::force(&FULL);
    let mut i = u64::MAX / 2;
    let next = move || {
        i += 1;
        key(i)
    };
    bencher.with_inputs(next).bench_local_values(|key| FULL.lookup(black_box(&key), NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn store_new(bencher: Bencher<'_, '_>) {
    let table = table(ENTRIES as usize);
    let next = keys();
    bencher.with_inputs(next).bench_local_values(|key| table.store(black_box(key), NameId(1), NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn store_new_in_a_full_table(bencher: Bencher<'_, '_>) {
    let table = table(100_000);
    fill(&table, 100_000);
    let now = AtomicU64::new(0);
    let next = keys();
    bencher.with_inputs(next).bench_local_values(|key| {
        let now = now.fetch_add(1, Ordering::Relaxed);
        table.store(black_box(key), NameId(1), Timestamp(NOW.0 + now / 8))
    });
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn merge_new(bencher: Bencher<'_, '_>) {
    let table = table(ENTRIES as usize);
    let (mut next, mut clock) = (keys(), NOW.0 << 16);
    let node = NodeId::new("b", 1);
    let update = move || {
        clock += 1;
        let (key, stamp) = (next().bytes().into(), Stamp::new(clock, node));
        Update { key, server: NameId(1), stamp, left: EXPIRE, holders: Vec::new() }
    };
    bencher.with_inputs(update).bench_local_refs(|update| table.merge(black_box(update), NOW));
}

fn counting(size: usize) -> Arc<StickTable> {
    let table = table(size);
    let store = ["http_req_cnt", "http_req_rate(10s)", "bytes_out_rate(1m)", "conn_cur"];
    let store = store.map(|name| name.parse().unwrap()).to_vec();
    table.reconfigure(Arc::new(config::Table { store, ..config::Table::clone(&table.spec()) }));
    table
}

const REQUEST: [Event; 2] = [Event::Request, Event::BytesOut(1_000)];

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn count_of_a_known_key(bencher: Bencher<'_, '_>) {
    let table = counting(ENTRIES as usize);
    KEYS.iter().for_each(|key| table.count(key, &REQUEST, NOW));
    bencher.with_inputs(keys()).bench_local_values(|key| table.count(black_box(key), &REQUEST, NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000, threads = [1, 2])]
fn count_of_one_hot_key(bencher: Bencher<'_, '_>) {
    let table = counting(1_000);
    bencher.bench(|| table.count(black_box(&KEYS[0]), &REQUEST, NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn count_of_a_new_key_in_a_full_table(bencher: Bencher<'_, '_>) {
    let table = counting(100_000);
    KEYS.iter().take(100_000).for_each(|key| table.count(key, &REQUEST, NOW));
    bencher.with_inputs(keys()).bench_local_values(|key| table.count(black_box(key), &REQUEST, NOW));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn rate_of_a_key(bencher: Bencher<'_, '_>) {
    let table = counting(1_000);
    table.count(&KEYS[0], &REQUEST, NOW);
    let rate: Counter = "http_req_rate(10s)".parse().unwrap();
    bencher.bench_local(|| table.counter(black_box(&KEYS[0]), rate, NOW));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn read_a_million_changes(bencher: Bencher<'_, '_>) {
    LazyLock::force(&FULL);
    bencher.bench_local(|| {
        let mut out = Vec::with_capacity(1_000);
        let mut read = 0;
        for shard in 0..FULL.shards() {
            let mut cursor = Cursor::default();
            while FULL.changes(shard, &mut cursor, 1_000, NOW, &mut out) {
                read += out.len();
                out.clear();
            }
        }
        read
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn sweep_a_million(bencher: Bencher<'_, '_>) {
    let full = || {
        let table = table(ENTRIES as usize);
        fill(&table, ENTRIES);
        table
    };
    bencher.with_inputs(full).bench_local_refs(|table| table.expire(NOW.plus(EXPIRE), usize::MAX));
}
