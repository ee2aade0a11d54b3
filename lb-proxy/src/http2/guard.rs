//! Counts the frames of one connection, and says when its other side only makes work: floods of PING, SETTINGS, PRIORITY,
//! WINDOW_UPDATE, empty frames, streams opened to be reset at once (CVE-2023-44487), or spoilt so that we reset them
//! (CVE-2025-8671).
//!
//! It looks at the nine bytes before each frame and nothing else, and finds there a size that its kind cannot have, and a
//! first frame that is not SETTINGS. What a stream may hold and how long a head may be is not its to bound.
use super::frame::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use h2::Reason;
use std::time::Instant;

/// What a connection may spend at once.
const BURST: i64 = 1000;
/// What it gets back in a second, besides one for each request that was answered to its end.
const REFILL: f64 = 100.0;
/// WINDOW_UPDATEs that cost nothing: at the start, …
const UPDATES: i64 = 1000;
/// … for each frame of data that it was sent, …
const UPDATES_PER_DATA: i64 = 20;
/// … and at most.
const MOST_UPDATES: i64 = 100_000;

/// Whether a frame of this kind can have this size (RFC 9113, 6).
fn fits(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        PRIORITY => length == 5,
        RST_STREAM | WINDOW_UPDATE => length == 4,
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        PING => length == 8,
        GOAWAY => length >= 8,
        _ => true,
    }
}

/// Finds the frames in a run of bytes, however it is cut.
#[derive(Debug, Default)]
struct Follower {
    head: [u8; 9],
    /// How much of `head` is there.
    have: usize,
    /// Bytes before the next head.
    skip: usize,
}

