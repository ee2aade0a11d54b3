//! How servers are asked whether they live: `check` and `agent` of a backend.
use super::{Proto, ProxyVersion, ServerAddr, ServerTls};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// `backend.check`
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// How a server is asked.
    pub probe: Probe,
    /// TLS under it; `None`: plain.
    pub tls: Option<Arc<ServerTls>>,
    /// It begins with a PROXY protocol header that names nobody.
    pub send_proxy: Option<ProxyVersion>,
    /// Asked at this address instead of the server's.
    pub addr: Option<IpAddr>,
    /// Asked at this port instead of the server's.
    pub port: Option<u16>,
    /// Time between two. Default 2s.
    pub interval: Duration,
    /// Time between two while results contradict the server's state. Default: `interval`.
    pub fast_interval: Duration,
    /// Time between two while the server is down. Default: `interval`.
    pub down_interval: Duration,
    /// Failures in a row until it is down. Default 3.
    pub fall: u32,
    /// Successes in a row until it is up. Default 2.
    pub rise: u32,
}

impl Check {
    /// A check of this kind, the rest by default.
    pub fn new(probe: Probe) -> Self {
        let interval = Duration::from_secs(2);
        Self {
            probe,
            tls: None,
            send_proxy: None,
            addr: None,
            port: None,
            interval,
            fast_interval: interval,
            down_interval: interval,
            fall: 3,
            rise: 2,
        }
    }
}

impl Check {
    /// Where a server at this address is asked.
    pub fn place(&self, server: &ServerAddr) -> ServerAddr {
        match (self.addr, self.port, server) {
            (Some(ip), Some(port), _) => SocketAddr::new(ip, port).into(),
            (Some(ip), None, ServerAddr::Tcp(at)) => SocketAddr::new(ip, at.port()).into(),
            (None, Some(port), ServerAddr::Tcp(at)) => SocketAddr::new(at.ip(), port).into(),
            _ => server.clone(),
        }
    }
}

/// How a server is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// A connection opens, and each step succeeds.
    Tcp {
        /// What is said and awaited; none: to connect is enough.
        steps: Vec<Step>,
    },
    /// A request is answered as expected.
    Http {
        /// Method.
        method: String,
        /// Target.
        path: String,
        /// Headers to send; `Host` defaults to the address.
        headers: Vec<(String, String)>,
        /// Statuses taken, as inclusive ranges. Default 200–399.
        expect: Vec<(u16, u16)>,
        /// Text the first 64 KiB of the body must hold.
        expect_body: Option<String>,
    },
    /// A WebSocket opens, answers a ping, and closes.
    WebSocket {
        /// Target.
        path: String,
        /// Headers to send; `Host` defaults to the address.
        headers: Vec<(String, String)>,
    },
    /// `grpc.health.v1.Health/Check` says `SERVING`.
    Grpc {
        /// The service asked about; empty: the server as a whole.
        service: String,
    },
}

impl Probe {
    /// The protocol that it speaks to servers that clients' requests reach in this one; `None`: none that has a name.
    pub fn proto(&self, servers: Proto) -> Option<Proto> {
        match self {
            Self::Tcp { .. } => None,
            Self::Http { .. } => Some(servers),
            Self::WebSocket { .. } => Some(Proto::H1),
            Self::Grpc { .. } => Some(Proto::H2),
        }
    }
}

/// One step of a TCP check: first its bytes are sent, then the answer is awaited.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Bytes to send; may be none.
    pub send: Vec<u8>,
    /// What must come; `None`: nothing is awaited.
    pub expect: Option<Expected>,
}

/// What an answer must hold.
#[derive(Clone, Debug)]
pub enum Expected {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this expression matches.
    Pattern(regex::bytes::Regex),
}

impl PartialEq for Expected {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Expected {
    /// Where the first match ends in what came so far.
    pub fn find(&self, seen: &[u8]) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => memchr::memmem::find(seen, bytes).map(|at| at + bytes.len()),
            Self::Pattern(pattern) => pattern.find(seen).map(|found| found.end()),
        }
    }
}

/// For people: as the file could write it.
impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&shown(bytes)),
            Self::Pattern(pattern) => write!(f, "/{}/", pattern.as_str()),
        }
    }
}

/// Bytes for people: text in quotes, else hexadecimal.
pub fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) => format!("{text:?}"),
        _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

/// `backend.agent`: a process beside each server that says how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Its port.
    pub port: u16,
    /// Its address; `None`: the server's.
    pub addr: Option<IpAddr>,
    /// Sent to it before it is heard.
    pub send: Vec<u8>,
    /// Time between two questions. Default 2s.
    pub interval: Duration,
}

impl Agent {
    /// Where the agent of a server at this address is; `None`: a Unix socket has no IP address.
    pub fn place(&self, server: &ServerAddr) -> Option<SocketAddr> {
        let ip = match server {
            ServerAddr::Tcp(at) => self.addr.unwrap_or(at.ip()),
            ServerAddr::Unix(_) => self.addr?,
        };
        Some(SocketAddr::new(ip, self.port))
    }
}
