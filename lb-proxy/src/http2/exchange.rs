//! One stream of HTTP/2, a client's or a server's, as the halves of a [`crate::stream::Stream`]: body and tunnel bytes go
//! in and out plainly; only heads and trailers are said apart.
use super::asked::Asked;
use super::stream::Requested;
use h2::Reason;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

pub(crate) use super::asked::is_unprocessed;

/// A stream. Dropped before its end, it is reset.
pub(crate) enum Exchange {
    /// A client's.
    Requested(Requested),
    /// A server's.
    Asked(Asked),
}

impl Exchange {
    /// What the server must say to accept the client's WebSocket; `None`: it asks for none.
    pub(crate) fn expected(&self) -> Option<&str> {
        if let Self::Requested(stream) = self { stream.expected() } else { None }
    }

    /// Reads on; nothing read: the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Requested(stream) => stream.poll_read(cx, buf),
            Self::Asked(stream) => stream.poll_read(cx, buf),
        }
    }

    /// How many bytes of bodies the other side had room for.
    pub(crate) fn handed(&self) -> u64 {
        match self {
            Self::Requested(stream) => stream.handed(),
            Self::Asked(stream) => stream.handed(),
        }
    }

    /// Whether everything that was sent has been read.
    pub(crate) fn ended(&self) -> bool {
        match self {
            Self::Requested(stream) => stream.ended(),
            Self::Asked(stream) => stream.ended(),
        }
    }

    /// The trailers that came behind the body, as lines.
    pub(crate) fn trailers(&self) -> Vec<u8> {
        match self {
            Self::Requested(stream) => stream.trailers(),
            Self::Asked(stream) => stream.trailers(),
        }
    }

    /// Ready once the other side has reset the stream, or its connection is gone.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Requested(stream) => stream.poll_reset(cx),
            Self::Asked(stream) => stream.poll_reset(cx),
        }
    }

    /// Ends it by a reset.
    pub(crate) fn reset(&self, reason: Reason) {
        match self {
            Self::Requested(stream) => stream.reset(reason),
            Self::Asked(stream) => stream.reset(reason),
        }
    }

    /// Sends a client the head of an answer that stands there as HTTP/1.1; `end`: it is all.
    pub(crate) fn respond(&self, head: &[u8], end: bool) -> io::Result<()> {
        match self {
            Self::Requested(stream) => stream.respond(head, end),
            Self::Asked(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Sends a server the head of a request that stands there as HTTP/1.1; `end`: it is all.
    pub(crate) fn request(&self, head: &[u8], end: bool) -> io::Result<()> {
        match self {
            Self::Requested(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Self::Asked(stream) => stream.request(head, end),
        }
    }

    /// Sends both pieces; `end`: nothing follows.
    pub(crate) async fn send(&self, mut first: &[u8], mut second: &[u8], end: bool) -> io::Result<()> {
        while !first.is_empty() || !second.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, first.len() + second.len())).await?;
            let (a, more) = first.split_at(first.len().min(room));
            let (b, rest) = second.split_at(second.len().min(room - a.len()));
            (first, second) = (more, rest);
            let last = first.is_empty() && second.is_empty();
            self.put(a, b, end && last)?;
            if last {
                return Ok(());
            }
        }
        if end { self.put(&[], &[], true) } else { Ok(()) }
    }

    /// Waits until the window takes something.
    pub(crate) async fn room(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx, 1)).await.map(drop)
    }

    /// Sends what there is room for now of the first piece that is not empty.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(piece) = pieces.iter().find(|piece| !piece.is_empty()) else { return Poll::Ready(Ok(0)) };
        let room = ready!(self.poll_room(cx, piece.len()))?;
        self.put(&piece[..room], &[], false)?;
        Poll::Ready(Ok(room))
    }

    /// Says that nothing more comes.
    pub(crate) fn shutdown(&self) {
        // An error means that the stream is over already.
        let _ = self.put(&[], &[], true);
    }

    /// Ends it behind its body, with these lines as trailers.
    pub(crate) fn finish(&self, trailers: &[u8]) -> io::Result<()> {
        match self {
            Self::Requested(stream) => stream.finish(trailers),
            Self::Asked(stream) => stream.finish(trailers),
        }
    }

    fn put(&self, first: &[u8], second: &[u8], end: bool) -> io::Result<()> {
        match self {
            Self::Requested(stream) => stream.put(first, second, end),
            Self::Asked(stream) => stream.put(first, second, end),
        }
    }

    /// Waits for a place in the window, for so many bytes at most.
    fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Requested(stream) => stream.poll_room(cx, wanted),
            Self::Asked(stream) => stream.poll_room(cx, wanted),
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
