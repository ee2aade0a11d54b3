//! The tables that are replicated, under the numbers that frames name them by; and a peer's, matched with them.
//!
//! It knows nothing of links: sessions ask it what a number means.
use crate::wire::{Refusal, RefuseCode, Schema};
use lb_core::table::StickTable;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of keys and columns that a frame of live updates is filled with, about, and entries at most: small, so that
/// others have their turn.
const FRAME_BYTES: usize = 64 << 10;
const FRAME_ENTRIES: usize = 512;
/// The same of a pull.
const PULL_BYTES: usize = 256 << 10;
const PULL_ENTRIES: usize = 4096;
/// Bytes of an entry beside its key, about.
const COLUMN_BYTES: usize = 24;

/// A table of this node.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) table: Arc<StickTable>,
    /// Entries in one frame of live updates, and in one of a pull.
    pub(crate) batch: usize,
    pub(crate) pull_batch: usize,
}

impl Local {
    fn schema(&self) -> Schema {
        let (kind, len) = (self.table.kind(), self.table.key_len());
        Schema { id: self.id, name: self.name.clone(), kind: Some(kind), len: len as u64 }
    }
}

/// The tables of this node.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    list: Vec<Arc<Local>>,
    last_id: u32,
}

impl Tables {
    /// Takes on another set. A table keeps its number for as long as it is the same one. True: the set is another.
    pub(crate) fn set(&mut self, tables: Vec<Arc<StickTable>>) -> bool {
        let before: Vec<u32> = self.list.iter().map(|t| t.id).collect();
        let mut list = Vec::with_capacity(tables.len());
        for table in tables {
            let known = self.list.iter().find(|t| Arc::ptr_eq(&t.table, &table)).cloned();
            list.push(known.unwrap_or_else(|| self.number(table)));
        }
        self.list = list;
        self.list.iter().map(|t| t.id).ne(before)
    }

    fn number(&mut self, table: Arc<StickTable>) -> Arc<Local> {
        self.last_id += 1;
        let bytes = table.key_len() + COLUMN_BYTES;
        let batch = (FRAME_BYTES / bytes).clamp(1, FRAME_ENTRIES);
        let pull_batch = (PULL_BYTES / bytes).clamp(1, PULL_ENTRIES);
        Arc::new(Local { id: self.last_id, name: table.spec().name.clone(), table, batch, pull_batch })
    }

    pub(crate) fn all(&self) -> &[Arc<Local>] {
        &self.list
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Local>> {
        self.list.iter().find(|t| t.name == name)
    }

    pub(crate) fn schemas(&self) -> Vec<Schema> {
        self.list.iter().map(|t| t.schema()).collect()
    }

    /// Matches a peer's tables with ours.
    ///
    /// # Errors
    /// A table of one name and two types.
    pub(crate) fn matched(&self, us: &str, them: &str, theirs: &[Schema]) -> Result<Common, Refusal> {
        let mut common = Common::default();
        for schema in theirs {
            let Some(ours) = self.by_name(&schema.name) else { continue };
            let own = ours.schema();
            let typed = schema.kind.is_some_and(|kind| kind.fixed_len()) || own.len == schema.len;
            if own.kind != schema.kind || !typed {
                return Err(mismatch(&own, us, schema, them));
            }
            common.by_remote_id.insert(schema.id, ours.clone());
            common.tables.push(ours.clone());
        }
        Ok(common)
    }
}

fn mismatch(own: &Schema, us: &str, theirs: &Schema, them: &str) -> Refusal {
    let shown = |s: &Schema| match s.kind {
        None => "a type of a later release".to_owned(),
        Some(kind) if kind.fixed_len() => kind.name().to_owned(),
        Some(kind) => format!("{} of len {}", kind.name(), s.len),
    };
    let ((one, first), (other, second)) =
        if us < them { ((us, own), (them, theirs)) } else { ((them, theirs), (us, own)) };
    let (name, first, second) = (&own.name, shown(first), shown(second));
    let text = format!(
        "table \"{name}\" differs: {one} has {first}, {other} has {second}; give table.{name} the same type and len on \
         both"
    );
    Refusal { code: RefuseCode::Table, text }
}

/// The tables that a peer has, too.
#[derive(Debug, Default)]
pub(crate) struct Common {
    by_remote_id: HashMap<u32, Arc<Local>>,
    tables: Vec<Arc<Local>>,
}

impl Common {
    /// Ours, by the peer's number.
    pub(crate) fn remote(&self, id: u32) -> Option<&Arc<Local>> {
        self.by_remote_id.get(&id)
    }

    /// Ours, by our number.
    pub(crate) fn local(&self, id: u32) -> Option<&Arc<Local>> {
        self.tables.iter().find(|t| t.id == id)
    }

    pub(crate) fn tables(&self) -> &[Arc<Local>] {
        &self.tables
    }
}

/// What types of keys are called, and which have a length of their own.
trait Kind {
    fn name(self) -> &'static str;
    fn fixed_len(self) -> bool;
}

impl Kind for lb_core::config::KeyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Ip => "type ip",
            Self::Ipv6 => "type ipv6",
            Self::Integer => "type integer",
            Self::String => "type string",
            Self::Binary => "type binary",
        }
    }

    fn fixed_len(self) -> bool {
        matches!(self, Self::Ip | Self::Ipv6 | Self::Integer)
    }
}
