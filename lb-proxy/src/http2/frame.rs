//! Frames: their nine bytes, their kinds, and those that we write (RFC 9113, 4 and 6).
use h2::Reason;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// Bytes before a frame's payload.
pub(super) const HEAD: usize = 9;
/// The largest payload: nobody here asks for more, or sends more.
pub(super) const MOST: usize = 16_384;
/// The greatest window.
pub(super) const MAX_WINDOW: i64 = 0x7fff_ffff;

/// The nine bytes before a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, id @ ..] = bytes;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Self { length, kind, flags, stream: u32::from_be_bytes(id) & 0x7fff_ffff }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A frame's first nine bytes.
pub(super) const fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let [a, b, c, d] = stream.to_be_bytes();
    [(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, a, b, c, d]
}

/// A frame that consists of two numbers at most.
pub(super) fn short(kind: u8, stream: u32, numbers: &[u32]) -> Vec<u8> {
    let mut frame = head(numbers.len() * 4, kind, 0, stream).to_vec();
    numbers.iter().for_each(|n| frame.extend(n.to_be_bytes()));
    frame
}

/// Ends a stream.
pub(super) fn rst_stream(stream: u32, reason: Reason) -> Vec<u8> {
    short(RST_STREAM, stream, &[reason.into()])
}

/// Takes off what pads a payload; `None`: there is more padding than payload.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}
