//! The table held against its promises, a file for each story.
use super::*;

mod changes;
mod full;
mod holds;
mod join;
mod life;
mod merge;
mod model;
mod tentative;

/// Some moment.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The tables' expiry here, in milliseconds.
pub(super) const EXPIRE: u64 = 800_000;

pub(super) fn later(ms: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(ms))
}

pub(crate) fn spec(size: usize) -> config::Table {
    let expire = Duration::from_millis(EXPIRE);
    config::Table { size, expire, ..config::Table::new("t", KeyKind::Binary) }
}

/// A table of node `node`. All share one list of names, so that a [`NameId`] means the same everywhere.
pub(crate) fn node_table(node: &str, names: &Arc<Names>, spec: config::Table) -> Arc<StickTable> {
    let clock = Clock::new(crate::id::NodeId::new(node, 1), Duration::from_secs(86_400));
    Arc::new(StickTable::new(Arc::new(spec), names.clone(), Arc::new(clock), 7))
}

/// A table for itself.
fn table(spec: config::Table) -> Arc<StickTable> {
    node_table("a", &names(), spec)
}

/// Names `s1` to `s9`, of which [`s`] gives the ids.
pub(super) fn names() -> Arc<Names> {
    let names = Arc::new(Names::default());
    (1..10).for_each(|n| assert_eq!(names.intern(&format!("s{n}")), s(n)));
    names
}

fn s(n: u32) -> NameId {
    NameId(n)
}

pub(super) fn key(text: impl AsRef<[u8]>) -> StickKey {
    StickKey::from_canonical(KeyKind::Binary, 64, text.as_ref()).expect("a key")
}

fn server(table: &StickTable, text: impl AsRef<[u8]>, now: Timestamp) -> Option<NameId> {
    table.peek(&key(text), now).map(|pin| pin.server)
}

/// Everything a peer would be told in a full pull, by key.
fn contents(table: &StickTable, now: Timestamp) -> std::collections::BTreeMap<Vec<u8>, (NameId, Stamp, u64)> {
    let mut all = Vec::new();
    for shard in 0..table.shards() {
        let mut from = Some(0);
        while let Some(slot) = from {
            from = table.scan(shard, slot, 10, now, &mut all);
        }
    }
    let count = all.len();
    let map: std::collections::BTreeMap<_, _> =
        all.into_iter().map(|u| (u.key.to_vec(), (u.server, u.stamp, millis(u.left)))).collect();
    assert_eq!(map.len(), count, "a key came twice");
    map
}

/// The pins of [`contents`] without their lives.
fn pins(table: &StickTable, now: Timestamp) -> Vec<(Vec<u8>, NameId, Stamp)> {
    contents(table, now).into_iter().map(|(key, (server, stamp, _))| (key, server, stamp)).collect()
}

/// All that was changed in a table and not yet read by these cursors, one a shard.
fn read(table: &StickTable, cursors: &mut Vec<Cursor>, batch: usize, now: Timestamp) -> Vec<Update> {
    cursors.resize(table.shards(), Cursor::default());
    let mut out = Vec::new();
    for (shard, cursor) in cursors.iter_mut().enumerate() {
        while table.changes(shard, cursor, batch, now, &mut out) {}
        assert_eq!(cursor.seq, table.newest(shard));
        assert_eq!(table.backlog(shard, *cursor, 9), 0);
    }
    out
}

/// Holds all parts of a table against each other.
fn check(table: &StickTable) {
    let mut held = 0;
    let digest = digest::Digest::default();
    for shard in &table.shards {
        let shard = shard.0.lock();
        shard.check(&table.env);
        held += shard.slab.len();
        for slot in (0..shard.slab.slots()).filter(|slot| !shard.slab[*slot].is_free()) {
            digest.toggle(&shard.slab[slot].key, &[shard.slab[slot].pin.marker]);
        }
    }
    assert_eq!(table.env.held.load(Ordering::Relaxed), held);
    assert_eq!(table.digest(), digest.read());
}

/// An update about `key` with a stamp of our choice.
fn update(key: impl AsRef<[u8]>, server: NameId, clock: u64, left: u64) -> Update {
    let stamp = Stamp::new((NOW.0 << 16) + clock, crate::id::NodeId::new("elsewhere", 1));
    Update { key: key.as_ref().into(), server, stamp, left: Duration::from_millis(left), holders: Vec::new() }
}
