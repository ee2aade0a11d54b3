//! TLS hellos, read by somebody who takes no part: the client's, for the server name, protocols and session id that it
//! asks for; the server's, for the session id that it gives out.
//!
//! It sees bytes as they came and keeps nothing. What is not TLS is told apart from what is TLS and wrong: the first may
//! go on to where the configuration sends such clients, the second is refused, because whoever reads it next may read
//! something else.
use smallvec::SmallVec;
use std::borrow::Cow;

/// A hello has at most so many bytes, records' heads included.
pub(crate) const MAX: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: [u8; 2] = [3, 4];

/// A session id, of 32 bytes at most.
pub(crate) type SessionId = SmallVec<[u8; 32]>;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The server's name, as sent.
    pub(crate) sni: Option<Box<str>>,
    /// The list of protocols as it lies in the hello: each with its length before it.
    alpn: Box<[u8]>,
    /// The session that it wants to go on with; empty: none.
    pub(crate) session_id: SessionId,
}

impl ClientHello {
    /// What TLS that has ended here says as well. Its session is ours, and no key of the client's.
    pub(crate) fn agreed(sni: Option<&str>, alpn: Option<&[u8]>) -> Self {
        let alpn =
            alpn.filter(|alpn| alpn.len() < 256).map_or(Vec::new(), |alpn| [&[alpn.len() as u8][..], alpn].concat());
        Self { sni: sni.map(Into::into), alpn: alpn.into(), session_id: SessionId::default() }
    }

    /// Whether it offers this protocol.
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        let mut left = Bytes(&self.alpn);
        std::iter::from_fn(|| left.vec8()).any(|offered| offered == protocol.as_bytes())
    }
}

/// What is known after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// All of it.
    Whole(T),
    /// It may become a hello.
    More,
    /// It is something else, not TLS.
    Other,
    /// It is TLS, and wrong.
    Broken,
}

/// Reads a client's first bytes.
pub(crate) fn client(input: &[u8]) -> Read<ClientHello> {
    handshake(input, CLIENT_HELLO, client_body)
}

/// Reads a server's first bytes. Inside, `None`: it speaks TLS 1.3, whose session ids mean nothing.
pub(crate) fn server(input: &[u8]) -> Read<Option<SessionId>> {
    handshake(input, SERVER_HELLO, server_body)
}

/// Finds the first handshake message, which may lie in several records, and reads it once it is whole.
fn handshake<T>(input: &[u8], kind: u8, read: impl Fn(Bytes<'_>) -> Option<T>) -> Read<T> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut left = Bytes(input);
    loop {
        match &*message {
            [first, ..] if *first != kind => return Read::Broken,
            [_, high, middle, low, body @ ..] => {
                let len = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
                if len > MAX {
                    return Read::Broken;
                }
                if let Some(body) = body.get(..len) {
                    return read(Bytes(body)).map_or(Read::Broken, Read::Whole);
                }
            }
            _ => {}
        }
        match record(&mut left) {
            Read::Whole(piece) if message.is_empty() => message = Cow::Borrowed(piece),
            Read::Whole(piece) => message.to_mut().extend_from_slice(piece),
            Read::More if input.len() < MAX => return Read::More,
            Read::Other if message.is_empty() => return Read::Other,
            Read::More | Read::Other | Read::Broken => return Read::Broken,
        }
    }
}

/// What there is of the next record's content, at least a byte.
fn record<'a>(left: &mut Bytes<'a>) -> Read<&'a [u8]> {
    match left.0 {
        [HANDSHAKE, 3, _, high, low, rest @ ..] => {
            let len = usize::from(*high) << 8 | usize::from(*low);
            if len == 0 || len > MAX {
                return Read::Broken;
            }
            let (piece, after) = rest.split_at(len.min(rest.len()));
            left.0 = after;
            if piece.is_empty() { Read::More } else { Read::Whole(piece) }
        }
        [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Read::More,
        _ => Read::Other,
    }
}

fn client_body(mut body: Bytes<'_>) -> Option<ClientHello> {
    let session_id = common(&mut body)?;
    let suites = body.vec16()?;
    let compressions = body.vec8()?;
    if suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello { session_id, ..ClientHello::default() };
    let (mut name, mut protocols) = (None, None);
    extensions(body, |kind, content| match kind {
        SERVER_NAME => name.replace(content).is_none(),
        ALPN => protocols.replace(content).is_none(),
        _ => true,
    })?;
    if let Some(content) = name {
        hello.sni = server_name(Bytes(content))?;
    }
    if let Some(content) = protocols {
        hello.alpn = protocol_list(Bytes(content))?.into();
    }
    Some(hello)
}

fn server_body(mut body: Bytes<'_>) -> Option<Option<SessionId>> {
    let session_id = common(&mut body)?;
    body.take(3)?;
    let mut tls13 = false;
    extensions(body, |kind, content| {
        tls13 |= kind == SUPPORTED_VERSIONS && content == TLS13;
        true
    })?;
    Some((!tls13).then_some(session_id))
}

/// Version and random, then the session id.
fn common(body: &mut Bytes<'_>) -> Option<SessionId> {
    let version = body.take(2)?;
    body.take(32)?;
    let session_id = body.vec8()?;
    (version[0] == 3 && session_id.len() <= 32).then(|| SmallVec::from_slice(session_id))
}

/// Shows each extension; `None`: they are not whole, or `with` takes one of them for wrong.
fn extensions<'a>(mut body: Bytes<'a>, mut with: impl FnMut(u16, &'a [u8]) -> bool) -> Option<()> {
    // TLS 1.2 and before may have none.
    if body.0.is_empty() {
        return Some(());
    }
    let mut list = Bytes(body.vec16()?);
    if !body.0.is_empty() {
        return None;
    }
    while !list.0.is_empty() {
        let kind = list.u16()?;
        if !with(kind, list.vec16()?) {
            return None;
        }
    }
    Some(())
}

/// Inside, `None`: it holds no host name.
fn server_name(mut content: Bytes<'_>) -> Option<Option<Box<str>>> {
    let mut list = Bytes(content.vec16()?);
    if list.0.is_empty() || !content.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vec16()?;
        if kind != 0 {
            continue;
        }
        let legal = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
        if !legal || found.is_some() {
            return None;
        }
        found = Some(std::str::from_utf8(name).ok()?.into());
    }
    Some(found)
}

fn protocol_list(mut content: Bytes<'_>) -> Option<&[u8]> {
    let list = content.vec16()?;
    let mut left = Bytes(list);
    while !left.0.is_empty() {
        if left.vec8()?.is_empty() {
            return None;
        }
    }
    (!list.is_empty() && content.0.is_empty()).then_some(list)
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(n)?;
        self.0 = left;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(len.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests;
