//! One question to one server: does it take a connection, does it answer as expected?
//!
//! It knows a [`Probe`] and whom to ask; when to ask and what the answer means for the server is the schedule's part.
use crate::proxy_protocol;
use crate::stream::Plain;
use crate::tls::connect::Connector;
use lb_core::config::{Probe, ProxyVersion, ServerAddr};
use lb_core::time::format_duration;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

mod dialogue;
mod grpc;
mod http;
mod websocket;

/// Why a probe gave no pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The server is to blame; a sentence for people.
    #[error("{0}")]
    Server(String),
    /// This machine is: no descriptors, no ports. It says nothing about the server.
    #[error("{0}")]
    Local(String),
}

/// Whom a probe asks.
#[derive(Clone)]
pub(crate) struct Target {
    /// Address.
    pub(crate) addr: ServerAddr,
    /// The host name that it was found by.
    pub(crate) host: Option<String>,
    /// TLS under the question.
    pub(crate) tls: Option<Arc<Connector>>,
    /// What the connection begins with.
    pub(crate) send_proxy: Option<ProxyVersion>,
    /// Requests are made in HTTP/2, as clients' are.
    pub(crate) h2: bool,
}

impl Target {
    /// What it is called in a request, unless the configuration says otherwise.
    fn host(&self) -> String {
        self.tls.as_ref().and_then(|tls| tls.sni()).map_or_else(|| self.addr.authority(), str::to_owned)
    }
}

/// A connection, encrypted or not.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Stream = Box<dyn Io>;

/// Asks once. `within` bounds everything: connecting, sending, the whole answer.
///
/// # Errors
/// [`Failed`]
pub(crate) async fn probe(probe: &Probe, target: &Target, within: Duration) -> Result<(), Failed> {
    let ask = async {
        let stream = open(target).await?;
        match probe {
            Probe::Tcp { steps } => dialogue::ask(steps, stream).await,
            Probe::Http { .. } => http::ask(probe, target, stream).await,
            Probe::WebSocket { path, headers } => websocket::ask(path, headers, target, stream).await,
            Probe::Grpc { service } => grpc::ask(service, target, stream).await,
        }
    };
    let late = || Failed::Server(format!("no answer within {}", format_duration(within)));
    tokio::time::timeout(within, ask).await.unwrap_or_else(|_| Err(late()))
}

/// Connects as requests do.
async fn open(target: &Target) -> Result<Stream, Failed> {
    let mut plain = Plain::connect(&target.addr).await.map_err(|e| connect_error(&e))?;
    if let Some(version) = target.send_proxy {
        let sent = plain.write_all(proxy_protocol::own(version)).await;
        sent.map_err(|e| Failed::Server(format!("the connection broke: {e}")))?;
    }
    let Some(tls) = &target.tls else { return Ok(Box::new(plain)) };
    let stream = tls.connect(&target.addr, target.host.as_deref(), plain).await;
    Ok(Box::new(stream.map_err(|e| Failed::Server(format!("no TLS: {e}")))?))
}

/// What a connection that could not be opened says, about whom.
pub(super) fn connect_error(error: &io::Error) -> Failed {
    // Descriptors and local ports are ours, not the server's.
    const OURS: [rustix::io::Errno; 5] = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
        rustix::io::Errno::ADDRNOTAVAIL,
    ];
    let text = format!("cannot connect: {error}");
    match error.raw_os_error() {
        Some(code) if OURS.iter().any(|e| e.raw_os_error() == code) => Failed::Local(text),
        _ => Failed::Server(text),
    }
}

#[cfg(test)]
mod tests;
