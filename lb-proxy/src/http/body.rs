//! Bodies on their way: where one ends, and how it is framed again for the other side.
//!
//! A body is never copied in doubt: chunked input is decoded and re-chunked, so that what the other side reads is
//! what we read (RFC 9112, 7.1).
use super::head::Framing;
use super::reason::Reason;

/// Longest chunk-size line with its extensions, which are dropped.
const MAX_SIZE_LINE: usize = 256;
/// Longest trailer section.
const MAX_TRAILERS: usize = 8 * 1024;

/// One body on its way from one side to the other.
#[derive(Debug)]
pub(crate) struct Transfer {
    from: From,
    /// A body without a known length is written in chunks; else as it comes.
    chunk: bool,
    /// Bytes that may still come where their number is not known before.
    room: u64,
    /// Lines of the trailers that came behind the body, where it is not written in chunks.
    trailers: Vec<u8>,
}

#[derive(Debug)]
enum From {
    Length(u64),
    UntilClose,
    Chunked(Chunks),
    Done,
}

impl Transfer {
    /// A body framed as `framing`; `chunk`: the other side gets it in chunks.
    pub(crate) fn new(framing: Framing, chunk: bool) -> Self {
        let from = match framing {
            Framing::Empty => From::Done,
            Framing::Length(n) => From::Length(n),
            Framing::UntilClose => From::UntilClose,
            Framing::Chunked => From::Chunked(Chunks::default()),
        };
        Self { from, chunk, room: u64::MAX, trailers: Vec::new() }
    }

    /// With a bound for a body whose length is not known before: past it, it is an error.
    pub(crate) fn at_most(self, bytes: Option<u64>) -> Self {
        Self { room: bytes.unwrap_or(u64::MAX), ..self }
    }

    /// Whether the body has ended.
    pub(crate) fn done(&self) -> bool {
        matches!(self.from, From::Done)
    }

    /// How many of `available` bytes go to the other side just as they are; `None`: use [`Self::push`].
    pub(crate) fn plain(&self, available: usize) -> Option<usize> {
        match self.from {
            From::UntilClose if self.chunk => None,
            From::Length(left) => Some(available.min(usize::try_from(left).unwrap_or(usize::MAX))),
            From::UntilClose => Some(available),
            From::Done => Some(0),
            From::Chunked(_) => None,
        }
    }

    /// Counts off bytes that went as [`Self::plain`] said.
    pub(crate) fn passed(&mut self, n: usize) {
        if let From::Length(left) = &mut self.from {
            *left -= (n as u64).min(*left);
            if *left == 0 {
                self.from = From::Done;
            }
        }
    }

    /// How many bytes remain, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.from {
            From::Length(left) => Some(left),
            From::Done => Some(0),
            _ => None,
        }
    }

    /// Takes in bytes, appends what the other side gets; returns how many were taken. What is left belongs to the
    /// next message.
    ///
    /// # Errors
    /// The framing is broken, or it is longer than it may be.
    pub(crate) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Reason> {
        if matches!(self.from, From::UntilClose) {
            spend(&mut self.room, input.len())?;
        }
        if let Some(n) = self.plain(input.len()) {
            out.extend_from_slice(&input[..n]);
            self.passed(n);
            return Ok(n);
        }
        match &mut self.from {
            From::Chunked(chunks) => {
                let taken = chunks.push(input, out, self.chunk, &mut self.room)?;
                if chunks.state == State::Done {
                    self.trailers = std::mem::take(&mut chunks.trailer);
                    self.from = From::Done;
                }
                Ok(taken)
            }
            From::Done | From::Length(_) | From::UntilClose => {
                write_chunk(input, out);
                Ok(input.len())
            }
        }
    }

    /// The trailers that came behind the body, as lines, where they did not go out with it in chunks.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The sender has closed, with these lines as trailers.
    ///
    /// # Errors
    /// It closed in the middle.
    pub(crate) fn closed(&mut self, trailers: Vec<u8>, out: &mut Vec<u8>) -> Result<(), Reason> {
        match self.from {
            From::UntilClose => {
                if self.chunk {
                    out.extend_from_slice(b"0\r\n");
                    out.extend_from_slice(&trailers);
                    out.extend_from_slice(b"\r\n");
                } else {
                    self.trailers = trailers;
                }
                self.from = From::Done;
                Ok(())
            }
            From::Done => Ok(()),
            From::Length(_) | From::Chunked(_) => Err(Reason::BAD_BODY),
        }
    }
}

