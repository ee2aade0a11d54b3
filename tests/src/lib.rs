//! The harness: real `lb` processes, servers that misbehave on purpose, a client that sees every byte.
//!
//! Blocking sockets and threads: a test reads as a story from top to bottom. Ports are free ones, everything ends with
//! the test, and nothing sleeps where something can be awaited.
#![forbid(unsafe_code)]

pub mod client;
pub mod crowd;
pub mod dice;
pub mod dns;
pub mod frames;
pub mod instance;
pub mod link;
pub mod neighbour;
pub mod origin;
pub mod pki;
pub mod websocket;

pub use client::{Answer, Client};
pub use crowd::Crowd;
pub use dice::Dice;
pub use dns::{Dns, Record};
pub use frames::Frames;
pub use instance::{Host, Instance, lb};
pub use link::{Fate, Link};
pub use neighbour::Neighbour;
pub use origin::{Origin, Seen};
pub use websocket::Socket;

use std::time::{Duration, Instant};

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is yes.
///
/// # Panics
/// It never was, within [`PATIENCE`].
pub fn eventually(what: &str, asked: impl FnMut() -> bool) {
    within(PATIENCE, what, asked);
}

/// As [`eventually`], with a time of its own.
///
/// # Panics
/// It never was, within this time.
pub fn within(time: Duration, what: &str, mut asked: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !asked() {
        assert!(Instant::now() < deadline, "never happened within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
