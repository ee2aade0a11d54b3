//! A connection whose server has not answered yet: nothing is pinned until it does.
//!
//! It counts as an answer when the server sends its first bytes, when it closes in order after the client has, or when it
//! has held the connection for [`HELD`] (a server that only listens never sends). A server that refuses, resets or closes
//! before that keeps no pin.
use super::hello::{self, Read, SessionId};
use crate::http::affinity::Plan;
use crate::shared::now;
use crate::tunnel::Holding;
use crate::worker::Pinned;
use std::time::Duration;
use tokio::time::Instant;

/// A server that has held a connection for so long has taken it.
const HELD: Duration = Duration::from_secs(2);
/// A server's hello is looked for in so many bytes.
const LOOK: usize = 4096;

/// What is to be remembered.
pub(crate) struct Unanswered {
    snap: Pinned,
    backend: usize,
    server: usize,
    plan: Plan,
    /// When the server counts as having taken it.
    pub(crate) due: Instant,
    /// The server's first bytes, while its hello is looked for.
    listened: Option<Vec<u8>>,
    session_id: SessionId,
    /// All that is wanted of the answer is known.
    pub(crate) done: bool,
}

impl Unanswered {
    /// `None`: nothing is to be remembered.
    pub(crate) fn new(snap: &Pinned, backend: usize, server: usize, plan: Plan) -> Option<Box<Self>> {
        let of = &snap.backends[backend];
        plan.remembers(of).then(|| {
            let listened = plan.listens(of).then(Vec::new);
            let (due, session_id) = (Instant::now() + HELD, SessionId::new());
            Box::new(Self { snap: snap.clone(), backend, server, plan, due, listened, session_id, done: false })
        })
    }

    /// The server's next bytes.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        let Some(listened) = &mut self.listened else {
            self.done = true;
            return;
        };
        listened.extend_from_slice(&bytes[..bytes.len().min(LOOK - listened.len())]);
        match hello::server(listened) {
            Read::More if listened.len() < LOOK => return,
            Read::Whole(Some(id)) => self.session_id = id,
            _ => {}
        }
        self.done = true;
    }

    /// The server has answered: pins, and holds the pins alive.
    pub(crate) fn confirm(mut self: Box<Self>) -> Holding {
        let backend = &self.snap.backends[self.backend];
        self.plan.taken(backend, self.server, &self.session_id, now());
        Holding::new(self.plan.held(backend), None)
    }
}
