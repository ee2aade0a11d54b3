//! What is counted where connections begin.
use crate::server::Count;

/// Why a handshake came to nothing. The order is that of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// A bound was reached: the connection was reset unheard.
    Shed,
    /// The client took too long.
    Timeout,
    /// The client went away.
    Closed,
    /// What came is not TLS.
    NotTls,
    /// No version, suite or protocol in common.
    Incompatible,
    /// No certificate for the name that was asked for.
    NoCertificate,
    /// The client's certificate is missing, or not one that is taken.
    ClientCertificate,
    /// The client ended it: it does not like our certificate, for one.
    Alert,
    /// Anything else.
    Other,
}

impl HandshakeFailure {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Shed,
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::Incompatible,
        Self::NoCertificate,
        Self::ClientCertificate,
        Self::Alert,
        Self::Other,
    ];

    /// As metrics and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shed => "shed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not-tls",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no-certificate",
            Self::ClientCertificate => "client-certificate",
            Self::Alert => "alert",
            Self::Other => "other",
        }
    }
}

/// Handshakes with the clients of one frontend, in one worker.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// Going on now, those that wait for the client's first word included.
    pub active: Count,
    /// Done from the beginning.
    pub full: Count,
    /// Done by going on with a former session.
    pub resumed: Count,
    /// Failed, by [`HandshakeFailure`].
    pub failed: [Count; HandshakeFailure::ALL.len()],
}

impl Handshakes {
    /// Counts a failure.
    pub fn fail(&self, why: HandshakeFailure) {
        self.failed[why as usize].bump();
    }
}
