//! Servers behind the proxy: each a thread that hands every connection to a closure, and keeps what it saw.
use crate::client::{Answer, read_head};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// One request as a server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Head without the blank line, exactly.
    pub head: String,
    /// Body, decoded.
    pub body: Vec<u8>,
}

impl Seen {
    /// First value of a field.
    pub fn value(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// First value of a field in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A server.
pub struct Origin {
    /// Its address.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Origin {
    /// Answers every request with its name as the body, on connections kept alive. WebSocket upgrades are accepted,
    /// and every byte that follows is sent back.
    pub fn named(name: &'static str) -> Self {
        Self::named_at(Ipv4Addr::LOCALHOST, name)
    }

    /// As [`Self::named`], at this address.
    pub fn named_at(ip: Ipv4Addr, name: &'static str) -> Self {
        Self::answering_at(ip, move |_| Reply::Body(name.into()))
    }

    /// As [`Self::named`], at this address and port.
    pub fn at(addr: SocketAddr, name: &'static str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let mut origin = Self::raw_at(addr, move |stream| serve(stream, &kept, &|_| Reply::Body(name.into())));
        origin.seen = seen;
        origin
    }

    /// Answers every request as told.
    pub fn answering(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::answering_at(Ipv4Addr::LOCALHOST, answer)
    }

    fn answering_at(ip: Ipv4Addr, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let mut origin = Self::raw_at((ip, 0).into(), move |stream| serve(stream, &kept, &answer));
        origin.seen = seen;
        origin
    }

    /// Hands every connection to `serve`, on a thread of its own.
    pub fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::raw_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    fn raw_at(at: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let ended = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (stop, connections, serve) = (ended.clone(), open.clone(), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let (Ok(kept), Ok(mut open)) = (stream.try_clone(), connections.lock()) {
                    open.push(kept);
                }
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { addr, seen: Arc::default(), open, ended, accepting: Mutex::new(Some(accepting)) }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().map(|s| s.clone()).unwrap_or_default()
    }

    /// Dies: the port is closed, and so is every connection.
    pub fn die(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accept, which then sees that it is over.
        drop(TcpStream::connect(self.addr));
        // Until the port is closed indeed: whoever connects from now on is refused.
        if let Some(accepting) = self.accepting.lock().ok().and_then(|mut a| a.take()) {
            drop(accepting.join());
        }
        if let Ok(mut open) = self.open.lock() {
            for stream in open.drain(..) {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.die();
    }
}

/// How a request is answered.
pub enum Reply {
    /// 200 with this body.
    Body(String),
    /// 200 with these fields more (each ending in CRLF), and this body.
    With(String, String),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, and the connection stays.
    Keep(Vec<u8>),
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, answer: &impl Fn(&Seen) -> Reply) {
    let Ok(mut to) = stream.try_clone() else { return };
    let mut from = BufReader::new(stream);
    while let Some(head) = read_head(&mut from) {
        if field(&head, "Expect").is_some() && to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
            return;
        }
        let Some(body) = Answer::read_body(&head, &mut from, false) else { return };
        let request = Seen { head, body };
        let reply = answer(&request);
        let upgrade = field(&request.head, "Upgrade").is_some();
        if let Ok(mut seen) = seen.lock() {
            seen.push(request);
        }
        if upgrade && !matches!(reply, Reply::Raw(_) | Reply::Keep(_)) {
            let fields = if let Reply::With(fields, _) = reply { fields } else { String::new() };
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n"
            );
            if to.write_all(head.as_bytes()).is_ok() {
                echo(&mut from, &mut to);
            }
            return;
        }
        let (bytes, keep) = match reply {
            Reply::Body(body) => (ok("", &body), true),
            Reply::With(fields, body) => (ok(&fields, &body), true),
            Reply::Raw(bytes) => (bytes, false),
            Reply::Keep(bytes) => (bytes, true),
        };
        if to.write_all(&bytes).is_err() || !keep {
            drop(to.shutdown(Shutdown::Both));
            return;
        }
    }
}

fn ok(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()).into_bytes()
}

fn echo(from: &mut BufReader<TcpStream>, to: &mut TcpStream) {
    let mut buf = [0; 4096];
    while let Ok(n) = from.read(&mut buf) {
        if n == 0 || to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
