//! A client of HTTP/2 that sends any frames and reads them one by one.
use crate::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Kinds of frames.
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs)]
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error that a RST_STREAM or GOAWAY names.
    pub fn error(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The status that the first answer on a connection begins with.
    pub fn status(&self) -> Option<u16> {
        if self.kind != kind::HEADERS {
            return None;
        }
        let mut block = self.payload.as_slice();
        while block.first().is_some_and(|b| b & 0xe0 == 0x20) {
            block = &block[1..];
        }
        match *block {
            [b @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(b) - 0x88]),
            [0x08 | 0x48 | 0x18, length, ref rest @ ..] => {
                let text = rest.get(..usize::from(length & 0x7f))?;
                if length & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
            }
            _ => None,
        }
    }
}

/// Three digits in the code of HPACK.
fn digits(text: &[u8]) -> Option<u16> {
    let bits = text.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (32 - 8 * text.len());
    let (mut bits, mut number) = (bits, 0);
    for _ in 0..3 {
        let digit = match bits >> 27 {
            short @ 0..=2 => {
                bits <<= 5;
                short
            }
            _ => {
                let long = (bits >> 26).checked_sub(0b011001)? + 3;
                bits <<= 6;
                long
            }
        };
        number = number * 10 + digit as u16;
    }
    Some(number)
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's size").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block: every field in full, in this order.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    raw_block(&fields)
}

/// As [`block`], of any bytes.
pub fn raw_block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// A length under a prefix of seven bits.
fn integer(n: usize, out: &mut Vec<u8>) {
    if n < 127 {
        out.push(n as u8);
        return;
    }
    out.push(127);
    let mut rest = n - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The head of a plain request.
pub fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "test")])
}

/// A connection.
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects, says the preface and empty settings, and acknowledges the other side's.
    ///
    /// # Panics
    /// There are no settings.
    pub fn connect(addr: SocketAddr) -> Self {
        let mut frames = Self::silent(addr);
        frames.bytes(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
        let first = frames.next().expect("settings");
        assert_eq!((first.kind, first.flags), (kind::SETTINGS, 0));
        frames.send(kind::SETTINGS, flag::ACK, 0, &[]);
        let second = frames.find(|f| f.kind == kind::SETTINGS).expect("their acknowledgement");
        assert_eq!(second.flags, flag::ACK);
        frames
    }

    /// Connects, and says nothing yet.
    ///
    /// # Panics
    /// Nobody listens there.
    pub fn silent(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).expect("the proxy listens"))
    }

    /// On this connection.
    ///
    /// # Panics
    /// It is over.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    /// The same connection once more, for another thread.
    ///
    /// # Panics
    /// It is over.
    pub fn again(&self) -> Self {
        Self::of(self.stream.try_clone().expect("a connection"))
    }

    /// Ends the connection.
    pub fn shutdown(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }

    /// Waits no longer than this for a frame.
    pub fn patience(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
    }

    /// Sends bytes; false when the proxy has closed.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame; false when the proxy has closed.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, flags, stream, payload))
    }

    /// Sends a request without a body.
    pub fn request(&mut self, stream: u32, block: &[u8]) -> bool {
        self.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, block)
    }

    /// The next frame; `None`: the connection ended, or was silent too long.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of which this holds.
    pub fn find(&mut self, mut wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The next head on a stream, or what ended it.
    pub fn head(&mut self, stream: u32) -> Option<Frame> {
        let ends = [kind::HEADERS, kind::RST_STREAM];
        self.find(|f| (f.stream == stream && ends.contains(&f.kind)) || f.kind == kind::GOAWAY)
    }

    /// The body on a stream, to its end.
    pub fn body(&mut self, stream: u32) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let frame = self.find(|f| f.stream == stream)?;
            match frame.kind {
                kind::DATA => body.extend(&frame.payload),
                kind::RST_STREAM => return None,
                _ => {}
            }
            if matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.flags & flag::END_STREAM != 0 {
                return Some(body);
            }
        }
    }

    /// Whether the proxy answers a ping.
    pub fn lives(&mut self) -> bool {
        let ping = *b"are you?";
        self.send(kind::PING, 0, 0, &ping);
        self.find(|f| f.kind == kind::PING && f.flags & flag::ACK != 0 && f.payload == ping).is_some()
    }
}
