//! A client's connection, without its socket: frames in, frames out, the streams that are open (RFC 9113, 5 and 6).
//!
//! It moves nothing by itself. The connection's task feeds it with what came and drains what is to go; the tasks of the
//! streams write their frames into it through [`super::stream`].
mod frames;
#[cfg(test)]
mod tests;

use self::frames::{Block, Wrong};
use super::frame::{self, Head};
use super::guard::Guard;
use super::hpack::{self, Decoder};
use super::out::Out;
use super::request::{Builder, Finished};
use super::stream::Stream;
use super::{PREFACE, message};
use crate::io::Buffers;
use h2::Reason;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;

/// With so much waiting for the socket, nothing more is taken in, and no stream adds data.
pub(super) const MOST: usize = 64 * 1024;
/// What is kept for the next header block.
const KEPT: usize = 4096;
/// Streams that we have reset, and of which the client may not know yet.
const FORGOTTEN: usize = 256;
/// What a client is asked to send back before it is told which of its streams was the last.
const FAREWELL: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
/// A stream's window until the client has heard of another (RFC 9113, 6.9.2).
const WINDOW: u32 = 65_535;

/// What a connection is bound by.
pub(super) struct Bounds {
    /// Requests at a time.
    pub(super) streams: u32,
    /// Bytes of a request's body that wait here.
    pub(super) window: u32,
    /// Bytes of a head's fields.
    pub(super) head: usize,
}

/// A connection, shared by its own task and those of its streams.
pub(super) struct Session {
    pub(super) inner: RefCell<Inner>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// In order, or because the client has gone.
    Quietly,
    /// Because of what the client did.
    Because(Reason),
}

/// Whether new streams are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    No,
    /// The client was told that we go.
    Told,
    /// And which stream is the last.
    Last(u32),
}

/// A head that ended; its stream is open.
pub(super) struct New {
    pub(super) stream: Rc<Stream>,
    /// The head as HTTP/1.1.
    pub(super) text: Vec<u8>,
    pub(super) head: Finished,
}

pub(super) struct Inner {
    pub(super) out: Out,
    pub(super) guard: Guard,
    bounds: Bounds,
    decoder: Decoder,
    builder: Builder,
    /// Header blocks are written here first.
    scratch: Vec<u8>,
    /// The client knows that our blocks need no table.
    no_table: bool,
    /// By number.
    open: Vec<Rc<Stream>>,
    /// The highest stream of the client's.
    last: u32,
    forgotten: VecDeque<u32>,
    block: Option<Block>,
    preface: bool,
    /// The client has heard of our settings.
    heard: bool,
    going: Going,
    over: Option<Over>,
    /// What a new stream's window is.
    initial: i64,
    /// How much the client takes in all.
    pub(super) window: i64,
    /// How much it may send in all.
    allowed: i64,
    most: i64,
    /// Was read, and it was not told.
    read: i64,
    /// Wait for `window`, or for the socket.
    pub(super) blocked: Vec<Rc<Stream>>,
}

impl Session {
    /// A connection whose client has said nothing yet. Our settings are the first to go.
    pub(super) fn new(spare: &Rc<Buffers>, bounds: Bounds) -> Rc<Self> {
        let window = u64::from(bounds.window) * u64::from(bounds.streams);
        let most = window.clamp(u64::from(WINDOW), 16 << 20).max(u64::from(bounds.window)) as u32;
        let settings =
            [(3u16, bounds.streams), (4, bounds.window), (6, u32::try_from(bounds.head).unwrap_or(u32::MAX)), (8, 1)];
        let mut hello = frame::head(settings.len() * 6, frame::SETTINGS, 0, 0).to_vec();
        for (name, value) in settings {
            hello.extend(name.to_be_bytes());
            hello.extend(value.to_be_bytes());
        }
        if most > WINDOW {
            hello.extend(frame::short(frame::WINDOW_UPDATE, 0, &[most - WINDOW]));
        }
        let mut out = Out::new(spare.clone());
        out.push(&hello);
        let inner = Inner {
            out,
            guard: Guard::of_client(),
            bounds,
            decoder: Decoder::new(),
            builder: Builder::default(),
            scratch: Vec::new(),
            no_table: false,
            open: Vec::new(),
            last: 0,
            forgotten: VecDeque::new(),
            block: None,
            preface: false,
            heard: false,
            going: Going::No,
            over: None,
            initial: i64::from(WINDOW),
            window: i64::from(WINDOW),
            allowed: i64::from(most),
            most: i64::from(most),
            read: 0,
            blocked: Vec::new(),
        };
        Rc::new(Self { inner: RefCell::new(inner), waker: RefCell::new(None), woken: Cell::new(false) })
    }

