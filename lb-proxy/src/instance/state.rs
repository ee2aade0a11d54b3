//! Tables and operators' decisions outlive the process: they are written to `instance.state` every so often and when
//! the instance stops, and read when it starts, as one more source to merge.
//!
//! What holds:
//!
//! - **Merging decides.** An entry comes back with the stamp that it had, so that what a peer knows newer wins, and with
//!   the life that was left when it was written less the time since, by the wall clock (a clock that was set back takes
//!   nothing off; a life is never longer than the table gives). The clock passes every stamp of the file before it makes
//!   one.
//! - **A file is whole or the one before it**: written under another name, synced, renamed. Its checksums are read
//!   ([`file`]); of one that is damaged the chunks before the damage are used, and the file is set aside, never
//!   overwritten.
//! - **Nothing here ends or delays the instance.** Workers meet a shard's lock for one short piece at a time, files are
//!   touched by a blocking thread, memory is a piece at a time. A directory that cannot be used is told (log, status,
//!   metrics) and tried again at the next interval.
//! - **One directory serves many instances**: each has `instance-NAME` in it, with a lock that tells a second process of
//!   the same name that it comes too late.
use crate::logging::access::rfc3339;
use crate::metrics::StateFigures;
use crate::shared::{Shared, now, wall};
pub use dir::check;
use dir::{Dir, StateError, at, own_dir};
use file::{Content, Header, Reader, Unusable, Writer};
use lb_core::decisions::Decisions;
use lb_core::hlc::Stamp;
use lb_core::id::NodeId;
use lb_core::snapshot::Snapshot;
use lb_core::status::{StateStatus, TableState};
use lb_core::table::{Sink, StickTable, UpdateRef, Updates};
use lb_peers::wire::{Entries, Frame};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod dir;
mod file;
#[cfg(test)]
mod tests;

/// Entries read from a shard under one hold of its lock, and written as one chunk.
const PIECE: usize = 512;
/// Where a file is written before it takes its name.
const TEMP: &str = "temp";
/// Files set aside that the status names; more of them are in the log.
const REMEMBERED: usize = 16;

/// Reads and writes an instance's state. Its methods block: call them from a blocking thread.
pub(crate) struct Store {
    shared: Arc<Shared>,
    decisions: Arc<Decisions>,
    local: Arc<Decisions>,
    /// Held while files are read or written.
    dir: Mutex<Option<Dir>>,
    /// What is told of it; never held for long.
    seen: Mutex<Seen>,
}

