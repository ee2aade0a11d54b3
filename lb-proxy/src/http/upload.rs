//! A request's body on its way to the server, beside the answer.
use super::body::Transfer;
use super::patience::{Lost, Patience};
use super::reason::Reason;
use crate::http2::Exchange;
use crate::io::{self, Elapsed, Timer};
use crate::splice;
use crate::stream::{Reader, Writer};
use crate::worker::Local;
use std::cell::Cell;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What an upload works on.
pub(crate) struct Uploading<'a, 's> {
    pub(crate) local: &'a Local,
    pub(crate) client: &'a mut Reader<'s>,
    pub(crate) server: &'a Writer<'s>,
    pub(crate) transfer: &'a mut Transfer,
    /// Gets what the client sent beyond the body.
    pub(crate) input: &'a mut Vec<u8>,
    pub(crate) patience: Patience,
    pub(crate) server_timeout: Duration,
    /// Counts what was taken from the client.
    pub(crate) sent: &'a Cell<u64>,
}

/// Whose fault it is that it did not end.
pub(crate) enum Fault {
    Client(Reason),
    Server,
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        Self::Client(match lost {
            Lost::Silent => Reason::BODY_TIMEOUT,
            Lost::Slow => Reason::BODY_TOO_SLOW,
        })
    }
}

/// Runs to the end of the body. Holds buffers only while it moves something.
pub(crate) async fn run(mut up: Uploading<'_, '_>) -> Result<(), Fault> {
    let mut timer = Timer::new();
    while !up.transfer.done() {
        if up.transfer.left().is_some_and(|left| left >= splice::BODY) {
            up.splice(&mut timer).await?;
            if up.transfer.done() {
                break;
            }
        }
        let mut buf = Vec::new();
        let step = up.step(&mut timer, &mut buf).await;
        if let Ok(taken) = step {
            up.sent.set(up.sent.get() + taken as u64);
            if taken < buf.len() {
                up.input.extend_from_slice(&buf[taken..]);
            }
        }
        up.local.buffers.give(buf);
        step?;
    }
    Ok(())
}

impl Uploading<'_, '_> {
    /// One read and its write; how many bytes belonged to the body.
    async fn step(&mut self, timer: &mut Timer, buf: &mut Vec<u8>) -> Result<usize, Fault> {
        match self.patience.wait(timer, io::fill(self.client, &self.local.buffers, buf)).await {
            Ok(Ok(n @ 1..)) => self.patience.moved(n as u64),
            Ok(Ok(0)) if self.client.h2().is_some() => {}
            Ok(_) => return Err(Fault::Client(Reason::CLIENT_GONE)),
            Err(lost) => return Err(lost.into()),
        }
        if self.client.h2().is_some() || self.server.h2().is_some() {
            return self.step_h2(timer, buf).await;
        }
        let (taken, written) = match self.transfer.plain(buf.len()) {
            Some(n) => {
                self.transfer.passed(n);
                (n, timer.within(self.server_timeout, io::write_all(self.server, &buf[..n])).await)
            }
            None => {
                let mut framed = self.local.buffers.take();
                let taken = self.transfer.push(buf, &mut framed).map_err(Fault::Client)?;
                let written = timer.within(self.server_timeout, io::write_all(self.server, &framed)).await;
                self.local.buffers.give(framed);
                (taken, written)
            }
        };
        match written {
            Ok(Ok(())) => Ok(taken),
            Ok(Err(_)) | Err(Elapsed) => Err(Fault::Server),
        }
    }

    /// Passes on what remains without copying it, from TCP to TCP, as long as there are pipes for it.
    async fn splice(&mut self, timer: &mut Timer) -> Result<(), Fault> {
        let (Some(from), Some(to)) = (self.client.tcp(), self.server.tcp()) else { return Ok(()) };
        while let Some(left @ 1..) = self.transfer.left() {
            let mut pipe = match self.patience.wait(timer, splice::fill(from, left)).await {
                Ok(Ok(Some(pipe))) if pipe.held() > 0 => pipe,
                Ok(Ok(None)) => return Ok(()),
                Ok(_) => return Err(Fault::Client(Reason::CLIENT_GONE)),
                Err(lost) => return Err(lost.into()),
            };
            self.patience.moved(pipe.held().into());
            self.transfer.passed(pipe.held() as usize);
            self.sent.set(self.sent.get() + u64::from(pipe.held()));
            while pipe.held() > 0 {
                let drained = timer.within(self.server_timeout, splice::drain(&mut pipe, to)).await;
                if !matches!(drained, Ok(Ok(()))) {
                    return Err(Fault::Server);
                }
            }
        }
        Ok(())
    }

    /// The second half of a step, where one side or both speak HTTP/2: ends and trailers are told apart from bytes.
    async fn step_h2(&mut self, timer: &mut Timer, buf: &[u8]) -> Result<usize, Fault> {
        let mut framed = self.local.buffers.take();
        let taken = self.transfer.push(buf, &mut framed).map_err(Fault::Client)?;
        if let Some(client) = self.client.h2().filter(|client| client.ended() && !self.transfer.done()) {
            self.transfer.closed(client.trailers(), &mut framed).map_err(Fault::Client)?;
        }
        let written =
            timer.within(self.server_timeout, write(self.server, &framed, &[], self.transfer, &Cell::new(0))).await;
        self.local.buffers.give(framed);
        match written {
            Ok(Ok(())) => Ok(taken),
            Ok(Err(_)) | Err(Elapsed) => Err(Fault::Server),
        }
    }
}

/// Sends what a request begins with: head and the body that is there already. With HTTP/2 the head has gone before.
pub(crate) async fn begin(to: &Writer<'_>, head: &[u8], body: &[u8], transfer: &Transfer) -> std::io::Result<()> {
    match to.h2() {
        None if body.is_empty() => io::write_all(to, head).await,
        None => io::write_both(to, head, body).await,
        Some(_) if body.is_empty() && transfer.trailers().is_empty() => Ok(()),
        Some(_) => write(to, body, &[], transfer, &Cell::new(0)).await,
    }
}

/// Takes what is there already of a body of HTTP/2, up to a buffer's size, so that a small one leaves with its head, and can
/// be sent again. How many bytes that was.
pub(crate) fn at_once(
    client: &Exchange,
    local: &Local,
    transfer: &mut Transfer,
    out: &mut Vec<u8>,
) -> Result<u64, Reason> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut buf = local.buffers.take();
    let mut total = 0;
    while !transfer.done() && out.len() < io::BUFFER {
        let read = io::poll_fill(&mut Reader::H2(client), &local.buffers, &mut buf, &mut cx);
        // A reset shows when the stream is read next.
        let Poll::Ready(Ok(_)) = read else { break };
        total += transfer.push(&buf, out)? as u64;
        if client.ended() && !transfer.done() {
            transfer.closed(client.trailers(), out)?;
        }
        buf.clear();
    }
    local.buffers.give(buf);
    Ok(total)
}

/// Writes a piece of a body; its end and its trailers where the other side speaks HTTP/2. `count` grows by what a socket
/// has taken; a stream of HTTP/2 counts itself.
pub(crate) async fn write(
    to: &Writer<'_>,
    first: &[u8],
    second: &[u8],
    transfer: &Transfer,
    count: &Cell<u64>,
) -> std::io::Result<()> {
    let Some(stream) = to.h2() else { return io::write_counted(to, first, second, count).await };
    let trailers = transfer.trailers();
    stream.send(first, second, transfer.done() && trailers.is_empty()).await?;
    if transfer.done() && !trailers.is_empty() { stream.finish(trailers) } else { Ok(()) }
}
