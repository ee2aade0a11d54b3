//! Whether a request that failed is tried again, and how often it was. Nothing of it that may be done once only was sent.
use super::answer::Fault;
use super::reason::Reason;
use crate::shared::now;
use lb_core::snapshot::Backend;
use smallvec::SmallVec;
use std::cell::Cell;
use tokio::time::Instant;

/// The attempts of one request.
#[derive(Default)]
pub(crate) struct Attempts {
    /// Servers that failed it.
    pub(crate) failed: SmallVec<[usize; 4]>,
    /// Attempts after the first.
    pub(crate) retries: Cell<u32>,
    /// Of those in a row at the server that the client is pinned to.
    pub(crate) same: u32,
    /// Its class in queues: lower ones come in first.
    pub(crate) class: i16,
    /// When its wait in queues ends, once it has waited.
    pub(crate) queue_until: Option<Instant>,
}

/// What another attempt may do.
pub(crate) enum Again {
    /// Go to the same server: the client's state is there.
    Here,
    /// Go to another.
    Elsewhere,
}

impl Attempts {
    /// Takes one more attempt, if there is one left.
    pub(crate) fn take(&self, backend: &Backend, worker: usize) -> bool {
        let counters = &backend.state.counters[worker];
        if self.retries.get() >= backend.config.retries {
            return false;
        }
        if backend.budget.as_ref().is_some_and(|budget| !budget.retry(worker, now())) {
            counters.over_budget.bump();
            return false;
        }
        self.retries.set(self.retries.get() + 1);
        counters.retries.bump();
        true
    }

    /// Whether an answer with this status is dropped for another attempt, which is taken then.
    pub(crate) fn drops(&self, status: u16, backend: &Backend, server: usize, worker: usize) -> bool {
        backend.config.faults.retry_on.status(status) && self.others(backend, server) && self.take(backend, worker)
    }

    /// Whether, and where, an exchange that failed so is tried again. The attempt is taken then.
    pub(crate) fn after(
        &self,
        fault: &Fault,
        backend: &Backend,
        server: usize,
        worker: usize,
        pinned: bool,
    ) -> Option<Again> {
        let on = &backend.config.faults.retry_on;
        let again = match fault {
            // Its attempt was taken when the answer was dropped.
            Fault::Dropped(_) => return Some(Again::Elsewhere),
            Fault::Nothing(_) | Fault::Unprocessed if on.empty_response && pinned => Again::Here,
            Fault::Nothing(_) | Fault::Unprocessed if on.empty_response => Again::Elsewhere,
            Fault::Before(Reason::SERVER_TIMEOUT) if on.response_timeout && !pinned => Again::Elsewhere,
            Fault::Before(Reason::BAD_ANSWER) if on.junk_response && !pinned => Again::Elsewhere,
            _ => return None,
        };
        let possible = matches!(again, Again::Here) || self.others(backend, server);
        (possible && self.take(backend, worker)).then_some(again)
    }

    /// Whether a server is left that has not failed it.
    fn others(&self, backend: &Backend, server: usize) -> bool {
        let fresh = |i: usize| i != server && !self.failed.contains(&i);
        backend.servers.iter().enumerate().any(|(i, s)| fresh(i) && s.state.takes_new() && s.weight() > 0)
    }
}
