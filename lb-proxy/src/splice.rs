//! Bytes from one TCP socket to another that are never copied into this process: through a pipe, by splice(2).
//!
//! Two calls a piece as with copying, but no memory is touched: for bulk this is half the cost, for small pieces it is
//! more (there is one call that finds nothing). So a direction copies until a read shows that there is plenty, and
//! copies again once there is not. A direction has a pipe only while bytes flow in it; clean ones go back to a small
//! stock of the thread's.
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A read of so many bytes shows that there is plenty.
pub(crate) const PLENTY: usize = 16 * 1024;
/// A pipe holds so many bytes where the kernel allows it: a slot for each page, and a network packet takes a slot.
const CAPACITY: usize = 256 * 1024;
/// After so many bytes others have their turn.
const TURN: usize = 1024 * 1024;
/// A body of HTTP with so many bytes to come is worth it.
pub(crate) const BODY: u64 = 128 * 1024;
/// Pipes that a thread has at a time; past it, it copies. The kernel makes the pipes of a user with many tiny.
const MOST: usize = 64;
/// Pipes that it keeps for later.
const KEPT: usize = 8;

thread_local! {
    static STOCK: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static OUT: Cell<usize> = const { Cell::new(0) };
    /// The kernel does not do this.
    static UNFIT: Cell<bool> = const { Cell::new(false) };
}

/// A pipe's two ends.
#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe, and how much of what was read is still in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: u32,
}

/// What a direction came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// The sender has closed; all it sent is on its way.
    Ended,
    /// It is better to copy.
    Copy,
}

impl Pipe {
    fn take() -> Option<Self> {
        if UNFIT.get() || OUT.get() >= MOST {
            return None;
        }
        let ends = STOCK.with_borrow_mut(Vec::pop).or_else(|| {
            // Out of descriptors: copying needs none.
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // What it has is enough where it may not have more.
            let _ = fcntl_setpipe_size(&write, CAPACITY);
            Some(Ends { read, write })
        })?;
        OUT.set(OUT.get() + 1);
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes that were read and not taken yet.
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// From the socket into the empty pipe, so many bytes at most.
    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let n = from.try_io(Interest::READABLE, || Ok(between(from, &ends.write, most.min(CAPACITY))?))?;
        // No more than CAPACITY was asked for.
        self.held = u32::try_from(n).unwrap_or(u32::MAX);
        Ok(n)
    }

    /// From the pipe into the socket.
    fn drain(&mut self, to: &TcpStream) -> io::Result<()> {
        let Some(ends) = &self.ends else { return Ok(()) };
        let n = to.try_io(Interest::WRITABLE, || Ok(between(&ends.read, to, self.held as usize)?))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held -= u32::try_from(n).unwrap_or(self.held);
        Ok(())
    }
}

fn between(from: impl AsFd, to: impl AsFd, len: usize) -> Result<usize, Errno> {
    loop {
        match splice(&from, None, &to, None, len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Whether the kernel cannot do this at all, which is then remembered.
fn unfit(error: &io::Error) -> bool {
    let unfit = matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::PERM));
    if unfit {
        UNFIT.set(true);
    }
    unfit
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OUT.set(OUT.get() - 1);
        // One with bytes left in it belongs to its tunnel alone.
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            STOCK.with_borrow_mut(|stock| {
                if stock.len() < KEPT {
                    stock.push(ends);
                }
            });
        }
    }
}

/// Moves what there is. `pipe` holds what the receiver has not taken yet, and is given back when there is nothing;
/// `bytes` counts what was read. Pending: there is nothing, or the receiver takes nothing; or it is the others' turn.
pub(crate) fn poll(
    cx: &mut Context<'_>,
    from: &TcpStream,
    to: &TcpStream,
    pipe: &mut Option<Box<Pipe>>,
    bytes: &mut u64,
) -> Poll<io::Result<Spliced>> {
    let before = *bytes;
    let Some(mut mine) = pipe.take().map(|pipe| *pipe).or_else(Pipe::take) else {
        return Poll::Ready(Ok(Spliced::Copy));
    };
    loop {
        while mine.held > 0 {
            match mine.drain(to) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if let Poll::Ready(ready) = to.poll_write_ready(cx) {
                        ready?;
                    } else {
                        *pipe = Some(Box::new(mine));
                        return Poll::Pending;
                    }
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        if *bytes - before >= TURN as u64 {
            *pipe = Some(Box::new(mine));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match from.poll_read_ready(cx) {
            Poll::Ready(ready) => ready?,
            // It waits by reading, so that whoever waits next has readiness asked for in the same way.
            Poll::Pending if *bytes - before >= PLENTY as u64 => return Poll::Pending,
            Poll::Pending => return Poll::Ready(Ok(Spliced::Copy)),
        }
        match mine.fill(from, CAPACITY) {
            Ok(0) => return Poll::Ready(Ok(Spliced::Ended)),
            Ok(n) => *bytes += n as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if unfit(&e) => return Poll::Ready(Ok(Spliced::Copy)),
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
}

/// Waits for bytes and takes them into a pipe, so many at most; one that holds nothing: the sender has closed. `None`: it is
/// better to copy.
pub(crate) async fn fill(from: &TcpStream, most: u64) -> io::Result<Option<Pipe>> {
    let most = usize::try_from(most).unwrap_or(CAPACITY);
    loop {
        poll_fn(|cx| from.poll_read_ready(cx)).await?;
        let Some(mut pipe) = Pipe::take() else { return Ok(None) };
        match pipe.fill(from, most) {
            Ok(_) => return Ok(Some(pipe)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if unfit(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Waits until the receiver has taken some of what the pipe holds.
pub(crate) async fn drain(pipe: &mut Pipe, to: &TcpStream) -> io::Result<()> {
    loop {
        match pipe.drain(to) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => poll_fn(|cx| to.poll_write_ready(cx)).await?,
            done => return done,
        }
    }
}
