//! One stream of a client's: what the connection's task puts in, and what the request's task reads and writes.
use super::frame::{self, MAX_WINDOW};
use super::serve::Place;
use super::session::{MOST, Session};
use h2::Reason;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// Most bytes that a stream sends before others have their turn.
const PIECE: usize = 32 * 1024;

/// A stream, as its connection knows it.
pub(super) struct Stream {
    pub(super) id: u32,
    state: RefCell<State>,
}

struct State {
    /// Came, and was read as far as `at`.
    data: Vec<u8>,
    at: usize,
    /// Lines, once all has come.
    trailers: Vec<u8>,
    /// The client has ended it.
    came: bool,
    /// How much is still to come, where the head has said so.
    length: Option<u64>,
    /// How much the client may send.
    allowed: i64,
    /// Bytes of its window.
    most: i64,
    /// Was read, and the client was not told.
    read: i64,
    /// How much the client takes.
    window: i64,
    /// Bytes that went out.
    handed: u64,
    /// The answer's head is out.
    answered: bool,
    /// We have ended it.
    went: bool,
    /// Its answer is whole, and nobody reads what still comes.
    discards: bool,
    /// It was reset, by whomever, or its connection is over.
    gone: bool,
    /// In the list of those that wait for the connection.
    blocked: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|w| w.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

impl Stream {
    /// `length`: of its body, where that is known. `allowed`: what the client may send now; `most`: later. `window`: what it
    /// takes.
    pub(super) fn new(id: u32, length: Option<u64>, ended: bool, allowed: u32, most: u32, window: i64) -> Self {
        let state = State {
            data: Vec::new(),
            at: 0,
            trailers: Vec::new(),
            came: ended,
            length,
            allowed: i64::from(allowed),
            most: i64::from(most),
            read: 0,
            window,
            handed: 0,
            answered: false,
            went: false,
            discards: false,
            gone: false,
            blocked: false,
            reader: None,
            writer: None,
        };
        Self { id, state: RefCell::new(state) }
    }

    /// Data came, in a frame of so many bytes. Whether both sides have ended.
    ///
    /// # Errors
    /// Why it is reset.
    pub(super) fn data(&self, data: &[u8], frame: usize, ended: bool) -> Result<bool, Reason> {
        let mut state = self.state.borrow_mut();
        if state.came {
            return Err(Reason::STREAM_CLOSED);
        }
        state.allowed -= frame as i64;
        if state.allowed < 0 {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        // Padding is as good as read.
        state.read += (frame - data.len()) as i64;
        if let Some(length) = &mut state.length {
            *length = length.checked_sub(data.len() as u64).ok_or(Reason::PROTOCOL_ERROR)?;
        }
        if state.discards {
            // A client that has no more window waits for it: it is told that nobody wants the rest.
            return if ended {
                state.end()
            } else if state.allowed > 0 {
                Ok(false)
            } else {
                Err(Reason::NO_ERROR)
            };
        }
        if state.at > 0 && state.at * 2 >= state.data.len() {
            let at = std::mem::take(&mut state.at);
            state.data.drain(..at);
        }
        state.data.extend_from_slice(data);
        if ended { state.end() } else { Ok(state.heard()) }
    }

    /// Trailers came. Whether both sides have ended.
    ///
    /// # Errors
    /// Why it is reset.
    pub(super) fn trailers(&self, lines: Vec<u8>) -> Result<bool, Reason> {
        let mut state = self.state.borrow_mut();
        if state.came {
            return Err(Reason::STREAM_CLOSED);
        }
        state.trailers = lines;
        state.end()
    }

    /// The client takes so much more, or less; false: more than a window can be.
    pub(super) fn widen(&self, more: i64) -> bool {
        let mut state = self.state.borrow_mut();
        state.window += more;
        if more > 0 {
            wake(&mut state.writer);
        }
        state.window <= MAX_WINDOW
    }

    /// It is over before its end.
    pub(super) fn gone(&self) {
        let mut state = self.state.borrow_mut();
        state.gone = true;
        wake(&mut state.reader);
        wake(&mut state.writer);
    }

    /// Whether its answer is whole, and nobody reads what still comes.
    pub(super) fn discards(&self) -> bool {
        self.state.borrow().discards
    }

    /// Whether it is over before its end.
    pub(super) fn is_gone(&self) -> bool {
        self.state.borrow().gone
    }

    /// Bytes of its body that nobody has read.
    pub(super) fn unread(&self) -> usize {
        self.state.borrow().unread()
    }

    /// The connection can take something again.
    pub(super) fn unblocked(&self) {
        let mut state = self.state.borrow_mut();
        state.blocked = false;
        wake(&mut state.writer);
    }
}

impl State {
    fn end(&mut self) -> Result<bool, Reason> {
        if self.length.is_some_and(|left| left > 0) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.came = true;
        Ok(self.heard())
    }

