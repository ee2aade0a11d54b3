//! Replication of stick tables between instances. The protocol is told here in full (see the module docs).
#![forbid(unsafe_code)]

use driver::{Command, Driver, Shared};
use lb_core::config;
use lb_core::decisions::{Decision, Decisions};
use lb_core::hlc::Clock;
use lb_core::id::Names;
use lb_core::status::PeersStatus;
use lb_core::table::StickTable;
use parking_lot::Mutex;
use replicator::{Input, Replicator, Setup};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use transport::Transport;

mod cursor;
mod driver;
mod io;
mod learner;
mod metrics;
pub mod replicator;
mod session;
mod tables;
mod teacher;
mod tls;
mod transport;
pub mod wire;

/// Events of the streams that wait for the driver.
const EVENTS: usize = 256;

/// What replication works on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Differs in each life of the node.
    pub incarnation: u64,
    /// `[peers]`
    pub config: config::Peers,
    /// Names behind the ids in tables.
    pub names: Arc<Names>,
    /// This node's clock.
    pub clock: Arc<Clock>,
    /// Operators' decisions, shared with the peers.
    pub decisions: Arc<Decisions>,
}

/// Why replication did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listen address cannot be had.
    #[error("peers cannot listen on {addr}: {source}")]
    Listen {
        /// Address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("peers.tls: {0}")]
    Tls(String),
}

/// A running replication. Dropping it ends it.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    changed: Arc<Notify>,
    local_addr: SocketAddr,
    /// Both end when this is dropped: first the streams and the listener, then the driver.
    _streams: DropGuard,
    _server: AbortOnDropHandle<()>,
    driver: AbortOnDropHandle<()>,
}

impl Peers {
    /// Binds, and starts the driver on the current tokio runtime (which may be a `current_thread` one).
    /// `tables` are those with `replicate = true`.
    ///
    /// # Errors
    /// The address can't be had, or a certificate or key can't be used.
    pub async fn start(settings: Settings, tables: Vec<Arc<StickTable>>) -> Result<Self, StartError> {
        let tls = settings.config.tls.as_ref().map(|files| Tls::load(files, &settings.node)).transpose()?;
        let addr = settings.config.listen;
        let listen = |source| StartError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let (changed, heartbeat) = (Arc::new(Notify::new()), settings.config.heartbeat);
        wake_on_change(&changed, &tables);
        let shared = Arc::new(share(settings, local_addr, tables));
        let (events, incoming) = mpsc::channel(EVENTS);
        let (commands, told) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let (tasks, accepted) = (TaskTracker::new(), Arc::default());
        let transport = Transport { events, tls, cancel: cancel.clone(), tasks, accepted };
        let server = tokio::spawn(transport.clone().serve(listener));
        let driver = Driver::new(shared.clone(), transport, incoming, told, (changed.clone(), heartbeat));
        Ok(Self {
            shared,
            commands,
            changed,
            local_addr,
            _streams: cancel.drop_guard(),
            _server: AbortOnDropHandle::new(server),
            driver: AbortOnDropHandle::new(tokio::spawn(driver.run())),
        })
    }

    /// Real listen address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes on the tables and the peer list of a new configuration. The listen address and the certificates stay.
    pub fn reconfigure(&self, config: config::Peers, tables: Vec<Arc<StickTable>>) {
        wake_on_change(&self.changed, &tables);
        self.tell(Input::Configure { config: Box::new(config), tables });
    }

    /// True once the tables were pulled from a peer, or `join_timeout` passed with nobody to pull from.
    pub fn pulled(&self) -> watch::Receiver<bool> {
        self.shared.pulled.subscribe()
    }

    /// Changes whenever a peer's decision was merged into [`Settings::decisions`].
    pub fn decided(&self) -> watch::Receiver<u64> {
        self.shared.decided.subscribe()
    }

    /// Tells the peers a decision that was made here (and already merged here).
    pub fn decide(&self, decision: Decision) {
        self.tell(Input::Decided(Box::new(decision)));
    }

    /// Asks the peers for one key; done when one has answered (its answer is merged by then), or after `ask_timeout`.
    /// Callable from any thread and runtime.
    pub fn asker(&self) -> Asker {
        Asker { commands: self.commands.clone() }
    }

    /// State of every peer.
    pub fn status(&self) -> PeersStatus {
        let now = self.shared.now();
        self.shared.replicator.lock().status(now)
    }

    /// Sends what the peers do not have yet, for at most `within`, and ends.
    pub async fn shutdown(self, within: Duration) {
        self.tell(Input::Stop { within });
        // The driver keeps the time itself; should it not, it is ended.
        let _ = tokio::time::timeout(within + Duration::from_secs(1), self.driver).await;
    }

    fn tell(&self, input: Input) {
        // It fails only when the driver has gone, and then there is nobody left to tell.
        let _ = self.commands.send(Command::Tell(input));
    }
}

fn wake_on_change(changed: &Arc<Notify>, tables: &[Arc<StickTable>]) {
    for table in tables {
        let changed = changed.clone();
        table.on_change(Box::new(move || changed.notify_one()));
    }
}

fn share(settings: Settings, listen: SocketAddr, tables: Vec<Arc<StickTable>>) -> Shared {
    let started = Instant::now();
    let seed = settings.incarnation ^ lb_core::hash::stable(settings.node.as_bytes());
    let replicator = Replicator::new(Setup { settings, listen, seed }, tables, driver::now(started));
    let pulled = watch::Sender::new(replicator.is_pulled());
    Shared { replicator: Mutex::new(replicator), started, pulled, decided: watch::Sender::new(0) }
}

/// Asks peers for single keys.
#[derive(Clone, Debug)]
pub struct Asker {
    commands: mpsc::UnboundedSender<Command>,
}

impl Asker {
    /// See [`Peers::asker`].
    pub async fn ask(&self, table: &str, key: &[u8]) {
        let (done, answered) = oneshot::channel();
        let ask = Command::Ask { table: table.to_owned(), key: key.to_vec(), done };
        if self.commands.send(ask).is_ok() {
            // An error: the replication has ended, and there is nobody to ask.
            let _ = answered.await;
        }
    }
}
