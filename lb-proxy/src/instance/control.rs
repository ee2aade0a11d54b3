//! What every part of the control side works on: one for each instance, shared by signals, admin, reload and upkeep.
use super::state::Store;
use super::{ConfigSource, Discovery, Phase, Started};
use crate::bind::{Bound, Wanted};
use crate::health::Checks;
use crate::logging::access;
use crate::metrics::{self, Process};
use crate::shared::{AccessSink, Shared};
use crate::tls::tickets::Secret;
use crate::tls::watch::Watch;
use crate::worker::{Close, Command, Worker};
use lb_core::config::ListenAddr;
use lb_core::decisions::Decisions;
use lb_core::shares::SharedBounds;
use lb_core::snapshot::Snapshot;
use lb_core::table::StickTable;
use lb_peers::Peers;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::{Mutex, RwLock};
use sd_notify::NotifyState;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often workers that should end are asked whether they have.
const ENDED_POLL: Duration = Duration::from_millis(10);
/// How often workers that should not end are asked.
const ALIVE_POLL: Duration = Duration::from_millis(500);

/// The control side of a running instance.
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: ConfigSource,
    /// Taken out when the instance leaves. The lock is never held across an await.
    pub(crate) peers: RwLock<Option<Peers>>,
    pub(crate) checks: Checks,
    /// Servers that are found by name.
    pub(crate) discovery: Discovery,
    /// What operators decided for all instances.
    pub(super) decisions: Arc<Decisions>,
    /// What they decided for this one only.
    pub(super) local: Arc<Decisions>,
    pub(super) state: Arc<Store>,
    /// Servers whose bound all instances share.
    pub(crate) bounds: Arc<SharedBounds>,
    /// Told when sockets may have to be closed, or no longer.
    pub(super) closing: Notify,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    pub(crate) counts: Counts,
    pub(super) started: Started,
    recorder: PrometheusHandle,
    workers: Vec<Worker>,
    listening: Mutex<Vec<Listening>>,
    phase: watch::Sender<Phase>,
    /// When a drain ends at the latest; `None` until somebody asks for a stop.
    stop: watch::Sender<Option<Instant>>,
    access: Mutex<Option<access::Writer>>,
    admin: Option<SocketAddr>,
    /// Seals sessions where no file with a secret is named.
    pub(crate) tickets: Secret,
    pub(crate) certificates: Watch,
}

/// What the control side counts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reloads_ok: AtomicU64,
    pub(crate) reloads_refused: AtomicU64,
    /// Shared with the access log's writer.
    pub(crate) access_dropped: Arc<AtomicU64>,
}

/// An address that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Frontend, and the address as configured.
    pub wanted: Wanted,
    /// The address with its real port.
    pub real: ListenAddr,
}

/// What a [`Control`] is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) source: ConfigSource,
    pub(super) discovery: Discovery,
    pub(super) decisions: Arc<Decisions>,
    pub(super) local: Arc<Decisions>,
    pub(super) state: Arc<Store>,
    pub(super) bounds: Arc<SharedBounds>,
    pub(super) peers: Option<Peers>,
    pub(super) workers: Vec<Worker>,
    pub(super) recorder: PrometheusHandle,
    pub(super) started: Started,
    pub(super) access_dropped: Arc<AtomicU64>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) tickets: Secret,
}

impl Control {
    pub(super) fn new(parts: Parts) -> Self {
        let checks = Checks::new(parts.shared.edges.clone());
        Self {
            shared: parts.shared,
            source: parts.source,
            peers: RwLock::new(parts.peers),
            checks,
            discovery: parts.discovery,
            decisions: parts.decisions,
            local: parts.local,
            state: parts.state,
            bounds: parts.bounds,
            closing: Notify::new(),
            reloading: tokio::sync::Mutex::default(),
            counts: Counts { access_dropped: parts.access_dropped, ..Counts::default() },
            started: parts.started,
            recorder: parts.recorder,
            workers: parts.workers,
            listening: Mutex::default(),
            phase: watch::Sender::new(Phase::Starting),
            stop: watch::Sender::new(None),
            access: Mutex::default(),
            admin: parts.admin,
            tickets: parts.tickets,
            certificates: Watch::default(),
        }
    }

    /// The configuration that holds.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Where the instance is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The same, to wait on.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Addresses that are served, with their real ports.
    pub fn listening(&self) -> Vec<Listening> {
        self.listening.lock().clone()
    }

    /// The admin's TCP address, with its real port.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The peers' listen address, with its real port.
    pub fn peers_addr(&self) -> Option<SocketAddr> {
        self.peers.read().as_ref().map(Peers::local_addr)
    }

    /// The answer to a scrape of `/metrics`.
    pub fn scrape(&self) -> String {
        let process = Process {
            started: self.started.unix_ms as f64 / 1000.0,
            ready: self.phase() == Phase::Ready,
            reloads_ok: self.counts.reloads_ok.load(Relaxed),
            reloads_refused: self.counts.reloads_refused.load(Relaxed),
            access_dropped: self.counts.access_dropped.load(Relaxed),
            state: self.state.figures(),
        };
        let replication = self.peers_status();
        let names = self.discovery.status();
        let snapshot = self.shared.snapshot.load();
        let mut out = metrics::render(&snapshot, process, replication.as_ref(), &names, &self.recorder);
        out.push_str(&metrics::tls(&snapshot, &self.shared.edges.load(), self.certificates.health()));
        out
    }

    /// Lets the recorder tidy up what was recorded since the last time.
    pub(super) fn recorder_upkeep(&self) {
        self.recorder.run_upkeep();
    }

