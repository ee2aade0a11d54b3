//! A place on a server with `maxconn`: at once, or after a wait in its queue. Who waits for a server that no longer takes
//! them leaves at once, to be sent elsewhere.
use crate::io::{Elapsed, Timer};
use crate::shared::Shared;
use lb_core::config::DrainMode;
use lb_core::server::{AdminState, InFlight, ServerState};
use lb_core::snapshot::{Backend, Server};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request's or tunnel's place on a server; given to the next in the queue when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    in_flight: Option<InFlight>,
    queue: Option<Arc<Queue>>,
}

impl Slot {
    fn free(in_flight: InFlight) -> Self {
        Self { in_flight: Some(in_flight), queue: None }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (Some(queue), Some(mut held)) = (self.queue.take(), self.in_flight.take()) else { return };
        loop {
            let mut line = queue.line.lock();
            let next = if held.server().is_over() { None } else { line.next() };
            let Some(next) = next else {
                // Under the lock, so that whoever finds the server full and queues is seen by the next to leave.
                drop(held);
                return;
            };
            drop(line);
            if !next.may_go(held.server()) {
                continue;
            }
            let Err(mut back) = next.give.send(Self { in_flight: Some(held), queue: Some(queue.clone()) }) else {
                return;
            };
            // That one has gone meanwhile. The slot is taken apart, so that its own drop does nothing.
            back.queue = None;
            match back.in_flight.take() {
                Some(in_flight) => held = in_flight,
                None => return,
            }
        }
    }
}

/// What a request is in a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// Lower ones come in first.
    pub(crate) class: i16,
    /// Within its class, in front of those that are not.
    pub(crate) first: bool,
    /// Its client is pinned to the server.
    pub(crate) pinned: bool,
    /// It goes there whatever the server's state.
    pub(crate) forced: bool,
}

/// Who waits.
#[derive(Debug)]
struct Waiter {
    give: oneshot::Sender<Slot>,
    pinned: bool,
    forced: bool,
    /// A drain moves pinned clients, too.
    moves: bool,
}

impl Waiter {
    /// Whether the server still takes it.
    fn may_go(&self, server: &ServerState) -> bool {
        match self.pinned {
            _ if self.forced => true,
            true => server.takes_pinned() && !(self.moves && server.admin() == AdminState::Drain),
            false => server.takes_new(),
        }
    }
}

/// Those who wait for one server with `maxconn`.
#[derive(Debug, Default)]
struct Queue {
    line: Mutex<Line>,
}

/// Who waits, in order: by class, those that are to be first, then by arrival.
#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<(i16, bool, u64), Waiter>,
    arrived: u64,
}

impl Line {
    fn next(&mut self) -> Option<Waiter> {
        self.waiting.pop_first().map(|(_, waiter)| waiter)
    }

    fn join(&mut self, wish: Wish, waiter: Waiter) {
        self.arrived += 1;
        self.waiting.insert((wish.class, !wish.first, self.arrived), waiter);
    }
}

/// The queues of all servers with `maxconn`, shared by the workers.
#[derive(Debug, Default)]
pub struct Queues {
    by_server: Mutex<HashMap<u32, Arc<Queue>>>,
}

impl Queues {
    /// Forgets the queues of servers that are gone, once nobody is on them.
    pub(crate) fn sweep(&self, backends: &[Backend]) {
        let known: HashSet<u32> = backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        self.by_server.lock().retain(|uid, queue| known.contains(uid) || Arc::strong_count(queue) > 1);
    }

    fn of(&self, server: &ServerState) -> Arc<Queue> {
        self.by_server.lock().entry(server.uid).or_default().clone()
    }

