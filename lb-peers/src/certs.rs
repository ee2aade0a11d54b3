//! The certificates in use: takes new ones when their files change, keeps the old where the new cannot be used, and says
//! in time when they end.
//!
//! It must not know what TLS does with them. Links that are up stay up whatever happens here, even past the end of the
//! certificate that they came up with: only a handshake looks at one.
//!
//! The files are looked at by path, again and again. A write in place, a rename and a swapped symbolic link to a whole
//! directory (Kubernetes) look alike that way, and a notification that is lost costs nothing.
use crate::StartError;
use crate::tls::Tls;
use lb_core::config::PeerTls;
use lb_core::status::TlsStatus;
use parking_lot::Mutex;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often files that cannot be used are tried again though nothing has changed: a certificate of tomorrow holds then.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the log says so.
const REMIND: Duration = Duration::from_secs(86_400);

/// See the module.
#[derive(Debug)]
pub(crate) struct Certs {
    node: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: Option<PeerTls>,
    tls: Option<Tls>,
    /// The files as they were when they were read, and at the last look.
    read: Stamps,
    seen: Stamps,
    tried: SystemTime,
    error: Option<String>,
    errors: u64,
    reminded: Option<SystemTime>,
}

/// What changes when a file does, in place or by another in its place.
type Stamp = (u64, u64, u64, [i64; 4]);
type Stamps = [Option<Stamp>; 3];

fn stamps(files: &PeerTls) -> Stamps {
    let stamp = |path: &Path| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.len(), [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
    };
    [&files.ca, &files.cert, &files.key].map(|path| stamp(path))
}

impl Certs {
    /// Reads the files.
    ///
    /// # Errors
    /// They can't be used.
    pub(crate) fn load(files: Option<PeerTls>, node: &str) -> Result<Self, StartError> {
        let seen = files.as_ref().map(stamps).unwrap_or_default();
        let tls = files.as_ref().map(|files| Tls::load(files, node)).transpose()?;
        let tried = SystemTime::now();
        let state = State { files, tls, read: seen, seen, tried, error: None, errors: 0, reminded: None };
        Ok(Self { node: node.to_owned(), state: Mutex::new(state) })
    }

    /// For new links.
    pub(crate) fn tls(&self) -> Option<Tls> {
        self.state.lock().tls.clone()
    }

    /// Takes on another configuration, and reads its files in any case.
    pub(crate) fn configure(&self, files: Option<PeerTls>) {
        let mut state = self.state.lock();
        state.files = files.clone();
        if files.is_none() {
            (state.tls, state.error) = (None, None);
        }
        drop(state);
        if let Some(files) = files {
            self.read(&files, stamps(&files), SystemTime::now());
        }
    }

    /// Looks at the files again and again.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let certs = self.clone();
            // They may be on a disk that does not answer.
            let _ = tokio::task::spawn_blocking(move || certs.look(SystemTime::now())).await;
        }
    }

    fn look(&self, now: SystemTime) {
        let Some(files) = self.state.lock().files.clone() else { return };
        let stamps = stamps(&files);
        if self.state.lock().is_due(stamps, now) {
            self.read(&files, stamps, now);
        }
        self.state.lock().remind(now);
    }

    /// Reads the files. What can't be used changes nothing. A slow disk holds nobody: the lock is free meanwhile.
    fn read(&self, files: &PeerTls, stamps: Stamps, now: SystemTime) {
        let new = Tls::load(files, &self.node);
        let mut state = self.state.lock();
        if state.files.as_ref() != Some(files) {
            return;
        }
        (state.read, state.seen, state.tried) = (stamps, stamps, now);
        let old_holds = state.tls.as_ref().is_some_and(|tls| tls.life.holds(now));
        match new {
            Ok(tls) if old_holds && !tls.life.holds(now) => {
                state.refuse(format!("peers.tls: cert: {} does not hold now: {}", files.cert.display(), tls.life));
            }
            Ok(tls) => {
                tracing::info!(life = %tls.life, "the peers' certificates were read anew");
                (state.tls, state.error, state.reminded) = (Some(tls), None, None);
            }
            Err(error) => state.refuse(error.to_string()),
        }
    }

    /// For people.
    pub(crate) fn status(&self) -> Option<TlsStatus> {
        let state = self.state.lock();
        let until = state.tls.as_ref()?.life.until;
        let not_after = until.max(0).unsigned_abs() * 1000;
        Some(TlsStatus { not_after, error: state.error.clone(), errors: state.errors })
    }
}

impl State {
    /// Whether the files are to be read, as they are at this look.
    fn is_due(&mut self, stamps: Stamps, now: SystemTime) -> bool {
        let again = self.error.is_some() && now.duration_since(self.tried).is_ok_and(|ago| ago >= AGAIN);
        // What is still being written is left alone until it has stayed as it is.
        let stays = std::mem::replace(&mut self.seen, stamps) == stamps;
        stays && (stamps != self.read || again)
    }

    fn refuse(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::error!(error, "the peers' certificates stay as they were");
        }
        self.errors += 1;
        self.error = Some(error);
    }

    /// Tells of the end, while it is near once a day.
    fn remind(&mut self, now: SystemTime) {
        let Some(life) = self.tls.as_ref().map(|tls| tls.life) else { return };
        if !life.ends_soon(now) || self.reminded.is_some_and(|at| now.duration_since(at).is_ok_and(|ago| ago < REMIND))
        {
            return;
        }
        self.reminded = Some(now);
        match life.holds(now) {
            true => tracing::warn!(%life, "the certificate for peers expires soon: put a new one into its place"),
            false => tracing::error!(%life, "the certificate for peers does not hold: peers refuse new links"),
        }
    }
}
