//! One data-plane thread: its runtime, its listeners, its connections.
use crate::shared::Shared;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// What a worker can be told.
#[derive(Debug)]
pub enum Command {
    /// Accept on a listening, non-blocking socket for a frontend.
    Listen {
        /// Frontend name.
        frontend: String,
        /// The address as configured, the listener's identity.
        addr: SocketAddr,
        /// The socket.
        listener: TcpListener,
    },
    /// Stop accepting there and close the socket.
    Unlisten {
        /// Frontend name.
        frontend: String,
        /// The address as configured.
        addr: SocketAddr,
    },
    /// Stop accepting, close idle connections, let the others finish; the thread ends with the last.
    Drain,
    /// Close everything; the thread ends.
    Abort,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Worker {
    /// Starts worker number `id` (its slot in all counters) on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(id: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        todo!()
    }

    /// Tells it something. Commands are carried out in order.
    pub fn tell(&self, command: Command) {
        todo!()
    }

    /// Whether the thread has ended.
    pub fn ended(&self) -> bool {
        todo!()
    }
}
