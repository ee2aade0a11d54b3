//! Bytes both ways between a client and a server after an upgrade, until both sides have closed or were silent too
//! long.
//!
//! An idle tunnel is its two sockets, one timer and no buffer: what is read goes through a scratch buffer of the
//! thread straight to the other socket, and only what that did not take is kept.
use crate::http::account::Request;
use crate::upstream::Slot;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
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
        from: &TcpStream,
        to: &TcpStream,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                ready!(to.poll_write_ready(cx))?;
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
            if self.told {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                self.told = true;
                // The other side may be gone already; that shows when it is read.
                let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
                return Poll::Ready(Ok(()));
            }
            ready!(from.poll_read_ready(cx))?;
            match SCRATCH.with_borrow_mut(|scratch| self.pass(from, to, scratch)) {
                Ok(()) => *moved = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// One read and, as far as the other side takes it, one write.
    fn pass(&mut self, from: &TcpStream, to: &TcpStream, scratch: &mut [u8]) -> io::Result<()> {
        let n = from.try_read(scratch)?;
        if n == 0 {
            self.ended = true;
            return Ok(());
        }
        self.bytes += n as u64;
        let written = match to.try_write(&scratch[..n]) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        self.pending.extend_from_slice(&scratch[written..n]);
        Ok(())
    }
}

/// Runs a tunnel to its end. `slot` is its place on the server, `account` what is counted and logged of it.
pub(crate) async fn run(tunnel: Tunnel, slot: Slot, mut account: Request, mut touch: Option<Touch>) {
    let Tunnel { client, server, from_client, from_server, timeout } = tunnel;
    let (mut up, mut down) = (Way::new(from_client), Way::new(from_server));
    let mut last = Instant::now();
    let pause = |touch: &Option<Touch>| touch.as_ref().map_or(timeout, |t| t.every.min(timeout));
    let mut sleep = pin!(sleep_until(last + pause(&touch)));
    let mut first_end = "";
    let end = poll_fn(|cx| {
        let mut moved = false;
        let up_done = up.poll(cx, &client, &server, &mut moved);
        let down_done = down.poll(cx, &server, &client, &mut moved);
        if first_end.is_empty() {
            first_end = match (&up_done, &down_done) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => "reset",
                (Poll::Ready(Ok(())), _) => "client-closed",
                (_, Poll::Ready(Ok(()))) => "server-closed",
                _ => "",
            };
        }
        match (up_done, down_done) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(_), Poll::Ready(_)) => {
                return Poll::Ready(first_end);
            }
            _ => {}
        }
        if moved {
            last = Instant::now();
        }
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(touch) = &mut touch {
                touch.keep();
            }
            if now >= last + timeout {
                return Poll::Ready("tunnel-timeout");
            }
            sleep.as_mut().reset((last + timeout).min(now + pause(&touch)));
        }
        Poll::Pending
    })
    .await;
    account.bytes_in += up.bytes;
    account.bytes_out += down.bytes;
    drop(slot);
    account.finish_tunnel(end);
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
