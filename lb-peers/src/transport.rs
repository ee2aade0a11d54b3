//! Streams to peers over gRPC: accepts and dials, carries frames both ways, and tells the driver what happened.
//!
//! It must not know what frames mean.
use crate::certs::Certs;
use crate::io::{PeerIo, Remote, Seen};
use crate::replicator::{Failure, Input, LinkId, Side};
use crate::tls;
use crate::wire::generated::peers_client::PeersClient;
use crate::wire::generated::{self as pb, peers_server};
use crate::wire::{Frame, MAX_FRAME, Refusal, RefuseCode};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

#[cfg(not(feature = "simulated"))]
pub(crate) use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "simulated")]
pub(crate) use turmoil::net::{TcpListener, TcpStream};

/// Connections at a time.
const CONNECTIONS: usize = 256;
/// How long each step of a connection's beginning may take.
const STEP: Duration = Duration::from_secs(3);
/// Frames on their way to the network. More than the protocol has out at a time: a peer that fills it does not read.
const QUEUE: usize = 2048;
/// Flow control windows: one long stream over a far link.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What every HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the driver is told.
pub(crate) enum Event {
    /// A stream is open.
    Opened { link: LinkId, side: Side, remote: Remote, frames: mpsc::Sender<pb::Frame> },
    /// Anything else.
    Input(Input),
}

/// What all tasks of this module share.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) certs: Arc<Certs>,
    /// Ends everything.
    pub(crate) cancel: CancellationToken,
    /// The tasks of streams.
    pub(crate) tasks: TaskTracker,
    pub(crate) accepted: Arc<AtomicU64>,
}

