//! One question to one server: does it take a connection, does it answer as expected?
//!
//! It knows a [`Probe`] and whom to ask; when to ask and what the answer means for the server is the schedule's part.
use super::tls::Tls;
use lb_core::config::Probe;
use lb_core::time::format_duration;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Address.
    pub addr: SocketAddr,
    /// TLS under the question.
    pub tls: Option<Tls>,
    /// Requests are made in HTTP/2, as clients' are.
    pub h2: bool,
}

impl Target {
    /// What it is called in a request, unless the configuration says otherwise.
    fn host(&self) -> String {
        self.tls.as_ref().and_then(|tls| tls.sni()).map_or_else(|| self.addr.to_string(), str::to_owned)
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
pub async fn probe(probe: &Probe, target: &Target, within: Duration) -> Result<(), Failed> {
    let ask = async {
        let stream = open(probe, target).await?;
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

async fn open(probe: &Probe, target: &Target) -> Result<Stream, Failed> {
    let stream = TcpStream::connect(target.addr).await.map_err(|e| connect_error(&e))?;
    // Small questions must not wait for each other's acknowledgements.
    stream.set_nodelay(true).ok();
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let protocol: &[u8] = match probe {
        Probe::Tcp { .. } => b"",
        Probe::Http { .. } if target.h2 => b"h2",
        Probe::Http { .. } | Probe::WebSocket { .. } => b"http/1.1",
        Probe::Grpc { .. } => b"h2",
    };
    let stream = tls.connect(target.addr.ip(), protocol, stream).await;
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
