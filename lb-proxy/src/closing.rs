//! Requests and tunnels that are closed when their server goes down: where the backend says so, each is entered here, by
//! its server, and is woken when the control thread tells the worker.
use lb_core::server::{Health, ServerState};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Those of one worker.
#[derive(Default)]
pub(crate) struct Watches {
    by_server: RefCell<HashMap<u32, HashMap<u64, Rc<Entry>>>>,
    next: Cell<u64>,
}

#[derive(Default)]
struct Entry {
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// One request or tunnel, entered until it is dropped.
pub(crate) struct Watch {
    all: Rc<Watches>,
    server: u32,
    id: u64,
    entry: Rc<Entry>,
}

impl Watches {
    /// Enters one.
    pub(crate) fn enter(all: &Rc<Self>, server: &Arc<ServerState>) -> Watch {
        let id = all.next.get();
        all.next.set(id + 1);
        let entry = Rc::<Entry>::default();
        // It went down while the connection was made: the word that it did is past already.
        entry.closed.set(server.health() == Health::Down && !server.panics());
        all.by_server.borrow_mut().entry(server.uid).or_default().insert(id, entry.clone());
        Watch { all: all.clone(), server: server.uid, id, entry }
    }

    /// The server went down.
    pub(crate) fn close(&self, server: u32) {
        // Taken out first: whoever is woken may leave at once.
        let entries: Vec<_> =
            self.by_server.borrow().get(&server).into_iter().flat_map(HashMap::values).cloned().collect();
        for entry in entries {
            entry.closed.set(true);
            if let Some(waker) = entry.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Watch {
    /// Ready once its server went down.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.entry.closed.get() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.all.by_server.borrow_mut();
        if let Some(entries) = all.get_mut(&self.server) {
            entries.remove(&self.id);
            if entries.is_empty() {
                all.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::id::NameId;
    use lb_core::server::AdminState;

    fn server(uid: u32) -> Arc<ServerState> {
        Arc::new(ServerState::new("app", "node1", NameId::NONE, uid, 1, AdminState::Ready))
    }

    fn closed(watch: &Watch) -> bool {
        watch.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn only_those_on_the_server_are_closed_and_nothing_is_left_of_them() {
        let all = Rc::<Watches>::default();
        let (a, b) = (server(1), server(2));
        let (first, second, other) = (Watches::enter(&all, &a), Watches::enter(&all, &a), Watches::enter(&all, &b));
        assert!(!closed(&first) && !closed(&other));
        all.close(1);
        assert!(closed(&first) && closed(&second) && !closed(&other));
        assert!(!closed(&Watches::enter(&all, &a)), "who comes later is not meant");
        drop((first, second, other));
        assert!(all.by_server.borrow().is_empty());
    }

    #[test]
    fn one_that_comes_to_a_server_that_went_down_meanwhile_is_closed_at_once() {
        let (all, a) = (Rc::<Watches>::default(), server(1));
        a.set_health(Health::Down, 1);
        assert!(closed(&Watches::enter(&all, &a)));
        a.set_panics(true);
        assert!(!closed(&Watches::enter(&all, &a)), "health is ignored");
    }
}
