//! Replication of stick tables between instances.
//!
//! Every instance keeps one stream with every other (a full mesh), tells what changed in its tables, and merges what
//! it is told. Merging is a join (`lb_core::table`), so that frames may come twice, late or in another order: that
//! costs time, never correctness. `proto/lb/peers/v1/peers.proto` has the frames, `proto/README.md` the rules by which
//! they may change.
//!
//! # One link, from its beginning
//!
//! ```text
//!   dialler                                     acceptor
//!      | ---- TCP, TLS, gRPC Peers.Sync ----------> |
//!      | ---- Hello ------------------------------> |   both at once: cluster, node, incarnation, tables,
//!      | <--------------------------------- Hello - |   "my tables are whole"
//!      | <---- Decisions, Batch 1, Batch 2 .. ----> |   what the other has not acknowledged, then what changes
//!      | <---- Ack 1, Ack 2 .. -------------------> |   cursors move
//!      | ---- PullRequest ------------------------> |   a starting instance; updates flow meanwhile
//!      | <------------ PullBatch x n, PullDone ---- |   8 outstanding; Counts among them
//!      | <---- Counts, CountsAck -----------------> |   ten times a second at most
//!      | <---- Digest ----------------------------> |   both whole: what differs is pulled by buckets
//!      | ---- Root ------------------------------> |   every anti_entropy: one hash of a table
//!      | <------------------------------ Compared - |   equal; or a digest, and what differs for good is pulled
//!      | <---- Loads -----------------------------> |   requests on servers with a shared bound, when they change
//!      | <---- Ping, Pong ------------------------> |   every heartbeat; three silent ones: the link is dead
//! ```
//!
//! **One stream, both ways**, rather than one for each direction: half the links, one place where "the peer is up" is
//! decided, and it works where only one side can dial (a list on one side only, NAT). The price is a rule for the case
//! that both dial at once. Of two streams that different sides dialled, the one stays that was dialled by the node with
//! the smaller name; of two that one side dialled, the newer; and a stream of a peer's former life always goes. Both
//! ends decide alike, without a word.
//!
//! # What is sent
//!
//! - A peer is a **cursor** in each shard's change log, never a queue: an entry that changes ten times while the peer is
//!   slow is sent once, and a slow or absent peer costs no memory. At most 64 batches of at most 512 entries (64 KiB)
//!   are out. While one is out, changes gather for a millisecond or until it is acknowledged; the first of a quiet time
//!   goes at once.
//! - Only what was changed *here* is in the change log: its author tells everybody. What a peer misses by that (its
//!   author died halfway) the **digests** find: they are compared when a link comes up, when the pull is over, and among
//!   the survivors one heartbeat after a peer is lost. Buckets that differ are pulled.
//! - Whatever else is missed, **periodic comparison** finds (`compare`): a root every `anti_entropy`, digests where it
//!   differs, pulls of what still differs by the same a second later, an eighth of the buckets at most. So "in sync" is
//!   something that is known, and shown. `verify` lists what differs, and names it, when somebody asks.
//! - A stream that broke **goes on at the acknowledged cursors** if the peer comes back in the same life. In a new life
//!   it pulls everything, and its cursors start at the newest change as of its Hello, before any scan of the pull, or
//!   at what another peer, whom it may pull from, has not acknowledged: nothing falls between.
//! - **A starting instance pulls** its tables from all peers whose own are whole, an equal share of the digest's buckets
//!   from each at the same time; the share of one that dies goes to another. It waits 50 ms for further peers to come up,
//!   if it may expect any. If all who are there are as new as itself, it takes what each of them has and begins. Alone it begins as
//!   soon as every address of the list is its own or has refused a connection twice, and after `join_timeout` in any
//!   case. Until then a miss may **ask** for its key ([`Asker`]).
//! - **Open sockets** hold their entry alive by a lease for each node, which travels with the entry, is renewed three
//!   times in its length by the node whose sockets they are, and slides the entry's life each time
//!   (`lb_core::table::StickTable::hold`).
//! - **Counters** have a slot for each node, of which only its node tells; readers add up. They change all the time, so
//!   they are read 100 ms apart: a key costs ten messages a second at most, however often it is counted, and each peer
//!   has cursors of its own. A peer in a new life gets every slot of ours again, and with its pull those of all others.
//!   What a node could not tell all of us (it died halfway, or two of three have no link) the others pass on, a piece
//!   with each heartbeat. Peers that speak protocol 1 get no counters.
//! - **Operators' decisions** go to everybody when they are made, and all of them at each link-up; those that are news
//!   are passed on.
//!
//! # Who is refused, and how it shows
//!
//! Another cluster name, a doubled node name, names with one short hash, a table of one name and two types, a
//! certificate that does not name the node, a foreign CA, another protocol, garbage: the link ends, both sides show the
//! same words in their status (`refused`), the log has them once, and the address is tried again every five seconds.
//! Garbage costs the link it came on, nothing else. Stamps from too far ahead are refused one by one, and counted.
//!
//! # The code
//!
//! [`replicator`] decides everything for the node, `session`, `teacher`, `learner` and `tally` (counters) for one link: no
//! sockets, no clock, no tokio; `tests/sim.rs` drives them through thousands of faults. `driver` is the only place that
//! waits for them, `transport` the only one that knows gRPC, `wire` the only one that knows the generated types, `names`
//! the only one that asks DNS, `certs` the only one that looks after certificates.
#![forbid(unsafe_code)]

