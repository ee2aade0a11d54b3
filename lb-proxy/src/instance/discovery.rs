//! Servers that are found by name: asks the names again and again, and makes a snapshot of what they stand for.
//!
//! The pure part, which servers a configuration then has, is [`lb_core::discovery`]'s. A changed answer is taken on as a
//! reload is: a whole new snapshot, live state taken over by identity. A name that cannot be looked up takes nothing away.
use super::Control;
use crate::shared::now;
use futures_util::future::join_all;
use lb_core::config::discovery::Origin;
use lb_core::config::{Config, PeerAddr};
use lb_core::discovery::{Known, Source, sources};
use lb_core::snapshot::Snapshot;
use lb_core::status::NameStatus;
use lb_peers::names::{Records, records};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A name is asked again when its TTL is over, within these bounds.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// When nobody said how long an answer holds.
const AGAIN: Duration = Duration::from_secs(5);
/// When the last answer was none.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often it is seen whether something is due.
const POLL: Duration = Duration::from_millis(250);
/// How long a start or reload waits for names of templates. They may as well come later.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server's host name that cannot be looked up: there is no address to begin with.
#[derive(Debug, thiserror::Error)]
#[error(
    "server {backend}/{server}: {name} has no address: {why}. Mend the name, or use a server_template, which waits for it"
)]
pub struct NameError {
    backend: String,
    server: String,
    name: PeerAddr,
    why: String,
}

impl NameError {
    /// The key that names the server's place.
    pub(crate) fn key(&self, config: &Config) -> String {
        let backend = config.backends.iter().find(|b| b.name == self.backend);
        let number = backend.and_then(|b| b.servers.iter().position(|s| s.name == self.server)).unwrap_or_default();
        format!("backend.{}.server[{number}].addr", self.backend)
    }
}

/// What is known of the names of servers.
#[derive(Debug, Default)]
pub(crate) struct Discovery(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// As the file has it: without what was found.
    written: Option<Arc<Config>>,
    known: Known,
    names: HashMap<Source, Name>,
}

#[derive(Debug, Default)]
struct Name {
    /// When it is asked next; `None`: it is being asked.
    due: Option<Instant>,
    /// Why the last look-up found nothing, or not all.
    error: Option<String>,
    found: bool,
    errors: u64,
}

impl Discovery {
    /// Looks up what a configuration names and nobody asked yet. Nothing that holds is changed by it.
    ///
    /// # Errors
    /// [`NameError`]
    pub(crate) async fn prepare(&self, written: &Config) -> Result<(), NameError> {
        let unknown: Vec<_> = {
            let inner = self.0.lock();
            sources(written).into_iter().filter(|source| !inner.known.knows(source)).collect()
        };
        let ask = |source: Source| async move {
            let answer = tokio::time::timeout(PATIENCE, records(&source.name, source.resolver)).await;
            (source, answer.unwrap_or_else(|_| Err("nobody answers".into())))
        };
        for (source, answer) in join_all(unknown.into_iter().map(ask)).await {
            self.0.lock().answered(Some(written), source, answer);
        }
        let inner = self.0.lock();
        for backend in &written.backends {
            for server in &backend.servers {
                let Origin::Named(name) = &server.origin else { continue };
                let source = Source { name: name.clone(), resolver: backend.resolver };
                if !inner.known.knows(&source) {
                    let why = inner.names.get(&source).and_then(|name| name.error.clone()).unwrap_or_default();
                    let (backend, server) = (backend.name.clone(), server.name.clone());
                    return Err(NameError { backend, server, name: name.clone(), why });
                }
            }
        }
        Ok(())
    }

    /// Takes on a configuration as the file has it; what holds then.
    pub(crate) fn adopt(&self, written: Config) -> Config {
        let mut inner = self.0.lock();
        let sources = sources(&written);
        inner.known.adopt(&written, now());
        inner.names.retain(|source, _| sources.contains(source));
        let effective = inner.known.effective(&written);
        inner.written = Some(Arc::new(written));
        effective
    }

    /// What holds now, if there are names at all. `busy` says whether anything is open on a server.
    fn effective(&self, busy: impl Fn(&str, &str) -> bool) -> Option<Config> {
        let mut inner = self.0.lock();
        if inner.names.is_empty() {
            return None;
        }
        let written = inner.written.clone()?;
        inner.known.tidy(&written, now(), busy);
        Some(inner.known.effective(&written))
    }

