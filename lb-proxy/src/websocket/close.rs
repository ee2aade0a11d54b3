//! Why a WebSocket is closed by us: the code and words that its ends read, and what is counted of any closing.
use super::frame::{CLOSE, NO_CODE, PING};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Why we close a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its server is drained, put into maintenance, or its clients are moved.
    Drained,
    /// This instance leaves.
    Leaving,
    /// Its server is gone.
    ServerLost,
    /// Its server was found down, and that is to end it.
    ServerDown,
    /// Nothing went through it for too long.
    Idle,
    /// The client does not answer pings.
    ClientSilent,
    /// The server does not answer pings.
    ServerSilent,
    /// This side broke the rules.
    Broke(Side),
    /// This side sent a frame that is too large.
    TooLarge(Side),
}

impl Why {
    /// Code and reason for this end.
    pub(crate) fn words(self, to: Side) -> (u16, &'static str) {
        match self {
            Self::Drained => (1012, "server drained, connect again"),
            Self::Leaving => (1001, "load balancer leaving, connect again"),
            Self::ServerLost => (1011, "server lost"),
            Self::ServerDown => (1011, "server down"),
            Self::Idle => (1001, "idle for too long"),
            Self::ClientSilent => (1001, "no answer to pings"),
            Self::ServerSilent if to == Side::Server => (1001, "no answer to pings"),
            Self::ServerSilent => (1011, "server lost"),
            Self::Broke(by) if by == to => (1002, "protocol error"),
            Self::TooLarge(by) if by == to => (1009, "frame too large"),
            Self::Broke(_) | Self::TooLarge(_) if to == Side::Client => (1011, "server broke the protocol"),
            Self::Broke(_) | Self::TooLarge(_) => (1001, "client broke the protocol"),
        }
    }

    /// The word for it in the access log.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Leaving => "leaving",
            Self::ServerLost => "server-lost",
            Self::ServerDown => crate::http::reason::Reason::SERVER_DOWN.code,
            Self::Idle => "tunnel-timeout",
            Self::ClientSilent => "client-silent",
            Self::ServerSilent => "server-silent",
            Self::Broke(_) => "protocol-error",
            Self::TooLarge(_) => "frame-too-large",
        }
    }
}

/// Who ended a WebSocket first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Client,
    Server,
    Lb,
}

impl By {
    /// As metrics and the access log write it.
    pub(crate) fn word(self) -> &'static str {
        lb_core::snapshot::CLOSED_BY[self as usize]
    }
}

/// The place of a code among [`lb_core::snapshot::CLOSE_CODES`]; `None`: there was no Close frame.
pub(crate) fn class(code: Option<u16>) -> usize {
    let codes = &lb_core::snapshot::CLOSE_CODES;
    let place = |word: &str| codes.iter().position(|c| *c == word);
    let found = match code {
        None => place("none"),
        Some(code @ 3000..=3999 | code @ 4000..=4999) => place(if code < 4000 { "3xxx" } else { "4xxx" }),
        Some(code) => place(code.to_string().as_str()),
    };
    found.or_else(|| place("other")).unwrap_or(0)
}

/// Appends a Close frame.
pub(crate) fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    debug_assert!(reason.len() <= 123 && ![NO_CODE, 1006, 1015].contains(&code));
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend(code.to_be_bytes());
    payload.extend(reason.as_bytes());
    control_frame(CLOSE, &payload, mask, out);
}

/// Appends a Ping frame.
pub(crate) fn ping_frame(payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    control_frame(PING, payload, mask, out);
}

fn control_frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let len = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    out.extend([0x80 | opcode, if mask.is_some() { 0x80 | len } else { len }]);
    out.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Why; 11] = [
        Why::Drained,
        Why::Leaving,
        Why::ServerLost,
        Why::ServerDown,
        Why::Idle,
        Why::ClientSilent,
        Why::ServerSilent,
        Why::Broke(Side::Client),
        Why::Broke(Side::Server),
        Why::TooLarge(Side::Client),
        Why::TooLarge(Side::Server),
    ];

    #[test]
    fn every_word_fits_into_a_frame_and_no_code_is_one_that_may_not_be_sent() {
        for (why, to) in ALL.into_iter().flat_map(|why| [(why, Side::Client), (why, Side::Server)]) {
            let (code, reason) = why.words(to);
            assert!(reason.len() <= 123 && matches!(code, 1001 | 1002 | 1009 | 1011 | 1012), "{why:?}");
        }
    }

    #[test]
    fn frames_are_written_as_they_are_read() {
        let mut out = Vec::new();
        close_frame(1012, "bye", None, &mut out);
        assert_eq!(out, b"\x88\x05\x03\xf4bye");
        out.clear();
        close_frame(1012, "bye", Some([1, 2, 3, 4]), &mut out);
        assert_eq!(out, [0x88, 0x85, 1, 2, 3, 4, 0x03 ^ 1, 0xf4 ^ 2, b'b' ^ 3, b'y' ^ 4, b'e' ^ 1]);
        out.clear();
        ping_frame(b"x", None, &mut out);
        assert_eq!(out, b"\x89\x01x");
    }

    #[test]
    fn codes_are_counted_in_bounded_classes() {
        let word = |code| lb_core::snapshot::CLOSE_CODES[class(code)];
        let codes = [Some(1000), Some(1012), Some(NO_CODE), Some(3000), Some(3999), Some(4000), Some(4999), None];
        assert_eq!(codes.map(word), ["1000", "1012", "1005", "3xxx", "3xxx", "4xxx", "4xxx", "none"]);
        assert_eq!([Some(0), Some(999), Some(1006), Some(2500), Some(65535)].map(word), ["other"; 5]);
    }
}
