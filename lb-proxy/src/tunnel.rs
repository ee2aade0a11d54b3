//! Bytes both ways between a client and a server after an upgrade, until both sides have closed or were silent too
//! long.
//!
//! An idle tunnel is its two sockets, one timer and no buffer: what is read goes through a scratch buffer of the
//! thread straight to the other socket, and only what that did not take is kept. What flows in bulk from TCP to TCP is
//! not copied at all ([`splice`]).
use crate::http::account::Request;
use crate::http::limits::Opened;
use crate::listener::Admission;
use crate::shared::now;
use crate::splice::{self, Pipe, Spliced};
use crate::stream::{Reader, Stream, Writer};
use crate::tcp::first::Unanswered;
use crate::upstream::Slot;
use lb_core::table::{Hold, StickKey, StickTable};
use lb_core::time::millis;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

/// A tunnel. On the heap as one piece, so that its task is small.
pub(crate) struct Tunnel {
    client: Stream,
    server: Stream,
    up: Way,
    down: Way,
    /// Silence of both sides that ends it, in milliseconds.
    timeout: u64,
    /// As that, once the server has closed.
    after_server: u64,
    /// When something moved last.
    last: Instant,
    /// Which side closed first; empty: none yet.
    closed: &'static str,
    /// What is to be remembered once the server answers; it is shown what that says.
    first: Option<Box<Unanswered>>,
    account: Request,
    holding: Holding,
    /// Given back in this order at the end.
    _slot: Slot,
    _opened: Opened,
    _admission: Option<Admission>,
}

/// What a tunnel begins with.
pub(crate) struct Start {
    pub(crate) client: Stream,
    pub(crate) server: Stream,
    /// Came from the client behind its request.
    pub(crate) from_client: Vec<u8>,
    /// Came from the server behind its 101.
    pub(crate) from_server: Vec<u8>,
    /// Silence of both sides that ends it.
    pub(crate) timeout: Duration,
    /// As that, once the server has closed.
    pub(crate) after_server: Duration,
    /// The pins it keeps alive.
    pub(crate) holding: Holding,
    /// What is to be remembered once the server answers.
    pub(crate) first: Option<Box<Unanswered>>,
    /// What is counted and logged of it.
    pub(crate) account: Request,
    /// Its place on the server.
    pub(crate) slot: Slot,
    /// The keys whose connection it is, where tables count.
    pub(crate) opened: Opened,
    /// Its place among the client connections; a stream of HTTP/2 has none of its own.
    pub(crate) admission: Option<Admission>,
}

/// One direction.
struct Way {
    /// Read, but not taken by the other side yet.
    pending: Vec<u8>,
    /// The sender has closed.
    ended: bool,
    /// And the receiver was told.
    told: bool,
    bytes: u64,
    /// There is plenty: it is spliced, as long as it lasts.
    bulk: bool,
    /// What was spliced from the sender and not to the receiver yet.
    pipe: Option<Pipe>,
}

impl Way {
    fn new(pending: Vec<u8>) -> Self {
        let bytes = pending.len() as u64;
        Self { pending, ended: false, told: false, bytes, bulk: false, pipe: None }
    }

    /// Moves what there is. Ready once the direction has closed on both ends.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Reader<'_>,
        to: &Writer<'_>,
        moved: &mut bool,
        first: &mut Option<Box<Unanswered>>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                let n = ready!(to.poll_write(cx, &[IoSlice::new(&self.pending)]))?;
                *moved = true;
                self.pending.drain(..n);
            }
            if self.pending.capacity() > 0 {
                self.pending = Vec::new();
            }
            ready!(to.poll_flush(cx))?;
            if self.ended && !self.told {
                // The other side may be gone already; that shows when it is read.
                to.shutdown();
                self.told = true;
            }
            if self.told {
                return Poll::Ready(Ok(()));
            }
            if self.bulk
                && let (Some(from), Some(to)) = (from.tcp(), to.tcp())
            {
                let stood = (self.bytes, self.pipe.as_ref().map(Pipe::held));
                let spliced = splice::poll(cx, from, to, &mut self.pipe, &mut self.bytes);
                *moved |= stood != (self.bytes, self.pipe.as_ref().map(Pipe::held));
                match ready!(spliced)? {
                    Spliced::Ended => self.ended = true,
                    Spliced::Copy => self.bulk = false,
                }
                continue;
            }
            ready!(SCRATCH.with_borrow_mut(|scratch| self.pass(cx, from, to, scratch, first)))?;
            *moved = true;
        }
    }

    /// One read and, as far as the other side takes it, one write.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Reader<'_>,
        to: &Writer<'_>,
        scratch: &mut [u8],
        first: &mut Option<Box<Unanswered>>,
    ) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        if read.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.bytes += read.len() as u64;
        if let Some(first) = &mut *first {
            first.see(read);
        }
        let written = match to.poll_write(cx, &[IoSlice::new(read)]) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        self.bulk = read.len() >= splice::PLENTY && first.is_none();
        self.pending.extend_from_slice(&read[written..]);
        Poll::Ready(Ok(()))
    }
}

