//! The way to a server, for requests and for connections of TCP alike: a place on it, then a connection, on another server if
//! need be. Nothing that a client sent goes out here.
use super::account;
use super::affinity::Plan;
use super::reason::Reason;
use super::retry::Attempts;
use crate::arrival::Arrival;
use crate::io::Timer;
use crate::shared::now;
use crate::stream::Stream;
use crate::upstream::{self, NoSlot, Slot, Wish};
use crate::worker::Local;
use lb_core::config::faults::QueueFirst;
use lb_core::snapshot::Backend;
use lb_core::tcp::Mode;
use std::rc::Rc;
use std::time::Duration;

/// While this instance has not pulled the tables, a miss asks the peers before it assigns anew.
pub(crate) async fn ask_peers(local: &Local, backend: &Backend, plan: &Plan) {
    let Some(ask) = local.shared.ask.load_full() else { return };
    for (table, key) in plan.lookups(backend) {
        if table.peek(key, now()).is_none() {
            (ask.0)(&table.spec().name, key.bytes()).await;
        }
    }
}

/// A connection to the chosen server.
pub(crate) struct Reached {
    pub(crate) server: usize,
    pub(crate) slot: Slot,
    pub(crate) stream: Stream,
    pub(crate) reused: bool,
}

/// Who is on the way to a server.
pub(crate) struct Reaching<'a> {
    pub(crate) local: &'a Rc<Local>,
    pub(crate) backend: &'a Backend,
    pub(crate) arrival: &'a Arrival,
    pub(crate) plan: &'a mut Plan,
    pub(crate) timer: &'a mut Timer,
    pub(crate) account: &'a mut account::Request,
    pub(crate) attempts: &'a mut Attempts,
}

/// Connects to this server or, while connecting fails and retries last, to others. Nothing of the request is sent yet.
pub(crate) async fn reach(on: Reaching<'_>, mut server: usize) -> Result<Reached, Reason> {
    let Reaching { local, backend, arrival, plan, timer, account, attempts } = on;
    let counters = &backend.state.counters[local.id];
    let faults = &backend.config.faults;
    loop {
        let target = &backend.servers[server];
        account.at_server(backend, server, plan.why, attempts.retries.get());
        let (pinned, forced) = (plan.pinned(), plan.forced());
        let first = faults.queue_first == QueueFirst::Pinned && pinned;
        let wish = Wish { class: attempts.class, first, pinned, forced };
        let until = &mut attempts.queue_until;
        let slot = upstream::slot(&local.shared, backend, target, wish, timer, until, || counters.queued.bump()).await;
        let slot = match slot {
            Ok(slot) => slot,
            // Nothing has failed: it is no retry.
            Err(NoSlot::Left) => {
                attempts.failed.push(server);
                server = plan.again(backend, server, &local.turn(&attempts.failed))?;
                continue;
            }
            Err(no) => {
                counters.queue_dropped.bump();
                return Err(if no == NoSlot::Full { Reason::QUEUE_FULL } else { Reason::QUEUE_TIMEOUT });
            }
        };
        // An idle connection of HTTP is no new one: a reload may have changed the mode.
        if backend.config.mode == Mode::Http
            && let Some(stream) = local.pool.take(target.state.uid)
        {
            return Ok(Reached { server, slot, stream, reused: true });
        }
        let limit = backend.config.timeout.connect;
        // Apart: its memory, with a TLS handshake in it, is not for those who find a connection.
        let connected = Box::pin(upstream::connect(local, backend, target, arrival, limit, timer));
        let error = match connected.await {
            // One of HTTP/2 shares a connection that may have been there before.
            Ok(stream) if stream.h2().is_some() => {
                return Ok(Reached { server, slot, stream, reused: true });
            }
            Ok(stream) => {
                target.state.connected();
                target.state.counters[local.id].connects.bump();
                return Ok(Reached { server, slot, stream, reused: false });
            }
            Err(error) => error,
        };
        drop(slot);
        target.state.connect_failed();
        target.state.counters[local.id].connect_errors.bump();
        tracing::debug!(backend = backend.config.name, server = target.config.name, %error, "connect failed");
        if let Some(outlier) = &faults.outlier {
            target.state.failed(local.id, outlier.consecutive);
        }
        if !faults.retry_on.connect_failure || !attempts.take(backend, local.id) {
            return Err(Reason::CONNECT_FAILED);
        }
        // A pinned client's state is there and nowhere else: a short second and third try, the last elsewhere.
        let refused = error.kind() != std::io::ErrorKind::TimedOut;
        let left = attempts.retries.get() < backend.config.retries;
        if plan.pinned() && refused && attempts.same < 2 && left && target.state.takes_pinned() {
            attempts.same += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        attempts.failed.push(server);
        server = plan.again(backend, server, &local.turn(&attempts.failed)).map_err(|reason| match reason {
            Reason::NO_SERVER => Reason::CONNECT_FAILED,
            other => other,
        })?;
    }
}