    /// Leaves: `/readyz` says no from now on, and what is open gets this long to end (`None`: `instance.drain`). A
    /// second call sets a new bound.
    pub fn stop(&self, within: Option<Duration>) {
        let within = within.unwrap_or_else(|| self.shared.snapshot.load().config.instance.drain);
        self.shared.draining.store(true, Relaxed);
        self.set_phase(Phase::Draining);
        // A bound past the end of time is no bound: a year will do.
        let deadline = Instant::now().checked_add(within.min(Duration::from_secs(365 * 24 * 3600)));
        self.stop.send_replace(deadline.or_else(|| Some(Instant::now())));
        self.closing.notify_one();
    }

    /// When a drain ends at the latest; `None`: nobody asked for a stop.
    pub(super) fn stops_at(&self) -> Option<Instant> {
        *self.stop.borrow()
    }

    /// Tells a worker's sockets to end.
    pub(super) fn close_sockets(&self, worker: usize, close: Close) {
        if let Some(worker) = self.workers.get(worker) {
            worker.tell(Command::Close(close));
        }
    }

    /// Leaves at once.
    pub fn stop_now(&self) {
        self.stop(Some(Duration::ZERO));
    }

    pub(super) async fn stop_requested(&self) {
        // It fails only when the sender is gone, and `self` holds it.
        self.stop.subscribe().wait_for(Option::is_some).await.ok();
    }

    /// Life only goes forward: a pull that ends during a drain makes nobody ready.
    pub(super) fn set_phase(&self, next: Phase) {
        let moved = self.phase.send_if_modified(|phase| {
            let forward = next > *phase;
            if forward {
                *phase = next;
            }
            forward
        });
        match next {
            Phase::Ready if moved => tell_systemd(&[NotifyState::Ready]),
            Phase::Draining if moved => tell_systemd(&[NotifyState::Stopping]),
            _ => {}
        }
    }

    /// Lets the workers accept on these sockets.
    pub(crate) fn listen(&self, bound: Vec<Bound>) {
        for Bound { wanted, real, sockets } in bound {
            for (worker, listener) in self.workers.iter().zip(sockets) {
                worker.tell(Command::Listen { wanted: wanted.clone(), listener });
            }
            self.listening.lock().push(Listening { wanted, real });
        }
    }

    /// Closes requests and tunnels on a server that went down, where its backend says so.
    pub(super) fn close_on(&self, server: u32) {
        self.workers.iter().for_each(|w| w.tell(Command::CloseOn { server }));
    }

    /// Closes the sockets of these listeners.
    pub(crate) fn unlisten(&self, gone: &HashSet<Wanted>) {
        for wanted in gone {
            for worker in &self.workers {
                worker.tell(Command::Unlisten { wanted: wanted.clone() });
            }
        }
        self.listening.lock().retain(|l| !gone.contains(&l.wanted));
    }

    /// Waits until all workers have ended, or the bound given to [`Self::stop`] has passed.
    pub(super) async fn drain(&self) {
        self.workers.iter().for_each(|w| w.tell(Command::Drain));
        let mut requests = self.stop.subscribe();
        loop {
            let deadline = requests.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                () = self.workers_ended() => return,
                () = tokio::time::sleep_until(deadline.into()) => return,
                _ = requests.changed() => {}
            }
        }
    }

    pub(super) async fn abort_workers(&self, within: Duration) {
        let open = self.shared.connections.load(Relaxed);
        if self.workers.iter().any(|w| !w.ended()) {
            tracing::warn!(connections = open, "closing what is still open");
        }
        self.workers.iter().for_each(|w| w.tell(Command::Abort));
        tokio::time::timeout(within, self.workers_ended()).await.ok();
    }

    async fn workers_ended(&self) {
        while !self.workers.iter().all(Worker::ended) {
            tokio::time::sleep(ENDED_POLL).await;
        }
    }

    /// Waits until a worker ends although nobody told it to.
    pub(super) async fn worker_ended(&self) {
        while !self.workers.iter().any(Worker::ended) {
            tokio::time::sleep(ALIVE_POLL).await;
        }
    }

    /// Sends access log lines there from now on; the former writer ends when it has written what it has.
    pub(crate) fn set_access(&self, log: Option<(AccessSink, access::Writer)>) {
        let (sink, writer) = log.unzip();
        self.shared.access.store(sink.map(Arc::new));
        *self.access.lock() = writer;
    }

    pub(super) fn finish_access(&self, within: Duration) {
        self.shared.access.store(None);
        let writer = self.access.lock().take();
        if let Some(writer) = writer {
            writer.finish(within);
        }
    }

    /// Writes tables and decisions to disk, where the configuration says so.
    pub(super) async fn save_state(&self) {
        let state = self.state.clone();
        // An error: the runtime ends, and with it the instance.
        tokio::task::spawn_blocking(move || state.save()).await.ok();
    }

    /// Closes everything without waiting. For an instance that is dropped; harmless after a graceful end.
    pub(super) fn close(&self) {
        self.shared.draining.store(true, Relaxed);
        self.set_phase(Phase::Draining);
        self.workers.iter().for_each(|w| w.tell(Command::Abort));
        self.checks.stop();
        self.peers.write().take();
        self.shared.ask.store(None);
    }
}

/// The tables that peers get.
pub(crate) fn replicated(snapshot: &Snapshot) -> Vec<Arc<StickTable>> {
    let of_config = snapshot.config.tables.iter().filter(|spec| spec.replicate);
    of_config.filter_map(|spec| snapshot.tables.get(&spec.name).cloned()).collect()
}

/// Tells the service manager, where there is one.
pub(crate) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!(error = %e, "systemd was not told");
    }
}
