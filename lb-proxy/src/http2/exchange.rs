//! One stream of HTTP/2, a client's or a server's, as the halves of a [`crate::stream::Stream`]: body and tunnel bytes go
//! in and out plainly; only heads and trailers are said apart.
//!
//! A server's stream is read as HTTP/1.1 is: the answer's head as text, then its body. Windows open again as bytes are read,
//! so what waits here is bounded by the window, and what is read is bounded by who reads.
use super::message;
use super::websocket;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Most bytes handed to the library at once.
const PIECE: usize = 32 * 1024;

/// A stream. Dropped before its end, it is reset.
pub(crate) struct Exchange {
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Outgoing>,
    /// The client asked for a WebSocket, and this is what its server must answer.
    expected: Option<String>,
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
    /// A client that waits for the head of an answer.
    Answer(SendResponse<Bytes>),
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

impl Exchange {
    /// A client's. `key`: of the WebSocket that it asks for.
    pub(crate) fn with_client(
        body: RecvStream,
        answer: SendResponse<Bytes>,
        key: Option<&str>,
        place: impl Any,
    ) -> Self {
        Self {
            incoming: RefCell::new(Incoming::new(From::Body(body))),
            outgoing: RefCell::new(Outgoing::Answer(answer)),
            expected: key.map(|key| websocket::accept(key.as_bytes())),
            handed: Cell::new(0),
            _place: Box::new(place),
        }
    }

    /// A server's.
    pub(crate) fn with_server(send: SendRequest<Bytes>, scheme: &'static str, name: String, place: impl Any) -> Self {
        Self {
            incoming: RefCell::new(Incoming::new(From::Nothing)),
            outgoing: RefCell::new(Outgoing::Request(send, scheme, name)),
            expected: None,
            handed: Cell::new(0),
            _place: Box::new(place),
        }
    }

    /// What the server must say to accept the client's WebSocket; `None`: it asks for none.
    pub(crate) fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// Reads on; nothing read: the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.incoming.borrow_mut().poll_read(cx, buf)
    }

    /// How many bytes of bodies the other side had room for.
    pub(crate) fn handed(&self) -> u64 {
        self.handed.get()
    }

    /// Whether everything that was sent has been read.
    pub(crate) fn ended(&self) -> bool {
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
    pub(crate) fn trailers(&self) -> Vec<u8> {
        std::mem::take(&mut self.incoming.borrow_mut().trailers)
    }

    /// Ready once the other side has reset the stream, or its connection is gone.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.outgoing.borrow_mut() {
            Outgoing::Answer(answer) => answer.poll_reset(cx).map(drop),
            Outgoing::Body(body) => body.poll_reset(cx).map(drop),
            Outgoing::Request(..) | Outgoing::End => Poll::Pending,
        }
    }

    /// Ends it by a reset.
    pub(crate) fn reset(&self, reason: Reason) {
        let mut outgoing = self.outgoing.borrow_mut();
        match &mut *outgoing {
            Outgoing::Answer(answer) => answer.send_reset(reason),
            Outgoing::Body(body) => body.send_reset(reason),
            Outgoing::Request(..) | Outgoing::End => {}
        }
        *outgoing = Outgoing::End;
    }

    /// Sends the head of an answer that stands there as HTTP/1.1; `end`: it is all.
    pub(crate) fn respond(&self, head: &[u8], end: bool) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Answer(answer) = &mut *outgoing else { return Err(over()) };
        let response = message::response_out(head)?;
        if response.status().is_informational() {
            return answer.send_informational(response).map_err(error);
        }
        let body = answer.send_response(response, end).map_err(error)?;
        *outgoing = if end { Outgoing::End } else { Outgoing::Body(body) };
        Ok(())
    }

    /// Sends the head of a request that stands there as HTTP/1.1; `end`: it is all.
    pub(crate) fn request(&self, head: &[u8], end: bool) -> io::Result<()> {
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

    /// Sends both pieces; `end`: nothing follows.
    pub(crate) async fn send(&self, first: &[u8], second: &[u8], end: bool) -> io::Result<()> {
        let total = first.len() + second.len();
        let mut sent = 0;
        while sent < total {
            let room = poll_fn(|cx| self.poll_room(cx, total - sent)).await?;
            let mut piece = BytesMut::with_capacity(room);
            if sent < first.len() {
                piece.put_slice(&first[sent..first.len().min(sent + room)]);
            }
            let rest = room - piece.len();
            let from = (sent + piece.len()).saturating_sub(first.len());
            piece.put_slice(&second[from.min(second.len())..(from + rest).min(second.len())]);
            sent += piece.len();
            self.put(piece.freeze(), end && sent == total)?;
        }
        if total == 0 && end { self.put(Bytes::new(), true) } else { Ok(()) }
    }

    /// Waits until the window takes something.
    pub(crate) async fn room(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx, 1)).await.map(drop)
    }

    /// Sends what there is room for now of the first piece that is not empty.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(piece) = pieces.iter().find(|piece| !piece.is_empty()) else { return Poll::Ready(Ok(0)) };
        let room = ready!(self.poll_room(cx, piece.len()))?;
        self.put(Bytes::copy_from_slice(&piece[..room]), false)?;
        Poll::Ready(Ok(room))
    }

    /// Says that nothing more comes.
    pub(crate) fn shutdown(&self) {
        // An error means that the stream is over already.
        let _ = self.put(Bytes::new(), true);
    }

    /// Ends it behind its body, with these lines as trailers.
    pub(crate) fn finish(&self, trailers: &[u8]) -> io::Result<()> {
        if trailers.is_empty() {
            return self.put(Bytes::new(), true);
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else { return Err(over()) };
        body.send_trailers(message::trailers_out(trailers)?).map_err(error)?;
        *outgoing = Outgoing::End;
        Ok(())
    }

    fn put(&self, bytes: Bytes, end: bool) -> io::Result<()> {
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
    fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
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

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
