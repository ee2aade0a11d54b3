//! Idle WebSockets: how much user memory a proxy holds for each.
use crate::measure::memory;
use crate::proxy::{Kind, Proxy};
use crate::{backend, setup};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: perf\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: SERVERID=n1\r\n\r\n";
/// Tunnels opened and closed before the first look, so that what a proxy sets up once is not counted.
const WARM: usize = 50;

/// Opens so many tunnels through each proxy in turn, and prints what each costs.
pub(crate) fn run(tunnels: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("taskset", "util-linux")])?;
    // Both ends of both connections of every tunnel are in this process and the proxy: two here, two there.
    setup::descriptors(u64::try_from(tunnels)? * 2 + 1000)?;
    let backend = backend::start(setup::LOAD_CORE)?;
    println!("{tunnels} idle WebSocket tunnels: user memory for each, in bytes");
    println!("{:8} {:>20} {:>28}", "", "anonymous resident", "proportional set size");
    for kind in [Kind::Lb, Kind::Haproxy] {
        let proxy = Proxy::start(kind, backend)?;
        let (anonymous, proportional) = measure(&proxy, tunnels).with_context(|| format!("through {}", kind.name()))?;
        println!("{:8} {anonymous:>20.0} {proportional:>28.0}", kind.name());
    }
    Ok(())
}

fn measure(proxy: &Proxy, tunnels: usize) -> Result<(f64, f64)> {
    drop(open(proxy.addr, WARM)?);
    let before = memory(proxy.pid)?;
    let mut open = open(proxy.addr, tunnels)?;
    let after = memory(proxy.pid)?;
    // They are tunnels still, every one: a byte comes back.
    for stream in &mut open {
        stream.write_all(b"!")?;
        let mut echo = [0];
        stream.read_exact(&mut echo).context("a tunnel was lost")?;
        ensure!(echo == *b"!", "a tunnel changed a byte");
    }
    let each = |after: u64, before: u64| (after as f64 - before as f64) / tunnels as f64;
    Ok((each(after.0, before.0), each(after.1, before.1)))
}

/// So many WebSockets.
pub(crate) fn open(addr: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|i| {
            let mut stream = TcpStream::connect(addr).with_context(|| format!("tunnel {i}"))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(UPGRADE.as_bytes())?;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).with_context(|| format!("tunnel {i}"))?;
                head.push(byte[0]);
            }
            ensure!(head.starts_with(b"HTTP/1.1 101"), "tunnel {i}: {}", String::from_utf8_lossy(&head));
            Ok(stream)
        })
        .collect()
}
