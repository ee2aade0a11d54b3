//! A running instance: what is started in which order, and how it ends.
//!
//! **Start.** What the last life left on disk ([`state`]) is merged. Then everything that can fail comes before anything that clients can see: sockets of frontends,
//! admin and peers, the access log; then the workers, then their listeners. Clients are served from that moment on: while the
//! tables are not pulled yet, a miss asks the peers ([`Shared::ask`]), and `/readyz` tells others to wait.
//!
//! **Stop.** `/readyz` says no at once, workers drain within a bound, peers get what they have not heard, the
//! state is written, then the rest closes.
//!
//! All control work runs on one `current_thread` runtime; the data plane's threads are the workers'.
use crate::bind::{BindError, Bound, Wanted, bind_all};
use crate::edge::Edges;
use crate::logging::{self, access};
use crate::shared::{AskPeers, Shared, now};
use crate::tls::TlsError;
use crate::tls::tickets::Secret;
use crate::worker::Worker;
use crate::{admin, bind, metrics};
use arc_swap::{ArcSwap, ArcSwapOption};
pub use control::{Control, Listening};
pub use decide::{Change, DecideError};
pub(crate) use discovery::Discovery;
pub use discovery::NameError;
pub use faults::check;
use lb_core::config::Config;
use lb_core::decisions::Decisions;
use lb_core::hlc::Clock;
use lb_core::id::{Names, NodeId};
use lb_core::shares::SharedBounds;
use lb_core::snapshot::{Base, Snapshot};
use lb_peers::Peers;
pub use run::run;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

mod closing;
pub(crate) mod control;
mod decide;
mod discovery;
mod faults;
mod layout;
mod run;
pub mod state;
mod upkeep;
pub(crate) mod view;

/// How far ahead a stamp may lie when no peers are configured (none arrive then).
const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(24 * 3600);
/// How long a leaving instance hands its peers what they have not heard.
const FLUSH: Duration = Duration::from_secs(2);
/// How long workers get to close everything after an abort, and the admin to finish its answers.
const CLOSE: Duration = Duration::from_secs(1);

/// Where the configuration came from, for reloads.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// Name given on the command line; it overrides the file's.
    pub name: Option<String>,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sockets are being opened.
    Starting,
    /// Serves, asks peers for what it does not know; the tables are on their way.
    Pulling,
    /// Send traffic here.
    Ready,
    /// Takes nothing new; waits for what is open.
    Draining,
    /// All is closed.
    Stopped,
}

