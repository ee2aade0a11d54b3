//! The bytes below an HTTP/2 connection to a server: what its frames are collected in, so that those of many streams leave in one
//! write, and the [`Guard`] that counts them.
//!
//! The library asks for a flush after nearly every frame. Here a flush does nothing: the connection's task calls
//! [`Wire::poll_drain`] when it has nothing else to do.
use super::guard::Guard;
use crate::stream::Stream;
use crate::worker::Local;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is collected at most before the library must wait for the socket.
const MOST: usize = 64 * 1024;

/// One connection's bytes, shared by the library and the connection's task.
pub(crate) struct Wire {
    local: Rc<Local>,
    inner: RefCell<Inner>,
}

struct Inner {
    stream: Stream,
    /// Frames on their way. No memory while there are none.
    out: Vec<u8>,
    /// How much of `out` the socket has.
    written: usize,
    guard: Guard,
    /// Whether something came since [`Wire::heard`] was last asked.
    heard: bool,
}

impl Wire {
    pub(crate) fn new(local: &Rc<Local>, stream: Stream, guard: Guard) -> Rc<Self> {
        let inner = Inner { stream, out: Vec::new(), written: 0, guard, heard: false };
        Rc::new(Self { local: local.clone(), inner: RefCell::new(inner) })
    }

    /// Brings to the socket what is collected.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.borrow_mut().poll_drain(&self.local, cx)
    }

    /// How much waits to be drained.
    pub(crate) fn waiting(&self) -> usize {
        let inner = self.inner.borrow();
        inner.out.len() - inner.written
    }

    /// Does something with the guard.
    pub(crate) fn guard<T>(&self, with: impl FnOnce(&mut Guard) -> T) -> T {
        with(&mut self.inner.borrow_mut().guard)
    }

    /// Whether something came since this was last asked.
    pub(crate) fn heard(&self) -> bool {
        std::mem::take(&mut self.inner.borrow_mut().heard)
    }

    /// Says that nothing more is sent.
    pub(crate) fn shutdown(&self) {
        self.inner.borrow_mut().stream.writer().shutdown();
    }
}

impl Inner {
    fn poll_drain(&mut self, local: &Local, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = self.stream.writer();
        if self.written < self.out.len() {
            while self.written < self.out.len() {
                self.written += ready!(writer.poll_write(cx, &[IoSlice::new(&self.out[self.written..])]))?;
            }
            self.written = 0;
            local.buffers.give(std::mem::take(&mut self.out));
        }
        writer.poll_flush(cx)
    }

    /// Waits for room for more frames.
    fn poll_room(&mut self, local: &Local, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() >= MOST {
            ready!(self.poll_drain(local, cx))?;
        }
        if self.out.capacity() == 0 {
            self.out = local.buffers.take();
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.guard.went(bytes);
        self.out.extend_from_slice(bytes);
    }
}

/// What the library reads and writes.
pub(crate) struct Io(pub(crate) Rc<Wire>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.inner.borrow_mut();
        let inner = &mut *inner;
        // The connection's task sees it, and ends it.
        let end = |cx: &mut Context<'_>| {
            cx.waker().wake_by_ref();
            Poll::Pending
        };
        if inner.guard.tripped().is_some() {
            return end(cx);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.stream).poll_read(cx, buf))?;
        inner.heard = true;
        inner.guard.came(&buf.filled()[before..]);
        if inner.guard.tripped().is_some() {
            buf.set_filled(before);
            return end(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.inner.borrow_mut();
        ready!(inner.poll_room(&self.0.local, cx))?;
        inner.add(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.inner.borrow_mut();
        ready!(inner.poll_room(&self.0.local, cx))?;
        pieces.iter().for_each(|piece| inner.add(piece));
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_drain(cx))?;
        self.0.shutdown();
        Poll::Ready(Ok(()))
    }
}