/// What a store has done so far.
#[derive(Debug, Default)]
struct Seen {
    figures: StateFigures,
    /// Why nothing is written, while so.
    error: Option<String>,
    /// Files set aside, for people.
    set_aside: Vec<String>,
    tables: HashMap<String, TableState>,
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, decisions: Arc<Decisions>, local: Arc<Decisions>) -> Self {
        Self { shared, decisions, local, dir: Mutex::default(), seen: Mutex::default() }
    }

    /// Reads what was written, if there is a directory.
    pub(crate) fn load(&self) {
        let snapshot = self.shared.snapshot.load_full();
        let mut dir = self.dir.lock();
        let loaded = self.open(&mut dir, &snapshot).map(|dir| {
            let dir = dir?;
            contents(&snapshot).for_each(|content| self.read(dir, &snapshot, &content));
            Some(())
        });
        self.note(loaded.map(|_| None), Duration::ZERO);
    }

    /// Writes everything.
    pub(crate) fn save(&self) {
        let snapshot = self.shared.snapshot.load_full();
        let (mut dir, started) = (self.dir.lock(), Instant::now());
        let saved = self.open(&mut dir, &snapshot).and_then(|dir| {
            let Some(dir) = dir else { return Ok(None) };
            let mut result = Ok(Some(wall().0));
            for content in contents(&snapshot) {
                // What a reload brought may have a file from before.
                self.read(dir, &snapshot, &content);
                let written = self.write(dir, &snapshot, content);
                result = result.and_then(|at| written.map(|()| at));
            }
            result
        });
        self.note(saved, started.elapsed());
    }

    /// For a scrape.
    pub(crate) fn figures(&self) -> StateFigures {
        self.seen.lock().figures
    }

    /// For the status; `None`: nothing is kept.
    pub(crate) fn status(&self, snapshot: &Snapshot) -> Option<StateStatus> {
        let instance = &snapshot.config.instance;
        let path = own_dir(instance.state.as_deref()?, &instance.name);
        let seen = self.seen.lock();
        Some(StateStatus {
            dir: path.display().to_string(),
            saved: seen.figures.saved,
            error: seen.error.clone(),
            set_aside: seen.set_aside.clone(),
        })
    }

    /// What became of a table's file; `None`: nothing is kept.
    pub(crate) fn table(&self, snapshot: &Snapshot, name: &str) -> Option<TableState> {
        snapshot.config.instance.state.as_ref()?;
        Some(self.seen.lock().tables.get(name).cloned().unwrap_or_default())
    }

    /// Keeps what a pass came to, and logs what is news.
    fn note(&self, result: Result<Option<u64>, StateError>, took: Duration) {
        let mut seen = self.seen.lock();
        match result {
            Ok(saved) => {
                if seen.error.take().is_some() {
                    tracing::info!("instance.state is usable again");
                }
                if saved.is_some() {
                    (seen.figures.saved, seen.figures.took) = (saved, took);
                }
            }
            Err(why) => {
                let why = why.to_string();
                seen.figures.errors += 1;
                if seen.error.as_ref() != Some(&why) {
                    tracing::error!(
                        "tables and decisions are not saved; tried again every instance.state_interval: {why}"
                    );
                }
                seen.error = Some(why);
            }
        }
    }

    /// The directory that the configuration names, opened if it was not.
    fn open<'a>(&self, held: &'a mut Option<Dir>, snapshot: &Snapshot) -> Result<Option<&'a mut Dir>, StateError> {
        let instance = &snapshot.config.instance;
        let Some(state) = &instance.state else {
            *held = None;
            return Ok(None);
        };
        if held.as_ref().is_none_or(|dir| dir.state != *state) {
            *held = None;
            *held = Some(Dir::open(state, &instance.name)?);
        }
        Ok(held.as_mut())
    }

    /// Reads a file, once. One that cannot be used, or not to its end, is set aside.
    fn read(&self, dir: &mut Dir, snapshot: &Snapshot, content: &Content) {
        let name = file_name(content);
        if !dir.read.insert(name.clone()) {
            return;
        }
        let path = dir.path.join(&name);
        let from = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            opened => opened.map_err(Unusable::Read),
        };
        let mut tally = Tally::default();
        let read = from.and_then(|from| self.merge(BufReader::new(from), snapshot, content, &mut tally));
        let Tally { taken, ended, refused } = tally;
        tracing::info!(file = %path.display(), taken, ended, refused, "state loaded");
        let notice = read.err().map(|why| self.set_aside(dir, &path, &why, taken));
        if let Content::Table { name, .. } = content {
            self.seen.lock().tables.insert(name.clone(), TableState { loaded: taken, notice });
        }
    }

    /// Merges a file's records, until its end or what is wrong with it.
    fn merge(
        &self,
        from: impl io::Read,
        snapshot: &Snapshot,
        content: &Content,
        tally: &mut Tally,
    ) -> Result<(), Unusable> {
        let (mut reader, header) = Reader::begin(from)?;
        if header.content != *content {
            return Err(Unusable::OtherContent(header.content.to_string()));
        }
        let age = Duration::from_millis(wall().0.saturating_sub(header.written));
        self.observe(Stamp::new(header.clock, NodeId::default()));
        while let Some(frame) = reader.frame()? {
            match (frame, content) {
                (Frame::Batch { entries, .. }, Content::Table { name, .. }) => {
                    if let Some(table) = snapshot.tables.get(name) {
                        self.merge_entries(table, &entries, age, tally);
                    }
                }
                (Frame::Decisions(all), Content::Decisions | Content::Local) => {
                    for mut decision in all {
                        if let Some(closing) = &mut decision.closing {
                            closing.left = closing.left.saturating_sub(age);
                        }
                        let into = if *content == Content::Local { &self.local } else { &self.decisions };
                        let taken = self.observe(decision.stamp) && into.merge(decision, now());
                        *(if taken { &mut tally.taken } else { &mut tally.refused }) += 1;
                    }
                }
                (_, content) => return Err(Unusable::OtherContent(format!("records that are not {content}"))),
            }
        }
        Ok(())
    }

    /// Leases are left out: the sockets that they speak of were closed with the process, and who has others renews them.
    fn merge_entries(&self, table: &StickTable, entries: &Entries, age: Duration, tally: &mut Tally) {
        let (written, lost) = entries.unpack(&self.shared.base.names);
        let mut live = Updates::default();
        for update in written.iter() {
            let left = update.left.saturating_sub(age);
            if !left.is_zero() {
                live.take(UpdateRef { left, holders: &[], ..update });
            }
        }
        let merges = table.merge_all(&live, now());
        tally.taken += u64::from(merges.applied + merges.extended + merges.known);
        tally.ended += (written.len() - live.len()) as u64;
        tally.refused += u64::from(merges.absurd + merges.refused + lost);
    }

    /// Stamps made from now on are later. False: it lies absurdly far ahead, and is refused as one of a peer is.
    fn observe(&self, stamp: Stamp) -> bool {
        self.shared.base.clock.observe(stamp, now()).is_ok()
    }

    /// Puts a file out of the way, and tells so; what is told.
    fn set_aside(&self, dir: &Dir, path: &Path, why: &Unusable, taken: u64) -> String {
        let stamp = rfc3339(wall().0).replace(':', "");
        let aside = dir.path.join(format!("{}.damaged-{stamp}", path.file_name().unwrap_or_default().display()));
        let now_at = match fs::rename(path, &aside) {
            Ok(()) => format!("it was renamed to {}", aside.display()),
            Err(e) => format!("and it could not be renamed: {e}"),
        };
        let notice = format!("{} is not used: {why} ({taken} records before that were); {now_at}", path.display());
        tracing::error!("{notice}");
        let mut seen = self.seen.lock();
        seen.figures.set_aside += 1;
        if seen.set_aside.len() < REMEMBERED {
            seen.set_aside.push(notice.clone());
        }
        notice
    }

    fn write(&self, dir: &Dir, snapshot: &Snapshot, content: Content) -> Result<(), StateError> {
        let (name, temp) = (file_name(&content), dir.path.join(TEMP));
        let header = Header {
            node: snapshot.config.instance.name.clone(),
            written: wall().0,
            clock: self.shared.base.clock.stamp(now()).clock(),
            content: content.clone(),
        };
        let write = || {
            let to = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
            let mut writer = Writer::begin(BufWriter::new(to), &header)?;
            match &content {
                Content::Table { name, .. } => match snapshot.tables.get(name) {
                    Some(table) => self.write_table(table, &mut writer)?,
                    None => return Ok(()),
                },
                Content::Decisions => write_decisions(&self.decisions, &mut writer)?,
                Content::Local => write_decisions(&self.local, &mut writer)?,
            }
            writer.end()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&temp, dir.path.join(&name))?;
            File::open(&dir.path)?.sync_all()
        };
        let written = write();
        if written.is_err() {
            // On a full disk it would take the room that the others need.
            fs::remove_file(&temp).ok();
        }
        at(&dir.path.join(name), written)
    }

    fn write_table(&self, table: &StickTable, writer: &mut Writer<impl Write>) -> io::Result<()> {
        let mut number = 0;
        for shard in 0..table.shards() {
            let mut from = Some(0);
            while let Some(slot) = from {
                let mut updates = Updates::default();
                from = table.scan(shard, slot, PIECE, now(), &mut updates);
                if !updates.is_empty() {
                    number += 1;
                    let (count, entries) = (updates.len(), Entries::pack(updates, &self.shared.base.names));
                    writer.frame(Frame::Batch { number, table: 0, entries }, count)?;
                }
            }
        }
        Ok(())
    }
}

/// What became of a file's records.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    taken: u64,
    /// Their life was over.
    ended: u64,
    refused: u64,
}

fn write_decisions(decisions: &Decisions, writer: &mut Writer<impl Write>) -> io::Result<()> {
    for piece in decisions.all(now()).chunks(PIECE) {
        writer.frame(Frame::Decisions(piece.to_vec()), piece.len())?;
    }
    Ok(())
}

/// Everything that is kept.
fn contents(snapshot: &Snapshot) -> impl Iterator<Item = Content> + '_ {
    let table = |t: &Arc<lb_core::config::Table>| Content::Table { name: t.name.clone(), kind: t.kind };
    [Content::Decisions, Content::Local].into_iter().chain(snapshot.config.tables.iter().map(table))
}

fn file_name(content: &Content) -> String {
    match content {
        Content::Table { name, .. } => format!("table-{name}"),
        Content::Decisions => "decisions".into(),
        Content::Local => "decisions-local".into(),
    }
}