impl Phase {
    /// As status views write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Pulling => "pulling",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// Why an instance did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A frontend's address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin's address or socket.
    #[error(transparent)]
    Admin(#[from] admin::OpenError),
    /// Replication.
    #[error(transparent)]
    Peers(#[from] lb_peers::StartError),
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
    /// A thread or runtime.
    #[error("cannot start a thread: {0}. Check the limits of processes and memory")]
    Thread(std::io::Error),
    /// A worker thread ended although nobody told it to.
    #[error("a worker thread ended unexpectedly; the instance stopped, so that it can be started anew")]
    WorkerEnded,
}

/// A running instance. Dropping it closes everything at once.
pub struct Instance {
    control: Arc<Control>,
    /// Taken by a graceful end.
    admin: Option<admin::Server>,
    tasks: JoinSet<()>,
}

impl Instance {
    /// Starts an instance on the current runtime. It serves as soon as this returns; [`Self::run`] keeps it until it
    /// is told to stop.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left open then.
    pub async fn start(config: Config, source: ConfigSource) -> Result<Self, StartError> {
        Self::start_with(config, source, |count, shared| {
            (0..count).map(|id| Worker::start(id, shared.clone())).collect::<Result<_, _>>()
        })
        .await
    }

    /// As [`Self::start`], with the threads that `threads` makes: tests of the control side need none.
    async fn start_with(
        config: Config,
        source: ConfigSource,
        threads: impl FnOnce(usize, &Arc<Shared>) -> std::io::Result<Vec<Worker>>,
    ) -> Result<Self, StartError> {
        let recorder = metrics::recorder();
        logging::filter(&config.log.level)?;
        let workers = config.instance.workers.unwrap_or_else(cores).max(1);
        let started = Started { instant: Instant::now(), unix_ms: now().0 };
        // A server with a host name that stands for nothing is told before anything is opened.
        let discovery = Discovery::default();
        discovery.prepare(&config).await?;
        let config = Arc::new(discovery.adopt(config));
        let shared = shared(config.clone(), started.unix_ms, workers);
        let (decisions, local) = (Arc::<Decisions>::default(), Arc::<Decisions>::default());
        let state = Arc::new(state::Store::new(shared.clone(), decisions.clone(), local.clone()));
        // Nobody can be served yet, so that nobody waits for it.
        state.load();
        let tickets = Secret::random()?;
        shared.edges.store(Arc::new(Edges::build(&config, &tickets)?));
        let bound = bind_all(&wanted(&config), workers, &HashSet::new())?;
        for socket in bind::unused() {
            tracing::warn!(
                "{socket} was passed to this process, but no frontend listens there: who connects is not served"
            );
        }
        let sockets = admin::open(&config.admin)?;
        let access_dropped = Arc::default();
        let log = access::open(&config.log, &access_dropped)?;
        let bounds = Arc::new(SharedBounds::default());
        bounds.set(shared.snapshot.load().servers());
        let peers = start_peers(&shared, started.unix_ms, &decisions, &bounds).await?;
        let workers = threads(workers, &shared).map_err(StartError::Thread)?;
        let admin = sockets.local_addr();
        let control = Arc::new(Control::new(control::Parts {
            shared,
            source,
            discovery,
            decisions,
            local,
            state,
            bounds,
            peers,
            workers,
            recorder,
            started,
            access_dropped,
            admin,
            tickets,
        }));
        control.set_access(log);
        Ok(Self::assemble(control, bound, sockets))
    }

    /// From here on nothing fails.
    fn assemble(control: Arc<Control>, bound: Vec<Bound>, sockets: admin::Sockets) -> Self {
        control.certificates.fresh(&control.shared.edges.load());
        control.apply_decisions();
        control.listen(bound);
        control.checks.apply(&control.shared.snapshot.load());
        let admin = Some(admin::serve(sockets, control.clone()));
        let mut tasks = JoinSet::new();
        upkeep::spawn(&control, &mut tasks);
        control.set_phase(if control.peers.read().is_some() { Phase::Pulling } else { Phase::Ready });
        let socket = control.snapshot().config.admin.socket.clone();
        tracing::info!("started\n{}", layout::layout(&control.status(), socket.as_deref()));
        Self { control, admin, tasks }
    }

    /// An instance whose frontends nobody serves, for tests of the control side.
    #[cfg(test)]
    pub(crate) async fn without_workers(config: Config, source: ConfigSource) -> Result<Self, StartError> {
        Self::start_with(config, source, |_, _| Ok(Vec::new())).await
    }

    /// What admin, reload and signals work on.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Keeps the instance until [`Control::stop`], then ends it gracefully.
    ///
    /// # Errors
    /// [`StartError::WorkerEnded`] when a worker ended by itself; the instance is down then, too.
    pub async fn run(mut self) -> Result<(), StartError> {
        let control = self.control.clone();
        let ended = tokio::select! {
            () = control.stop_requested() => Ok(()),
            () = control.worker_ended() => {
                tracing::error!("a worker thread ended unexpectedly: draining the others");
                control.stop(None);
                Err(StartError::WorkerEnded)
            }
        };
        control.drain().await;
        control.abort_workers(CLOSE).await;
        control.checks.stop();
        let peers = control.peers.write().take();
        if let Some(peers) = peers {
            peers.shutdown(FLUSH).await;
        }
        control.finish_access(CLOSE);
        self.tasks.shutdown().await;
        control.save_state().await;
        if let Some(admin) = self.admin.take() {
            admin.shutdown(CLOSE).await;
        }
        control.set_phase(Phase::Stopped);
        tracing::info!("stopped");
        ended
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.control.close();
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The listening addresses a configuration asks for.
pub(crate) fn wanted(config: &Config) -> Vec<Wanted> {
    let of = |f: &Arc<lb_core::config::Frontend>| {
        let wanted = |l: &lb_core::config::Listen| {
            let (frontend, addr, options) = (f.name.clone(), l.addr.clone(), l.socket.clone());
            Wanted { frontend, addr, options }
        };
        f.listen.iter().map(wanted).collect::<Vec<_>>()
    };
    config.frontends.iter().flat_map(of).collect()
}

fn shared(config: Arc<Config>, incarnation: u64, workers: usize) -> Arc<Shared> {
    let node = NodeId::new(&config.instance.name, incarnation);
    let max_ahead = config.peers.as_ref().map_or(MAX_CLOCK_AHEAD, |p| p.max_clock_ahead);
    let clock = Arc::new(Clock::new(node, max_ahead));
    // The seed keeps clients from aiming for collisions; std draws its hash keys from the system.
    let seed = RandomState::new().build_hasher().finish();
    let base = Base::new(Arc::new(Names::default()), clock, seed, workers);
    let snapshot = Snapshot::build(config, &base, None);
    Arc::new(Shared {
        base,
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        edges: Arc::default(),
        draining: AtomicBool::new(false),
        connections: AtomicUsize::new(0),
        websockets: (0..workers).map(|_| Default::default()).collect(),
        queues: Default::default(),
        ask: ArcSwapOption::empty(),
        access: ArcSwapOption::empty(),
    })
}

async fn start_peers(
    shared: &Shared,
    incarnation: u64,
    decisions: &Arc<Decisions>,
    bounds: &Arc<SharedBounds>,
) -> Result<Option<Peers>, StartError> {
    let snapshot = shared.snapshot.load_full();
    let Some(config) = snapshot.config.peers.clone() else { return Ok(None) };
    let settings = lb_peers::Settings {
        node: snapshot.config.instance.name.clone(),
        incarnation,
        config,
        names: shared.base.names.clone(),
        clock: shared.base.clock.clone(),
        decisions: decisions.clone(),
        shared: bounds.clone(),
        time: crate::shared::steady(),
    };
    let peers = Peers::start(settings, control::replicated(&snapshot)).await?;
    let asker = peers.asker();
    let ask = AskPeers(Box::new(move |table, key| {
        let (asker, table, key) = (asker.clone(), table.to_owned(), key.to_vec());
        Box::pin(async move { asker.ask(&table, &key).await })
    }));
    shared.ask.store(Some(Arc::new(ask)));
    Ok(Some(peers))
}

/// Since when, for `uptime`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// On the monotonic clock.
    pub(crate) instant: Instant,
    /// On the wall clock, Unix milliseconds.
    pub(crate) unix_ms: u64,
}

#[cfg(test)]
mod tests;
