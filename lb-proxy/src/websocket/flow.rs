//! One direction of a WebSocket: what of the bytes that are read goes on, and where a frame of ours may stand between
//! them.
//!
//! As a rule all of it goes on as it is, and is only [looked at](Flow::pass). Where something must be left out (answers
//! to our pings, what comes after a close) or looked at before it goes on (by choice), it goes through [`Flow::filter`],
//! which holds back each header until it is whole.
use super::close::{Side, Why};
use super::frame::{CLOSE, Flaw, Follower, PONG, Step};

/// What becomes of the frames of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They go on.
    Pass,
    /// They go on up to the end of a message, the rest is dropped.
    Last,
    /// They go on up to the Close frame, which does not.
    Answer,
    /// They are dropped.
    Drop,
    /// They are not even read.
    Hold,
}

/// What becomes of the frame that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    /// It is a pong as long as ours, and the same so far.
    Match,
}

/// What holds for a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Where its frames come from.
    pub(crate) from: Side,
    /// A frame that breaks the rules does not go on.
    pub(crate) strict: bool,
    /// Greatest payload of a frame that goes on.
    pub(crate) max_frame: u64,
    /// Only data keeps an idle socket.
    pub(crate) data_only: bool,
}

impl Rules {
    /// Whether each header must be looked at before it goes on.
    fn guards(&self) -> bool {
        self.strict || self.max_frame < u64::MAX
    }
}

/// The payload of our pings.
pub(crate) type Token = [u8; 8];

/// One direction.
#[derive(Debug)]
pub(crate) struct Flow {
    follower: Follower,
    /// An extension was agreed on.
    pub(crate) extended: bool,
    /// Bytes of this frame's header that went on; 0 between two frames.
    out: u8,
    fate: Fate,
    pub(crate) mode: Mode,
    /// The first flaw.
    pub(crate) flaw: Option<Flaw>,
    /// A frame that may not go on.
    pub(crate) fault: Option<Why>,
    /// Messages since this was last taken.
    pub(crate) messages: u32,
    /// Something went on that keeps the socket, since this was last taken.
    pub(crate) used: bool,
    /// Something came, since this was last taken.
    pub(crate) heard: bool,
    /// The pong that is waited for.
    pub(crate) token: Option<Token>,
}

impl Flow {
    pub(crate) fn new(extended: bool) -> Self {
        Self {
            follower: Follower::default(),
            extended,
            out: 0,
            fate: Fate::Pass,
            mode: Mode::Pass,
            flaw: None,
            fault: None,
            messages: 0,
            used: false,
            heard: false,
            token: None,
        }
    }

    /// Code of the Close frame that has come, see [`Follower::closed`].
    pub(crate) fn closed(&self) -> Option<u16> {
        self.follower.closed()
    }

    /// Whether a control frame of ours may follow what has gone on.
    pub(crate) fn at_border(&self) -> bool {
        self.out == 0
    }

    /// Whether, beyond that, no message is cut by an end here.
    fn at_message_border(&self) -> bool {
        self.out == 0 && !self.follower.in_message()
    }

    /// Nothing more goes on if this is the end of a message, or, where nobody is patient any more, of a frame.
    pub(crate) fn stop(&mut self, patient: bool) -> bool {
        let here = if patient { self.at_message_border() } else { self.at_border() };
        if here {
            self.mode = Mode::Hold;
        }
        here
    }

    /// Whether all of the next bytes go on as they are.
    pub(crate) fn is_plain(&self, rules: &Rules) -> bool {
        let nothing_held = self.fate == Fate::Pass && (self.out > 0 || self.follower.between_frames());
        self.mode == Mode::Pass && self.token.is_none() && !rules.guards() && nothing_held
    }

    /// Looks at bytes that go on as they are.
    pub(crate) fn pass(&mut self, rules: &Rules, mut bytes: &[u8]) {
        self.heard = true;
        while !bytes.is_empty() {
            let step = self.follower.step(bytes);
            bytes = &bytes[step.taken..];
            if step.begins {
                self.look(rules);
            }
            self.used |= !rules.data_only || self.follower.is_data();
            self.out = self.follower.header().len() as u8;
            self.ended(step, true);
        }
    }

    /// Looks at bytes, and appends to `out` what of them goes on.
    pub(crate) fn filter(&mut self, rules: &Rules, mut bytes: &[u8], out: &mut Vec<u8>) {
        self.heard = true;
        while !bytes.is_empty() {
            if self.mode == Mode::Last {
                self.stop(true);
            }
            let step = self.follower.step(bytes);
            let (piece, rest) = bytes.split_at(step.taken);
            bytes = rest;
            if step.payload {
                self.payload(rules, piece, out);
            } else if step.begins {
                self.fate = self.judge(rules);
                if self.fate == Fate::Pass {
                    self.release(rules, out);
                }
            }
            let passed = self.fate == Fate::Pass;
            self.ended(step, passed);
        }
        if self.mode == Mode::Last {
            self.stop(true);
        }
    }

