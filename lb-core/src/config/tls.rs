//! TLS, as the configuration says it. What is in the files is read by whoever speaks TLS.
use std::path::PathBuf;

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Files with secrets that the whole cluster shares: sessions begun on one instance are resumed on another. The
    /// first encrypts, all decrypt. Empty: a secret of this process.
    pub ticket_keys: Vec<PathBuf>,
    /// Handshakes at a time in each worker, once the client has said hello. Default 10,000.
    pub max_handshakes: usize,
    /// Handshakes that a worker begins in a second; 0: no bound. Default 0.
    pub max_handshake_rate: usize,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ticket_keys: Vec::new(), max_handshakes: 10_000, max_handshake_rate: 0 }
    }
}

/// `tls` of a listener
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenTls {
    /// PEM files of certificate chains, or directories of such. The first is for clients that name no host, or one that
    /// no certificate is for.
    pub cert: Vec<PathBuf>,
    /// PEM files of private keys that are not with their certificates.
    pub key: Vec<PathBuf>,
    /// Oldest version spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Clients that name no host of a certificate are refused. Default false.
    pub strict_sni: bool,
    /// A request for another host than the handshake was for is answered with 421. Default false.
    pub check_host: bool,
    /// Certificates of clients; `None`: they are not asked for any.
    pub client: Option<ClientCerts>,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCerts {
    /// PEM files of the CAs that sign them.
    pub ca: Vec<PathBuf>,
    /// PEM files of what the CAs have revoked.
    pub crl: Vec<PathBuf>,
    /// Whether a client may come without one.
    pub wanted: Wanted,
}

/// `client_cert`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// No handshake without one.
    Required,
    /// Those who have one show it.
    Optional,
}

/// `min_version`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, schemars::JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V13,
}

impl TlsVersion {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// `tls` of a server
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// PEM files of the CAs that sign it; empty: those that the system trusts.
    pub ca: Vec<PathBuf>,
    /// Whether its certificate is looked at. Default true.
    pub verify: bool,
    /// The name that it is asked for, and that its certificate must be for; `None`: the host name that it was found by,
    /// else its address.
    pub sni: Option<String>,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Oldest version spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Protocols offered (ALPN), the better liked first; `None`: what is spoken then, none in TCP mode.
    pub alpn: Option<Vec<String>>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self { ca: Vec::new(), verify: true, sni: None, own: None, min_version: TlsVersion::V12, alpn: None }
    }
}

/// `send_proxy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// The line of text.
    V1,
    /// The binary form, with what TLS agreed on.
    V2,
}