impl Transport {
    /// Runs until it is cancelled.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let (connections, incoming) = mpsc::channel::<Result<PeerIo, std::io::Error>>(16);
        let service = peers_server::PeersServer::new(Service(self.clone())).max_decoding_message_size(MAX_FRAME);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(4)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming));
        let cancel = self.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.accept(listener, connections) => {}
            ended = server => tracing::error!(?ended, "the peers' server has ended"),
        }
    }

    async fn accept(self, listener: TcpListener, connections: mpsc::Sender<Result<PeerIo, std::io::Error>>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let (stream, addr) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No descriptors, mostly: they come back when connections end.
                    tracing::warn!(%error, "a peer's connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (transport, connections) = (self.clone(), connections.clone());
            self.tasks.spawn(async move {
                let cancel = transport.cancel.clone();
                let begun = cancel.run_until_cancelled(transport.begin(stream, addr)).await;
                match begun {
                    Some(Ok((stream, prefix, remote))) => {
                        let io = PeerIo::new(stream, prefix, remote.clone(), Some(place));
                        let _ = connections.send(Ok(io)).await;
                        remote.cancel.run_until_cancelled(tokio::time::sleep(STEP)).await;
                        if !remote.is_used.load(Ordering::Relaxed) {
                            remote.cancel.cancel();
                        }
                    }
                    Some(Err(Some(why))) => transport.tell(Input::Stranger { remote: addr, why }).await,
                    Some(Err(None)) | None => {}
                }
            });
        }
    }

    /// The beginning of an accepted connection: TLS, and what every HTTP/2 client says first. So strangers are told
    /// from peers, and the silent hold nothing for long. An error without a text: it went away.
    async fn begin(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
    ) -> Result<(Box<dyn crate::io::Stream>, Vec<u8>, Remote), Option<Refusal>> {
        let _ = stream.set_nodelay(true);
        let (mut stream, certificate): (Box<dyn crate::io::Stream>, _) = match self.certs.tls() {
            None => (Box::new(stream), None),
            Some(tls) => {
                let refused = |text| Some(Refusal { code: RefuseCode::Certificate, text });
                let late = |_| refused("it did not finish the TLS handshake in time".to_owned());
                let stream = timeout(STEP, tls.acceptor.accept(stream)).await.map_err(late)?;
                let stream = stream.map_err(|e| refused(tls::explain(&e)).filter(|_| tls::is_tls(&e)))?;
                let names = tls::peer_names(stream.get_ref().1);
                (Box::new(stream), Some(names))
            }
        };
        let mut prefix = Vec::with_capacity(PREFACE.len());
        while prefix.len() < PREFACE.len() && PREFACE.starts_with(&prefix) {
            let mut part = [0; PREFACE.len()];
            let rest = PREFACE.len() - prefix.len();
            let read = timeout(STEP, stream.read(&mut part[..rest])).await;
            match read {
                Ok(Ok(n)) if n > 0 => prefix.extend_from_slice(&part[..n]),
                _ if prefix.is_empty() => return Err(None),
                _ => break,
            }
        }
        if prefix != PREFACE {
            return Err(Some(Refusal { code: RefuseCode::Malformed, text: foreign(&prefix) }));
        }
        Ok((stream, prefix, Remote::new(addr, certificate, self.cancel.child_token())))
    }

    async fn tell(&self, input: Input) {
        let _ = self.events.send(Event::Input(input)).await;
    }

    /// Dials an address, and carries frames until the stream ends.
    pub(crate) fn dial(&self, link: LinkId, addr: SocketAddr) {
        let transport = self.clone();
        self.tasks.spawn(async move {
            let cancel = transport.cancel.child_token();
            let whole = async {
                match transport.connect(addr, cancel.clone()).await {
                    Ok((remote, frames, stream)) => {
                        let opened = Event::Opened { link, side: Side::Dialler, remote, frames };
                        let _ = transport.events.send(opened).await;
                        transport.read(link, stream).await;
                    }
                    Err((failure, error)) => transport.tell(Input::NotOpened { link, failure, error }).await,
                }
            };
            cancel.run_until_cancelled(whole).await;
        });
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        cancel: CancellationToken,
    ) -> Result<(Remote, mpsc::Sender<pb::Frame>, Streaming<pb::Frame>), (Failure, String)> {
        let io = self.connect_io(addr, cancel).await?;
        let (remote, seen) = (io.remote.clone(), io.seen.clone());
        let (frames, outgoing) = mpsc::channel(QUEUE);
        let stream = timeout(STEP, open(io, outgoing)).await;
        match stream {
            Ok(Ok(stream)) => Ok((remote, frames, stream)),
            Ok(Err(error)) => Err(why_not(&seen, error)),
            Err(_) => Err(why_not(&seen, "it does not answer".into())),
        }
    }

    async fn connect_io(&self, addr: SocketAddr, cancel: CancellationToken) -> Result<PeerIo, (Failure, String)> {
        let late = |_| (Failure::Unreachable, "connecting takes too long".to_owned());
        let stream = timeout(STEP, TcpStream::connect(addr)).await.map_err(late)?.map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused => (Failure::NobodyThere, "nobody listens there".to_owned()),
            _ => (Failure::Unreachable, e.to_string()),
        })?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.certs.tls() else {
            return Ok(PeerIo::new(Box::new(stream), Vec::new(), Remote::new(addr, None, cancel), None));
        };
        let connected = timeout(STEP, tls.connector.connect(addr.ip().into(), stream)).await;
        let stream = connected.map_err(late)?.map_err(|e| match tls::is_tls(&e) {
            true => (Failure::Refused(RefuseCode::Certificate), tls::explain(&e)),
            false => (Failure::Unreachable, format!("it ended the TLS handshake ({e}): is peers.tls set there, too?")),
        })?;
        let certificate = Some(tls::peer_names(stream.get_ref().1));
        Ok(PeerIo::new(Box::new(stream), Vec::new(), Remote::new(addr, certificate, cancel), None))
    }

    /// Hands incoming frames to the driver until the stream ends. The driver takes them at its own speed; meanwhile
    /// flow control holds the peer.
    async fn read(&self, link: LinkId, mut stream: Streaming<pb::Frame>) {
        loop {
            let input = match stream.message().await {
                Ok(Some(frame)) => match Frame::try_from(frame) {
                    Ok(frame) => Input::Received { link, frame },
                    Err(garbage) => Input::Garbage { link, garbage },
                },
                Ok(None) => return self.tell(Input::Closed { link, error: "it closed the link".into() }).await,
                Err(status) => return self.tell(Input::Closed { link, error: broken(&status) }).await,
            };
            self.tell(input).await;
        }
    }
}