use certs::Certs;
use driver::{Command, Driver, Shared};
use lb_core::config;
use lb_core::decisions::{Decision, Decisions};
use lb_core::hlc::Clock;
use lb_core::id::Names;
use lb_core::shares::SharedBounds;
use lb_core::status::PeersStatus;
use lb_core::table::StickTable;
use lb_core::time::Steady;
use parking_lot::Mutex;
use replicator::{Input, Replicator, Setup};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use transport::{TcpListener, Transport};

mod certs;
mod compare;
mod cursor;
mod driver;
mod io;
mod learner;
pub mod names;
pub mod replicator;
mod session;
mod tables;
mod tally;
mod teacher;
mod tls;
mod transport;
mod verify;
pub mod wire;

pub use verify::{Unknown, Verifier};

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
    /// Servers with a bound for the whole cluster; their allowances are set here.
    pub shared: Arc<SharedBounds>,
    /// The time that the tables go by.
    pub time: Steady,
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

/// Reads the files of a node's certificate, as a start would.
///
/// # Errors
/// They cannot be used.
pub fn check(files: &config::PeerTls, node: &str) -> Result<(), StartError> {
    tls::Tls::load(files, node).map(drop)
}

/// A running replication. Dropping it ends it.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    changed: Arc<Notify>,
    local_addr: SocketAddr,
    certs: Arc<Certs>,
    _watch: AbortOnDropHandle<()>,
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
        let certs = Arc::new(Certs::load(settings.config.tls.clone(), &settings.node)?);
        let addr = settings.config.listen;
        let listen = |source| StartError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let changed = Arc::new(Notify::new());
        wake_on_change(&changed, &tables);
        let shared = Arc::new(share(settings, local_addr, tables));
        let (events, incoming) = mpsc::channel(EVENTS);
        let (commands, told) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let (tasks, accepted) = (TaskTracker::new(), Arc::default());
        let transport = Transport { events, certs: certs.clone(), cancel: cancel.clone(), tasks, accepted };
        let server = tokio::spawn(transport.clone().serve(listener));
        let driver = Driver::new(shared.clone(), transport, incoming, told, changed.clone());
        Ok(Self {
            shared,
            commands,
            changed,
            local_addr,
            _watch: AbortOnDropHandle::new(tokio::spawn(certs.clone().watch())),
            certs,
            _streams: cancel.drop_guard(),
            _server: AbortOnDropHandle::new(server),
            driver: AbortOnDropHandle::new(tokio::spawn(driver.run())),
        })
    }

    /// Real listen address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes on the tables and the peer list of a new configuration, and reads the certificates anew (they are read anew
    /// by themselves when their files change, too): links that come up from now on use them. Certificates that can't be
    /// used are logged, and the old ones stay. So does the listen address.
    pub fn reconfigure(&self, config: config::Peers, tables: Vec<Arc<StickTable>>) {
        self.certs.configure(config.tls.clone());
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

    /// Changes whenever this node may have more requests on a server of [`Settings::shared`] than a moment ago.
    pub fn allowed(&self) -> watch::Receiver<u64> {
        self.shared.allowed.subscribe()
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

    /// Holds the tables against the peers'. It may take seconds, and need not be held on to meanwhile.
    pub fn verifier(&self) -> Verifier {
        Verifier { commands: self.commands.clone(), shared: self.shared.clone() }
    }

    /// State of every peer.
    pub fn status(&self) -> PeersStatus {
        let now = self.shared.now();
        let status = self.shared.replicator.lock().status(now);
        PeersStatus { tls: self.certs.status(), ..status }
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
    let time = settings.time;
    let seed = settings.incarnation ^ lb_core::hash::stable(settings.node.as_bytes());
    let replicator = Replicator::new(Setup { settings, listen, seed }, tables, driver::now(&time));
    let pulled = watch::Sender::new(replicator.is_pulled());
    Shared {
        replicator: Mutex::new(replicator),
        time,
        pulled,
        decided: watch::Sender::new(0),
        allowed: watch::Sender::new(0),
    }
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
