//! Replication of stick tables between instances. The protocol is told here in full (see the module docs).
#![forbid(unsafe_code)]

use lb_core::config;
use lb_core::decisions::{Decision, Decisions};
use lb_core::hlc::Clock;
use lb_core::id::Names;
use lb_core::status::PeersStatus;
use lb_core::table::StickTable;
use std::sync::Arc;
use tokio::sync::watch;

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
        addr: std::net::SocketAddr,
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
    _private: (),
}

#[allow(unused_variables, clippy::todo, missing_docs)]
impl Peers {
    /// Binds, and starts the driver on the current tokio runtime (which may be a `current_thread` one).
    /// `tables` are those with `replicate = true`.
    pub async fn start(settings: Settings, tables: Vec<Arc<StickTable>>) -> Result<Self, StartError> {
        todo!()
    }
    /// Real listen address.
    pub fn local_addr(&self) -> std::net::SocketAddr {
        todo!()
    }
    /// Takes on the tables and the peer list of a new configuration.
    pub fn reconfigure(&self, config: config::Peers, tables: Vec<Arc<StickTable>>) {
        todo!()
    }
    /// True once the tables were pulled from a peer, or `join_timeout` passed with nobody to pull from.
    pub fn pulled(&self) -> watch::Receiver<bool> {
        todo!()
    }
    /// Changes whenever a peer's decision was merged into [`Settings::decisions`].
    pub fn decided(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// Tells the peers a decision that was made here (and already merged here).
    pub fn decide(&self, decision: Decision) {
        todo!()
    }
    /// Asks the peers for one key; done when one has answered (its answer is merged by then), or after `ask_timeout`.
    /// Callable from any thread and runtime.
    pub fn asker(&self) -> Asker {
        todo!()
    }
    /// State of every peer.
    pub fn status(&self) -> PeersStatus {
        todo!()
    }
    /// Sends what the peers do not have yet, for at most `within`, and ends.
    pub async fn shutdown(self, within: std::time::Duration) {
        todo!()
    }
}

/// Asks peers for single keys.
#[derive(Clone, Debug)]
pub struct Asker {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Asker {
    /// See [`Peers::asker`].
    pub async fn ask(&self, table: &str, key: &[u8]) {
        todo!()
    }
}