/// Opens a stream on a connection.
async fn open(io: PeerIo, outgoing: mpsc::Receiver<pb::Frame>) -> Result<Streaming<pb::Frame>, String> {
    let once = Mutex::new(Some(hyper_util::rt::TokioIo::new(io)));
    let connector = tower::service_fn(move |_| {
        let io = once.lock().take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        std::future::ready(io)
    });
    let channel = Endpoint::from_static("http://peer.lb")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(connector)
        .await
        .map_err(|e| cause(&e))?;
    let mut client = PeersClient::new(channel).max_decoding_message_size(MAX_FRAME);
    let opened = client.sync(ReceiverStream::new(outgoing)).await;
    opened.map(Response::into_inner).map_err(|status| match status.code() {
        Code::Unimplemented => "it speaks gRPC, but not lb's peer protocol".to_owned(),
        _ => cause(&status),
    })
}

/// The innermost reason of an error: the outer ones say "transport error".
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => inner.to_string(),
    }
}

/// Why a connection did not become a stream, by what was seen on it.
fn why_not(seen: &Mutex<Seen>, error: String) -> (Failure, String) {
    let seen = seen.lock();
    let begins = &seen.beginning;
    // The first frame of an HTTP/2 server is its settings: few bytes, of type 4.
    let is_http2 = begins.first().is_none_or(|high| *high == 0) && begins.get(3).is_none_or(|kind| *kind == 4);
    match &seen.error {
        Some(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            (Failure::Refused(RefuseCode::Certificate), error.to_string())
        }
        _ if !is_http2 => (Failure::Refused(RefuseCode::Malformed), foreign(begins)),
        _ if error.contains("gRPC") => (Failure::Refused(RefuseCode::Protocol), error),
        Some(error) => (Failure::Unreachable, error.to_string()),
        None if begins.is_empty() && !error.contains("does not answer") => {
            let text = "it closed the connection without a word: set peers.tls on both, or on neither".into();
            (Failure::Unreachable, text)
        }
        None => (Failure::Unreachable, error),
    }
}

/// Somebody speaks another protocol.
fn foreign(begins: &[u8]) -> String {
    match begins {
        // A TLS handshake, a TLS alert.
        [22 | 21, 3, ..] => "it speaks TLS, and we do not: set peers.tls on both, or on neither".into(),
        _ => {
            let begin: String = begins[..begins.len().min(24)].escape_ascii().to_string();
            format!("it does not speak lb's peer protocol: it began with \"{begin}\"")
        }
    }
}

fn broken(status: &Status) -> String {
    match status.code() {
        Code::OutOfRange => format!("it sent a frame of more than {} MiB", MAX_FRAME >> 20),
        _ => format!("the link broke: {}", cause(status)),
    }
}

/// The accepting side.
struct Service(Transport);

#[tonic::async_trait]
impl peers_server::Peers for Service {
    type SyncStream =
        tokio_stream::adapters::Map<ReceiverStream<pb::Frame>, fn(pb::Frame) -> Result<pb::Frame, Status>>;

    async fn sync(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<Self::SyncStream>, Status> {
        let remote = request.extensions().get::<Remote>().cloned();
        let remote = remote.ok_or_else(|| Status::internal("a connection of no peer"))?;
        remote.is_used.store(true, Ordering::Relaxed);
        let stream = request.into_inner();
        let link = LinkId::accepted(self.0.accepted.fetch_add(1, Ordering::Relaxed));
        let (frames, outgoing) = mpsc::channel(QUEUE);
        let (transport, cancel) = (self.0.clone(), remote.cancel.clone());
        self.0.tasks.spawn(async move {
            let opened = Event::Opened { link, side: Side::Acceptor, remote, frames };
            let whole = async {
                let _ = transport.events.send(opened).await;
                transport.read(link, stream).await;
            };
            cancel.run_until_cancelled(whole).await;
        });
        let ok: fn(pb::Frame) -> Result<pb::Frame, Status> = Ok;
        Ok(Response::new(tokio_stream::StreamExt::map(ReceiverStream::new(outgoing), ok)))
    }
}
