//! The proxy and the running instance.
//!
//! Data plane (`worker`, `listener`, `http`, `tunnel`, `upstream`): one thread a core, no locks across an await, no
//! messages on the request path, no knowledge of peers. Control (`instance`, `health`, `admin`, `reload`): one thread.
mod http;
mod io;
mod listener;
pub mod shared;
mod tunnel;
pub mod upstream;
pub mod worker;
