//! Requests, each with a key, over kept connections; at a rate, or as fast as it goes.
use super::cluster::key;
use crate::setup;
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections at once.
const CONNECTIONS: usize = 16;

/// One kept connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// A request with a key, and its whole answer.
    pub(crate) fn request(&mut self, key: &str) -> Result<()> {
        let request = format!("GET / HTTP/1.1\r\nHost: perf\r\nX-Key: {key}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length, mut good) = (String::new(), 0, false);
        loop {
            line.clear();
            ensure!(self.0.read_line(&mut line)? > 0, "the proxy closed");
            good |= line.starts_with("HTTP/1.1 200");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        ensure!(good, "not the answer of the server");
        std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink())?;
        Ok(())
    }
}

/// Sends a request for each key of `from..to`, at `rate` a second (0: as fast as it goes). `answered` gets each key when
/// its answer is there. Returns the time it took.
pub(crate) fn run(
    addr: SocketAddr,
    (from, to): (usize, usize),
    rate: usize,
    answered: impl Fn(usize) + Sync,
) -> Result<Duration> {
    let (next, begun) = (AtomicUsize::new(from), Instant::now());
    let one = || -> Result<()> {
        setup::pin_this_thread(setup::LOAD_CORE)?;
        let mut client = Client::new(addr)?;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= to {
                return Ok(());
            }
            if rate > 0 {
                let due = begun + Duration::from_secs_f64((i - from) as f64 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            client.request(&key(i)).with_context(|| format!("request {i}"))?;
            answered(i);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client died"))?)
    })?;
    Ok(begun.elapsed())
}
