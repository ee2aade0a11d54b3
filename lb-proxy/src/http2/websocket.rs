//! The handshake of RFC 6455 that RFC 8441 leaves out: made here where one side needs it and the other does not have it.
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A fresh `Sec-WebSocket-Key`.
pub(crate) fn key() -> String {
    let mut bytes = [0; 16];
    // It only has to differ from what a cache would know; the system's generator does not fail.
    let _ = rand::fill(&mut bytes);
    STANDARD.encode(bytes)
}

/// The `Sec-WebSocket-Accept` that answers a key.
pub(crate) fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_says_and_no_two_are_alike() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_ne!(key(), key());
        assert_eq!(key().len(), 24);
    }
}
