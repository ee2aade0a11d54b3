//! The proxy and the running instance.
//!
//! Data plane (`worker`, `listener`, `http`, `tunnel`, `upstream`): one thread a core, no locks across an await, no
//! messages on the request path, no knowledge of peers. Control (`instance`, `health`, `admin`, `reload`): one thread.
pub mod admin;
pub mod bind;
mod closing;
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
pub mod reload;
pub mod shared;
mod sockets;
mod splice;
mod stream;
mod tcp;
mod tunnel;
pub mod upstream;
mod websocket;
pub mod worker;

pub use instance::{ConfigSource, Instance, StartError, run};