    /// The connection's task runs, and sees all that is there.
    pub(super) fn runs(&self, waker: &Waker) {
        self.woken.set(false);
        let mut mine = self.waker.borrow_mut();
        if !mine.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *mine = Some(waker.clone());
        }
    }

    /// There is something for the connection's task.
    pub(super) fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Takes in what came, as far as it is whole and there is room for answers; how much that was. New requests are
    /// appended to `new`.
    pub(super) fn feed(&self, bytes: &[u8], new: &mut Vec<New>) -> usize {
        let mut inner = self.inner.borrow_mut();
        let mut at = inner.preface(bytes);
        while inner.over.is_none() && inner.preface && inner.out.waiting() < MOST {
            let Some(head) = bytes[at..].first_chunk() else { break };
            let head = Head::read(*head);
            if head.length > frame::MOST {
                inner.fatal(Reason::FRAME_SIZE_ERROR);
                break;
            }
            let Some(payload) = bytes.get(at + frame::HEAD..at + frame::HEAD + head.length) else { break };
            at += frame::HEAD + head.length;
            inner.guard.frame(head.kind, head.flags, head.length);
            let taken = match inner.guard.tripped() {
                Some(reason) => Err(Wrong::Connection(reason)),
                None => inner.take(head, payload, new),
            };
            match taken {
                Ok(()) => {}
                Err(Wrong::Connection(reason)) => inner.fatal(reason),
                Err(Wrong::Stream(id, reason)) => {
                    inner.reset(id, reason);
                    // Perhaps it was one too many.
                    if let Some(reason) = inner.guard.tripped() {
                        inner.fatal(reason);
                    }
                }
            }
        }
        at
    }

    /// Whether it ends, and how.
    pub(super) fn over(&self) -> Option<Over> {
        let inner = self.inner.borrow();
        let ended = matches!(inner.going, Going::Last(_)) && !inner.has_streams();
        inner.over.or(ended.then_some(Over::Quietly))
    }

    /// The client has said its settings.
    pub(super) fn spoken(&self) -> bool {
        self.inner.borrow().guard.spoken()
    }

    /// Whether a stream is open that somebody serves.
    pub(super) fn has_streams(&self) -> bool {
        self.inner.borrow().has_streams()
    }

    /// The client is told that we go; streams that it has opened until it knows are served.
    pub(super) fn go(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.going == Going::No && inner.over.is_none() {
            inner.going = Going::Told;
            inner.push(&frame::short(frame::GOAWAY, 0, &[0x7fff_ffff, 0]));
            inner.push(&[&frame::head(8, frame::PING, 0, 0)[..], &FAREWELL].concat());
        }
    }

    /// Nothing comes from the client any more, or nothing reaches it.
    pub(super) fn lost(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.over.get_or_insert(Over::Quietly);
        inner.drop_all();
    }

    /// Nobody serves this stream; what came for it is as good as read. One that the client has taken back already need not hear
    /// of it.
    pub(super) fn refuse(&self, stream: &Stream) {
        let mut inner = self.inner.borrow_mut();
        if !stream.is_gone() {
            inner.reset(stream.id, Reason::REFUSED_STREAM);
        }
        inner.release(stream.unread());
    }

    /// The socket has taken what waited.
    pub(super) fn drained(&self) {
        self.inner.borrow_mut().unblock();
    }
}

impl Inner {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.out.push(bytes);
    }

    /// How much of `bytes` was the preface.
    fn preface(&mut self, bytes: &[u8]) -> usize {
        if self.preface || self.over.is_some() {
            return 0;
        }
        let n = bytes.len().min(PREFACE.len());
        if bytes[..n] != PREFACE[..n] {
            self.fatal(Reason::PROTOCOL_ERROR);
            return 0;
        }
        self.preface = n == PREFACE.len();
        if self.preface { n } else { 0 }
    }

    fn has_streams(&self) -> bool {
        self.open.iter().any(|stream| !stream.discards())
    }

    fn place(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id)
    }

    fn find(&self, id: u32) -> Option<Rc<Stream>> {
        self.place(id).ok().map(|at| self.open[at].clone())
    }

    /// Both sides have ended it.
    pub(super) fn close(&mut self, id: u32) {
        if let Ok(at) = self.place(id) {
            self.open.remove(at);
        }
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        if let Some(stream) = self.find(id) {
            stream.gone();
            self.close(id);
        }
        if self.forgotten.len() == FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(id);
        self.guard.sent(frame::RST_STREAM);
        self.push(&frame::rst_stream(id, reason));
    }

    /// Ends the connection.
    fn fatal(&mut self, reason: Reason) {
        self.over = Some(Over::Because(reason));
        self.push(&frame::short(frame::GOAWAY, 0, &[self.last, reason.into()]));
        self.drop_all();
    }

    fn drop_all(&mut self) {
        self.open.drain(..).for_each(|stream| stream.gone());
        self.blocked.clear();
    }

    fn unblock(&mut self) {
        self.blocked.drain(..).for_each(|stream| stream.unblocked());
    }

    /// So much of what came is out of the way: the client may send as much again. Whether it is told now.
    pub(super) fn release(&mut self, n: usize) -> bool {
        self.read += n as i64;
        let tell = self.read >= self.most / 2 && self.over.is_none();
        if tell {
            let read = std::mem::take(&mut self.read);
            self.allowed += read;
            self.push(&frame::short(frame::WINDOW_UPDATE, 0, &[read as u32]));
        }
        tell
    }

    /// Writes lines of HTTP/1.1, the first of them a status line where it is a head, as a block of fields.
    pub(super) fn block(&mut self, id: u32, text: &[u8], trailers: bool, end: bool) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        if !self.no_table {
            block.extend(hpack::NO_TABLE);
        }
        let fields =
            if trailers { message::fields_out(text, false, &mut block) } else { message::head_out(text, &mut block) };
        if fields.is_ok() {
            self.no_table = true;
            let (mut kind, mut flags) = (frame::HEADERS, if end { frame::END_STREAM } else { 0 });
            let mut rest = &block[..];
            // One frame at least, if nothing is left of the fields.
            loop {
                let (piece, more) = rest.split_at(rest.len().min(frame::MOST));
                rest = more;
                flags |= if rest.is_empty() { frame::END_HEADERS } else { 0 };
                self.push(&frame::head(piece.len(), kind, flags, id));
                self.push(piece);
                if rest.is_empty() {
                    break;
                }
                (kind, flags) = (frame::CONTINUATION, 0);
            }
        }
        if block.capacity() <= KEPT {
            self.scratch = block;
        }
        fields
    }
}
