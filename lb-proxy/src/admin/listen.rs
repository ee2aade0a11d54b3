//! The admin's sockets and the connections on them. Bounded: so many connections, so long each, so long for a head.
use super::socket::{self, SocketError, SocketFile};
use super::{Via, router};
use crate::instance::Control;
use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lb_core::config::Admin;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections on one socket. Past it the newcomer is closed.
const CONNECTIONS: usize = 256;
/// From the start of a request's head to its end; an idle connection counts as one that has not begun.
const HEAD: Duration = Duration::from_secs(60);
/// A connection's life; past it it is closed after the answer under way.
const LIFE: Duration = Duration::from_secs(900);
/// How long that answer gets.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// The admin cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The TCP address.
    #[error("admin.listen: cannot listen on {addr}: {why}. Choose an address of this machine with a free port")]
    Tcp {
        /// Address.
        addr: SocketAddr,
        /// Why.
        why: io::Error,
    },
    /// The Unix socket.
    #[error("admin.socket {}: {why}", path.display())]
    Socket {
        /// Path.
        path: PathBuf,
        /// Why.
        why: SocketError,
    },
}

impl OpenError {
    /// The key that it is about.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "admin.listen",
            Self::Socket { .. } => "admin.socket",
        }
    }
}

/// Open sockets that nobody serves yet.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Option<tokio::net::TcpListener>,
    unix: Option<(tokio::net::UnixListener, SocketFile)>,
}

/// Opens what the configuration asks for. Needs a tokio runtime.
///
/// # Errors
/// [`OpenError`]
pub fn open(config: &Admin) -> Result<Sockets, OpenError> {
    let mut sockets = Sockets::default();
    if let Some(addr) = config.listen {
        sockets.tcp = Some(open_tcp(addr).map_err(|why| OpenError::Tcp { addr, why })?);
    }
    if let Some(path) = &config.socket {
        let unix = socket::bind(path).and_then(|(listener, file)| {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            Ok((listener, file))
        });
        sockets.unix = Some(unix.map_err(|why| OpenError::Socket { path: path.clone(), why })?);
    }
    Ok(sockets)
}

fn open_tcp(addr: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    // std sets SO_REUSEADDR, so that a restart does not wait for TIME_WAIT, and no SO_REUSEPORT.
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Sockets {
    /// The TCP address, with its real port.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|l| l.local_addr().ok())
    }
}

/// A served admin. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _file: Option<SocketFile>,
}

/// Serves the sockets on the current runtime.
pub fn serve(sockets: Sockets, control: Arc<Control>) -> Server {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    if let Some(tcp) = sockets.tcp {
        tasks.spawn(accept(tcp, router(control.clone(), Via::Tcp), stop.clone()));
    }
    let file = sockets.unix.map(|(unix, file)| {
        tasks.spawn(accept(unix, router(control, Via::Socket), stop.clone()));
        file
    });
    Server { stop, tasks, _file: file }
}

impl Server {
    /// Takes nothing new, lets answers under way end for at most `within`, closes.
    pub async fn shutdown(mut self, within: Duration) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.ok();
        self.tasks.shutdown().await;
    }
}

async fn accept(mut listener: impl Listener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (io, _) = listener.accept() => {
                if connections.len() < CONNECTIONS {
                    connections.spawn(connection(io, router.clone(), stop.clone()));
                } else {
                    tracing::warn!("admin: {CONNECTIONS} connections are open, one more was refused");
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut served = pin!(http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = &mut served => result,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LIFE) => {} } } => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(e) = result {
        tracing::debug!(error = %e, "admin connection");
    }
}
