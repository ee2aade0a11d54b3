//! The proxy and the running instance.
//!
//! Data plane (`worker`, `listener`, `http`, `tunnel`, `upstream`): one thread a core, no locks across an await, no
//! messages on the request path, no knowledge of peers. Control (`instance`, `health`, `admin`, `reload`): one thread.
pub mod admin;
mod arrival;
pub mod bind;
mod clock;
mod closing;
pub mod edge;
#[cfg(test)]
mod fixture;
pub mod health;
mod http;
mod http2;
pub mod instance;
mod io;
mod listener;
pub mod logging;
pub mod metrics;
mod proxy_protocol;
pub mod reload;
pub mod shared;
mod sockets;
mod splice;
mod stream;
mod tcp;
pub mod tls;
mod tunnel;
pub mod upstream;
mod websocket;
pub mod worker;

pub use instance::{ConfigSource, Instance, StartError, check, run};
