//! A reload: read, check, bind what is new, build, swap. All or nothing: up to the swap every step can fail and
//! changes nothing; from the swap on nothing can.
//!
//! Tables, counters, health, open connections and listeners that did not change stay as they are.
use crate::bind::{BindError, Wanted, bind_all};
use crate::edge::Edges;
use crate::instance::control::{replicated, tell_systemd};
use crate::instance::{Control, NameError, Phase, wanted};
use crate::logging::{self, access};
use crate::tls::TlsError;
use lb_core::config::{Config, Diagnostic, Peers};
use lb_core::snapshot::Snapshot;
use sd_notify::NotifyState;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The instance is leaving.
    #[error("the instance is stopping: start it anew to use another configuration")]
    Stopping,
    /// The file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The file is wrong; every error, one a line.
    #[error("{0}")]
    Invalid(String),
    /// Something changed that a running instance cannot take on.
    #[error("{} changed, which needs a restart; change it back to reload, or restart the instance", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// A new listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A server's host name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log.
    #[error(transparent)]
    Access(#[from] access::OpenError),
    /// The log filter.
    #[error(transparent)]
    Level(#[from] logging::LevelError),
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Generation of the configuration that now holds.
    pub generation: u64,
    /// Listeners opened.
    pub opened: usize,
    /// Listeners closed.
    pub closed: usize,
}

impl Control {
    /// Reads the configuration anew and takes it on, or changes nothing. Reloads asked for at the same time run one
    /// after the other.
    ///
    /// # Errors
    /// [`ReloadError`]
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let now = NotifyState::monotonic_usec_now().ok();
        tell_systemd(&[NotifyState::Reloading].into_iter().chain(now).collect::<Vec<_>>());
        let result = match read(self).await {
            Ok(Loaded { text, config, edges }) => {
                let prepared = self.discovery.prepare(&config).await;
                let taken = match (prepared, edges) {
                    (Ok(()), Ok(edges)) => take_on(self, config.clone(), edges),
                    (Err(e), _) => Err(e.into()),
                    (_, Err(e)) => Err(e.into()),
                };
                taken.map_err(|e| placed(e, &config, &self.source.path, &text))
            }
            Err(e) => Err(e),
        };
        if self.phase() == Phase::Ready {
            tell_systemd(&[NotifyState::Ready]);
        }
        match &result {
            Ok(done) => {
                self.counts.reloads_ok.fetch_add(1, Relaxed);
                let Reloaded { generation, opened, closed } = done;
                tracing::info!(generation, opened, closed, "configuration reloaded");
            }
            Err(e) => {
                self.counts.reloads_refused.fetch_add(1, Relaxed);
                tracing::error!("reload refused, nothing changed: {e}");
            }
        }
        result
    }
}

/// What was read for a reload.
struct Loaded {
    text: String,
    config: Config,
    edges: Result<Edges, TlsError>,
}

/// What is about a key says where that stands.
fn placed(error: ReloadError, config: &Config, path: &Path, text: &str) -> ReloadError {
    match error.faults(config).as_slice() {
        [] => error,
        faults => ReloadError::Invalid(lines(path, faults.iter().map(|fault| fault.placed(text)))),
    }
}

/// One mistake a line, with the file's name before it.
fn lines(path: &Path, mistakes: impl IntoIterator<Item = Diagnostic>) -> String {
    mistakes.into_iter().map(|mistake| format!("{}:{mistake}", path.display())).collect::<Vec<_>>().join("\n")
}

/// Disk and parsing run beside the control thread: a slow disk must not stop health checks.
async fn read(control: &Control) -> Result<Loaded, ReloadError> {
    let (path, name) = (control.source.path.clone(), control.source.name.clone());
    let running = control.snapshot().config.instance.name.clone();
    let tickets = control.tickets.clone();
    let load = move || {
        let (text, config) = load(&path, name.as_deref(), &running)?;
        let edges = Edges::build(&config, &tickets);
        Ok(Loaded { text, config, edges })
    };
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|e| Err(ReloadError::Invalid(format!("the configuration could not be read: {e}"))))
}

