//! What a server must answer to a WebSocket handshake (RFC 6455, 4.2.2), so that a server that did not understand it is
//! not taken for one that did.
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key`.
pub(crate) fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_the_standard_has_it() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
