//! HTTP/1.1 from clients to servers: our own loop. [`h1`] is a connection, [`forward`] one request: read that first.
pub(crate) mod account;
pub(crate) mod affinity;
mod answer;
mod body;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod head;
mod headers;
pub(crate) mod limits;
mod looked;
pub(crate) mod reason;
mod upload;

/// Tells a client that a bound is reached, if its socket takes the few bytes at once.
pub(crate) fn refuse_connection(stream: &tokio::net::TcpStream) {
    let reason = reason::Reason::TOO_MANY;
    let _ = stream.try_write(&headers::own_answer(reason.status, reason.code, false, false, None));
}
