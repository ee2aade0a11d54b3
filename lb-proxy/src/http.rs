//! HTTP/1.1 from clients to servers: our own loop. [`h1`] is a connection, [`forward`] one request: read that first. Requests
//! of HTTP/2 take the same road; where heads, bodies and trailers go in and out of it, they are told apart.
pub(crate) mod account;
mod admit;
pub(crate) mod affinity;
mod answer;
pub(crate) mod body;
mod compression;
mod edits;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod head;
mod headers;
pub(crate) mod ids;
pub(crate) mod limits;
mod looked;
mod outcome;
mod own;
mod passage;
pub(crate) mod passwords;
mod patience;
pub(crate) mod reach;
pub(crate) mod reason;
pub(crate) mod retry;
mod talk;
mod upload;

use crate::stream::Writer;

/// Sends an answer of our own, whole.
pub(crate) async fn say(to: &Writer<'_>, answer: &[u8]) -> std::io::Result<()> {
    let Some(stream) = to.h2() else { return crate::io::write_all(to, answer).await };
    let head = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |i| i + 4);
    stream.respond(&answer[..head], head == answer.len())?;
    if head == answer.len() { Ok(()) } else { stream.send(&answer[head..], &[], true).await }
}

/// Tells a client that a bound is reached, if its socket takes the few bytes at once.
pub(crate) fn refuse_connection(stream: &crate::stream::Plain) {
    let reason = reason::Reason::TOO_MANY;
    let _ = stream.try_write(&own::Own::new(&reason.into(), [None, None]).write(&own::Way::default()));
}