    /// Looks at those who wait after something about the servers has changed: sends away whom their server takes no
    /// more, and lets in as many as it takes more than a moment ago.
    pub(crate) fn review(&self, backends: &[Backend]) {
        for server in backends.iter().flat_map(|b| &b.servers).filter(|s| s.state.queued() > 0) {
            let queue = self.of(&server.state);
            // To be dropped is to be told.
            queue.line.lock().waiting.retain(|_, waiter| waiter.may_go(&server.state));
            loop {
                let mut line = queue.line.lock();
                if line.waiting.is_empty() {
                    break;
                }
                let Some(in_flight) = server.state.try_enter() else { break };
                let next = line.next();
                drop(line);
                // One that has gone meanwhile gives its place to the next by dropping it.
                next.map(|next| next.give.send(Slot { in_flight: Some(in_flight), queue: Some(queue.clone()) }));
            }
        }
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// As many wait as may wait.
    Full,
    /// Waited too long.
    Timeout,
    /// The server takes it no more.
    Left,
}

/// A place on a server, at once or after a wait in its queue. `until` is when the wait ends, whatever the server; it is set
/// by the first wait of a request. `queued` is called when it must wait.
pub(crate) async fn slot(
    shared: &Shared,
    backend: &Backend,
    server: &Server,
    wish: Wish,
    timer: &mut Timer,
    until: &mut Option<Instant>,
    queued: impl FnOnce(),
) -> Result<Slot, NoSlot> {
    if !server.state.is_bounded() {
        return Ok(Slot::free(server.state.enter()));
    }
    let queue = shared.queues.of(&server.state);
    let (waiter, _counted) = {
        let mut line = queue.line.lock();
        if line.waiting.is_empty()
            && let Some(in_flight) = server.state.try_enter()
        {
            drop(line);
            return Ok(Slot { in_flight: Some(in_flight), queue: Some(queue) });
        }
        if line.waiting.len() >= backend.config.max_queue {
            line.waiting.retain(|_, waiter| !waiter.give.is_closed());
        }
        if line.waiting.len() >= backend.config.max_queue {
            return Err(NoSlot::Full);
        }
        let (give, waiter) = oneshot::channel();
        let moves = backend.config.drain == DrainMode::Move;
        line.join(wish, Waiter { give, pinned: wish.pinned, forced: wish.forced, moves });
        (waiter, server.state.wait())
    };
    queued();
    let until = *until.get_or_insert_with(|| Instant::now() + backend.config.timeout.queue);
    match timer.until(until, waiter).await {
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(_)) => Err(NoSlot::Left),
        Err(Elapsed) => Err(NoSlot::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::id::NameId;
    use lb_core::server::Health;

    fn server() -> Arc<ServerState> {
        Arc::new(ServerState::new("app", "node1", NameId::NONE, 1, 1, AdminState::Ready))
    }

    fn join(line: &mut Line, wish: Wish) -> oneshot::Receiver<Slot> {
        let (give, waiter) = oneshot::channel();
        line.join(wish, Waiter { give, pinned: wish.pinned, forced: wish.forced, moves: false });
        waiter
    }

    #[test]
    fn the_lowest_class_comes_first_then_who_is_to_be_first_then_who_came_first() {
        let mut line = Line::default();
        let wishes = [(0, false), (5, true), (0, true), (-3, false), (0, false)];
        let waiters: Vec<_> =
            wishes.map(|(class, first)| join(&mut line, Wish { class, first, ..Wish::default() })).into();
        let mut waiters: Vec<_> = waiters.into_iter().map(Some).collect();
        let mut order = Vec::new();
        while let Some(next) = line.next() {
            drop(next);
            let told =
                |w: &mut oneshot::Receiver<Slot>| matches!(w.try_recv(), Err(oneshot::error::TryRecvError::Closed));
            let at = waiters.iter_mut().position(|w| w.as_mut().is_some_and(told)).unwrap();
            waiters[at] = None;
            order.push(at);
        }
        assert_eq!(order, [3, 2, 0, 4, 1]);
    }

    #[test]
    fn a_place_is_not_handed_on_to_whom_the_server_takes_no_more() {
        let (state, queue) = (server(), Arc::<Queue>::default());
        state.set_bounds(Some(1), None);
        let slot = Slot { in_flight: state.try_enter(), queue: Some(queue.clone()) };
        let (mut plain, mut forced) = {
            let mut line = queue.line.lock();
            let forced = Wish { forced: true, ..Wish::default() };
            (join(&mut line, Wish::default()), join(&mut line, forced))
        };
        state.set_health(Health::Down, 1);
        drop(slot);
        assert!(plain.try_recv().is_err(), "it is told to go elsewhere");
        drop(forced.try_recv().expect("who insists comes in"));
        assert_eq!(state.in_flight(), 0);
    }
}
