//! The backend: one thread over epoll that answers every request with the same kilobyte and accepts every upgrade.
//!
//! As cheap as can be, so that it never is what limits the proxy: heads are only searched for their end, and a request
//! is taken to have no body. Not a server for anything else.
use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes of an answer's body.
pub(crate) const BODY: usize = 1024;

/// What a client of a WebSocket must be sent for the key `dGhlIHNhbXBsZSBub25jZQ==` (the example of RFC 6455).
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Connection {
    stream: TcpStream,
    /// The end of what was read so far, while it is an unfinished head.
    rest: Vec<u8>,
    tunnel: bool,
}

struct Backend {
    poll: OwnedFd,
    listener: TcpListener,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    answer: Vec<u8>,
}

/// Starts it on a thread pinned to a core.
pub(crate) fn start(core: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the backend")?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let number = u64::try_from(listener.as_raw_fd())?;
    epoll::add(&poll, &listener, EventData::new_u64(number), EventFlags::IN)?;
    let body = "x".repeat(BODY);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n");
    let answer = [head.as_bytes(), body.as_bytes()].concat();
    std::thread::Builder::new().name("backend".into()).spawn(move || {
        let pinned = crate::setup::pin_this_thread(core);
        let ended = pinned.and_then(|()| Backend { poll, listener, connections: Vec::new(), answer }.serve());
        if let Err(e) = ended {
            eprintln!("the backend ended: {e:#}");
            std::process::exit(1);
        }
    })?;
    Ok(addr)
}

impl Backend {
    fn serve(mut self) -> Result<()> {
        let listening = u64::try_from(self.listener.as_raw_fd())?;
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut scratch = vec![0; 64 << 10];
        loop {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            for event in &events {
                let number = event.data.u64();
                if number == listening {
                    self.accept()?;
                } else {
                    self.ready(usize::try_from(number)?, &mut scratch);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let fd = usize::try_from(stream.as_raw_fd())?;
            epoll::add(&self.poll, &stream, EventData::new_u64(fd as u64), EventFlags::IN)?;
            if self.connections.len() <= fd {
                self.connections.resize_with(fd + 1, || None);
            }
            self.connections[fd] = Some(Connection { stream, rest: Vec::new(), tunnel: false });
        }
    }

    /// Closing a descriptor takes it out of the epoll set, so dropping the connection is all there is to do.
    fn ready(&mut self, fd: usize, scratch: &mut [u8]) {
        let Some(slot) = self.connections.get_mut(fd) else { return };
        let Some(connection) = slot else { return };
        let alive = match connection.stream.read(scratch) {
            Ok(0) => false,
            Ok(n) => connection.answer(&scratch[..n], &self.answer),
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        };
        if !alive {
            *slot = None;
        }
    }
}

impl Connection {
    /// Answers every request that ends in these bytes; false when the connection is to be closed. A client that does
    /// not take a kilobyte at once is not one of ours.
    fn answer(&mut self, bytes: &[u8], answer: &[u8]) -> bool {
        if self.tunnel {
            return self.stream.write_all(bytes).is_ok();
        }
        if self.rest.is_empty() && bytes.ends_with(b"\r\n\r\n") && count_ends(bytes) == 1 {
            return self.one(bytes, answer);
        }
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = self.rest.drain(..end + 4).collect();
            if !self.one(&head, answer) {
                return false;
            }
        }
        self.rest.len() < 16 << 10
    }

    fn one(&mut self, head: &[u8], answer: &[u8]) -> bool {
        // Only the idle benchmark asks for /ws.
        self.tunnel = head.starts_with(b"GET /ws ");
        self.stream.write_all(if self.tunnel { SWITCH } else { answer }).is_ok()
    }
}

fn count_ends(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|w| *w == b"\r\n\r\n").count()
}
