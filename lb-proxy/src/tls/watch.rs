//! Files that change are read anew, on the control side. What cannot be used changes nothing and is told: in the log, in
//! `lb status`, as a metric.
//!
//! The files are looked at by path, again and again. A write in place, a rename and a swapped symbolic link to a whole
//! directory look alike that way, and a notification that is lost costs nothing.
use crate::edge::Edges;
use parking_lot::Mutex;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How often files that cannot be used are tried again though nothing has changed.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the log reminds of certificates that end.
const REMIND: Duration = Duration::from_secs(86_400);

/// What changes when a file does, in place or by another in its place.
type Stamp = (u64, u64, u64, [i64; 4]);
type Stamps = Vec<Option<Stamp>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The files as they were when they were read, and at the last look.
    read: Stamps,
    seen: Stamps,
    tried: Option<SystemTime>,
    error: Option<String>,
    errors: u64,
    reminded: Option<SystemTime>,
}

/// How reading went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Why the last files cannot be used.
    pub(crate) error: Option<String>,
    /// How often that happened.
    pub(crate) errors: u64,
}

fn stamps(edges: &Edges) -> Stamps {
    let stamp = |path: &Path| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.len(), [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
    };
    edges.files().iter().map(|path| stamp(path)).collect()
}

impl Watch {
    /// These were read just now. A change between the reading and this is found at the next look, or was read.
    pub(crate) fn fresh(&self, edges: &Edges) {
        let mut state = self.0.lock();
        state.seen = stamps(edges);
        state.read = state.seen.clone();
        state.error = None;
        state.reminded = None;
    }

    /// How it is.
    pub(crate) fn health(&self) -> Health {
        let state = self.0.lock();
        Health { error: state.error.clone(), errors: state.errors }
    }

    /// One look.
    pub(crate) fn look(&self, edges: &Edges, now: SystemTime) {
        let stamps = stamps(edges);
        if self.0.lock().is_due(&stamps, now) {
            self.read(edges, stamps, now);
        }
        self.remind(edges, now);
    }

    /// A slow disk holds nobody: the lock is free meanwhile.
    fn read(&self, edges: &Edges, stamps: Stamps, now: SystemTime) {
        let result = edges.reload();
        let mut state = self.0.lock();
        (state.read, state.tried) = (stamps, Some(now));
        match result {
            Ok(()) => {
                tracing::info!("certificates were read anew");
                (state.error, state.reminded) = (None, None);
            }
            Err(error) => {
                if state.error.as_ref() != Some(&error) {
                    tracing::error!(error, "certificates stay as they were");
                }
                state.errors += 1;
                state.error = Some(error);
            }
        }
    }

    fn remind(&self, edges: &Edges, now: SystemTime) {
        let since = |at: SystemTime| now.duration_since(at).unwrap_or_default();
        if self.0.lock().reminded.is_some_and(|at| since(at) < REMIND) {
            return;
        }
        let warnings = edges.warnings(now);
        if !warnings.is_empty() {
            self.0.lock().reminded = Some(now);
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
    }
}

impl State {
    /// Whether the files are to be read, as they are at this look.
    fn is_due(&mut self, stamps: &Stamps, now: SystemTime) -> bool {
        let tried = self.tried.and_then(|at| now.duration_since(at).ok());
        let again = self.error.is_some() && tried.is_none_or(|ago| ago >= AGAIN);
        // What is still being written is left alone until it has stayed as it is.
        let stays = std::mem::replace(&mut self.seen, stamps.clone()) == *stamps;
        stays && (*stamps != self.read || again)
    }
}
