//! Where a frontend listens, and where a server is.
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// `"0.0.0.0:80"`
    Tcp(SocketAddr),
    /// `"unix:/run/lb/web.sock"`
    Unix(PathBuf),
    /// `"fd@web"` or `"fd@3"`: a socket that the service manager opened, by name or number.
    Inherited(String),
}

impl ListenAddr {
    /// The IP address and port, where it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        if let Self::Tcp(addr) = self { Some(*addr) } else { None }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "fd@{name}"),
        }
    }
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddr {
    /// `"10.0.1.10:8080"`
    Tcp(SocketAddr),
    /// `"unix:/run/app.sock"`
    Unix(PathBuf),
}

impl ServerAddr {
    /// What it is called in a request that names no host.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp(addr) => addr.to_string(),
            Self::Unix(_) => "localhost".into(),
        }
    }
}

impl From<SocketAddr> for ServerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl std::fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a socket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketOptions {
    /// An IPv6 address takes no IPv4 clients. Default false.
    pub v6only: bool,
    /// Permissions of a Unix socket's file; `None`: as the umask says.
    pub mode: Option<u32>,
    /// Its owner, by name or number.
    pub user: Option<String>,
    /// Its group.
    pub group: Option<String>,
}
