//! What a server must answer to a WebSocket handshake (RFC 6455, 4.2.2), so that a server that did not understand it is
//! not taken for one that did.
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key`.
pub(crate) fn accept(key: &[u8]) -> [u8; 28] {
    let text = [key, GUID].concat();
    let mut out = [0; 28];
    // 20 bytes are 28 characters, always.
    let written = STANDARD.encode_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text), &mut out);
    debug_assert_eq!(written.ok(), Some(28));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_the_standard_has_it() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