    /// What was held back of the header goes on.
    fn release(&mut self, rules: &Rules, out: &mut Vec<u8>) {
        let header = self.follower.whole_header();
        out.extend_from_slice(&header[usize::from(self.out).min(header.len())..]);
        self.out = header.len() as u8;
        self.used |= !rules.data_only || self.follower.is_data();
    }

    fn payload(&mut self, rules: &Rules, piece: &[u8], out: &mut Vec<u8>) {
        let mut piece = piece;
        if let (Fate::Match, Some(token)) = (self.fate, self.token) {
            let at = self.follower.position() - piece.len() as u64;
            let same = |(i, byte): &(usize, &u8)| {
                let at = at + *i as u64;
                token.get(at as usize).is_some_and(|t| *t == **byte ^ self.follower.mask(at))
            };
            let matched = piece.iter().enumerate().take_while(same).count();
            if matched == piece.len() {
                return;
            }
            // Another's pong after all: what looked like ours goes on.
            self.fate = Fate::Pass;
            self.release(rules, out);
            let so_far = at as usize + matched;
            out.extend((0..so_far).map(|i| token[i] ^ self.follower.mask(i as u64)));
            piece = &piece[matched..];
        }
        if self.fate == Fate::Pass {
            out.extend_from_slice(piece);
            self.used |= !rules.data_only || self.follower.is_data();
        }
    }

    /// What becomes of the frame whose header is whole.
    fn judge(&mut self, rules: &Rules) -> Fate {
        let (frame, begun) = (&self.follower, self.out > 0);
        if matches!(self.mode, Mode::Drop | Mode::Hold) && !begun {
            return Fate::Drop;
        }
        if self.mode == Mode::Answer && frame.opcode() == CLOSE && !begun {
            return Fate::Drop;
        }
        let ours = self.token.is_some_and(|token| frame.len() == token.len() as u64);
        if ours && frame.opcode() == PONG && frame.is_final() && !begun {
            return Fate::Match;
        }
        let too_large = self.follower.len() > rules.max_frame;
        let flawed = self.look(rules);
        if self.mode == Mode::Pass && !begun {
            self.fault = match (rules.strict && flawed, too_large) {
                (true, _) => Some(Why::Broke(rules.from)),
                (false, true) => Some(Why::TooLarge(rules.from)),
                (false, false) => return Fate::Pass,
            };
            self.mode = Mode::Hold;
            return Fate::Drop;
        }
        Fate::Pass
    }

    /// Whether the frame is one that no endpoint may take.
    fn look(&mut self, rules: &Rules) -> bool {
        let flaw = self.follower.flaw(rules.from == Side::Client, self.extended);
        self.flaw = self.flaw.or(flaw);
        flaw.is_some()
    }

