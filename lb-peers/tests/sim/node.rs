//! What a node of the simulated cluster is made of.
use super::model::Place;
use lb_core::config::{self, KeyKind};
use lb_core::decisions::Decisions;
use lb_core::hlc::Clock;
use lb_core::id::Names;
use lb_core::table::{Hold, StickKey, StickTable};
use lb_peers::replicator::{LinkId, Replicator};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 8405))
}

pub(crate) fn name(node: usize) -> String {
    format!("lb{node}")
}

/// A table as nodes have it if nothing else is said.
pub(crate) fn spec(name: &str) -> config::Table {
    config::Table { expire: Duration::from_secs(7200), ..config::Table::new(name, KeyKind::String) }
}

pub(crate) fn text(key: &str) -> StickKey {
    StickKey::parse(KeyKind::String, 64, key).expect("a key")
}

/// One life of a node.
pub(crate) struct Node {
    pub(crate) replicator: Replicator,
    /// The first of its tables.
    pub(crate) table: Arc<StickTable>,
    pub(crate) tables: Vec<Arc<StickTable>>,
    pub(crate) names: Arc<Names>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) clock: Arc<Clock>,
    /// Questions that it put, numbered from 1.
    pub(crate) asked: u64,
    pub(crate) answered: BTreeSet<u64>,
    pub(crate) stopped: bool,
    /// Open sockets on keys of its tables.
    pub(crate) sockets: Vec<Socket>,
    pub(crate) life: u64,
    pub(crate) born: Duration,
    /// It does nothing until then.
    pub(crate) frozen: Option<Duration>,
    /// The wall clock when it began, as an offset from the true time.
    pub(crate) skew: i64,
    pub(crate) changed: Arc<AtomicBool>,
    pub(crate) accepted: u64,
    /// The streams' ends here.
    pub(crate) ends: HashMap<LinkId, (usize, usize)>,
    pub(crate) next_tick: Duration,
}

/// An open socket on a key.
pub(crate) struct Socket {
    pub(crate) place: Place,
    pub(crate) hold: Hold,
    /// Its key had an entry when last looked at.
    pub(crate) pinned: bool,
}

/// A table that says when its change log has something new.
pub(crate) fn make_table(
    spec: &config::Table,
    (names, clock): (&Arc<Names>, &Arc<Clock>),
    seed: u64,
    changed: &Arc<AtomicBool>,
) -> Arc<StickTable> {
    let table = Arc::new(StickTable::new(Arc::new(spec.clone()), names.clone(), clock.clone(), seed));
    let wake = changed.clone();
    table.on_change(Box::new(move || wake.store(true, Ordering::Relaxed)));
    table
}
