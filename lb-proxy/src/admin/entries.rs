//! Entries of a table: one by its key, or all, as a stream. A table may hold millions; the stream looks at a few
//! hundred slots at a time and lets other control work go on in between.
use super::problem::{Failure, Path, Query};
use crate::instance::Control;
use crate::instance::view::{Nodes, counted, entry};
use crate::shared::now;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use lb_core::config::conditions;
use lb_core::id::NameId;
use lb_core::limit::Condition;
use lb_core::snapshot::Snapshot;
use lb_core::status::EntryStatus;
use lb_core::table::{CountedKey, StickKey, StickTable, Update};
use std::convert::Infallible;
use std::sync::Arc;

/// Entries given when no limit is.
const LIMIT: usize = 100;
/// Slots looked at in one go.
const STEP: usize = 512;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    key: Option<String>,
    server: Option<String>,
    /// Comparisons with counters, all of which must hold.
    when: Option<String>,
    /// 0: all.
    limit: Option<usize>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByKey {
    key: String,
}

/// The table of that name.
pub(super) fn table(snapshot: &Snapshot, name: &str) -> Result<Arc<StickTable>, Failure> {
    let names = || snapshot.config.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    let absent = || match names() {
        names if names.is_empty() => Failure::absent("this instance has no tables: its configuration names none"),
        names => Failure::absent(format!("there is no table \"{name}\"; tables: {names}")),
    };
    snapshot.tables.get(name).cloned().ok_or_else(absent)
}

/// The key an operator typed, for this table.
pub(super) fn key(table: &StickTable, text: &str) -> Result<StickKey, Failure> {
    let spec = table.spec();
    StickKey::parse(spec.kind, spec.len, text).map_err(|e| Failure::bad(format!("key {text:?}: {e}")))
}

/// `GET /api/tables/{table}/entry?key=`
pub(super) async fn one(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Query(ByKey { key: text }): Query<ByKey>,
) -> Result<Json<EntryStatus>, Failure> {
    let found = find(&control, &name, &text)?;
    found.map(Json).ok_or_else(|| Failure::absent(format!("table \"{name}\" has no entry for key {text:?}")))
}

fn find(control: &Control, name: &str, text: &str) -> Result<Option<EntryStatus>, Failure> {
    let snapshot = control.snapshot();
    let table = table(&snapshot, name)?;
    let key = key(&table, text)?;
    let Some(pin) = table.peek(&key, now()) else {
        return Ok(table.counted(&key, now()).map(|key| counted(&table, key)));
    };
    let update =
        Update { key: key.bytes().into(), server: pin.server, stamp: pin.stamp, left: pin.left, holders: Vec::new() };
    Ok(entry(&table, &update, &snapshot, &Nodes::of(control)))
}

/// `GET /api/tables/{table}/entries?key=&server=&when=&limit=`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Response, Failure> {
    let snapshot = control.snapshot();
    let table = table(&snapshot, &name)?;
    let when = filter.when.as_ref().map(|text| conditions(text, &table.spec()));
    let when = when.transpose().map_err(|e| Failure::bad(e.to_string()))?.unwrap_or_default();
    if let Some(text) = &filter.key {
        let at_server = |e: &EntryStatus| filter.server.as_ref().is_none_or(|s| *s == e.server);
        let wanted = |e: &EntryStatus| at_server(e) && holds(&when, e);
        let found: Vec<_> = find(&control, &name, text)?.into_iter().filter(wanted).collect();
        return Ok(Json(found).into_response());
    }
    let server = match &filter.server {
        None => None,
        Some(server) => match snapshot.names.find(server) {
            // A name that nobody ever spoke of is in no entry.
            None => return Ok(Json(Vec::<EntryStatus>::new()).into_response()),
            some => some,
        },
    };
    let left = match filter.limit.unwrap_or(LIMIT) {
        0 => usize::MAX,
        limit => limit,
    };
    // A key without a pin is at no server.
    let part = if server.is_none() { Part::Both } else { Part::Pins };
    let at = Some((0, 0));
    let scan = Scan { nodes: Nodes::of(&control), table, snapshot, server, when, left, part, at, separator: b'[' };
    let body = stream::unfold(scan, |mut scan| async move {
        tokio::task::yield_now().await;
        scan.next().map(|chunk| (Ok::<_, Infallible>(chunk), scan))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// Whether all comparisons hold for an entry's counters.
fn holds(when: &[Condition], entry: &EntryStatus) -> bool {
    let value = |c: &Condition| entry.counters.get(&c.counter.to_string()).copied().unwrap_or(0);
    when.iter().all(|condition| condition.holds(value(condition)))
}

/// What is still to be walked over.
#[derive(PartialEq)]
enum Part {
    /// Pins, then keys that are only counted.
    Both,
    Pins,
    Counted,
}

/// A walk over a table.
struct Scan {
    table: Arc<StickTable>,
    snapshot: Arc<Snapshot>,
    nodes: Nodes,
    server: Option<NameId>,
    when: Vec<Condition>,
    /// Entries still to give.
    left: usize,
    part: Part,
    /// Shard and slot to go on from; `None`: the closing bracket is written.
    at: Option<(usize, u32)>,
    /// What comes before the next entry.
    separator: u8,
}

impl Scan {
    /// The next piece of the JSON array; empty pieces are skipped by the body.
    fn next(&mut self) -> Option<Bytes> {
        let (shard, slot) = self.at?;
        let mut out = Vec::new();
        if shard >= self.table.shards() && self.part == Part::Both {
            (self.part, self.at) = (Part::Counted, Some((0, 0)));
            return Some(out.into());
        }
        if shard >= self.table.shards() || self.left == 0 {
            self.at = None;
            out.extend_from_slice(if self.separator == b'[' { b"[]" } else { b"]" });
            return Some(out.into());
        }
        let (next, entries) = match self.part {
            Part::Counted => self.counted(shard, slot),
            Part::Both | Part::Pins => self.pins(shard, slot),
        };
        self.at = Some(next.map_or((shard + 1, 0), |slot| (shard, slot)));
        for entry in entries.into_iter().filter(|e| holds(&self.when, e)).take(self.left) {
            out.push(std::mem::replace(&mut self.separator, b','));
            self.left -= 1;
            // Writing numbers and strings to a Vec cannot fail.
            serde_json::to_writer(&mut out, &entry).ok();
        }
        Some(out.into())
    }

    /// Pinned entries of a shard from a slot on, and the slot to go on from.
    fn pins(&self, shard: usize, slot: u32) -> (Option<u32>, Vec<EntryStatus>) {
        let mut updates = Vec::new();
        let next = self.table.scan(shard, slot, STEP, now(), &mut updates);
        let names = &self.snapshot.names;
        let wanted = |u: &&Update| self.server.is_none_or(|server| names.is_at(u.server, server));
        let entries = updates.iter().filter(wanted);
        (next, entries.filter_map(|u| entry(&self.table, u, &self.snapshot, &self.nodes)).collect())
    }

    /// Keys that are only counted.
    fn counted(&self, shard: usize, slot: u32) -> (Option<u32>, Vec<EntryStatus>) {
        let mut keys = Vec::new();
        let next = self.table.scan_counters(shard, slot, STEP, now(), &mut keys);
        let pinned = |key: &CountedKey| {
            let key = StickKey::from_canonical(self.table.kind(), self.table.key_len(), &key.key);
            key.is_some_and(|key| self.table.peek(&key, now()).is_some())
        };
        (next, keys.into_iter().filter(|key| !pinned(key)).map(|key| counted(&self.table, key)).collect())
    }
}
