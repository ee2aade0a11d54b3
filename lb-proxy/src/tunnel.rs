//! Bytes both ways between a client and a server after an upgrade, until both sides have closed or were silent too
//! long.
//!
//! An idle tunnel is its two sockets, one timer and no buffer: what is read goes through a scratch buffer of the
//! thread straight to the other socket, and only what that did not take is kept.
use crate::http::account::Request;
use crate::listener::Admission;
use crate::upstream::Slot;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

/// What a tunnel is made of.
pub(crate) struct Tunnel {
    /// The client's side.
    pub(crate) client: TcpStream,
    /// The server's side.
    pub(crate) server: TcpStream,
    /// Came from the client behind its request.
    pub(crate) from_client: Vec<u8>,
    /// Came from the server behind its 101.
    pub(crate) from_server: Vec<u8>,
    /// Silence of both sides that ends it.
    pub(crate) timeout: Duration,
    /// Its place on the server.
    pub(crate) slot: Slot,
    /// What is counted and logged of it.
    pub(crate) account: Request,
    /// The pins it keeps alive.
    pub(crate) touch: Option<Touch>,
    /// Its place among the client connections.
    pub(crate) admission: Admission,
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
}

impl Way {
    fn new(pending: Vec<u8>) -> Self {
        let bytes = pending.len() as u64;
        Self { pending, ended: false, told: false, bytes }
    }

    /// Moves what there is. Ready once the direction has closed on both ends.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &WriteHalf<'_>,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                ready!(to.as_ref().poll_write_ready(cx))?;
                match to.try_write(&self.pending) {
                    Ok(n) => {
                        *moved = true;
                        self.pending.drain(..n);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
            if self.pending.capacity() > 0 {
                self.pending = Vec::new();
            }
            if self.ended && !self.told {
                // The other side may be gone already; that shows when it is read.
                let _ = socket2::SockRef::from(to.as_ref()).shutdown(std::net::Shutdown::Write);
                self.told = true;
            }
            if self.told {
                return Poll::Ready(Ok(()));
            }
            ready!(SCRATCH.with_borrow_mut(|scratch| self.pass(cx, from, to, scratch)))?;
            *moved = true;
        }
    }

    /// One read and, as far as the other side takes it, one write.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &WriteHalf<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        if read.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.bytes += read.len() as u64;
        let written = match to.try_write(read) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Poll::Ready(Err(e)),
        };
        self.pending.extend_from_slice(&read[written..]);
        Poll::Ready(Ok(()))
    }
}

/// Runs a tunnel to its end.
pub(crate) async fn run(mut tunnel: Box<Tunnel>) {
    let timeout = tunnel.timeout;
    let touch = tunnel.touch.take();
    let pause = touch.as_ref().map_or(timeout, |t| t.every.min(timeout));
    let mut up = Way::new(std::mem::take(&mut tunnel.from_client));
    let mut down = Way::new(std::mem::take(&mut tunnel.from_server));
    let end = {
        let (mut from_client, to_client) = tunnel.client.split();
        let (mut from_server, to_server) = tunnel.server.split();
        let mut last = Instant::now();
        let mut sleep = pin!(sleep_until(last + pause));
        let mut first_end = "";
        poll_fn(|cx| {
            let mut moved = false;
            let ways = (
                up.poll(cx, &mut from_client, &to_server, &mut moved),
                down.poll(cx, &mut from_server, &to_client, &mut moved),
            );
            match ways {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready("reset"),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) if first_end.is_empty() => return Poll::Ready("closed"),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(first_end),
                (Poll::Ready(Ok(())), Poll::Pending) => first_end = "client-closed",
                (Poll::Pending, Poll::Ready(Ok(()))) => first_end = "server-closed",
                (Poll::Pending, Poll::Pending) => {}
            }
            if moved {
                last = Instant::now();
            }
            while sleep.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if now >= last + timeout {
                    return Poll::Ready("tunnel-timeout");
                }
                if let Some(touch) = &touch {
                    touch.keep();
                }
                sleep.as_mut().reset((last + timeout).min(now + pause));
            }
            Poll::Pending
        })
        .await
    };
    let Tunnel { slot, mut account, admission, .. } = *tunnel;
    account.bytes_in += up.bytes;
    account.bytes_out += down.bytes;
    drop(slot);
    account.finish_tunnel(end);
    drop(admission);
}

/// Keeps the entries alive that led a tunnel to its server: an open socket is use.
pub(crate) struct Touch {
    /// How often; a fraction of the shortest expiry.
    pub(crate) every: Duration,
    /// Tables and keys.
    pub(crate) pins: Vec<(std::sync::Arc<lb_core::table::StickTable>, lb_core::table::StickKey)>,
}

impl Touch {
    fn keep(&self) {
        for (table, key) in &self.pins {
            let _ = table.lookup(key, crate::shared::now());
        }
    }
}
