//! A request's body on its way to the server, beside the answer.
use super::body::Transfer;
use super::reason::Reason;
use crate::io::{self, Elapsed, Timer};
use crate::worker::Local;
use std::cell::Cell;
use std::time::Duration;
use tokio::net::TcpStream;

/// What an upload works on.
pub(crate) struct Uploading<'a> {
    pub(crate) local: &'a Local,
    pub(crate) client: &'a TcpStream,
    pub(crate) server: &'a TcpStream,
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
pub(crate) async fn run(up: Uploading<'_>) -> Result<(), Fault> {
    let mut timer = Timer::new();
    while !up.transfer.done() {
        match timer.within(up.client_timeout, up.client.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Fault::Client(Reason::CLIENT_GONE)),
            Err(Elapsed) => return Err(Fault::Client(Reason::BODY_TIMEOUT)),
        }
        let mut buf = up.local.buffers.take();
        let step =
            step(&up.local.buffers, &mut timer, &mut buf, up.client, up.server, up.transfer, up.server_timeout).await;
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

/// One read and its write; how many bytes belonged to the body.
async fn step(
    buffers: &io::Buffers,
    timer: &mut Timer,
    buf: &mut Vec<u8>,
    client: &TcpStream,
    server: &TcpStream,
    transfer: &mut Transfer,
    limit: Duration,
) -> Result<usize, Fault> {
    match client.try_read_buf(buf) {
        Ok(0) => return Err(Fault::Client(Reason::CLIENT_GONE)),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(0),
        Err(_) => return Err(Fault::Client(Reason::CLIENT_GONE)),
    }
    let (taken, written) = match transfer.plain(buf.len()) {
        Some(n) => {
            transfer.passed(n);
            (n, timer.within(limit, io::write_all(server, &buf[..n])).await)
        }
        None => {
            let mut framed = buffers.take();
            let taken = transfer.push(buf, &mut framed).map_err(Fault::Client);
            let written = timer.within(limit, io::write_all(server, &framed)).await;
            buffers.give(framed);
            (taken?, written)
        }
    };
    match written {
        Ok(Ok(())) => Ok(taken),
        Ok(Err(_)) | Err(Elapsed) => Err(Fault::Server),
    }
}