pub(super) fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    write_size(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn write_size(n: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Decoder of the chunked coding.
#[derive(Debug, Default)]
struct Chunks {
    state: State,
    /// Bytes of the current line, or of all trailers.
    line: usize,
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size(u64),
    /// White space, then an extension or the end of the line.
    SizePad(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

impl Chunks {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>, chunk: bool, room: &mut u64) -> Result<usize, Reason> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let n = (input.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                let data = &input[at..at + n];
                spend(room, n)?;
                if chunk {
                    write_chunk(data, out);
                } else {
                    out.extend_from_slice(data);
                }
                at += n;
                self.state = if n as u64 == left { State::DataCr } else { State::Data(left - n as u64) };
            } else {
                self.state = self.step(input[at], out, chunk)?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>, chunk: bool) -> Result<State, Reason> {
        match (self.state, byte) {
            (State::SizeStart, b) => {
                self.line = 1;
                Ok(State::Size(hex(b)?))
            }
            (State::Size(_) | State::SizePad(_) | State::Extension(_), _) => self.size_line(byte),
            (State::SizeLf(0), b'\n') => {
                self.line = 0;
                Ok(State::Trailer)
            }
            (State::SizeLf(n), b'\n') => Ok(State::Data(n)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Trailer, b) if b != b'\n' && b != 0 && self.line < MAX_TRAILERS => {
                self.line += 1;
                self.trailer.push(b);
                Ok(State::Trailer)
            }
            (State::TrailerLf, b'\n') => self.end_trailer(out, chunk),
            _ => Err(Reason::BAD_BODY),
        }
    }

    fn size_line(&mut self, byte: u8) -> Result<State, Reason> {
        self.line += 1;
        if self.line > MAX_SIZE_LINE {
            return Err(Reason::BAD_BODY);
        }
        match (self.state, byte) {
            (State::Size(n) | State::SizePad(n) | State::Extension(n), b'\r') => Ok(State::SizeLf(n)),
            (State::Size(n) | State::SizePad(n), b';') => Ok(State::Extension(n)),
            (State::Size(n) | State::SizePad(n), b' ' | b'\t') => Ok(State::SizePad(n)),
            // 15 digits: far beyond any chunk, far from an overflow.
            (State::Size(n), b) if n < 1 << 56 => Ok(State::Size(n << 4 | hex(b)?)),
            (State::Extension(n), b) if b >= b' ' || b == b'\t' => Ok(State::Extension(n)),
            _ => Err(Reason::BAD_BODY),
        }
    }

    /// A trailer line has ended; the empty one ends the body.
    fn end_trailer(&mut self, out: &mut Vec<u8>, chunk: bool) -> Result<State, Reason> {
        let start = memchr::memrchr(b'\n', &self.trailer).map_or(0, |i| i + 1);
        if self.trailer.len() > start {
            let line = &self.trailer[start..];
            let colon = memchr::memchr(b':', line).ok_or(Reason::BAD_BODY)?;
            let name = &line[..colon];
            let printable = line[colon..].iter().all(|b| (*b >= b' ' && *b != 0x7f) || *b == b'\t');
            if name.is_empty() || !name.iter().all(|b| lb_core::stick::is_token(*b)) || !printable {
                return Err(Reason::BAD_BODY);
            }
            if trailer_allowed(name) {
                self.trailer.extend_from_slice(b"\r\n");
            } else {
                self.trailer.truncate(start);
            }
            return Ok(State::Trailer);
        }
        if chunk {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(&self.trailer);
            out.extend_from_slice(b"\r\n");
        }
        Ok(State::Done)
    }
}

/// Takes bytes from those that may still come.
fn spend(room: &mut u64, bytes: usize) -> Result<(), Reason> {
    *room = room.checked_sub(bytes as u64).ok_or(Reason::BODY_TOO_LARGE)?;
    Ok(())
}

fn hex(byte: u8) -> Result<u64, Reason> {
    (byte as char).to_digit(16).map(u64::from).ok_or(Reason::BAD_BODY)
}

/// Fields that must not come late: framing, routing, what a server trusts us to set (RFC 9110, 6.5.1).
pub(crate) fn trailer_allowed(name: &[u8]) -> bool {
    const REFUSED: [&str; 18] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-range",
        "range",
    ];
    !REFUSED.iter().any(|r| name.eq_ignore_ascii_case(r.as_bytes()))
        && !name.get(..12).is_some_and(|p| p.eq_ignore_ascii_case(b"x-forwarded-"))
        && !name.eq_ignore_ascii_case(b"x-real-ip")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(input: &[u8], chunk: bool) -> Result<(Vec<u8>, usize, bool), Reason> {
        let mut transfer = Transfer::new(Framing::Chunked, chunk);
        let mut out = Vec::new();
        let taken = transfer.push(input, &mut out)?;
        Ok((out, taken, transfer.done()))
    }

    #[test]
    fn chunks_are_decoded_and_framed_again() {
        let input = b"5;ext=\"x\"\r\nhello\r\n6 \r\n world\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\nNEXT";
        let (out, taken, done) = decode(input, true).unwrap();
        assert_eq!(out, b"5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n");
        assert_eq!((taken, done), (input.len() - 4, true));
        assert_eq!(decode(input, false).unwrap().0, b"hello world");
    }

    #[test]
    fn a_broken_chunk_is_refused() {
        for bad in [
            &b"\r\n"[..],
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b" 5\r\nhello\r\n",
            b"10000000000000000\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n: empty\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"5;a\0b\r\nhello\r\n",
        ] {
            assert_eq!(decode(bad, true), Err(Reason::BAD_BODY), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(decode(&[b"1;".to_vec(), vec![b'x'; 300]].concat(), true).is_err());
        assert!(decode(&[b"0\r\nX: ".to_vec(), vec![b'x'; 9000]].concat(), true).is_err());
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_body(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(1usize..9, 1..80),
        ) {
            let body: Vec<u8> = parts.concat();
            let mut wire = Vec::new();
            for part in &parts {
                write_chunk(part, &mut wire);
            }
            wire.extend_from_slice(b"0\r\nA: b\r\n\r\nrest");
            let mut transfer = Transfer::new(Framing::Chunked, false);
            let (mut out, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if transfer.done() { break; }
                let end = (at + cut).min(wire.len());
                at += transfer.push(&wire[at..end], &mut out).unwrap();
            }
            prop_assert_eq!(out, body);
            prop_assert_eq!(&wire[at..], b"rest");
        }

        #[test]
        fn no_bytes_make_the_decoder_fail(bytes: Vec<u8>) {
            let _ = decode(&bytes, true);
        }
    }
}