impl Follower {
    /// Calls `frame` with kind, flags and length of each frame that begins here.
    fn follow(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8, u8, usize)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let n = (9 - self.have).min(bytes.len());
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == 9 {
                let [a, b, c, kind, flags, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                frame(kind, flags, self.skip);
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Guard {
    came: Follower,
    went: Follower,
    left: i64,
    updates: i64,
    /// When `left` was last filled up.
    at: Instant,
    /// Streams reset by the other side, and by us.
    pub(crate) resets: (u64, u64),
    /// Nothing came yet.
    first: bool,
    /// A server may send as many frames as it likes.
    trusted: bool,
    broken: Option<Reason>,
}

impl Guard {
    /// For a client's connection.
    pub(crate) fn of_client() -> Self {
        Self::new(false)
    }

    /// For a server's connection.
    pub(crate) fn of_server() -> Self {
        Self::new(true)
    }

    fn new(trusted: bool) -> Self {
        Self {
            came: Follower::default(),
            went: Follower::default(),
            left: BURST,
            updates: UPDATES,
            at: Instant::now(),
            resets: (0, 0),
            first: true,
            trusted,
            broken: None,
        }
    }

    /// These bytes came.
    pub(crate) fn came(&mut self, bytes: &[u8]) {
        let mut came = std::mem::take(&mut self.came);
        came.follow(bytes, |kind, flags, length| self.frame(kind, flags, length));
        self.came = came;
    }

    /// These bytes go.
    pub(crate) fn went(&mut self, bytes: &[u8]) {
        let mut went = std::mem::take(&mut self.went);
        went.follow(bytes, |kind, _, _| self.sent(kind));
        self.went = went;
    }

    /// A frame came.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, length: usize) {
        let Self { left, updates, resets, first, broken, .. } = self;
        match kind {
            _ if std::mem::take(first) && (kind != SETTINGS || flags & ACK != 0) => {
                *broken = Some(Reason::PROTOCOL_ERROR);
            }
            _ if !fits(kind, flags, length) => *broken = broken.or(Some(Reason::FRAME_SIZE_ERROR)),
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            HEADERS => *updates += 2,
            WINDOW_UPDATE if *updates > 0 => *updates -= 1,
            RST_STREAM => {
                resets.0 += 1;
                *left -= 1;
            }
            _ => *left -= 1,
        }
    }

    /// A frame of data came that is all padding.
    pub(super) fn padding(&mut self) {
        self.left -= 1;
    }

    /// A frame goes.
    pub(super) fn sent(&mut self, kind: u8) {
        match kind {
            DATA => self.updates = (self.updates + UPDATES_PER_DATA).min(MOST_UPDATES),
            RST_STREAM => {
                self.resets.1 += 1;
                self.left -= 1;
            }
            _ => {}
        }
    }

    /// A request was answered to its end.
    pub(crate) fn answered(&mut self) {
        self.left = (self.left + 1).min(BURST);
    }

    /// Whether the other side has said its settings.
    pub(crate) fn spoken(&self) -> bool {
        !self.first
    }

    /// Why the connection must end: what came cannot be, or is too much.
    pub(crate) fn tripped(&mut self) -> Option<Reason> {
        if self.broken.is_none() && self.flooded() {
            return Some(Reason::ENHANCE_YOUR_CALM);
        }
        self.broken
    }

    fn flooded(&mut self) -> bool {
        if self.left > 0 || self.trusted {
            return false;
        }
        let refill = (self.at.elapsed().as_secs_f64() * REFILL) as i64;
        if refill > 0 {
            self.at = Instant::now();
            self.left = (self.left + refill).min(BURST);
        }
        self.left <= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + length, 0xab);
        frame
    }

    #[test]
    fn a_flood_of_small_frames_trips_and_ordinary_traffic_does_not() {
        for (kind, length) in [(6, 8), (4, 6), (2, 5), (3, 4), (0, 0), (9, 0), (0x77, 3), (8, 4)] {
            let mut guard = Guard::of_client();
            guard.came(&frame(4, 0, 0));
            guard.came(&frame(kind, 0, length).repeat(900));
            assert_eq!(guard.tripped(), None, "{kind}");
            guard.came(&frame(kind, 0, length).repeat(2000));
            assert_eq!(guard.tripped(), Some(Reason::ENHANCE_YOUR_CALM), "{kind}");
        }
        let mut guard = Guard::of_client();
        guard.came(&frame(4, 0, 0));
        for _ in 0..100_000 {
            // A request with a PRIORITY, a body, its answer, a WINDOW_UPDATE for stream and connection each.
            guard.came(&[frame(1, 4, 40), frame(2, 0, 5), frame(0, 1, 100), frame(8, 0, 4).repeat(2)].concat());
            guard.went(&[frame(1, 4, 40), frame(0, 1, 100)].concat());
            guard.answered();
            assert_eq!(guard.tripped(), None);
        }
    }

    #[test]
    fn what_cannot_be_is_seen_in_a_frames_head() {
        let after = |frames: &[Vec<u8>]| {
            let mut guard = Guard::of_client();
            guard.came(&frames.concat());
            guard.tripped()
        };
        let settings = || frame(4, 0, 6);
        assert_eq!(after(&[settings(), frame(4, 1, 0), frame(6, 0, 8), frame(7, 0, 12)]), None);
        for (kind, flags, length) in [(6, 0, 7), (7, 0, 7), (2, 0, 4), (3, 0, 5), (8, 0, 3), (4, 0, 7), (4, 1, 6)] {
            let wrong = frame(kind, flags, length);
            assert_eq!(after(&[settings(), wrong]), Some(Reason::FRAME_SIZE_ERROR), "{kind} {length}");
        }
        assert_eq!(after(&[frame(6, 0, 8)]), Some(Reason::PROTOCOL_ERROR));
        assert_eq!(after(&[frame(4, 1, 0)]), Some(Reason::PROTOCOL_ERROR));
    }

    #[test]
    fn streams_that_we_have_to_reset_count_as_well() {
        let mut guard = Guard::of_client();
        guard.went(&frame(3, 0, 4).repeat(3000));
        assert_eq!(guard.tripped(), Some(Reason::ENHANCE_YOUR_CALM));
        assert_eq!(guard.resets, (0, 3000));
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec((0u8..12, 0u8..2, 0usize..300), 0..20),
            cuts in proptest::collection::vec(1usize..50, 1..60),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(k, f, l)| frame(*k, *f, *l)).collect();
            let (mut follower, mut seen, mut at) = (Follower::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                follower.follow(&bytes[at..end], |kind, flags, length| seen.push((kind, flags, length)));
                at = end;
                if at == bytes.len() { break; }
            }
            prop_assert_eq!(seen, frames);
        }
    }
}
