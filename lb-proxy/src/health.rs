//! Health: which servers answer. Active checks, a task a server ([`Checks`]), what their agents say, and what the data
//! plane's failed connects say ([`passive`]). Results go into [`ServerState`], where balancing reads them.
//!
//! It knows servers and their state; not listeners, not peers: each instance judges health for itself.
use crate::edge::Edges;
use agent::Agents;
pub use agent::Heard;
use arc_swap::ArcSwap;
use lb_core::health::RiseFall;
use lb_core::server::{Health, ServerState};
use lb_core::snapshot::Snapshot;
use parking_lot::Mutex;
use schedule::{Schedule, Spec};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

mod agent;
pub mod outlier;
pub mod passive;
pub mod probe;
mod schedule;
pub mod standing;

/// All running checks of an instance. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Checks {
    running: Mutex<HashMap<u32, Running>>,
    reasons: Arc<Reasons>,
    agents: Agents,
    /// How checks over TLS begin.
    edges: Arc<ArcSwap<Edges>>,
}

/// Why servers are down, by [`ServerState::uid`], and that something about them has changed.
#[derive(Debug, Default)]
struct Reasons {
    why: Mutex<HashMap<u32, String>>,
    changed: Notify,
}

#[derive(Debug)]
struct Running {
    spec: Spec,
    nudge: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    /// None yet; `edges` is what connections to servers begin by.
    pub fn new(edges: Arc<ArcSwap<Edges>>) -> Self {
        Self { edges, ..Self::default() }
    }

    /// Runs the checks of a configuration on the current runtime: starts what is new, ends what is gone, leaves
    /// alone what has not changed.
    pub fn apply(&self, snapshot: &Snapshot) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for backend in &snapshot.backends {
            for server in &backend.servers {
                let Some(check) = &server.config.check else { continue };
                let spec = Spec {
                    check: check.clone(),
                    timeout: backend.config.timeout.check,
                    addr: check.place(&server.config.addr),
                    host: server.config.host.clone(),
                    proto: backend.config.proto,
                };
                let uid = server.state.uid;
                let task = match before.remove(&uid) {
                    Some(old) if old.spec == spec => old,
                    // A server that was checked already is not new: one failure does not take it out.
                    old => self.start(spec, server.state.clone(), old.is_some()),
                };
                running.insert(uid, task);
            }
        }
        drop(running);
        self.reasons.keep(snapshot);
        self.agents.apply(snapshot, &self.reasons);
    }

    /// Ends all checks.
    pub fn stop(&self) {
        self.running.lock().clear();
        self.agents.stop();
    }

    /// Checks a server at once, because something suggests that its health changed.
    pub fn nudge(&self, uid: u32) {
        if let Some(running) = self.running.lock().get(&uid) {
            running.nudge.notify_one();
        }
    }

    /// Why the server is down: the last failed check.
    pub fn reason(&self, server: &ServerState) -> Option<String> {
        (server.checked() == Health::Down).then(|| self.reasons.why.lock().get(&server.uid).cloned()).flatten()
    }

    /// What was last heard of the server's agent.
    pub fn heard(&self, server: &ServerState) -> Option<Heard> {
        self.agents.heard(server.uid)
    }

    /// Waits until a server's health, or what its agent says, has changed.
    pub async fn changed(&self) {
        self.reasons.changed.notified().await;
    }

    fn is_checked(&self, uid: u32) -> bool {
        self.running.lock().contains_key(&uid)
    }

    fn start(&self, spec: Spec, server: Arc<ServerState>, known: bool) -> Running {
        let nudge = Arc::new(Notify::new());
        let schedule = Schedule {
            health: RiseFall::new(server.checked(), spec.check.rise, spec.check.fall),
            known,
            reasons: self.reasons.clone(),
            edges: self.edges.clone(),
            spec: spec.clone(),
            server,
        };
        let task = tokio::spawn(schedule.run(nudge.clone())).abort_handle();
        Running { spec, nudge, task }
    }
}

impl Reasons {
    /// Sets health, keeps the reason, tells the log. The one place where a server's health changes.
    fn change(&self, server: &ServerState, health: Health, reason: &str) {
        server.set_health(health, crate::shared::now().0);
        let name = format!("{}/{}", server.backend, server.name);
        match health {
            Health::Up => {
                self.why.lock().remove(&server.uid);
                tracing::info!(server = %name, reason, "server is up");
            }
            Health::Down => {
                self.why.lock().insert(server.uid, reason.to_owned());
                tracing::warn!(server = %name, reason, "server is down");
            }
        }
        self.changed.notify_one();
    }

    /// Forgets servers that the configuration no longer has.
    fn keep(&self, snapshot: &Snapshot) {
        let uids: std::collections::HashSet<u32> =
            snapshot.backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        self.why.lock().retain(|uid, _| uids.contains(uid));
    }
}

/// Within ±10 %, so that instances and servers do not fall into step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random_unit())
}

/// A number in [0, 1) for spreading things; std's hash seeds are random enough for that.
fn random_unit() -> f64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u8(0);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
