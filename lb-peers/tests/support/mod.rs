//! Real nodes on loopback.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod stranger;

use lb_core::config::{self, KeyKind, PeerAddr};
use lb_core::decisions::Decisions;
use lb_core::hlc::Clock;
use lb_core::id::{NameId, Names, NodeId};
use lb_core::status::PeerStatus;
use lb_core::table::{StickKey, StickTable};
use lb_core::time::{Steady, Timestamp};
use lb_peers::{Peers, Settings};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An address for a node that starts later.
pub(crate) fn kept_port() -> SocketAddr {
    std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap()
}

pub(crate) fn spec(name: &str, kind: KeyKind, len: usize) -> Arc<config::Table> {
    Arc::new(config::Table { len, expire: Duration::from_secs(600), ..config::Table::new(name, kind) })
}

/// As [`spec`], with counters.
pub(crate) fn counting(store: &[&str]) -> Arc<config::Table> {
    let store = store.iter().map(|name| name.parse().unwrap()).collect();
    Arc::new(config::Table { store, ..config::Table::clone(&spec("sessions", KeyKind::String, 64)) })
}

pub(crate) fn settings(name: &str, join: &[SocketAddr]) -> Settings {
    static LIVES: AtomicU64 = AtomicU64::new(1);
    let incarnation = LIVES.fetch_add(1, Ordering::Relaxed);
    let config = config::Peers {
        cluster: "shop".into(),
        listen: any_port(),
        join: join.iter().copied().map(PeerAddr::Socket).collect(),
        resolver: None,
        tls: None,
        join_timeout: Duration::from_secs(10),
        ask_timeout: Duration::from_secs(5),
        heartbeat: Duration::from_millis(250),
        anti_entropy: Duration::from_secs(10),
        max_clock_ahead: Duration::from_secs(86_400),
    };
    Settings {
        node: name.into(),
        incarnation,
        names: Arc::default(),
        clock: Arc::new(Clock::new(NodeId::new(name, incarnation), config.max_clock_ahead)),
        decisions: Arc::new(Decisions::default()),
        shared: Arc::default(),
        time: Steady::new(Instant::now(), now()),
        config,
    }
}

/// A node with one table, `sessions`.
pub(crate) struct Node {
    pub(crate) peers: Peers,
    pub(crate) table: Arc<StickTable>,
    pub(crate) names: Arc<Names>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) settings: Settings,
}

impl Node {
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::with_table(settings, spec("sessions", KeyKind::String, 64)).await
    }

    pub(crate) async fn with_table(settings: Settings, spec: Arc<config::Table>) -> Self {
        let table = Arc::new(StickTable::new(spec, settings.names.clone(), settings.clock.clone(), 7));
        let peers = Peers::start(settings.clone(), vec![table.clone()]).await.expect("starts");
        let (names, decisions) = (settings.names.clone(), settings.decisions.clone());
        Self { peers, table, names, decisions, settings }
    }

    /// A node that joins others.
    pub(crate) async fn joining(name: &str, others: &[&Node]) -> Self {
        Self::start(settings(name, &others.iter().map(|n| n.addr()).collect::<Vec<_>>())).await
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.peers.local_addr()
    }

    pub(crate) fn pin(&self, key: &str, server: &str) {
        self.table.store(&self.key(key), self.names.intern(server), now());
    }

    pub(crate) fn clear(&self, key: &str) {
        self.table.clear(&self.key(key), now());
    }

    pub(crate) fn key(&self, key: &str) -> StickKey {
        StickKey::parse(self.table.kind(), self.table.key_len(), key).unwrap()
    }

    pub(crate) fn server_of(&self, key: &str) -> Option<String> {
        let pin = self.table.peek(&self.key(key), now())?;
        assert_ne!(pin.server, NameId::NONE);
        Some(self.names.name(pin.server).to_string())
    }

    /// Life left of a pin that is here.
    pub(crate) fn left(&self, key: &str) -> Duration {
        self.table.peek(&self.key(key), now()).unwrap().left
    }

    pub(crate) fn peer(&self, name: &str) -> Option<PeerStatus> {
        self.peers.status().peers.into_iter().find(|p| p.name == name)
    }

    pub(crate) fn is_up(&self, name: &str) -> bool {
        self.peer(name).is_some_and(|p| p.state == "up")
    }

    /// The error of a peer that is refused.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.peers.status().peers.into_iter().find(|p| p.state == "refused")?.error
    }

    /// The reason of that, in a word, as metrics have it.
    pub(crate) fn reason(&self) -> Option<String> {
        self.peers.status().peers.into_iter().find(|p| p.state == "refused")?.reason
    }

    pub(crate) async fn pulled(&self) {
        let mut pulled = self.peers.pulled();
        tokio::time::timeout(PATIENCE, pulled.wait_for(|p| *p)).await.expect("pulls").unwrap();
    }

    /// Waits until a pin is here.
    pub(crate) async fn has(&self, key: &str, server: &str) {
        eventually(&format!("{} has {key}", self.settings.node), || self.server_of(key).as_deref() == Some(server))
            .await;
    }

    pub(crate) async fn sees(&self, peer: &str) {
        eventually(&format!("{} sees {peer}", self.settings.node), || self.is_up(peer)).await;
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a test as `lb` runs its control thread: on one thread. It ends in any case.
pub(crate) fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test).await.expect("the test ends") });
}
