//! One frame of a client's after the other: what it means for its stream and its connection (RFC 9113, 5 and 6).
use super::super::frame::{self, Head, MAX_WINDOW};
use super::super::hpack;
use super::super::request::{Finished, Trailers};
use super::super::stream::Stream;
use super::{FAREWELL, Going, Inner, New, WINDOW};
use Wrong::{Connection, Stream as OfStream};
use h2::Reason;
use std::rc::Rc;

/// What is wrong with a frame.
pub(super) enum Wrong {
    Connection(Reason),
    Stream(u32, Reason),
}

/// A head whose end is still to come.
pub(super) struct Block {
    stream: u32,
    flags: u8,
    itself: bool,
    bytes: Vec<u8>,
}

impl Inner {
    /// Takes in one frame.
    pub(super) fn take(&mut self, head: Head, payload: &[u8], new: &mut Vec<New>) -> Result<(), Wrong> {
        let id = head.stream;
        if let Some(block) = &self.block
            && (head.kind != frame::CONTINUATION || id != block.stream)
        {
            return Err(Connection(Reason::PROTOCOL_ERROR));
        }
        let of_stream = matches!(head.kind, frame::DATA | frame::HEADERS | frame::PRIORITY | frame::RST_STREAM);
        let of_connection = matches!(head.kind, frame::SETTINGS | frame::PING | frame::GOAWAY);
        let idle = id > self.last && matches!(head.kind, frame::DATA | frame::RST_STREAM | frame::WINDOW_UPDATE);
        if (of_stream && id == 0) || (of_connection && id != 0) || idle {
            return Err(Connection(Reason::PROTOCOL_ERROR));
        }
        match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload, new),
            frame::CONTINUATION => self.continuation(head, payload, new),
            // Its size is the guard's to look at, here and below.
            frame::PRIORITY if payload.first_chunk().is_some_and(|on| depends_on(*on) == id) => {
                Err(Connection(Reason::PROTOCOL_ERROR))
            }
            frame::PUSH_PROMISE => Err(Connection(Reason::PROTOCOL_ERROR)),
            frame::RST_STREAM => {
                if let Some(stream) = self.find(id) {
                    stream.gone();
                    self.close(id);
                }
                Ok(())
            }
            frame::SETTINGS => self.settings(head, payload),
            frame::PING => {
                self.ping(head, payload);
                Ok(())
            }
            frame::WINDOW_UPDATE => self.window_update(id, payload),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Wrong> {
        let id = head.stream;
        let data = frame::unpadded(head, payload).ok_or(Connection(Reason::PROTOCOL_ERROR))?;
        if data.is_empty() && !payload.is_empty() && !head.has(frame::END_STREAM) {
            self.guard.padding();
        }
        self.allowed -= payload.len() as i64;
        if self.allowed < 0 {
            return Err(Connection(Reason::FLOW_CONTROL_ERROR));
        }
        let Some(stream) = self.find(id) else {
            // What was on its way when we reset the stream.
            self.release(payload.len());
            return if self.forgotten.contains(&id) { Ok(()) } else { Err(OfStream(id, Reason::STREAM_CLOSED)) };
        };
        let ended = head.has(frame::END_STREAM);
        let taken = stream.data(data, payload.len(), ended);
        // Padding is read by nobody else; neither is what came too much.
        let kept = taken.is_ok() && !stream.discards();
        let unread = if kept { payload.len() - data.len() } else { payload.len() };
        self.release(unread);
        if taken.map_err(|reason| OfStream(id, reason))? {
            self.close(id);
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8], new: &mut Vec<New>) -> Result<(), Wrong> {
        let mut block = frame::unpadded(head, payload).ok_or(Connection(Reason::PROTOCOL_ERROR))?;
        let mut itself = false;
        if head.has(frame::HAS_PRIORITY) {
            let (on, rest) = block.split_at_checked(5).ok_or(Connection(Reason::FRAME_SIZE_ERROR))?;
            itself = on.first_chunk().is_some_and(|on| depends_on(*on) == head.stream);
            block = rest;
        }
        if head.has(frame::END_HEADERS) {
            return self.fields((head.stream, head.flags, itself), block, new);
        }
        self.block = Some(Block { stream: head.stream, flags: head.flags, itself, bytes: block.to_vec() });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8], new: &mut Vec<New>) -> Result<(), Wrong> {
        let mut block = self.block.take().ok_or(Connection(Reason::PROTOCOL_ERROR))?;
        if block.bytes.len() + payload.len() > self.bounds.head + frame::MOST {
            return Err(Connection(Reason::ENHANCE_YOUR_CALM));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS) {
            return self.fields((block.stream, block.flags, block.itself), &block.bytes, new);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole block of fields. It is decoded in any case, because those behind it need the table that it makes.
    fn fields(&mut self, (id, flags, itself): (u32, u8, bool), block: &[u8], new: &mut Vec<New>) -> Result<(), Wrong> {
        let broken = |_: hpack::Broken| Connection(Reason::COMPRESSION_ERROR);
        let ended = flags & frame::END_STREAM != 0;
        if id <= self.last {
            let mut trailers = Trailers::default();
            let most = self.bounds.head;
            self.decoder.decode(block, |name, value| trailers.field(name, value, most)).map_err(broken)?;
            let Some(stream) = self.find(id) else {
                let known = self.forgotten.contains(&id);
                return if known { Ok(()) } else { Err(Connection(Reason::STREAM_CLOSED)) };
            };
            if itself || !ended || trailers.malformed {
                return Err(OfStream(id, Reason::PROTOCOL_ERROR));
            }
            if stream.trailers(trailers.lines).map_err(|reason| OfStream(id, reason))? {
                self.close(id);
            }
            return Ok(());
        }
        if id.is_multiple_of(2) {
            return Err(Connection(Reason::PROTOCOL_ERROR));
        }
        let room = self.open.len() < self.bounds.streams as usize;
        if !room || matches!(self.going, Going::Last(last) if id > last) {
            self.decoder.decode(block, |_, _| {}).map_err(broken)?;
            self.last = id;
            return Err(OfStream(id, Reason::REFUSED_STREAM));
        }
        let Self { decoder, builder, bounds, .. } = self;
        builder.start(bounds.head);
        let decoded = decoder.decode(block, |name, value| builder.field(name, value));
        self.last = id;
        let head = self.builder.finish(ended);
        decoded.map_err(broken)?;
        if itself || head == Finished::Malformed {
            return Err(OfStream(id, Reason::PROTOCOL_ERROR));
        }
        let length = if let Finished::Head { length, .. } = &head { *length } else { None };
        let window = if self.heard { self.bounds.window } else { self.bounds.window.max(WINDOW) };
        let stream = Rc::new(Stream::new(id, length, ended, window, self.bounds.window, self.initial));
        self.open.push(stream.clone());
        new.push(New { stream, text: self.builder.text(), head });
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Wrong> {
        if head.has(frame::ACK) {
            self.heard = true;
            return Ok(());
        }
        for setting in payload.as_chunks::<6>().0 {
            let [a, b, value @ ..] = *setting;
            let value = u32::from_be_bytes(value);
            match u16::from_be_bytes([a, b]) {
                2 if value > 1 => return Err(Connection(Reason::PROTOCOL_ERROR)),
                4 if i64::from(value) > MAX_WINDOW => return Err(Connection(Reason::FLOW_CONTROL_ERROR)),
                4 => {
                    let more = i64::from(value) - std::mem::replace(&mut self.initial, i64::from(value));
                    if self.open.iter().any(|stream| !stream.widen(more)) {
                        return Err(Connection(Reason::FLOW_CONTROL_ERROR));
                    }
                }
                5 if !(16_384..=16_777_215).contains(&value) => return Err(Connection(Reason::PROTOCOL_ERROR)),
                _ => {}
            }
        }
        self.push(&frame::head(0, frame::SETTINGS, frame::ACK, 0));
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) {
        if !head.has(frame::ACK) {
            self.push(&frame::head(payload.len(), frame::PING, frame::ACK, 0));
            self.push(payload);
        } else if payload == FAREWELL && self.going == Going::Told {
            self.going = Going::Last(self.last);
            self.push(&frame::short(frame::GOAWAY, 0, &[self.last, 0]));
        }
    }

    fn window_update(&mut self, id: u32, payload: &[u8]) -> Result<(), Wrong> {
        let more = payload.first_chunk().map_or(0, |n| i64::from(u32::from_be_bytes(*n) & 0x7fff_ffff));
        if id > 0 {
            let Some(stream) = self.find(id) else { return Ok(()) };
            return match more {
                0 => Err(OfStream(id, Reason::PROTOCOL_ERROR)),
                _ if stream.widen(more) => Ok(()),
                _ => Err(OfStream(id, Reason::FLOW_CONTROL_ERROR)),
            };
        }
        self.window += more;
        match more {
            0 => Err(Connection(Reason::PROTOCOL_ERROR)),
            _ if self.window > MAX_WINDOW => Err(Connection(Reason::FLOW_CONTROL_ERROR)),
            _ => {
                self.unblock();
                Ok(())
            }
        }
    }
}

/// The stream that a priority names first.
fn depends_on(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}
