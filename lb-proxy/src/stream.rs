//! A connection's bytes, whatever carries them: TCP, a Unix socket, TLS on either, one stream of HTTP/2.
//!
//! Both directions work at the same time from one task, as the two halves of a TCP stream do. It knows nothing of what
//! the bytes mean. Variants instead of a trait: what handles a connection exists once, and a branch costs less than
//! the second copy of it in the instruction cache.
use crate::http2::Exchange;
use lb_core::config::ServerAddr;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_rustls::TlsStream;

/// A connection without TLS.
#[derive(Debug)]
pub(crate) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How long a Unix socket is left alone whose queue of connections is full. (Of TCP the kernel knocks again by itself.)
const FULL: Duration = Duration::from_millis(5);

impl Plain {
    /// Connects to a server.
    pub(crate) async fn connect(addr: &ServerAddr) -> io::Result<Self> {
        match addr {
            ServerAddr::Tcp(addr) => {
                let stream = TcpStream::connect(*addr).await?;
                // Small messages must not wait for each other's acknowledgements.
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            ServerAddr::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(FULL).await,
                    connected => return connected.map(Self::Unix),
                }
            },
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Both halves need all of it; each borrows it for one poll only. An end without `close_notify` is an error, so that
    /// nobody on the way can make a body look whole that is not.
    Tls(Box<RefCell<TlsStream<Plain>>>),
    /// Bodies and tunnels go through it as through the others; heads and trailers are said to the [`Exchange`] itself.
    H2(Rc<Exchange>),
}

/// The half that is read.
pub(crate) enum Reader<'a> {
    Tcp(tcp::ReadHalf<'a>),
    Unix(unix::ReadHalf<'a>),
    Tls(&'a RefCell<TlsStream<Plain>>),
    H2(&'a Exchange),
}

/// The half that is written.
pub(crate) enum Writer<'a> {
    Tcp(tcp::WriteHalf<'a>),
    Unix(unix::WriteHalf<'a>),
    Tls(&'a RefCell<TlsStream<Plain>>),
    H2(&'a Exchange),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<Plain> for Stream {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Tcp(stream) => Self::Tcp(stream),
            Plain::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl From<TlsStream<Plain>> for Stream {
    fn from(stream: TlsStream<Plain>) -> Self {
        Self::Tls(Box::new(RefCell::new(stream)))
    }
}

impl Stream {
    /// Its two halves.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
            Self::Tls(stream) => (Reader::Tls(stream), Writer::Tls(stream)),
            Self::H2(stream) => (Reader::H2(stream), Writer::H2(stream)),
        }
    }

    /// The stream of HTTP/2 that it is.
    pub(crate) fn h2(&self) -> Option<&Rc<Exchange>> {
        if let Self::H2(stream) = self { Some(stream) } else { None }
    }

    /// The half that is written.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        self.split().1
    }

    /// When dropped, the other side sees a reset instead of an end.
    pub(crate) fn reset_on_drop(&self) {
        match self {
            Self::Tcp(stream) => reset_on_drop(stream.as_fd()),
            Self::Unix(stream) => reset_on_drop(stream.as_fd()),
            Self::Tls(stream) => reset_on_drop(stream.borrow().get_ref().0.as_fd()),
            Self::H2(stream) => stream.reset(h2::Reason::INTERNAL_ERROR),
        }
    }

    /// Whether nothing has come, no end either, as far as the event loop has seen; costs no system call where nothing
    /// came. What is read is lost: the connection is of no use then.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let would_block = |read: io::Result<usize>| matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        // Readiness may be left over from before: then a read says "would block".
        match self {
            Self::Tcp(stream) => match stream.poll_read_ready(&mut cx) {
                Poll::Pending => true,
                Poll::Ready(ready) => ready.is_ok() && would_block(stream.try_read(&mut [0; 1])),
            },
            Self::Unix(stream) => match stream.poll_read_ready(&mut cx) {
                Poll::Pending => true,
                Poll::Ready(ready) => ready.is_ok() && would_block(stream.try_read(&mut [0; 1])),
            },
            // What came may be TLS's own, a session ticket.
            Self::Tls(stream) => {
                let mut buf = [0; 1];
                Pin::new(&mut *stream.borrow_mut()).poll_read(&mut cx, &mut ReadBuf::new(&mut buf)).is_pending()
            }
            // Never idle: each serves one request.
            Self::H2(_) => false,
        }
    }

    /// Waits until there is something to read, without reading it; true: it is the end, as far as the kernel knows.
    pub(crate) async fn readable(&self) -> io::Result<bool> {
        let interest = tokio::io::Interest::READABLE;
        let ready = match self {
            Self::Tcp(stream) => stream.ready(interest).await?,
            Self::Unix(stream) => stream.ready(interest).await?,
            Self::Tls(stream) => {
                return poll_fn(|cx| stream.borrow().get_ref().0.poll_read_ready(cx)).await.map(|()| false);
            }
            Self::H2(stream) => {
                poll_fn(|cx| stream.poll_reset(cx)).await;
                return Ok(true);
            }
        };
        Ok(ready.is_read_closed())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.get_mut()).poll_read(cx, buf),
            Self::H2(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut *stream.borrow_mut()).poll_read(cx, buf),
            Self::H2(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl Reader<'_> {
    /// The socket, where nothing but it carries the bytes.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(half) => Some(half.as_ref()),
            Self::Unix(_) | Self::Tls(_) | Self::H2(_) => None,
        }
    }

    /// The stream of HTTP/2 that it reads.
    pub(crate) fn h2(&self) -> Option<&Exchange> {
        if let Self::H2(stream) = self { Some(stream) } else { None }
    }
}

impl Writer<'_> {
    /// The socket, where nothing but it carries the bytes.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(half) => Some(half.as_ref()),
            Self::Unix(_) | Self::Tls(_) | Self::H2(_) => None,
        }
    }

