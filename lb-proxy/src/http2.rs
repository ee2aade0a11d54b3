//! HTTP/2 with clients, frame by frame, and, by choice, with servers, on the h2 library.
//!
//! There is one road for requests, `http::forward`, and it reads and writes HTTP/1.1 heads. This is where HTTP/2 is turned
//! into that and back. It decides nothing about a request.
//!
//! Clients are served without the library because half of what a request cost was spent in it: fields become the text of a
//! head, and back, without a form in between, and a stream has no lock, no waker and no queue that one thread does not need.
//!
//! | module | for |
//! | --- | --- |
//! | `serve` | a client's connection: each request a task, frames of many leave in one write |
//! | `session`, `stream` | its frames and its streams |
//! | `frame`, `hpack`, `out` | how they are written |
//! | `request` | a client's fields as a head |
//! | `servers`, `asked` | connections to servers, shared by the requests of a worker, and their streams |
//! | `exchange` | a stream of either kind, as a `Stream` |
//! | `message` | heads and trailers in both forms |
//! | `guard` | floods |
//! | `wire` | the bytes below a connection to a server |
//! | `websocket` | the handshake that RFC 8441 leaves out |
mod asked;
mod exchange;
mod frame;
mod guard;
mod hpack;
mod message;
mod out;
mod request;
pub(crate) mod serve;
pub(crate) mod servers;
mod session;
mod stream;
mod websocket;
mod wire;

pub(crate) use exchange::{Exchange, is_unprocessed};

/// What a client says first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
