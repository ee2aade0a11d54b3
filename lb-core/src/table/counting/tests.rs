//! Counters held against their promises.
use super::*;
use crate::config;
use crate::table::tests::{EXPIRE, NOW, key, later, names, node_table, spec};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

mod local;
mod merge;
mod nodes;

const RATE: Counter = Counter::HttpReqRate(Duration::from_secs(10));

/// A table that counts.
fn counting(node: &str, size: usize, store: &[Counter]) -> Arc<StickTable> {
    node_table(node, &names(), config::Table { store: store.to_vec(), ..spec(size) })
}

fn requests(table: &StickTable, name: &str, n: usize, now: Timestamp) {
    (0..n).for_each(|_| table.count(&key(name), &[Event::Request], now));
}

/// Keys that a table counts, by a scan.
fn counted(table: &StickTable, now: Timestamp) -> Vec<CountedKey> {
    let mut all = Vec::new();
    for shard in 0..table.shards() {
        let mut from = Some(0);
        while let Some(at) = from {
            from = table.scan_counters(shard, at, 7, now, &mut all);
        }
    }
    all
}

/// All that was counted in a table and not yet read by these cursors, one a shard.
fn changes(table: &StickTable, cursors: &mut Vec<Cursor>, max: usize, now: Timestamp) -> CountBatch {
    cursors.resize(table.shards(), Cursor::default());
    let mut batch = CountBatch::default();
    for (shard, cursor) in cursors.iter_mut().enumerate() {
        while table.count_changes(shard, cursor, max, now, &mut batch) {}
    }
    batch
}

/// Everything that a table would tell in a pull.
fn whole(table: &StickTable, now: Timestamp) -> CountBatch {
    let mut batch = CountBatch::default();
    for shard in 0..table.shards() {
        let mut from = Some(0);
        while let Some(at) = from {
            from = table.scan_counts(shard, at, 5, now, |_| true, &mut batch);
        }
    }
    batch
}

/// Holds all parts of a table against each other.
fn check(table: &StickTable) {
    let counting = table.counting.get().expect("it counts");
    let held = counting.shards.iter().map(|shard| {
        shard.0.lock().check(&table.env);
        shard.0.lock().len()
    });
    assert_eq!(held.sum::<usize>() as u64, table.stats().counted);
}
