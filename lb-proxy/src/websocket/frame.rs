//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455, 5.2): headers are read, payloads are counted.
//!
//! A machine that takes any piece of the stream, however it was split, and knows nothing of sockets. Framing is never in
//! doubt: every two bytes are the beginning of some header, so that a side that breaks the rules is still followed; what
//! is wrong with a frame is told by [`Follower::flaw`].

/// The greatest header.
const MAX_HEADER: usize = 14;
/// The greatest payload of a control frame.
const MAX_CONTROL: u64 = 125;
/// Stands for the code of a Close frame that has none.
pub(crate) const NO_CODE: u16 = 1005;

/// Opcodes that matter here.
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// What a frame does that no endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A reserved bit, without an extension that could mean something by it.
    Reserved,
    /// An opcode that means nothing.
    Opcode,
    /// A client's frame without a mask, or a server's with one.
    Mask,
    /// A control frame that is too long or a fragment.
    Control,
    /// A length that is not written in the shortest way, or is past 2^63.
    Length,
    /// A fragment that continues nothing, or a message in the middle of another.
    Order,
}

impl Flaw {
    /// All of them, in the order of the metric.
    pub(crate) const ALL: [Self; 6] =
        [Self::Reserved, Self::Opcode, Self::Mask, Self::Control, Self::Length, Self::Order];
}

/// What a [step](Follower::step) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many bytes were looked at.
    pub(crate) taken: usize,
    /// They are payload; else they belong to a header.
    pub(crate) payload: bool,
    /// With them the header is whole.
    pub(crate) begins: bool,
    /// With them the frame is whole.
    pub(crate) ends: bool,
}

/// Follows one direction.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Payload of this frame that is still to come.
    left: u64,
    /// The header, as far as it has come; after a frame's end that of the last one.
    header: [u8; MAX_HEADER],
    have: u8,
    /// The header is whole, the payload is not.
    inside: bool,
    /// A message has begun and has more fragments to come.
    message: bool,
    /// Code of the Close frame that went by, while it goes by its first byte only; see [`Self::closed`].
    code: u16,
    closed: bool,
}

