//! The bytes beneath a stream: one connection, plain or TLS, that ends with the node and remembers what went wrong,
//! because gRPC's own errors say little of it.
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Bytes of a connection's beginning that are remembered.
const BEGINNING: usize = 64;

/// TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) addr: SocketAddr,
    /// Names in its certificate; `None`: no TLS.
    pub(crate) certificate: Option<Vec<String>>,
    /// Ends the connection.
    pub(crate) cancel: CancellationToken,
    /// A stream was opened on it.
    pub(crate) is_used: Arc<AtomicBool>,
}

impl Remote {
    pub(crate) fn new(addr: SocketAddr, certificate: Option<Vec<String>>, cancel: CancellationToken) -> Self {
        Self { addr, certificate, cancel, is_used: Arc::default() }
    }
}

/// What was seen on a connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The first bytes that came.
    pub(crate) beginning: Vec<u8>,
    /// The first error.
    pub(crate) error: Option<io::Error>,
}

/// One connection.
pub(crate) struct PeerIo {
    inner: Box<dyn Stream>,
    /// Bytes that were read already.
    prefix: Vec<u8>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(crate) remote: Remote,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// A place among the connections, while this one is open.
    _permit: Option<OwnedSemaphorePermit>,
}

impl PeerIo {
    pub(crate) fn new(
        inner: Box<dyn Stream>,
        prefix: Vec<u8>,
        remote: Remote,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let cancelled = Box::pin(remote.cancel.clone().cancelled_owned());
        Self { inner, prefix, cancelled, remote, seen: Arc::default(), _permit: permit }
    }

    fn note(&self, bytes: &[u8]) {
        let mut seen = self.seen.lock();
        let room = BEGINNING - seen.beginning.len();
        seen.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn note_error(&self, error: &io::Error) {
        let mut seen = self.seen.lock();
        if seen.error.is_none() {
            let text = crate::tls::explain(error);
            seen.error = Some(io::Error::new(error.kind(), text));
        }
    }
}

impl PeerIo {
    /// Writing failed: what the other end said before it closed tells why, and nobody will read it now.
    fn last_words(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0; BEGINNING];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if self.seen.lock().beginning.is_empty() => self.note(buf.filled()),
            Poll::Ready(Err(error)) => self.note_error(&error),
            _ => {}
        }
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix[..n]);
            this.prefix.drain(..n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        match &result {
            Ok(()) if this.seen.lock().beginning.len() < BEGINNING => this.note(&buf.filled()[before..]),
            Ok(()) => {}
            Err(error) => this.note_error(error),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        if result.is_err() {
            self.last_words(cx);
        }
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        if result.is_err() {
            self.last_words(cx);
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Connected for PeerIo {
    type ConnectInfo = Remote;

    fn connect_info(&self) -> Remote {
        self.remote.clone()
    }
}
