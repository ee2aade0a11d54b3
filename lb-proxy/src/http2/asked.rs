//! One stream of a server's, on the h2 library. It is read as HTTP/1.1 is: the answer's head as text, then its body. Windows
//! open again as bytes are read, so what waits here is bounded by the window, and what is read is bounded by who reads.
use super::message;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Most bytes handed to the library at once.
const PIECE: usize = 32 * 1024;

/// A stream. Dropped before its end, it is reset.
pub(crate) struct Asked {
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Outgoing>,
    /// Bytes that went out.
    handed: Cell<u64>,
    /// Its place on the connection.
    _place: Box<dyn Any>,
}

struct Incoming {
    from: From,
    /// Heads to be read first.
    text: Vec<u8>,
    /// Read by nobody yet; counts in the window.
    chunk: Bytes,
    /// What a client is told whose WebSocket the server accepts.
    accept: Option<String>,
    /// Lines, once the body has ended.
    trailers: Vec<u8>,
}

enum From {
    Nothing,
    Answer(ResponseFuture),
    Body(RecvStream),
    End,
}

enum Outgoing {
    /// A server that waits for the head of a request; the scheme, and its name where the request has none.
    Request(SendRequest<Bytes>, &'static str, String),
    Body(SendStream<Bytes>),
    End,
}

fn error(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::other(error)
    }
}

/// Whether the server says that it has not looked at the request: it may be sent again, whatever it is (RFC 9113, 8.7).
pub(crate) fn is_unprocessed(error: &io::Error) -> bool {
    let Some(error) = error.get_ref().and_then(|e| e.downcast_ref::<h2::Error>()) else { return false };
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

fn over() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Asked {
    /// A stream that is still to be opened, under this name where its request has none.
    pub(super) fn new(send: SendRequest<Bytes>, scheme: &'static str, name: String, place: impl Any) -> Self {
        Self {
            incoming: RefCell::new(Incoming::new(From::Nothing)),
            outgoing: RefCell::new(Outgoing::Request(send, scheme, name)),
            handed: Cell::new(0),
            _place: Box::new(place),
        }
    }

    /// Reads on; nothing read: the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.incoming.borrow_mut().poll_read(cx, buf)
    }

    /// How many bytes of its body the server had room for.
    pub(super) fn handed(&self) -> u64 {
        self.handed.get()
    }

    /// Whether everything that was sent has been read.
    pub(super) fn ended(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.text.is_empty()
            && incoming.chunk.is_empty()
            && match &incoming.from {
                From::Body(body) => body.is_end_stream(),
                From::End => true,
                From::Nothing | From::Answer(_) => false,
            }
    }

    /// The trailers that came behind the body, as lines.
    pub(super) fn trailers(&self) -> Vec<u8> {
        std::mem::take(&mut self.incoming.borrow_mut().trailers)
    }

    /// Ready once the other side has reset the stream, or its connection is gone.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.outgoing.borrow_mut() {
            Outgoing::Body(body) => body.poll_reset(cx).map(drop),
            Outgoing::Request(..) | Outgoing::End => Poll::Pending,
        }
    }

    /// Ends it by a reset.
    pub(super) fn reset(&self, reason: Reason) {
        let mut outgoing = self.outgoing.borrow_mut();
        match &mut *outgoing {
            Outgoing::Body(body) => body.send_reset(reason),
            Outgoing::Request(..) | Outgoing::End => {}
        }
        *outgoing = Outgoing::End;
    }

    /// Sends the head of a request that stands there as HTTP/1.1; `end`: it is all.
    pub(super) fn request(&self, head: &[u8], end: bool) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Request(send, scheme, server) = &mut *outgoing else { return Err(over()) };
        let (request, accept) = message::request_out(head, scheme, server)?;
        let end = end && accept.is_none();
        let (answer, body) = send.send_request(request, end).map_err(error)?;
        let mut incoming = self.incoming.borrow_mut();
        incoming.from = From::Answer(answer);
        incoming.accept = accept;
        *outgoing = if end { Outgoing::End } else { Outgoing::Body(body) };
        Ok(())
    }

    /// Ends it behind its body, with these lines as trailers.
    pub(super) fn finish(&self, trailers: &[u8]) -> io::Result<()> {
        if trailers.is_empty() {
            return self.add(Bytes::new(), true);
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else { return Err(over()) };
        body.send_trailers(message::trailers_out(trailers)?).map_err(error)?;
        *outgoing = Outgoing::End;
        Ok(())
    }

    /// Sends both pieces, for which there is room; `end`: nothing follows.
    pub(super) fn put(&self, first: &[u8], second: &[u8], end: bool) -> io::Result<()> {
        let mut piece = BytesMut::with_capacity(first.len() + second.len());
        piece.put_slice(first);
        piece.put_slice(second);
        self.add(piece.freeze(), end)
    }

    fn add(&self, bytes: Bytes, end: bool) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else { return Err(over()) };
        self.handed.set(self.handed.get() + bytes.len() as u64);
        body.send_data(bytes, end).map_err(error)?;
        if end {
            *outgoing = Outgoing::End;
        }
        Ok(())
    }

    /// Waits for a place in the window, for so many bytes at most.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else { return Poll::Ready(Err(over())) };
        let wanted = wanted.min(PIECE);
        body.reserve_capacity(wanted);
        loop {
            match body.capacity() {
                0 => match ready!(body.poll_capacity(cx)) {
                    Some(more) => more.map_err(error)?,
                    None => return Poll::Ready(Err(over())),
                },
                room => return Poll::Ready(Ok(room.min(wanted))),
            };
        }
    }
}

impl Incoming {
    fn new(from: From) -> Self {
        Self { from, text: Vec::new(), chunk: Bytes::new(), accept: None, trailers: Vec::new() }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.text.is_empty() {
                let n = self.text.len().min(buf.remaining());
                buf.put_slice(&self.text[..n]);
                self.text.drain(..n);
                return Poll::Ready(Ok(()));
            }
            match &mut self.from {
                From::Nothing => return Poll::Pending,
                From::End => return Poll::Ready(Ok(())),
                From::Answer(answer) => {
                    if let Poll::Ready(Some(interim)) = answer.poll_informational(cx) {
                        message::response_in(&interim.map_err(error)?.into_parts().0, None, &mut self.text);
                        continue;
                    }
                    let (parts, body) = ready!(Pin::new(answer).poll(cx)).map_err(error)?.into_parts();
                    message::response_in(&parts, self.accept.as_deref(), &mut self.text);
                    self.from = From::Body(body);
                }
                From::Body(body) if !self.chunk.is_empty() => {
                    let n = self.chunk.len().min(buf.remaining());
                    buf.put_slice(&self.chunk[..n]);
                    self.chunk.advance(n);
                    // An error means that the stream is over, and then so is its window.
                    let _ = body.flow_control().release_capacity(n);
                    return Poll::Ready(Ok(()));
                }
                From::Body(body) => match ready!(body.poll_data(cx)) {
                    Some(chunk) => self.chunk = chunk.map_err(error)?,
                    None => {
                        if let Some(trailers) = ready!(body.poll_trailers(cx)).map_err(error)? {
                            message::trailers_in(&trailers, &mut self.trailers);
                        }
                        self.from = From::End;
                    }
                },
            }
        }
    }
}