    fn ended(&mut self, step: Step, passed: bool) {
        if !step.ends {
            return;
        }
        if passed && self.follower.is_data() && self.follower.is_final() {
            self.messages += 1;
        }
        if self.fate == Fate::Match {
            self.token = None;
        }
        if self.mode == Mode::Answer && self.closed().is_some() {
            self.mode = Mode::Hold;
        }
        (self.out, self.fate) = (0, Fate::Pass);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::NO_CODE;
    use super::super::model::{Frame, frames, split};
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const RULES: Rules = Rules { from: Side::Client, strict: false, max_frame: u64::MAX, data_only: false };
    const TOKEN: Token = *b"lb-1234.";

    fn bytes(frames: &[Frame]) -> Vec<u8> {
        frames.iter().flat_map(Frame::bytes).collect()
    }

    /// What goes on of these pieces; the way it goes in the proxy.
    fn through<'a>(flow: &mut Flow, rules: &Rules, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            if flow.is_plain(rules) {
                flow.pass(rules, piece);
                out.extend_from_slice(piece);
            } else {
                flow.filter(rules, piece, &mut out);
            }
        }
        out
    }

    fn pong(payload: &[u8], mask: [u8; 4]) -> Frame {
        Frame { first: 0x80 | PONG, mask: Some(mask), payload: payload.into() }
    }

    fn cuts() -> impl Strategy<Value = Vec<Index>> {
        proptest::collection::vec(any::<Index>(), 0..40)
    }

    proptest! {
        #[test]
        fn everything_goes_on_whether_it_is_filtered_or_not(frames in frames(), cuts in cuts(), expects: bool) {
            let whole = bytes(&frames);
            let mut flow = Flow::new(false);
            flow.token = expects.then_some(TOKEN);
            prop_assert_eq!(through(&mut flow, &RULES, split(&whole, &cuts)), whole);
            prop_assert!(flow.at_border());
            let messages = frames.iter().filter(|f| f.opcode() < 8 && f.first & 0x80 != 0).count();
            prop_assert_eq!(flow.messages as usize, messages);
        }

        #[test]
        fn only_the_pong_that_is_waited_for_is_swallowed(
            (before, after) in (frames(), frames()), cuts in cuts(), mask: [u8; 4],
            near in prop::sample::select(vec![&b"lb-1234"[..], b"lb-1234!", b"lb-1234..", b"", b"xb-1234."]),
        ) {
            let near = pong(near, mask);
            let whole = [bytes(&before), near.bytes(), pong(&TOKEN, mask).bytes(), bytes(&after)].concat();
            let expected = [bytes(&before), near.bytes(), bytes(&after)].concat();
            let mut flow = Flow::new(false);
            flow.token = Some(TOKEN);
            prop_assert_eq!(through(&mut flow, &RULES, split(&whole, &cuts)), expected);
            prop_assert_eq!(flow.token, None);
        }

        #[test]
        fn a_ping_can_be_sent_at_any_moment(frames in frames(), cuts in cuts(), at: Index, mask: [u8; 4]) {
            // The token comes to be waited for between two pieces, wherever these end.
            let whole = [bytes(&frames), pong(&TOKEN, mask).bytes()].concat();
            let pieces: Vec<_> = split(&whole, &cuts).collect();
            let (first, second) = pieces.split_at(at.index(pieces.len()));
            let mut flow = Flow::new(false);
            let mut out = through(&mut flow, &RULES, first.iter().copied());
            let began = out.len() > bytes(&frames).len();
            flow.token = Some(TOKEN);
            out.extend(through(&mut flow, &RULES, second.iter().copied()));
            let expected = if began { whole } else { bytes(&frames) };
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn a_stop_is_at_the_end_of_a_message(frames in frames(), cuts in cuts(), at: Index) {
            let whole = bytes(&frames);
            let pieces: Vec<_> = split(&whole, &cuts).collect();
            let (first, second) = pieces.split_at(at.index(pieces.len()));
            let mut flow = Flow::new(false);
            let mut out = through(&mut flow, &RULES, first.iter().copied());
            let passed = out.len();
            if !flow.stop(true) {
                flow.mode = Mode::Last;
                out.extend(through(&mut flow, &RULES, second.iter().copied()));
            }
            let (mut ends, mut open, mut pos) = (vec![(0, false)], false, 0);
            for frame in &frames {
                pos += frame.bytes().len();
                open = if frame.opcode() < 8 { frame.first & 0x80 == 0 } else { open };
                ends.push((pos, open));
            }
            // The first end of a message from where it was told to stop, else all there is.
            let expected = ends.iter().find(|(end, open)| *end >= passed && !open).map_or(whole.len(), |(end, _)| *end);
            prop_assert_eq!(out.len(), expected);
            prop_assert_eq!(flow.mode == Mode::Hold, ends.iter().any(|(end, open)| *end >= passed && !open));
        }

        #[test]
        fn an_answer_is_all_up_to_the_close_frame(frames in frames(), cuts in cuts(), code in 1000..5000u16) {
            let frames: Vec<_> = frames.into_iter().filter(|f| f.opcode() != CLOSE).collect();
            let close = Frame { first: 0x88, mask: None, payload: code.to_be_bytes().to_vec() };
            let whole = [bytes(&frames), close.bytes(), b"more".to_vec()].concat();
            let mut flow = Flow::new(false);
            flow.mode = Mode::Answer;
            prop_assert_eq!(through(&mut flow, &RULES, split(&whole, &cuts)), bytes(&frames));
            prop_assert_eq!((flow.mode, flow.closed()), (Mode::Hold, Some(code)));
        }

        #[test]
        fn by_choice_nothing_goes_on_that_breaks_the_rules(frames in frames(), cuts in cuts(), largest in 0..200u64) {
            let whole = bytes(&frames);
            let rules = Rules { strict: true, max_frame: largest, ..RULES };
            let (mut follower, mut good) = (Follower::default(), 0);
            for frame in &frames {
                let all = frame.bytes();
                let header = all.len() - frame.payload.len();
                follower.step(&all[..header]);
                if follower.flaw(true, false).is_some() || frame.payload.len() as u64 > largest {
                    break;
                }
                follower.step(&all[header..]);
                good += all.len();
            }
            let mut flow = Flow::new(false);
            prop_assert_eq!(through(&mut flow, &rules, split(&whole, &cuts)), whole[..good].to_vec());
            prop_assert_eq!(flow.fault.is_some(), good < whole.len());
            prop_assert!(flow.at_border());
        }
    }

    #[test]
    fn a_close_frame_without_a_code_is_seen() {
        let mut flow = Flow::new(false);
        flow.pass(&RULES, &Frame { first: 0x88, mask: Some([1; 4]), payload: Vec::new() }.bytes());
        assert_eq!(flow.closed(), Some(NO_CODE));
    }

    #[test]
    fn a_direction_is_small() {
        assert!(size_of::<Flow>() <= 64, "{}", size_of::<Flow>());
    }
}
