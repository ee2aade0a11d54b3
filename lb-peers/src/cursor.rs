//! How far one peer has got in one table's change log, shard by shard. A peer is a cursor, never a queue: one that is
//! slow or away costs no memory.
use lb_core::table::{Cursor, Sink, StickTable, Updates};
use lb_core::time::Timestamp;

/// Where reading a table stopped: the shards whose cursor moved, and to where.
pub(crate) type Reached = Vec<(usize, Cursor)>;

/// One peer's cursors in one table.
#[derive(Debug)]
pub(crate) struct Progress {
    sent: Vec<Cursor>,
    acked: Vec<Cursor>,
    /// The shard to read next: every shard has its turn.
    next: usize,
}

impl Progress {
    /// A peer that gets every change made here.
    pub(crate) fn from_start(table: &StickTable) -> Self {
        let start = vec![Cursor::default(); table.shards()];
        Self { sent: start.clone(), acked: start, next: 0 }
    }

    /// A peer that pulls the table: it gets the changes from now on.
    pub(crate) fn from_newest(table: &StickTable) -> Self {
        let newest = |shard| {
            let mut cursor = Cursor::default();
            cursor.seq = table.newest(shard);
            cursor
        };
        let newest: Vec<Cursor> = (0..table.shards()).map(newest).collect();
        Self { sent: newest.clone(), acked: newest, next: 0 }
    }

    /// Goes back to where another peer is, in the shards in which that one has acknowledged less.
    pub(crate) fn go_back_to(&mut self, other: &Self) {
        for (acked, theirs) in self.acked.iter_mut().zip(&other.acked).filter(|(ours, theirs)| theirs.seq < ours.seq) {
            *acked = *theirs;
        }
        self.rewind();
    }

    /// What was sent and not acknowledged is to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.sent.clone_from(&self.acked);
    }

    /// Reads up to `max` changes; true: there may be more.
    pub(crate) fn read(
        &mut self,
        table: &StickTable,
        max: usize,
        now: Timestamp,
        out: &mut Updates,
    ) -> (Reached, bool) {
        self.read_by(max, |shard, cursor, room| {
            let had = out.count();
            let more = table.changes(shard, cursor, room, now, out);
            (out.count() - had, more)
        })
    }

    /// As [`Self::read`], by what reads up to a number of changes of a shard and says how many, and if there are more.
    pub(crate) fn read_by(
        &mut self,
        max: usize,
        mut changes: impl FnMut(usize, &mut Cursor, usize) -> (usize, bool),
    ) -> (Reached, bool) {
        let mut reached = Reached::new();
        let (shards, mut room) = (self.sent.len(), max);
        for step in 0..shards {
            let shard = (self.next + step) % shards;
            let cursor = &mut self.sent[shard];
            let before = *cursor;
            let (got, more) = changes(shard, cursor, room);
            room = room.saturating_sub(got);
            if *cursor != before {
                reached.push((shard, *cursor));
            }
            if more || room == 0 {
                self.next = if more { shard } else { shard + 1 };
                return (reached, true);
            }
        }
        (reached, false)
    }

    /// The peer has handled what was read up to here.
    pub(crate) fn acked(&mut self, reached: &Reached) {
        for (shard, cursor) in reached {
            if let Some(acked) = self.acked.get_mut(*shard) {
                *acked = *cursor;
            }
        }
    }

    /// Entries not sent yet, counted up to `limit`.
    pub(crate) fn backlog(&self, table: &StickTable, limit: usize) -> usize {
        let mut sum = 0;
        for (shard, cursor) in self.sent.iter().enumerate() {
            sum += table.backlog(shard, *cursor, limit - sum);
            if sum >= limit {
                break;
            }
        }
        sum
    }
}
