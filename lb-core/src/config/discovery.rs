//! Servers that are found by name: `server_template` of a backend, and servers whose address is a host name.
use super::{Agent, Check, Maxconn, PeerAddr, ProxyVersion, ServerTls, SlowStart};
use std::sync::Arc;
use std::time::Duration;

/// `server_template` of a backend: a server for each address, or each SRV record, of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// What the servers' names begin with.
    pub name: String,
    /// What is looked up.
    pub addr: PeerAddr,
    /// Most servers that are made of it. Default 10.
    pub slots: usize,
    /// What the rest of a server's name is made of, so that pins find it again.
    pub identity: Identity,
    /// How long a server stays that an answer names no more. Default: not at all.
    pub hold: Duration,
    /// Weight of each, where SRV records give none. Default 1.
    pub weight: u32,
    /// Bound of each.
    pub maxconn: Maxconn,
    /// Each gets new clients only when no other server is left, whatever SRV records say. Default false.
    pub backup: bool,
    /// How each gets its clients when it comes up. Default: as the backend's, here and below.
    pub slow_start: Option<SlowStart>,
    /// TLS to each.
    pub tls: Option<Arc<ServerTls>>,
    /// PROXY headers to each.
    pub send_proxy: Option<ProxyVersion>,
    /// How each is asked whether it lives; `None`: it is not.
    pub check: Option<Arc<Check>>,
    /// The process beside each; `None`: there is none.
    pub agent: Option<Arc<Agent>>,
}

/// What makes a server the same in the next answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Its address and port.
    #[default]
    Address,
    /// The host and port that its SRV record names: it stays the same when its address changes.
    Name,
}

/// Where a server of a backend comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Origin {
    /// The file has it, with its address.
    #[default]
    Written,
    /// The file has it, with a name; the address is the last that was found.
    Named(PeerAddr),
    /// A template made it; the file does not have it.
    Found,
}
