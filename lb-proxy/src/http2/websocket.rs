//! The handshake of RFC 6455 that RFC 8441 leaves out: made here where one side needs it and the other does not have it.
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A fresh `Sec-WebSocket-Key`.
pub(crate) fn key() -> String {
    let mut bytes = [0; 16];
    // It only has to differ from what a cache would know; the system's generator does not fail.
    let _ = rand::fill(&mut bytes);
    STANDARD.encode(bytes)
}

pub(crate) use crate::websocket::accept::accept;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_alike() {
        assert_ne!(key(), key());
        assert_eq!(key().len(), 24);
    }
}
