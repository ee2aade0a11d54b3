//! A request's body on its way to the server, beside the answer.
use super::body::Transfer;
use super::reason::Reason;
use crate::io::{self, Elapsed, Timer};
use crate::stream::{Reader, Writer};
use crate::worker::Local;
use std::cell::Cell;
use std::time::Duration;

/// What an upload works on.
pub(crate) struct Uploading<'a, 's> {
    pub(crate) local: &'a Local,
    pub(crate) client: &'a mut Reader<'s>,
    pub(crate) server: &'a Writer<'s>,
    pub(crate) transfer: &'a mut Transfer,
    /// Gets what the client sent beyond the body.
    pub(crate) input: &'a mut Vec<u8>,
    pub(crate) client_timeout: Duration,
    pub(crate) server_timeout: Duration,
    /// Counts what was taken from the client.
    pub(crate) sent: &'a Cell<u64>,
}

/// Whose fault it is that it did not end.
pub(crate) enum Fault {
    Client(Reason),
    Server,
}

/// Runs to the end of the body. Holds buffers only while it moves something.
pub(crate) async fn run(mut up: Uploading<'_, '_>) -> Result<(), Fault> {
    let mut timer = Timer::new();
    while !up.transfer.done() {
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
        match timer.within(self.client_timeout, io::fill(self.client, &self.local.buffers, buf)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(Fault::Client(Reason::CLIENT_GONE)),
            Err(Elapsed) => return Err(Fault::Client(Reason::BODY_TIMEOUT)),
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
}
