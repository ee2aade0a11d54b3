//! HTTP/2, with clients and, by choice, with servers, on the h2 library.
//!
//! There is one road for requests, `http::forward`, and it reads and writes HTTP/1.1 heads. This is where HTTP/2 is turned
//! into that and back. It decides nothing about a request.
//!
//! | module | for |
//! | --- | --- |
//! | `serve` | a client's connection: each request a task, frames of many leave in one write |
//! | `servers` | connections to servers, shared by the requests of a worker |
//! | `exchange` | one stream, as a `Stream` |
//! | `message` | heads and trailers in both forms |
//! | `wire`, `guard` | the bytes below a connection; floods |
//! | `websocket` | the handshake that RFC 8441 leaves out |
mod exchange;
mod guard;
mod message;
pub(crate) mod serve;
pub(crate) mod servers;
mod websocket;
mod wire;

pub(crate) use exchange::{Exchange, is_unprocessed};

/// What a client says first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
