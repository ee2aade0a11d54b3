//! TLS on both sides: certificates, tickets, handshakes. It must not know what the bytes inside mean: it makes a
//! `Stream` and says what was agreed on.
//!
//! | module | for |
//! | --- | --- |
//! | `certificates` | from files to chains with their keys, and which of them a client sees |
//! | `ocsp` | what their CA says of them, for clients to be told |
//! | `terminate` | one listener's TLS, made of the configuration and these files |
//! | `tickets` | sessions that every worker and every instance resumes |
//! | `handshake` | one client's |
//! | `client` | what rules say of a client's certificate |
//! | `connect` | the same with a server, from our side |
//! | `trust` | whose certificate a server may show |
//! | `watch` | files that change are read anew |
use lb_core::config::Fault;
use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

pub(crate) mod certificates;
mod client;
pub(crate) mod connect;
pub(crate) mod handshake;
mod ocsp;
pub(crate) mod terminate;
pub mod tickets;
mod trust;
pub(crate) mod watch;

/// Why TLS cannot be had: every reason, with the key of the configuration and the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("\n"))]
pub struct TlsError(pub Vec<Fault>);

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}