fn load(path: &Path, name: Option<&str>, running: &str) -> Result<(String, Config), ReloadError> {
    let text = std::fs::read_to_string(path).map_err(|why| ReloadError::Read { path: path.to_owned(), why })?;
    // Without a name in the file the host's name holds, as it did at the start.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").map_or(running.to_owned(), |h| h.trim().to_owned());
    let (env, files) = (|var: &str| std::env::var(var).ok(), |path: &Path| std::fs::read(path));
    let loaded = lb_core::config::load_with(&text, &host, name, &env, Some(&files));
    let config = loaded.map_err(|errors| ReloadError::Invalid(lines(path, errors)))?;
    Ok((text, config))
}

fn take_on(control: &Control, config: Config, edges: Edges) -> Result<Reloaded, ReloadError> {
    if control.phase() >= Phase::Draining {
        return Err(ReloadError::Stopping);
    }
    let before = control.snapshot();
    let frozen = needs_restart(&before.config, &config);
    if !frozen.is_empty() {
        return Err(ReloadError::NeedsRestart(frozen));
    }
    logging::filter(&config.log.level)?;
    let (opened, closed) = difference(control, &config);
    let served: HashSet<_> = control.listening().into_iter().map(|l| l.real).collect();
    let bound = bind_all(&opened, control.shared.base.workers, &served)?;
    // Opened anew even when unchanged: whoever rotated the file sends SIGHUP for this.
    let log = access::open(&config.log, &control.counts.access_dropped)?;

    let snapshot =
        Arc::new(Snapshot::build(Arc::new(control.discovery.adopt(config)), &control.shared.base, Some(&before)));
    warn_of_new_tables(&before, &snapshot);
    control.shared.snapshot.store(snapshot.clone());
    control.shared.edges.store(Arc::new(edges));
    control.certificates.fresh(&control.shared.edges.load());
    control.listen(bound);
    control.unlisten(&closed);
    control.set_access(log);
    logging::set_level(&snapshot.config.log.level).ok();
    control.checks.apply(&snapshot);
    control.apply_decisions();
    if let (Some(peers), Some(config)) = (control.peers.read().as_ref(), snapshot.config.peers.clone()) {
        peers.reconfigure(config, replicated(&snapshot));
    }
    Ok(Reloaded { generation: snapshot.generation, opened: opened.len(), closed: closed.len() })
}

/// Listeners to open, and those to close. One that stays keeps its sockets.
fn difference(control: &Control, config: &Config) -> (Vec<Wanted>, HashSet<Wanted>) {
    let before: HashSet<Wanted> = control.listening().into_iter().map(|l| l.wanted).collect();
    let after = wanted(config);
    let opened = after.iter().filter(|w| !before.contains(w)).cloned().collect();
    (opened, before.into_iter().filter(|w| !after.contains(w)).collect())
}

/// Keys whose change a running instance cannot take on.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut same = |key, same: bool| {
        if !same {
            keys.push(key);
        }
    };
    same("instance.name", old.instance.name == new.instance.name);
    same("instance.workers", old.instance.workers == new.instance.workers);
    same("admin.listen", old.admin.listen == new.admin.listen);
    same("admin.socket", old.admin.socket == new.admin.socket);
    same("log.format", old.log.format == new.log.format);
    match (&old.peers, &new.peers) {
        (None, None) => {}
        (Some(old), Some(new)) => {
            let mut peers = |key, of: fn(&Peers, &Peers) -> bool| same(key, of(old, new));
            peers("peers.cluster", |a, b| a.cluster == b.cluster);
            peers("peers.listen", |a, b| a.listen == b.listen);
            peers("peers.tls", |a, b| a.tls == b.tls);
            peers("peers.max_clock_ahead", |a, b| a.max_clock_ahead == b.max_clock_ahead);
        }
        _ => same("peers", false),
    }
    keys
}

fn warn_of_new_tables(before: &Snapshot, after: &Snapshot) {
    for (name, table) in &after.tables {
        let emptied = before.tables.get(name).is_some_and(|old| !Arc::ptr_eq(old, table));
        if emptied {
            tracing::warn!(table = %name, "the table starts empty: its type, length or replication changed");
        }
    }
}

#[cfg(test)]
mod tests;
