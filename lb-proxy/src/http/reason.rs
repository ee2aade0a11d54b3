//! Why a request did not get a server's answer: one code, in the body of our answer, in the access log, in metrics.

/// A reason, with the status that the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// Status of our answer; 0: none is sent.
    pub(crate) status: u16,
    /// The code.
    pub(crate) code: &'static str,
}

const fn reason(status: u16, code: &'static str) -> Reason {
    Reason { status, code }
}

impl Reason {
    // The client's fault.
    pub(crate) const BAD_REQUEST: Self = reason(400, "bad-request");
    pub(crate) const BAD_FRAMING: Self = reason(400, "bad-framing");
    pub(crate) const BAD_HOST: Self = reason(400, "bad-host");
    pub(crate) const BAD_BODY: Self = reason(400, "bad-body");
    pub(crate) const CLIENT_GONE: Self = reason(0, "client-gone");
    pub(crate) const HEAD_TIMEOUT: Self = reason(408, "head-timeout");
    pub(crate) const BODY_TIMEOUT: Self = reason(408, "body-timeout");
    pub(crate) const BODY_TOO_SLOW: Self = reason(408, "body-too-slow");
    pub(crate) const BODY_TOO_LARGE: Self = reason(413, "body-too-large");
    pub(crate) const MISDIRECTED: Self = reason(421, "misdirected");
    pub(crate) const HEAD_TOO_LARGE: Self = reason(431, "head-too-large");
    // Of a connection that is passed on as it is: the status means nothing.
    pub(crate) const BAD_HELLO: Self = reason(400, "bad-hello");
    pub(crate) const HELLO_TIMEOUT: Self = reason(408, "hello-timeout");
    pub(crate) const UNKNOWN_CODING: Self = reason(501, "transfer-coding-unknown");
    pub(crate) const CONNECT_METHOD: Self = reason(501, "connect-not-supported");
    pub(crate) const VERSION: Self = reason(505, "http-version");
    // Ours, or the configuration's.
    pub(crate) const MAINTENANCE: Self = reason(503, "maintenance");
    pub(crate) const AUTH: Self = reason(401, "auth");
    pub(crate) const AUTH_BUSY: Self = reason(503, "auth-busy");
    pub(crate) const NO_ROUTE: Self = reason(404, "no-route");
    pub(crate) const NO_SERVER: Self = reason(503, "no-server");
    pub(crate) const PINNED_DOWN: Self = reason(503, "pinned-server-down");
    pub(crate) const CONNECT_FAILED: Self = reason(503, "connect-failed");
    pub(crate) const QUEUE_FULL: Self = reason(503, "queue-full");
    pub(crate) const QUEUE_TIMEOUT: Self = reason(503, "queue-timeout");
    pub(crate) const TOO_MANY: Self = reason(503, "too-many-connections");
    pub(crate) const LEAVING: Self = reason(503, "leaving");
    pub(crate) const SERVER_DOWN: Self = reason(503, "server-down");
    // The server's fault.
    pub(crate) const BAD_ANSWER: Self = reason(502, "bad-answer");
    pub(crate) const BAD_ACCEPT: Self = reason(502, "bad-websocket-accept");
    pub(crate) const SERVER_CLOSED: Self = reason(502, "server-closed");
    pub(crate) const REFUSED: Self = reason(502, "server-refused");
    pub(crate) const SERVER_TIMEOUT: Self = reason(504, "server-timeout");

    /// A rule of the frontend denies it.
    pub(crate) const fn limit(status: u16) -> Self {
        reason(status, "limit")
    }

    /// A rule on requests denies it.
    pub(crate) const fn deny(status: u16) -> Self {
        reason(status, "deny")
    }

    /// A rule answers by itself.
    pub(crate) const fn fixed(status: u16) -> Self {
        reason(status, "return")
    }

    /// A rule sends the client elsewhere.
    pub(crate) const fn redirect(status: u16) -> Self {
        reason(status, "redirect")
    }

    /// Whether the server is to blame.
    pub(crate) fn is_servers(self) -> bool {
        matches!(self.status, 502 | 504)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_configuration_knows_every_reason_that_a_page_may_be_for() {
        let text = include_str!("reason.rs").split("#[cfg(test)]").next().unwrap();
        let codes = text.lines().filter(|l| l.contains("reason(") && !l.contains("reason(0,"));
        let codes: BTreeSet<_> = codes.filter_map(|l| l.split('"').nth(1)).collect();
        // A connection too many is answered before anything is known of it, TCP mode has no pages, and an answer that a
        // rule gives has what the rule says.
        let pageless = ["too-many-connections", "bad-hello", "hello-timeout", "return"];
        let known: BTreeSet<_> = lb_core::rules::REASONS.iter().copied().chain(pageless).collect();
        assert_eq!(codes, known);
    }
}
