//! A node without a network: frames go in, frames come out, and time passes when it is told.
use lb_core::config::{self, KeyKind, PeerAddr};
use lb_core::decisions::Decisions;
use lb_core::hlc::{Clock, Stamp};
use lb_core::id::NodeId;
use lb_core::table::{StickKey, StickTable, Update};
use lb_core::time::{Steady, Timestamp};
use lb_peers::Settings;
use lb_peers::replicator::{Input, LinkId, Now, Output, Replicator, Setup, Side};
use lb_peers::wire::Frame;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const EPOCH: Timestamp = Timestamp(1_790_000_000_000);

pub(crate) struct Node {
    pub(crate) replicator: Replicator,
    pub(crate) table: Arc<StickTable>,
    pub(crate) settings: Settings,
    pub(crate) at: Duration,
    link: Option<LinkId>,
}

fn addr(name: &str) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, name.len() as u8], 8405))
}

fn now(at: Duration) -> Now {
    Now { at, wall: EPOCH.plus(at), clock: EPOCH.plus(at) }
}

impl Node {
    /// It knows where `join` listens.
    pub(crate) fn new(name: &str, join: &[&str]) -> Self {
        let config = config::Peers {
            cluster: "shop".into(),
            listen: addr(name),
            join: join.iter().map(|n| PeerAddr::Socket(addr(n))).collect(),
            resolver: None,
            tls: None,
            join_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            anti_entropy: Duration::from_millis(100),
            max_clock_ahead: Duration::from_secs(86_400),
        };
        let settings = Settings {
            shared: Default::default(),
            node: name.into(),
            incarnation: 7,
            names: Arc::default(),
            clock: Arc::new(Clock::new(NodeId::new(name, 7), config.max_clock_ahead)),
            decisions: Arc::new(Decisions::default()),
            time: Steady::new(std::time::Instant::now(), EPOCH),
            config,
        };
        let table = table_of(&settings, "sessions");
        let setup = Setup { listen: addr(name), seed: 1, settings: settings.clone() };
        let replicator = Replicator::new(setup, vec![table.clone()], now(Duration::ZERO));
        Self { replicator, table, settings, at: Duration::ZERO, link: None }
    }

    /// One table more.
    pub(crate) fn gets_a_table(&mut self, name: &str) {
        let tables = vec![self.table.clone(), table_of(&self.settings, name)];
        self.handle(Input::Configure { config: Box::new(self.settings.config.clone()), tables });
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.replicator.handle(now(self.at), input);
    }

    /// A stream is open; whoever has an address to dial has dialled.
    pub(crate) fn opened(&mut self, by: &str) {
        let mut dialled = None;
        while let Some(output) = self.replicator.poll_output() {
            if let Output::Dial { link, .. } = output {
                dialled = Some(link);
            }
        }
        let side = if dialled.is_some() { Side::Dialler } else { Side::Acceptor };
        let link = dialled.unwrap_or_else(|| LinkId::accepted(1));
        self.link = Some(link);
        self.handle(Input::Opened { link, side, remote: addr(by), certificate: None });
    }

    pub(crate) fn receive(&mut self, frame: Frame) {
        if let Some(link) = self.link {
            self.handle(Input::Received { link, frame });
        }
    }

    /// What it says now.
    pub(crate) fn says(&mut self) -> Vec<Frame> {
        let mut said = Vec::new();
        while let Some(output) = self.replicator.poll_output() {
            if let Output::Send { frame, .. } = output {
                said.push(frame);
            }
        }
        said
    }

    fn key(&self, key: &str) -> StickKey {
        StickKey::parse(self.table.kind(), self.table.key_len(), key).unwrap()
    }

    pub(crate) fn pin(&mut self, key: &str, server: &str) {
        self.table.store(&self.key(key), self.settings.names.intern(server), now(self.at).wall);
        self.handle(Input::Changed);
    }

    pub(crate) fn clear(&mut self, key: &str) {
        self.table.clear(&self.key(key), now(self.at).wall);
        self.handle(Input::Changed);
    }

    /// Heard from a third node, at some other time.
    pub(crate) fn heard(&self, key: &str, server: &str) {
        let stamp = Stamp::new(EPOCH.0 << 16, NodeId::new("third", 1));
        let (server, left) = (self.settings.names.intern(server), Duration::from_secs(300));
        let update = Update { key: key.as_bytes().into(), server, stamp, left, holders: Vec::new() };
        self.table.merge(&update, now(self.at).wall);
    }

    pub(crate) fn server_of(&self, key: &str) -> Option<String> {
        let pin = self.table.peek(&self.key(key), now(self.at).wall)?;
        Some(self.settings.names.name(pin.server).to_string())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.replicator.status(now(self.at)).peers.iter().any(|p| p.state == "up")
    }
}

fn table_of(settings: &Settings, name: &str) -> Arc<StickTable> {
    let spec =
        config::Table { size: 1000, expire: Duration::from_secs(600), ..config::Table::new(name, KeyKind::String) };
    Arc::new(StickTable::new(Arc::new(spec), settings.names.clone(), settings.clock.clone(), 1))
}