impl Tunnel {
    /// A tunnel of these.
    pub(crate) fn new(start: Start) -> Box<Self> {
        Box::new(Self {
            client: start.client,
            server: start.server,
            up: Way::new(start.from_client),
            down: Way::new(start.from_server),
            timeout: millis(start.timeout),
            after_server: millis(start.after_server),
            last: Instant::now(),
            closed: "",
            first: start.first,
            account: start.account,
            holding: start.holding,
            _slot: start.slot,
            _opened: start.opened,
            _admission: start.admission,
        })
    }

    /// Moves what there is both ways; ready with the word for how it ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let mut moved = false;
        let (mut from_client, to_client) = self.client.split();
        let (mut from_server, to_server) = self.server.split();
        let ways = (
            self.up.poll(cx, &mut from_client, &to_server, &mut moved, &mut None),
            self.down.poll(cx, &mut from_server, &to_client, &mut moved, &mut self.first),
        );
        if self.first.is_some() {
            self.settle(false);
        }
        if moved {
            self.last = Instant::now();
            self.account.flowed(self.up.bytes, self.down.bytes);
        }
        match ways {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready("reset"),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) if self.closed.is_empty() => return Poll::Ready("closed"),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(self.closed),
            (Poll::Ready(Ok(())), Poll::Pending) => self.closed = "client-closed",
            (Poll::Pending, Poll::Ready(Ok(()))) => self.closed = "server-closed",
            (Poll::Pending, Poll::Pending) => {}
        }
        Poll::Pending
    }

    /// Remembers what is to be remembered, if the server has answered by now; `held`: it has held the connection for
    /// long enough.
    fn settle(&mut self, held: bool) {
        let (ended, told) = (self.down.ended, self.up.told);
        // A server that closes in order after the client has taken what that sent.
        let answered = |first: &mut Box<Unanswered>| first.done || (ended && told) || (held && !ended);
        if let Some(first) = self.first.take_if(answered) {
            self.holding = first.confirm();
        } else if ended {
            // It closed without a word: that is no answer, whatever comes from the client yet.
            self.first = None;
        }
    }

    /// When silence ends it.
    fn deadline(&self) -> Instant {
        let silence = if self.closed == "server-closed" { self.after_server } else { self.timeout };
        self.last + Duration::from_millis(silence)
    }

    /// When the timer must fire first.
    fn first_look(&self) -> Instant {
        self.first.as_ref().map_or(self.deadline(), |first| first.due.min(self.deadline()))
    }

    /// The timer fired: when it must fire again; `None`: both sides were silent too long.
    fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.deadline() {
            return None;
        }
        if self.first.as_ref().is_some_and(|first| now >= first.due) {
            self.settle(true);
        }
        self.account.flowed(self.up.bytes, self.down.bytes);
        Some(self.deadline())
    }
}

/// Runs a tunnel to its end.
pub(crate) async fn run(mut tunnel: Box<Tunnel>) {
    let mut sleep = pin!(sleep_until(tunnel.first_look()));
    let end = poll_fn(|cx| {
        if let Poll::Ready(end) = tunnel.poll(cx) {
            return Poll::Ready(end);
        }
        if tunnel.deadline() < sleep.deadline() {
            sleep.as_mut().reset(tunnel.deadline());
        }
        if let Some(due) = tunnel.account.due(tunnel.up.bytes, tunnel.down.bytes).filter(|due| *due < sleep.deadline())
        {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            match tunnel.tick() {
                Some(next) => sleep.as_mut().reset(next),
                None => return Poll::Ready("tunnel-timeout"),
            }
        }
        Poll::Pending
    })
    .await;
    if end == "reset" && tunnel.account.is_tcp() {
        // Whoever is left must not take what came so far for whole.
        tunnel.client.reset_on_drop();
        tunnel.server.reset_on_drop();
    }
    let (up, down) = (tunnel.up.bytes, tunnel.down.bytes);
    tunnel.account.bytes_in += up;
    tunnel.account.bytes_out += down;
    tunnel.account.finish_tunnel(end);
}

/// The entries that led a tunnel to its server, held alive until it ends: an open socket is use.
#[derive(Default)]
pub(crate) struct Holding(Vec<Hold>);

impl Holding {
    /// Holds these.
    pub(crate) fn new<'a>(pins: impl Iterator<Item = (&'a Arc<StickTable>, &'a StickKey)>) -> Self {
        Self(pins.map(|(table, key)| table.hold(key, now())).collect())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|hold| hold.release(now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_tunnel_takes_a_few_hundred_bytes() {
        fn future<F>(_: fn(Box<Tunnel>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size_of::<Tunnel>() <= 432, "{}", size_of::<Tunnel>());
        assert!(future(run) <= 192, "{}", future(run));
    }
}
