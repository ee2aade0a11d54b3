//! A client that sends any bytes and reads answers strictly.
use crate::PATIENCE;
use crate::origin::field;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection to the proxy.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Head without the blank line, exactly.
    pub head: String,
    /// Body, decoded.
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a field.
    pub fn value(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body that a head announces; `None` when it breaks off or is framed wrongly.
    pub(crate) fn read_body(head: &str, from: &mut impl BufRead, until_close: bool) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if field(head, "Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            read_chunks(from, &mut body)?;
        } else if let Some(length) = field(head, "Content-Length") {
            body.resize(length.parse().ok()?, 0);
            from.read_exact(&mut body).ok()?;
        } else if until_close {
            from.read_to_end(&mut body).ok()?;
        }
        Some(body)
    }
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens there.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).expect("the proxy listens"))
    }

    /// Connects, if anybody listens there.
    pub fn try_connect(addr: SocketAddr) -> Option<Self> {
        TcpStream::connect(addr).ok().map(Self::of)
    }

    /// On this connection.
    ///
    /// # Panics
    /// It is over.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes; false when the proxy has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Reads the next answer; `None`: the connection ended, or it is no proper answer.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to(false)
    }

    /// As [`Self::answer`]; `head`: the answer to a HEAD request has no body.
    pub fn answer_to(&mut self, head: bool) -> Option<Answer> {
        let text = read_head(&mut self.stream)?;
        let status: u16 = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let bodyless = head || status < 200 || status == 204 || status == 304;
        let body = if bodyless { Vec::new() } else { Answer::read_body(&text, &mut self.stream, true)? };
        Some(Answer { status, head: text, body })
    }

    /// A GET with these fields (each ending in CRLF).
    ///
    /// # Panics
    /// There was no proper answer.
    pub fn get(&mut self, target: &str, fields: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        self.answer().expect("a proper answer")
    }

    /// Upgrades to a WebSocket, but without its key: the proxy then takes the bytes as bytes. See [`crate::Socket`].
    ///
    /// # Panics
    /// There was no proper answer.
    pub fn upgrade(&mut self, target: &str, fields: &str) -> Answer {
        self.get(target, &format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{fields}"))
    }

    /// Reads so many bytes; `None` when the connection ends before.
    pub fn read(&mut self, n: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// Whether there is something to read now, or the connection is over.
    ///
    /// # Panics
    /// It is not a socket any more.
    pub fn has_bytes(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).expect("a socket");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket");
        !self.stream.buffer().is_empty() || !peeked.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// All that still comes, however it ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        drop(self.stream.read_to_end(&mut rest));
        rest
    }

    /// Whether the proxy closes the connection, after whatever it still sends.
    pub fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        drop(self.stream.get_mut().shutdown(std::net::Shutdown::Write));
    }
}

/// Reads up to the blank line; `None` at the connection's end.
pub(crate) fn read_head(from: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        from.read_until(b'\n', &mut head).ok()?;
        match &head[before..] {
            b"" => return None,
            b"\r\n" => {
                head.truncate(before);
                return String::from_utf8(head).ok();
            }
            _ => {}
        }
    }
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.strip_suffix("\r\n")?, 16).ok()?;
        if size == 0 {
            // Trailers up to the blank line.
            while line != "\r\n" {
                line.clear();
                if from.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            return Some(());
        }
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..]).ok()?;
        let mut end = [0; 2];
        from.read_exact(&mut end).ok()?;
        (end == *b"\r\n").then_some(())?;
    }
}
