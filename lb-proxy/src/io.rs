//! Waiting on sockets: lazy deadlines, whole writes, buffers that are held only while they hold something.
use crate::clock;
use crate::stream::Writer;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

/// What a read buffer holds.
pub(crate) const BUFFER: usize = 16 * 1024;

/// A connection's one timer. Setting a deadline costs nothing while the timer is armed for an earlier time: it then
/// fires early, sees that the deadline moved, and sleeps on. So a busy connection touches the timer wheel a few times
/// a minute, not several times a request.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

/// The time is over.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl Timer {
    /// Armed far away.
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now() + Duration::from_secs(86_400))) }
    }

    /// Waits for `future`, at most for `limit`.
    pub(crate) fn within<F: Future>(&mut self, limit: Duration, future: F) -> Bounded<'_, F> {
        Bounded { timer: self, bound: Bound::Within(limit), future }
    }

    /// Waits for `future`, at most until `at`.
    pub(crate) fn until<F: Future>(&mut self, at: Instant, future: F) -> Bounded<'_, F> {
        Bounded { timer: self, bound: Bound::At(at), future }
    }

    /// Ready once it is `at`.
    pub(crate) fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.deadline() > at {
            self.sleep.as_mut().reset(at);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

/// When the time is over.
#[derive(Clone, Copy)]
enum Bound {
    /// The clock is read only when there is something to wait for.
    Within(Duration),
    At(Instant),
}

pin_project_lite::pin_project! {
    /// See [`Timer::within`]. Not an `async fn`: that would hold `future` once as what it was given and once as what
    /// it waits for, and a request's future is made of many of these.
    pub(crate) struct Bounded<'a, F> {
        timer: &'a mut Timer,
        bound: Bound,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Bounded<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let at = match *this.bound {
            Bound::At(at) => at,
            Bound::Within(limit) => clock::turn() + limit,
        };
        *this.bound = Bound::At(at);
        this.timer.poll_until(at, cx).map(|()| Err(Elapsed))
    }
}

/// Appends what the socket has to `buf`, at least one byte; 0: the other side has closed. An empty `buf` has memory only
/// while there is something to read. (A socket counts as readable until a read says otherwise: to wait for readiness first
/// is not enough.)
///
/// Goes through `AsyncRead` rather than `try_read`: only there does tokio take a read that did not fill its buffer as the
/// end of what there is, and saves the next wait a read that finds nothing.
pub(crate) async fn fill(
    from: &mut (impl AsyncRead + Unpin),
    buffers: &Buffers,
    buf: &mut Vec<u8>,
) -> io::Result<usize> {
    poll_fn(|cx| poll_fill(from, buffers, buf, cx)).await
}

/// See [`fill`].
pub(crate) fn poll_fill(
    from: &mut (impl AsyncRead + Unpin),
    buffers: &Buffers,
    buf: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let empty = buf.capacity() == 0;
    if empty {
        *buf = buffers.take();
    }
    let read = poll_read_buf(Pin::new(from), cx, buf);
    if empty && read.is_pending() {
        buffers.give(std::mem::take(buf));
    }
    read
}

/// Writes all of it, down to the socket.
pub(crate) async fn write_all(to: &Writer<'_>, bytes: &[u8]) -> io::Result<()> {
    write_both(to, bytes, &[]).await
}

/// Writes both, in one call where the socket takes it.
pub(crate) async fn write_both(to: &Writer<'_>, first: &[u8], second: &[u8]) -> io::Result<()> {
    write_counted(to, first, second, &Cell::new(0)).await
}

/// As [`write_both`]; `count` grows by what the socket has taken.
pub(crate) async fn write_counted(to: &Writer<'_>, first: &[u8], second: &[u8], count: &Cell<u64>) -> io::Result<()> {
    let mut written = 0;
    poll_fn(|cx| {
        while written < first.len() + second.len() {
            let n = ready!(match written.checked_sub(first.len()) {
                Some(at) => to.poll_write(cx, &[IoSlice::new(&second[at..])]),
                None if second.is_empty() => to.poll_write(cx, &[IoSlice::new(&first[written..])]),
                None => to.poll_write(cx, &[IoSlice::new(&first[written..]), IoSlice::new(second)]),
            })?;
            written += n;
            count.set(count.get() + n as u64);
        }
        to.poll_flush(cx)
    })
    .await
}

/// A worker's spare buffers. The last one given back is the next one taken: its memory is still in the cache.
#[derive(Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// How many are kept.
    const KEPT: usize = 64;

    /// An empty buffer of [`BUFFER`] bytes.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// Gives one back.
    pub(crate) fn give(&self, mut buf: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buf.capacity() == BUFFER && spare.len() < Self::KEPT {
            buf.clear();
            spare.push(buf);
        }
    }
}