    /// Writes what the socket takes of these pieces.
    ///
    /// TLS may keep some of it: see [`Self::poll_flush`].
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        fn attempt(
            cx: &mut Context<'_>,
            write: impl Fn() -> io::Result<usize>,
            ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
        ) -> Poll<io::Result<usize>> {
            loop {
                match write() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(ready(cx))?,
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    done => return Poll::Ready(done),
                }
            }
        }
        match self {
            Self::Tcp(half) => {
                let stream = half.as_ref();
                attempt(
                    cx,
                    || write_now(pieces, |b| stream.try_write(b), |p| stream.try_write_vectored(p)),
                    |cx| stream.poll_write_ready(cx),
                )
            }
            Self::Unix(half) => {
                let stream = half.as_ref();
                attempt(
                    cx,
                    || write_now(pieces, |b| stream.try_write(b), |p| stream.try_write_vectored(p)),
                    |cx| stream.poll_write_ready(cx),
                )
            }
            Self::Tls(stream) => match ready!(Pin::new(&mut *stream.borrow_mut()).poll_write_vectored(cx, pieces))? {
                0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => Poll::Ready(Ok(n)),
            },
            Self::H2(stream) => stream.poll_write(cx, pieces),
        }
    }

    /// Brings what TLS keeps to the socket. Others keep nothing.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::H2(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut *stream.borrow_mut()).poll_flush(cx),
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn shutdown(&self) {
        fn write_end(fd: BorrowedFd<'_>) {
            // An error means that the other side has gone already.
            let _ = socket2::SockRef::from(&fd).shutdown(std::net::Shutdown::Write);
        }
        match self {
            Self::Tcp(half) => write_end(half.as_ref().as_fd()),
            Self::Unix(half) => write_end(half.as_ref().as_fd()),
            Self::Tls(stream) => {
                // Its farewell is a few bytes: where the socket does not take them now, the end is unclean.
                let mut cx = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut *stream.borrow_mut()).poll_shutdown(&mut cx);
                write_end(stream.borrow().get_ref().0.as_fd());
            }
            Self::H2(stream) => stream.shutdown(),
        }
    }

    /// The stream of HTTP/2 that it writes.
    pub(crate) fn h2(&self) -> Option<&Exchange> {
        if let Self::H2(stream) = self { Some(stream) } else { None }
    }
}

fn reset_on_drop(fd: BorrowedFd<'_>) {
    // An error means that the connection is over already.
    let _ = socket2::SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

impl Plain {
    /// Writes what the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Ready once there is something to read, or an end.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// The address that the client came to; a Unix socket has none.
    pub(crate) fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// As [`Stream::reset_on_drop`].
    pub(crate) fn reset_on_drop(&self) {
        reset_on_drop(self.as_fd());
    }
}

/// One piece is written plainly: that is the cheaper call.
fn write_now(
    pieces: &[IoSlice<'_>],
    one: impl Fn(&[u8]) -> io::Result<usize>,
    many: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    match pieces {
        [piece] => one(piece),
        pieces => many(pieces),
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