    fn heard(&mut self) -> bool {
        wake(&mut self.reader);
        self.came && self.went
    }

    fn unread(&self) -> usize {
        self.data.len() - self.at
    }
}

/// A stream, as its request holds it. Dropped before its answer's end, it is reset.
pub(crate) struct Requested {
    session: Rc<Session>,
    stream: Rc<Stream>,
    /// What a server must say to accept the WebSocket that the client asks for.
    expected: Option<String>,
    _place: Place,
}

fn over() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Requested {
    /// `expected`: see there.
    pub(super) fn new(session: Rc<Session>, stream: Rc<Stream>, expected: Option<String>, place: Place) -> Self {
        Self { session, stream, expected, _place: place }
    }

    pub(super) fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// Reads on; nothing read: the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.stream.state.borrow_mut();
        let n = state.unread().min(buf.remaining());
        if n == 0 {
            return match (state.gone, state.came) {
                (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (false, true) => Poll::Ready(Ok(())),
                (false, false) => {
                    keep(&mut state.reader, cx.waker());
                    Poll::Pending
                }
            };
        }
        buf.put_slice(&state.data[state.at..state.at + n]);
        state.at += n;
        if state.unread() == 0 {
            (state.data, state.at) = (Vec::new(), 0);
        }
        state.read += n as i64;
        let mut inner = self.session.inner.borrow_mut();
        let mut told = inner.release(n);
        if state.read >= state.most / 2 && !state.came && !state.gone {
            let more = std::mem::take(&mut state.read);
            // What the client could send before it knew of our settings was perhaps more than it may send now.
            let more = more.min(state.most - state.allowed);
            if more > 0 {
                state.allowed += more;
                inner.push(&frame::short(frame::WINDOW_UPDATE, self.stream.id, &[more as u32]));
                told = true;
            }
        }
        drop(inner);
        if told {
            self.session.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes of its body the client had room for.
    pub(super) fn handed(&self) -> u64 {
        self.stream.state.borrow().handed
    }

    /// Whether everything that was sent has been read.
    pub(super) fn ended(&self) -> bool {
        let state = self.stream.state.borrow();
        state.came && !state.gone && state.unread() == 0
    }

    /// The trailers that came behind the body, as lines.
    pub(super) fn trailers(&self) -> Vec<u8> {
        std::mem::take(&mut self.stream.state.borrow_mut().trailers)
    }

    /// Ready once the stream is reset, or its connection gone.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.stream.state.borrow_mut();
        if state.gone {
            return Poll::Ready(());
        }
        keep(&mut state.writer, cx.waker());
        Poll::Pending
    }

    /// Ends it by a reset, unless it has ended.
    pub(super) fn reset(&self, reason: Reason) {
        let state = self.stream.state.borrow();
        if state.gone || (state.came && state.went) {
            return;
        }
        drop(state);
        self.session.inner.borrow_mut().reset(self.stream.id, reason);
        self.session.wake();
    }

    /// Sends the head of an answer that stands there as HTTP/1.1; `end`: it is all.
    pub(super) fn respond(&self, head: &[u8], end: bool) -> io::Result<()> {
        let mut state = self.stream.state.borrow_mut();
        if state.gone || state.answered {
            return Err(over());
        }
        self.session.inner.borrow_mut().block(self.stream.id, head, false, end)?;
        // Interim answers have a status of 1xx; that one which switches protocols is none here.
        state.answered = head.get(9) != Some(&b'1') || head.get(9..12) == Some(b"101");
        self.sent(&mut state, end);
        Ok(())
    }

    /// Ends it behind its body, with these lines as trailers.
    pub(super) fn finish(&self, trailers: &[u8]) -> io::Result<()> {
        if trailers.is_empty() {
            return self.put(&[], &[], true);
        }
        let mut state = self.stream.state.borrow_mut();
        if state.gone || state.went {
            return Err(over());
        }
        self.session.inner.borrow_mut().block(self.stream.id, trailers, true, true)?;
        self.sent(&mut state, true);
        Ok(())
    }

    /// Waits for a place in the windows and on the way to the socket; how many bytes there is room for.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut state = self.stream.state.borrow_mut();
        if state.gone || state.went {
            return Poll::Ready(Err(over()));
        }
        let mut inner = self.session.inner.borrow_mut();
        let full = inner.window <= 0 || inner.out.waiting() >= MOST;
        if full && !std::mem::replace(&mut state.blocked, true) {
            inner.blocked.push(self.stream.clone());
        }
        if full || state.window <= 0 {
            keep(&mut state.writer, cx.waker());
            return Poll::Pending;
        }
        let room = usize::try_from(state.window.min(inner.window)).unwrap_or(0);
        Poll::Ready(Ok(room.min(wanted).min(PIECE)))
    }

    /// Sends both pieces, for which there is room; `end`: nothing follows.
    pub(super) fn put(&self, first: &[u8], second: &[u8], end: bool) -> io::Result<()> {
        let mut state = self.stream.state.borrow_mut();
        if state.gone || state.went {
            return Err(over());
        }
        let id = self.stream.id;
        let mut inner = self.session.inner.borrow_mut();
        let (mut first, mut second) = (first, second);
        loop {
            let a = first.len().min(frame::MOST);
            let b = second.len().min(frame::MOST - a);
            let last = a == first.len() && b == second.len();
            let flags = if last && end { frame::END_STREAM } else { 0 };
            inner.push(&frame::head(a + b, frame::DATA, flags, id));
            inner.push(&first[..a]);
            inner.push(&second[..b]);
            inner.guard.sent(frame::DATA);
            state.handed += (a + b) as u64;
            state.window -= (a + b) as i64;
            inner.window -= (a + b) as i64;
            (first, second) = (&first[a..], &second[b..]);
            if last {
                break;
            }
        }
        drop(inner);
        self.sent(&mut state, end);
        Ok(())
    }

    /// Frames wait for the connection's task; `end`: it was the last.
    fn sent(&self, state: &mut State, end: bool) {
        state.went |= end;
        if end && state.came {
            self.session.inner.borrow_mut().close(self.stream.id);
        }
        self.session.wake();
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        let mut state = self.stream.state.borrow_mut();
        let unread = state.unread();
        // An answer that is whole says all, and the client need not go on. A reset would tell it so (RFC 9113, 8.1), but there
        // are clients that then forget the answer: what fits the window is taken and thrown away.
        state.discards = state.went && !state.came && !state.gone && state.allowed > 0;
        let reason = if state.went { Reason::NO_ERROR } else { Reason::CANCEL };
        if state.discards {
            (state.data, state.at) = (Vec::new(), 0);
        }
        let discards = state.discards;
        drop(state);
        if !discards {
            self.reset(reason);
        }
        if unread > 0 && self.session.inner.borrow_mut().release(unread) {
            self.session.wake();
        }
    }
}
