//! A worker's open tunnels, so that they can be told to end: by server, or all of them.
//!
//! They are told one by one, at a pace that the control thread keeps. A tunnel looks whether it was told each time that
//! it is woken; to tell it is to wake it.
use crate::websocket::close::Why;
use crate::worker::Local;
use lb_core::server::ServerState;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// One tunnel.
struct Socket {
    server: Option<Arc<ServerState>>,
    websocket: bool,
    told: Option<Why>,
    waker: Option<Waker>,
}

/// All of a worker.
#[derive(Default)]
pub(crate) struct Sockets {
    all: RefCell<Slab<Socket>>,
    /// Where the last one was found that was told.
    at: Cell<usize>,
}

/// A tunnel's place among them; given back when dropped.
pub(crate) struct Seat {
    local: Rc<Local>,
    key: usize,
}

impl Seat {
    pub(crate) fn new(local: &Rc<Local>, server: Option<Arc<ServerState>>, websocket: bool) -> Self {
        if let Some(server) = &server {
            server.counters[local.id].unclosed.bump();
        }
        if websocket {
            local.shared.websockets[local.id].0.bump();
        }
        let socket = Socket { server, websocket, told: None, waker: None };
        Self { local: local.clone(), key: local.sockets.all.borrow_mut().insert(socket) }
    }

    /// Whether it is to end, and why. Its task is woken when that changes.
    pub(crate) fn told(&self, cx: &Context<'_>) -> Option<Why> {
        let mut all = self.local.sockets.all.borrow_mut();
        let socket = all.get_mut(self.key)?;
        if socket.waker.is_none() {
            // A task's waker stays the same: it is polled by nobody else.
            socket.waker = Some(cx.waker().clone());
        }
        socket.told
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.local
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let socket = self.local.sockets.all.borrow_mut().try_remove(self.key);
        if let Some(socket) = socket.filter(|socket| socket.told.is_none()) {
            socket.uncount(&self.local);
        }
    }
}

impl Socket {
    /// It counts no longer as one that was not told to end.
    fn uncount(&self, local: &Local) {
        if let Some(server) = &self.server {
            server.counters[local.id].unclosed.drop_one();
        }
        if self.websocket {
            local.shared.websockets[local.id].0.drop_one();
        }
    }

    fn is_on(&self, server: Option<u32>) -> bool {
        match server {
            Some(uid) => self.server.as_ref().is_some_and(|s| s.uid == uid),
            // Who leaves says so where there is a way to say it; other tunnels have until the end.
            None => self.websocket,
        }
    }
}

/// Tells so many tunnels to this server to end, or so many WebSockets.
pub(crate) fn close(local: &Local, server: Option<u32>, why: Why, mut count: usize) {
    let mut all = local.sockets.all.borrow_mut();
    let places = all.capacity();
    let mut at = local.sockets.at.get();
    for _ in 0..places {
        if count == 0 {
            break;
        }
        at = (at + 1) % places;
        let Some(socket) = all.get_mut(at).filter(|s| s.told.is_none() && s.is_on(server)) else { continue };
        socket.told = Some(why);
        socket.uncount(local);
        socket.waker.iter().for_each(Waker::wake_by_ref);
        count -= 1;
    }
    local.sockets.at.set(at);
}
