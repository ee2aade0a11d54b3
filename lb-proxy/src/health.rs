//! Health: which servers answer. Active checks, a task a server ([`Checks`]), and what the data plane's failed
//! connects say ([`passive`]). Results go into [`ServerState`], where balancing reads them.
//!
//! It knows servers and their state; not listeners, not peers: each instance judges health for itself.
use lb_core::config;
use lb_core::health::RiseFall;
use lb_core::server::{AdminState, Health, ServerState};
use lb_core::snapshot::Snapshot;
use parking_lot::Mutex;
use probe::Failed;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub mod passive;
pub mod probe;

/// The first check comes within this time of the start, the interval permitting: nobody wants to send clients to a
/// dead server for long, nor ask a hundred servers in one instant.
const FIRST_WITHIN: Duration = Duration::from_millis(200);

/// All running checks of an instance. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Checks {
    running: Mutex<HashMap<u32, Running>>,
    reasons: Arc<Reasons>,
}

/// Why servers are down, by [`ServerState::uid`].
#[derive(Debug, Default)]
struct Reasons(Mutex<HashMap<u32, String>>);

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

/// What one task checks; when it changes, the task starts anew.
#[derive(Clone, Debug, PartialEq)]
struct Spec {
    check: config::Check,
    timeout: Duration,
    addr: SocketAddr,
}

impl Checks {
    /// Runs the checks of a configuration on the current runtime: starts what is new, ends what is gone, leaves
    /// alone what has not changed.
    pub fn apply(&self, snapshot: &Snapshot) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for backend in &snapshot.backends {
            let Some(check) = &backend.config.check else { continue };
            for server in &backend.servers {
                let addr = server.config.addr;
                let spec = Spec { check: check.clone(), timeout: backend.config.timeout.check, addr };
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
    }

    /// Ends all checks.
    pub fn stop(&self) {
        self.running.lock().clear();
    }

    /// Checks a server at once, because something suggests that its health changed.
    pub fn nudge(&self, uid: u32) {
        if let Some(running) = self.running.lock().get(&uid) {
            running.nudge.notify_one();
        }
    }

    /// Why the server is down: the last failed check.
    pub fn reason(&self, server: &ServerState) -> Option<String> {
        (server.health() == Health::Down).then(|| self.reasons.0.lock().get(&server.uid).cloned()).flatten()
    }

    fn is_checked(&self, uid: u32) -> bool {
        self.running.lock().contains_key(&uid)
    }

    fn start(&self, spec: Spec, server: Arc<ServerState>, known: bool) -> Running {
        let nudge = Arc::new(Notify::new());
        let schedule = Schedule {
            health: RiseFall::new(server.health(), spec.check.rise, spec.check.fall),
            known,
            reasons: self.reasons.clone(),
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
                self.0.lock().remove(&server.uid);
                tracing::info!(server = %name, reason, "server is up");
            }
            Health::Down => {
                self.0.lock().insert(server.uid, reason.to_owned());
                tracing::warn!(server = %name, reason, "server is down");
            }
        }
    }

    /// Forgets servers that the configuration no longer has.
    fn keep(&self, snapshot: &Snapshot) {
        let uids: std::collections::HashSet<u32> =
            snapshot.backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        self.0.lock().retain(|uid, _| uids.contains(uid));
    }
}

/// The checks of one server, one after the other.
struct Schedule {
    spec: Spec,
    server: Arc<ServerState>,
    health: RiseFall,
    /// Whether it ever passed (or was checked before a reload). A server that is new counts as up so that a start
    /// needs no waiting, but its first failure takes it out, as HAProxy does.
    known: bool,
    reasons: Arc<Reasons>,
}

impl Schedule {
    async fn run(mut self, nudge: Arc<Notify>) {
        let interval = self.spec.check.interval;
        let first = interval.min(FIRST_WITHIN).mul_f64(random_unit());
        tokio::select! { () = tokio::time::sleep(first) => {}, () = nudge.notified() => {} }
        loop {
            if self.server.admin() != AdminState::Maint {
                self.check().await;
            }
            tokio::select! { () = tokio::time::sleep(jittered(interval)) => {}, () = nudge.notified() => {} }
        }
    }

    async fn check(&mut self) {
        let result = probe::probe(&self.spec.check.probe, self.spec.addr, self.spec.timeout).await;
        // An operator may have taken it out while the probe was on its way.
        if self.server.admin() == AdminState::Maint {
            return;
        }
        match result {
            Ok(()) => self.observe(true, "check passed"),
            Err(Failed::Server(why)) => self.observe(false, &why),
            Err(Failed::Local(why)) => {
                let name = format!("{}/{}", self.server.backend, self.server.name);
                tracing::warn!(server = %name, reason = why, "a check could not be made; the server's state stays");
            }
        }
    }

    fn observe(&mut self, passed: bool, reason: &str) {
        let known = std::mem::replace(&mut self.known, true);
        if !known && !passed && self.health.health() == Health::Up {
            self.health = RiseFall::new(Health::Down, self.spec.check.rise, self.spec.check.fall);
            return self.reasons.change(&self.server, Health::Down, reason);
        }
        match self.health.observe(passed) {
            Some(health) => self.reasons.change(&self.server, health, reason),
            // A newer reason for the same state.
            None if !passed && self.health.health() == Health::Down => {
                self.reasons.0.lock().insert(self.server.uid, reason.to_owned());
            }
            // The data plane's failures in a row asked for a check, and it passed.
            None if passed && self.health.health() == Health::Up => self.server.connected(),
            None => {}
        }
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