impl Follower {
    /// Looks at the next bytes, up to the end of what is a header or a payload.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        if self.inside { self.payload(bytes) } else { self.head(bytes) }
    }

    fn head(&mut self, bytes: &[u8]) -> Step {
        let mut taken = 0;
        while usize::from(self.have) < self.header_len() && taken < bytes.len() {
            self.header[usize::from(self.have)] = bytes[taken];
            self.have += 1;
            taken += 1;
        }
        let begins = usize::from(self.have) == self.header_len();
        if begins {
            self.left = self.len();
            self.inside = true;
            if self.opcode() == CLOSE {
                self.code = NO_CODE;
            }
        }
        Step { taken, payload: false, begins, ends: begins && self.end() }
    }

    fn payload(&mut self, bytes: &[u8]) -> Step {
        let taken = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if self.opcode() == CLOSE {
            let at = self.position();
            for (i, byte) in bytes[..taken].iter().enumerate().take(2) {
                match at + i as u64 {
                    0 => self.code = u16::from(byte ^ self.mask(0)) << 8,
                    1 => self.code |= u16::from(byte ^ self.mask(1)),
                    _ => {}
                }
            }
        }
        self.left -= taken as u64;
        Step { taken, payload: true, begins: false, ends: self.end() }
    }

    /// Whether that was all of the frame.
    fn end(&mut self) -> bool {
        if self.left > 0 {
            return false;
        }
        (self.inside, self.have) = (false, 0);
        match self.opcode() {
            CLOSE => {
                self.closed = true;
                if self.len() == 1 {
                    self.code = NO_CODE;
                }
            }
            _ if self.is_data() => self.message = !self.is_final(),
            _ => {}
        }
        true
    }

    /// Length of this header, as far as that is known: at least what was not read yet.
    fn header_len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.is_masked() { 4 } else { 0 };
        2 + self.long() + mask
    }

    /// Bytes of the length beyond the first.
    fn long(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn is_masked(&self) -> bool {
        self.header[1] & 0x80 != 0
    }

    /// Whether this frame, or the last, ends its message.
    pub(crate) fn is_final(&self) -> bool {
        self.header[0] & 0x80 != 0
    }

    /// Opcode of this frame, or of the last.
    pub(crate) fn opcode(&self) -> u8 {
        self.header[0] & 0x0f
    }

    /// Whether this frame, or the last, is data, whatever that means to its ends.
    pub(crate) fn is_data(&self) -> bool {
        self.opcode() < 8
    }

    /// Length of its payload.
    pub(crate) fn len(&self) -> u64 {
        match self.long() {
            0 => u64::from(self.header[1] & 0x7f),
            n => self.header[2..2 + n].iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        }
    }

    /// How much of the payload has come.
    pub(crate) fn position(&self) -> u64 {
        self.len() - self.left
    }

    /// What the byte at this place of the payload is masked with.
    pub(crate) fn mask(&self, at: u64) -> u8 {
        if self.is_masked() { self.header[2 + self.long() + (at % 4) as usize] } else { 0 }
    }

    /// The header, as far as it has come.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.have)]
    }

    /// The whole header of this frame, or of the last.
    pub(crate) fn whole_header(&self) -> &[u8] {
        let mask = if self.is_masked() { 4 } else { 0 };
        &self.header[..2 + self.long() + mask]
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn in_message(&self) -> bool {
        self.message
    }

    /// Whether the last byte was the last of a frame.
    pub(crate) fn between_frames(&self) -> bool {
        !self.inside && self.have == 0
    }

    /// Code of the Close frame that has gone by whole; [`NO_CODE`]: it had none.
    pub(crate) fn closed(&self) -> Option<u16> {
        self.closed.then_some(self.code)
    }

    /// What is wrong with this frame, whose header is whole. `extended`: an extension was agreed on, so that reserved bits
    /// may mean something.
    pub(crate) fn flaw(&self, from_client: bool, extended: bool) -> Option<Flaw> {
        let (opcode, len) = (self.opcode(), self.len());
        let flaws = [
            (!extended && self.header[0] & 0x70 != 0, Flaw::Reserved),
            (matches!(opcode, 3..=7 | 11..), Flaw::Opcode),
            (self.is_masked() != from_client, Flaw::Mask),
            (opcode >= 8 && (!self.is_final() || len > MAX_CONTROL), Flaw::Control),
            (len >> 63 != 0 || len < [0, 0, 126, 0, 0, 0, 0, 0, 1 << 16][self.long()], Flaw::Length),
            (matches!(opcode, 0) != self.message && self.is_data(), Flaw::Order),
        ];
        flaws.into_iter().find(|(wrong, _)| *wrong).map(|(_, flaw)| flaw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Frame, frames, split};
    use super::*;
    use proptest::prelude::*;

    /// What a follower saw: the frames' opcodes and lengths with where they end, the code of the Close frame.
    fn followed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u8, u64, usize)>, Option<u16>, bool) {
        let (mut follower, mut seen, mut at) = (Follower::default(), Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() {
                let step = follower.step(piece);
                assert!(step.taken > 0);
                piece = &piece[step.taken..];
                at += step.taken;
                if step.ends {
                    seen.push((follower.opcode(), follower.len(), at));
                }
            }
        }
        (seen, follower.closed(), follower.in_message())
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_split_the_frames_are_the_same(
            (frames, cuts) in (frames(), proptest::collection::vec(any::<prop::sample::Index>(), 0..40)),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
            let mut at = 0;
            let expected: Vec<_> = frames
                .iter()
                .map(|f| {
                    at += f.bytes().len();
                    (f.opcode(), f.payload.len() as u64, at)
                })
                .collect();
            let (seen, closed, message) = followed(split(&bytes, &cuts));
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(closed, frames.iter().rev().find(|f| f.opcode() == CLOSE).map(Frame::code));
            let last = frames.iter().rev().find(|f| f.opcode() < 8);
            prop_assert_eq!(message, last.is_some_and(|f| f.first & 0x80 == 0));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..400), cuts: Vec<prop::sample::Index>) {
            let whole = followed(std::iter::once(&bytes[..]));
            prop_assert_eq!(followed(split(&bytes, &cuts)), whole);
        }
    }

    fn flaw(header: &[u8], from_client: bool, extended: bool) -> Option<Flaw> {
        let mut follower = Follower::default();
        assert!(follower.step(header).begins);
        follower.flaw(from_client, extended)
    }

    #[test]
    fn what_no_endpoint_may_take_is_told() {
        assert_eq!(flaw(&[0x81, 5], false, false), None);
        assert_eq!(flaw(&[0xc1, 5], false, false), Some(Flaw::Reserved));
        assert_eq!(flaw(&[0xc1, 5], false, true), None);
        assert_eq!(flaw(&[0x83, 5], false, false), Some(Flaw::Opcode));
        assert_eq!(flaw(&[0x8b, 5], false, false), Some(Flaw::Opcode));
        assert_eq!(flaw(&[0x81, 5], true, false), Some(Flaw::Mask));
        assert_eq!(flaw(&[0x81, 0x85, 1, 2, 3, 4], true, false), None);
        assert_eq!(flaw(&[0x81, 0x85, 1, 2, 3, 4], false, false), Some(Flaw::Mask));
        assert_eq!(flaw(&[0x09, 5], false, false), Some(Flaw::Control));
        assert_eq!(flaw(&[0x89, 126, 0, 126], false, false), Some(Flaw::Control));
        assert_eq!(flaw(&[0x81, 126, 0, 125], false, false), Some(Flaw::Length));
        assert_eq!(flaw(&[0x81, 126, 0, 126], false, false), None);
        assert_eq!(flaw(&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], false, false), Some(Flaw::Length));
        assert_eq!(flaw(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], false, false), None);
        assert_eq!(flaw(&[0x81, 127, 128, 0, 0, 0, 0, 0, 0, 0], false, false), Some(Flaw::Length));
        assert_eq!(flaw(&[0x80, 5], false, false), Some(Flaw::Order), "continues nothing");
        let mut follower = Follower::default();
        follower.step(&[0x01, 1]);
        follower.step(b"x");
        assert!(follower.step(&[0x82, 1]).begins);
        assert_eq!(follower.flaw(false, false), Some(Flaw::Order), "in the middle of a message");
    }

    #[test]
    fn a_follower_is_small() {
        assert!(size_of::<Follower>() <= 32, "{}", size_of::<Follower>());
    }
}