    /// Names that are to be asked now; they count as being asked.
    fn due(&self) -> Vec<Source> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let due = inner.names.iter_mut().filter(|(_, name)| name.due.is_some_and(|due| due <= now));
        due.map(|(source, name)| {
            name.due = None;
            source.clone()
        })
        .collect()
    }

    fn learn(&self, source: Source, answer: Result<Records, String>) {
        self.0.lock().answered(None, source, answer);
    }

    /// Marks the servers of a snapshot that are found no more.
    fn mark(&self, snapshot: &Snapshot) {
        let inner = self.0.lock();
        for server in snapshot.backends.iter().flat_map(|b| &b.servers).filter(|s| s.config.origin == Origin::Found) {
            let state = &server.state;
            let gone = inner.known.is_gone(&state.backend, &state.name);
            if state.set_gone(gone) {
                let name = format!("{}/{}", state.backend, state.name);
                match gone {
                    true => {
                        tracing::info!(server = %name, "server is found no more: what is open there stays, nobody comes")
                    }
                    false => tracing::info!(server = %name, "server is found again"),
                }
            }
        }
    }

    /// The names, for people.
    pub(crate) fn status(&self) -> Vec<NameStatus> {
        let inner = self.0.lock();
        let Some(written) = &inner.written else { return Vec::new() };
        let mut rows = Vec::new();
        let mut row = |backend: &lb_core::config::Backend, name: &PeerAddr, servers, left_out| {
            let source = Source { name: name.clone(), resolver: backend.resolver };
            let Some(known) = inner.names.get(&source) else { return };
            rows.push(NameStatus {
                backend: backend.name.clone(),
                name: name.to_string(),
                found: known.found,
                error: known.error.clone(),
                errors: known.errors,
                servers,
                left_out,
            });
        };
        for backend in &written.backends {
            for template in &backend.templates {
                let (found, left_out) = inner.known.counts(&backend.name, &template.name);
                row(backend, &template.addr, found, left_out);
            }
            for server in &backend.servers {
                if let Origin::Named(name) = &server.origin {
                    row(backend, name, 1, 0);
                }
            }
        }
        rows.dedup_by(|a, b| (&a.backend, &a.name) == (&b.backend, &b.name));
        rows
    }
}

impl Inner {
    /// A look-up has ended. `written`: on behalf of a configuration that does not hold yet.
    fn answered(&mut self, written: Option<&Config>, source: Source, answer: Result<Records, String>) {
        let held = self.written.clone();
        let Some(written) = written.or(held.as_deref()) else { return };
        if !sources(written).contains(&source) {
            // A reload took it away meanwhile.
            return;
        }
        let name = self.names.entry(source.clone()).or_default();
        let pause = match answer {
            Ok(Records { all, ttl, missing }) => {
                if name.error.is_some() && missing.is_none() {
                    tracing::info!(name = %source.name, "the name can be looked up again");
                }
                (name.found, name.error) = (true, missing);
                // A part of the answer takes nobody away who may be in the other.
                if name.error.is_none() || !self.known.knows(&source) {
                    self.known.learn(written, &source, all, now());
                }
                ttl.map_or(AGAIN, |ttl| ttl.clamp(TTL.0, TTL.1))
            }
            Err(why) => {
                if name.found || name.errors == 0 {
                    tracing::warn!(name = %source.name, reason = why, "a name of servers cannot be looked up: those it had stay");
                }
                (name.found, name.error) = (false, Some(why));
                name.errors += 1;
                AFTER_FAILURE
            }
        };
        if let Some(name) = self.names.get_mut(&source) {
            name.due = Some(Instant::now() + pause);
        }
    }
}

/// Asks the names as their answers run out, and takes on what changes.
pub(super) async fn run(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for source in control.discovery.due() {
                    asking.spawn(async move {
                        let answer = records(&source.name, source.resolver).await;
                        (source, answer)
                    });
                }
            }
            Some(Ok((source, answer))) = asking.join_next(), if !asking.is_empty() => {
                control.discovery.learn(source, answer);
            }
        }
        control.rediscover().await;
    }
}

impl Control {
    /// Takes on what names stand for by now, as a reload takes on a file; it counts as none.
    async fn rediscover(&self) {
        let _one_at_a_time = self.reloading.lock().await;
        let before = self.snapshot();
        let busy = |backend: &str, server: &str| {
            before.server(backend, server).is_some_and(|s| s.state.in_flight() > 0 || s.state.queued() > 0)
        };
        let Some(config) = self.discovery.effective(busy) else { return };
        if config == *before.config {
            return self.discovery.mark(&before);
        }
        let mut snapshot = Snapshot::build(Arc::new(config), &self.shared.base, Some(&before));
        snapshot.generation = before.generation;
        let snapshot = Arc::new(snapshot);
        tell(&before, &snapshot);
        self.discovery.mark(&snapshot);
        self.shared.snapshot.store(snapshot.clone());
        self.checks.apply(&snapshot);
        self.apply_decisions();
    }
}

/// Logs which servers came and went.
fn tell(before: &Snapshot, after: &Snapshot) {
    let all = |of: &Snapshot| -> HashSet<(String, String)> {
        let name = |s: &lb_core::snapshot::Server| {
            (format!("{}/{}", s.state.backend, s.state.name), s.config.addr.to_string())
        };
        of.backends.iter().flat_map(|b| &b.servers).map(name).collect()
    };
    let (old, new) = (all(before), all(after));
    for (server, addr) in new.difference(&old) {
        tracing::info!(server, addr, "server is found by its name");
    }
    for (server, addr) in old.difference(&new) {
        tracing::info!(server, addr, "server is found there no more");
    }
}
