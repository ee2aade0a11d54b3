//! An upgrade that is refused by a handshake and a Close frame: a script in a browser sees its code, and no status of HTTP.
use super::close;
use crate::http::reason::Reason;
use lb_core::snapshot::BackendState;
use std::sync::Arc;

/// Whether this no can be said so: one that tells to come again.
pub(crate) fn is_for_later(reason: Reason) -> bool {
    matches!(reason.status, 429 | 503)
}

/// The answer, and what is counted of it.
pub(crate) fn answer(accept: &str, reason: Reason, counts: &Arc<BackendState>, worker: usize) -> Vec<u8> {
    let code = if reason == Reason::LEAVING { 1001 } else { 1013 };
    let mut out =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
            .to_vec();
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    close::close_frame(code, reason.code, None, &mut out);
    counts.counters[worker].closes[close::class(Some(code))][close::By::Lb as usize].bump();
    out
}
