//! Memory of idle WebSocket tunnels.
use crate::proxies;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Opens so many tunnels through each proxy that keeps them, and prints what each costs.
pub(crate) fn run(tunnels: usize) -> Result<(), String> {
    let dir = tempfile::TempDir::new().map_err(|e| e.to_string())?;
    let port = proxies::free_port();
    let _backend = proxies::backend(port)?;
    // nginx is left out: its configuration here tunnels nothing.
    let proxies = proxies::all(dir.path(), port)?;
    for proxy in proxies.iter().filter(|p| p.name != "nginx") {
        let before = proxy.memory();
        let open: Vec<_> = (0..tunnels)
            .map(|_| tunnel(proxy.port))
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{}: {e}; this takes {} descriptors here: ulimit -n", proxy.name, tunnels + 100))?;
        // What the handshakes left over is tidied up by then.
        std::thread::sleep(Duration::from_secs(3));
        let bytes = proxy.memory().saturating_sub(before);
        println!("{:<10}{:>8} B a tunnel ({} idle)", proxy.name, bytes / open.len().max(1) as u64, open.len());
    }
    Ok(())
}

fn tunnel(port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(
        b"GET /ws HTTP/1.1\r\nHost: perf\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = [0; 1024];
    let n = stream.read(&mut head)?;
    if !head[..n].starts_with(b"HTTP/1.1 101") {
        return Err(std::io::Error::other("no 101"));
    }
    Ok(stream)
}
