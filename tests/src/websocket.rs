//! WebSockets byte by byte: either end of one, which sends any frame and reads every frame.
use crate::PATIENCE;
use crate::client::read_head;
use crate::origin::field;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// The key of every handshake here, and what belongs to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcodes.
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    /// Whether it was masked.
    pub masked: bool,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Its opcode.
    pub fn opcode(&self) -> u8 {
        self.first & 15
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Code and reason of a Close frame; `None`: it is another, or has no code.
    pub fn close(&self) -> Option<(u16, String)> {
        let (code, reason) = self.payload.split_at_checked(2)?;
        let code = u16::from_be_bytes([code[0], code[1]]);
        (self.opcode() == CLOSE).then(|| (code, String::from_utf8_lossy(reason).into_owned()))
    }
}

/// One end of a WebSocket.
pub struct Socket {
    stream: BufReader<TcpStream>,
    /// Clients mask their frames.
    client: bool,
    /// The head that the other end sent.
    pub head: String,
}

impl Socket {
    /// A client; `fields` (each ending in CRLF) go into its request.
    ///
    /// # Panics
    /// Nobody listens there, or the answer is another.
    pub fn connect(addr: SocketAddr, fields: &str) -> Self {
        Self::try_connect(addr, fields).unwrap_or_else(|head| panic!("no WebSocket: {head}"))
    }

    /// As [`Self::connect`].
    ///
    /// # Errors
    /// The head of another answer.
    ///
    /// # Panics
    /// Nobody listens there.
    pub fn try_connect(addr: SocketAddr, fields: &str) -> Result<Self, String> {
        let mut stream = of(TcpStream::connect(addr).expect("the proxy listens"));
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
        );
        drop(stream.get_mut().write_all(request.as_bytes()));
        let head = read_head(&mut stream).unwrap_or_default();
        let agreed = head.starts_with("HTTP/1.1 101") && field(&head, "Sec-WebSocket-Accept") == Some(ACCEPT);
        if agreed { Ok(Self { stream, client: true, head }) } else { Err(head) }
    }

    /// A server, on a connection that was accepted. `None`: what came is no handshake.
    pub fn accept(stream: TcpStream, fields: &str) -> Option<Self> {
        let mut stream = of(stream);
        let head = read_head(&mut stream)?;
        field(&head, "Upgrade")?;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n{fields}\r\n"
        );
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        Some(Self { stream, client: false, head })
    }

    /// The bytes of a frame as this end writes it; `first` holds FIN, reserved bits and opcode.
    pub fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mask_bit = if self.client { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..126 => bytes.push(mask_bit | n as u8),
            n @ 126..65536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                bytes.push(mask_bit | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        let mask = if self.client { [7, 77, 177, 3] } else { [0; 4] };
        bytes.extend(self.client.then_some(mask).iter().flatten());
        bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        bytes
    }

    /// Sends bytes; false when the other end has closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Sends a frame.
    pub fn send(&mut self, opcode: u8, payload: impl AsRef<[u8]>) -> bool {
        let frame = self.frame(0x80 | opcode, payload.as_ref());
        self.send_bytes(&frame)
    }

    /// Sends a Close frame.
    pub fn send_close(&mut self, code: u16) -> bool {
        self.send(CLOSE, code.to_be_bytes())
    }

    /// The next frame; `None`: the connection ended.
    pub fn read(&mut self) -> Option<Frame> {
        let [first, second] = self.exactly()?;
        let length = match second & 0x7f {
            126 => u16::from_be_bytes(self.exactly()?).into(),
            127 => u64::from_be_bytes(self.exactly()?),
            n => n.into(),
        };
        let masked = second & 0x80 != 0;
        let mask: [u8; 4] = if masked { self.exactly()? } else { [0; 4] };
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).ok()?;
        payload.iter_mut().enumerate().for_each(|(i, b)| *b ^= mask[i % 4]);
        Some(Frame { first, masked, payload })
    }

    fn exactly<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// What remains to be read, and whether the end was a reset.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut rest = Vec::new();
        let end = self.stream.read_to_end(&mut rest);
        (rest, end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset))
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        drop(self.stream.get_mut().shutdown(Shutdown::Write));
    }
}

impl Drop for Socket {
    /// Others may hold the connection, too; it is over all the same.
    fn drop(&mut self) {
        if !self.client {
            drop(self.stream.get_mut().shutdown(Shutdown::Both));
        }
    }
}

fn of(stream: TcpStream) -> BufReader<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    BufReader::new(stream)
}
