//! The server behind the proxies: one thread, epoll, a fixed answer of 1 KB to every request; upgrades get a 101 and
//! silence.
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const LISTENER: u64 = u64::MAX;

/// Serves until it is killed.
pub(crate) fn run(port: u16) -> Result<(), String> {
    serve(port).map_err(|e| format!("backend on port {port}: {e}"))
}

fn serve(port: u16) -> std::io::Result<()> {
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    let mut buf = vec![0; 16 * 1024];
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let id = stream.as_raw_fd() as u64;
                    epoll::add(&poll, &stream, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
                    connections.insert(id, stream);
                }
                continue;
            }
            let Some(stream) = connections.get_mut(&id) else { continue };
            // The load never splits a request, and pipelines none.
            let done = match stream.read(&mut buf) {
                Ok(0) => true,
                Ok(n) if n > 0 && buf[..n].windows(9).any(|w| w == b"websocket") => {
                    stream.write_all(upgraded.as_bytes()).is_err()
                }
                Ok(_) => stream.write_all(answer.as_bytes()).is_err(),
                Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
            };
            if done {
                connections.remove(&id);
            }
        }
    }
}
