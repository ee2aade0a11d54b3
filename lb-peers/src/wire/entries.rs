//! Entries of a table as columns: keys end to end, server names and node ids once each, clocks as differences.
use super::{Garbage, MAX_ENTRIES, pb};
use lb_core::hlc::Stamp;
use lb_core::id::{NameId, Names, NodeId};
use lb_core::table::Update;
use std::collections::HashMap;
use std::time::Duration;

/// Entries of one table, on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Server names, each once.
    pub servers: Vec<String>,
    /// The entries.
    pub rows: Vec<Row>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Canonical key bytes.
    pub key: Box<[u8]>,
    /// 0: a tombstone; else 1 + the place of the server's name.
    pub server: u32,
    /// Version.
    pub stamp: Stamp,
    /// Life left.
    pub left: Duration,
}

impl Entries {
    /// Packs what a table gave.
    pub fn pack(updates: Vec<Update>, names: &Names) -> Self {
        let mut places: HashMap<NameId, u32> = HashMap::new();
        let mut servers = Vec::new();
        let mut place = |id: NameId| {
            *places.entry(id).or_insert_with(|| {
                servers.push(names.name(id).to_string());
                servers.len() as u32
            })
        };
        let row = |u: Update| Row {
            server: if u.server.is_none() { 0 } else { place(u.server) },
            key: u.key,
            stamp: u.stamp,
            left: u.left,
        };
        let rows = updates.into_iter().map(row).collect();
        Self { servers, rows }
    }

    /// What a table takes. `None` for a row whose server's name can't be remembered here: as a pin of no server it
    /// would clear the entry.
    pub fn unpack(self, names: &Names) -> impl Iterator<Item = Option<Update>> {
        let ids: Vec<NameId> = self.servers.iter().map(|s| names.intern(s)).collect();
        self.rows.into_iter().map(move |row| {
            let server = match row.server {
                0 => NameId::NONE,
                place => ids.get(place as usize - 1).copied().filter(|id| !id.is_none())?,
            };
            Some(Update { key: row.key, server, stamp: row.stamp, left: row.left })
        })
    }
}

impl From<Entries> for pb::Entries {
    fn from(entries: Entries) -> Self {
        let n = entries.rows.len();
        let mut out = Self { servers: entries.servers, ..Self::default() };
        out.keys.reserve(entries.rows.iter().map(|r| r.key.len()).sum());
        for column in [&mut out.key_len, &mut out.server, &mut out.node] {
            column.reserve(n);
        }
        out.clock.reserve(n);
        out.left_ms.reserve(n);
        let mut nodes: HashMap<u32, u32> = HashMap::new();
        let mut last = 0u64;
        for row in entries.rows {
            out.keys.extend_from_slice(&row.key);
            out.key_len.push(row.key.len() as u32);
            out.server.push(row.server);
            out.clock.push(row.stamp.clock().wrapping_sub(last).cast_signed());
            last = row.stamp.clock();
            let node = row.stamp.node.0;
            let place = *nodes.entry(node).or_insert_with(|| {
                out.nodes.push(node);
                out.nodes.len() as u32 - 1
            });
            out.node.push(place);
            out.left_ms.push(lb_core::time::millis(row.left));
        }
        out
    }
}

impl TryFrom<pb::Entries> for Entries {
    type Error = Garbage;

    fn try_from(e: pb::Entries) -> Result<Self, Garbage> {
        let n = e.key_len.len();
        if n > MAX_ENTRIES {
            return Err(Garbage("too many entries"));
        }
        if [e.server.len(), e.clock.len(), e.node.len(), e.left_ms.len()] != [n; 4] {
            return Err(Garbage("columns of entries differ in length"));
        }
        let (mut rows, mut rest, mut clock) = (Vec::with_capacity(n), e.keys.as_slice(), 0u64);
        for i in 0..n {
            let (key, after) =
                rest.split_at_checked(e.key_len[i] as usize).ok_or(Garbage("keys are shorter than their lengths"))?;
            rest = after;
            clock = clock.wrapping_add(e.clock[i].cast_unsigned());
            let node = *e.nodes.get(e.node[i] as usize).ok_or(Garbage("an entry of no node"))?;
            if e.server[i] as usize > e.servers.len() {
                return Err(Garbage("an entry on no server"));
            }
            rows.push(Row {
                key: key.into(),
                server: e.server[i],
                stamp: Stamp::new(clock, NodeId(node)),
                left: Duration::from_millis(e.left_ms[i]),
            });
        }
        match rest.is_empty() {
            true => Ok(Self { servers: e.servers, rows }),
            false => Err(Garbage("keys are longer than their lengths")),
        }
    }
}
