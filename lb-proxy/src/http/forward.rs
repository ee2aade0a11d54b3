//! ONE REQUEST, top to bottom: backend, keys, server, connection, the request out, the answer back, what is remembered
//! and counted. All branching is here; what it calls is small. The way to a server is [`super::reach`], what is said with it
//! [`super::talk`].
use super::account;
use super::admit::{Gate, admit};
use super::affinity::Plan;
use super::answer::{Answered, Fault};
use super::body::Transfer;
use super::h1::Conn;
use super::head::{Framing, Request};
use super::headers::{self, Rewrite};
use super::limits::{Denied, Opened};
use super::looked::Looked;
use super::outcome;
use super::own::{Refusal, Refusing};
use super::passage::Passage;
use super::reach::{Reached, Reaching, ask_peers, reach};
use super::reason::Reason;
use super::retry::{Again, Attempts};
use super::talk::Talk;
use super::upload;
use crate::closing::{Watch, Watches};
use crate::http2::Exchange;
use crate::listener::Admission;
use crate::shared::now;
use crate::stream::Stream;
use crate::tunnel::{Holding, Start, Tunnel};
use crate::upstream::{self, Slot};
use crate::websocket::{Handshake, accept::accept};
use lb_core::config::Proto;
use lb_core::config::faults::OnMarkedDown;
use lb_core::config::websocket::Refuse;
use lb_core::route::route;
use lb_core::snapshot::{Backend, BackendState, Frontend, Snapshot};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a request is sent again that a server of HTTP/2 has not looked at.
const REFUSALS: u32 = 3;

/// What becomes of the connection after a request.
pub(crate) enum After {
    /// It takes another.
    Next,
    /// It is closed.
    Close,
    /// Our answer is final, but the client may still be sending.
    Linger,
    /// It is a tunnel now.
    Switch(Box<Switch>),
}

/// A connection that becomes a tunnel, but for the client's socket.
pub(crate) struct Switch {
    server: Stream,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    timeout: Duration,
    slot: Slot,
    account: account::Request,
    holding: Holding,
    handshake: Option<Handshake>,
}

impl Switch {
    /// Puts the client's socket to it.
    pub(crate) fn into_tunnel(self, client: Stream, opened: Opened, admission: Option<Admission>) -> Box<Tunnel> {
        let Self { server, from_client, from_server, timeout, slot, account, holding, handshake } = self;
        Tunnel::new(Start {
            client,
            server,
            from_client,
            from_server,
            timeout,
            handshake,
            after_server: timeout,
            holding,
            first: None,
            account,
            slot,
            opened,
            admission,
        })
    }
}

/// What the rest of the exchange must know of a request whose bytes are gone.
pub(crate) struct Facts {
    pub(crate) head: bool,
    pub(crate) http11: bool,
    pub(crate) keep_alive: bool,
    pub(crate) idempotent: bool,
    /// A stream of HTTP/2 that does not say how long its body is: it may be one of messages, with silence in between.
    pub(crate) endless: bool,
    /// The protocol it asked to upgrade to.
    pub(crate) upgrade: Option<Box<[u8]>>,
    /// For a WebSocket what the server must answer to its key; `None`: it is no handshake of one.
    pub(crate) accept: Option<Box<str>>,
    /// Its backend wants it refused by a Close frame.
    pub(crate) close: RefCell<Option<Arc<BackendState>>>,
}

impl Facts {
    /// Learns where the request was to go.
    fn at_backend(&self, backend: &Backend) {
        if self.accept.is_some() && backend.config.websocket.refuse == Refuse::Close {
            *self.close.borrow_mut() = Some(backend.state.clone());
        }
    }
}

/// The request failed.
pub(super) enum Failure<'s> {
    /// Before the client got a byte of an answer: it gets ours.
    Unanswered(Reason),
    /// As that, because a limit says so.
    Denied(Denied),
    /// As that, because a rule says so.
    Refused(Box<Refusal<'s>>),
    /// In the middle of an answer: only the connection's end tells.
    Cut(&'static str),
}

impl From<Fault> for Failure<'_> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Nothing(reason) | Fault::Before(reason) => Self::Unanswered(reason),
            Fault::Cut(code) => Self::Cut(code),
            Fault::Unprocessed => Self::Unanswered(Reason::REFUSED),
            // Whoever drops an answer has another attempt.
            Fault::Dropped(_) => Self::Unanswered(Reason::NO_SERVER),
        }
    }
}

/// Takes one request, whose head lies at the start of `conn.input`, to its end.
pub(crate) async fn exchange(conn: &mut Conn, request: Request) -> After {
    let snap = conn.local.snapshot();
    let Some(frontend) = conn.listening.frontend(&snap) else { return After::Close };
    let mut account = account::Request::new(&conn.local, &conn.listening, &conn.arrival, &request, &conn.input);
    let facts = Facts {
        head: request.method.get(&conn.input) == b"HEAD",
        http11: request.http11,
        keep_alive: request.keep_alive,
        idempotent: request.idempotent(&conn.input),
        endless: conn.stream.h2().is_some() && request.framing == Framing::Chunked,
        upgrade: request.upgrade.map(|u| u.get(&conn.input).into()),
        accept: request.websocket_key(&conn.input).map(|key| accept(key).into()),
        close: RefCell::default(),
    };
    let body_done = Cell::new(false);
    let mut passage = Passage::default();
    account.protocol(&conn.stream);
    let stream = conn.stream.h2().cloned();
    let forwarded = {
        let mut forwarded =
            pin!(forward(conn, &snap, frontend, request, &facts, &mut passage, &mut account, &body_done));
        poll_fn(|cx| poll_until_reset(stream.as_deref(), forwarded.as_mut(), cx)).await
    };
    let refusing = Refusing { frontend, passage: &passage, facts: &facts, body_done: body_done.get() };
    match forwarded {
        Ok(Forwarded::Done { keep }) => {
            account.finish("ok");
            match (keep, body_done.get()) {
                (true, true) => After::Next,
                (_, true) => After::Close,
                (_, false) => After::Linger,
            }
        }
        Ok(Forwarded::Switched { server, from_server, slot, timeout, holding, handshake }) => {
            account.start_tunnel();
            let from_client = std::mem::take(&mut conn.input);
            let from_client = if from_client.is_empty() { Vec::new() } else { from_client };
            let switch = Switch { server, from_client, from_server, timeout, slot, account, holding, handshake };
            After::Switch(Box::new(switch))
        }
        Err(Failure::Cut(code)) => {
            account.finish(code);
            // A reset, so that a body that ends with the connection is not taken for whole.
            conn.stream.reset_on_drop();
            After::Close
        }
        Err(Failure::Unanswered(reason)) => refusing.send(conn, reason.into(), account).await,
        Err(Failure::Refused(refusal)) => refusing.send(conn, *refusal, account).await,
        Err(Failure::Denied(denied)) => {
            if !denied.hold(&conn.local, &mut conn.timer, &conn.stream, frontend).await {
                account.finish(Reason::CLIENT_GONE.code);
                return After::Close;
            }
            let reason = Reason::limit(denied.status);
            let label = Some(format!("{}[{}]", reason.code, denied.rule));
            let refusal = Refusal { label, retry_after: denied.retry_after, ..reason.into() };
            refusing.send(conn, refusal, account).await
        }
    }
}

/// A client that speaks HTTP/2 can take back a request at any time: everything about it then ends at once. A function that
/// takes the future by its place, because a request's memory would be twice as much if it were moved.
fn poll_until_reset<'a>(
    stream: Option<&Exchange>,
    forwarded: Pin<&mut impl Future<Output = Result<Forwarded, Failure<'a>>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Forwarded, Failure<'a>>> {
    match stream {
        Some(stream) if stream.poll_reset(cx).is_ready() => Poll::Ready(Err(Failure::Cut(Reason::CLIENT_GONE.code))),
        _ => forwarded.poll(cx),
    }
}

enum Forwarded {
    Done {
        keep: bool,
    },
    Switched {
        server: Stream,
        from_server: Vec<u8>,
        slot: Slot,
        timeout: Duration,
        holding: Holding,
        handshake: Option<Handshake>,
    },
}

#[expect(clippy::too_many_arguments, reason = "what a request is, once")]
async fn forward<'s>(
    conn: &mut Conn,
    snap: &'s Snapshot,
    frontend: &'s Frontend,
    request: Request,
    facts: &Facts,
    passage: &mut Passage<'s>,
    account: &mut account::Request,
    body_done: &Cell<bool>,
) -> Result<Forwarded, Failure<'s>> {
    let local = conn.local.clone();
    let buf = &conn.input;
    let client = conn.arrival.client.ip();
    let src = headers::source(buf, &request, &frontend.config, client);
    account.asked_by(src);
    // 1. Whether it may pass, and where to.
    if conn.arrival.misdirected(request.host.get(buf)) {
        body_done.set(conn.give_up(&request));
        return Err(Failure::Unanswered(Reason::MISDIRECTED));
    }
    let gate =
        Gate { local: &local, snap, frontend, request: &request, buf, client, src, tls: conn.arrival.tls.as_deref() };
    let routed = admit(gate, passage, &mut conn.opened, account).await;
    let index = match routed {
        Ok(index) => index,
        Err(failure) => {
            if facts.accept.is_some() && matches!(failure, Failure::Denied(_)) {
                let index = route(frontend, &gate.looked(passage));
                index.into_iter().for_each(|index| facts.at_backend(&snap.backends[index]));
            }
            body_done.set(conn.give_up(&request));
            return Err(failure);
        }
    };
    let backend = &snap.backends[index];
    facts.at_backend(backend);
    if facts.upgrade.is_some() && local.draining() {
        body_done.set(conn.give_up(&request));
        return Err(Failure::Unanswered(Reason::LEAVING));
    }
    let most = backend.config.max_body;
    if let (Framing::Length(length), Some(most)) = (request.framing, most)
        && length > most
    {
        body_done.set(conn.give_up(&request));
        return Err(Failure::Unanswered(Reason::BODY_TOO_LARGE));
    }
    // 2. Keys, and the request as the server will see it; after this its bytes are no longer needed.
    // As the client sent it, whatever rules have made of it.
    let tls = conn.arrival.tls.as_deref();
    let looked =
        Looked { request: &request, buf, client, src, snap, frontend, backend: Some(backend), tls, made: None };
    let mut plan = Plan::read(backend, &looked, account.began());
    for (table, key) in plan.counted(backend) {
        account.counting().meet(&mut conn.opened, table, key);
    }
    let mut out = local.buffers.take();
    let rewrite = Rewrite {
        frontend: &frontend.config,
        backend: &backend.config,
        affinity: backend.cookie.as_ref(),
        scheme: conn.arrival.scheme(),
        client,
        src,
        edits: passage.made().map(|made| &made.edits),
        target: passage.made().and_then(|made| made.target.as_ref()).map(|target| &target.bytes[..]),
    };
    headers::request(buf, &request, &rewrite, &mut out);
    let head = out.len();
    let framing = if conn.stream.h2().is_some() { request.framing.by_end() } else { request.framing };
    let mut transfer = Transfer::new(framing, backend.config.proto == Proto::H1).at_most(most);
    let taken = transfer.push(&buf[request.len..], &mut out).map_err(Failure::Unanswered)?;
    account.bytes_in += taken as u64;
    conn.consume(request.len + taken);
    if let Some(stream) = conn.stream.h2().filter(|_| request.upgrade.is_none() && !transfer.done()) {
        account.bytes_in += upload::at_once(stream, &local, &mut transfer, &mut out).map_err(Failure::Unanswered)?;
    }
    body_done.set(transfer.done());
    if !transfer.done() || conn.stream.h2().is_some() {
        // It waits for the client, or with many others on its connection: in as much memory as it needs.
        let fitting = out.as_slice().to_vec();
        local.buffers.give(std::mem::replace(&mut out, fitting));
    }
    local.fields.give(request.fields);
    if let Some(budget) = &backend.budget {
        budget.request(local.id, now());
    }
    ask_peers(&local, backend, &plan).await;
    let passage = &*passage;
    let parts = out.split_at(head);
    let exchanged =
        attempt(conn, frontend, backend, &mut plan, passage, parts, &mut transfer, facts, account, body_done).await;
    local.buffers.give(out);
    exchanged
}

/// A server, a place on it, a connection, the request out, the answer back; and again while that fails in a way that is
/// tried again.
#[expect(clippy::too_many_arguments, reason = "what a request is, once")]
async fn attempt(
    conn: &mut Conn,
    frontend: &Frontend,
    backend: &Backend,
    plan: &mut Plan,
    passage: &Passage<'_>,
    out: (&[u8], &[u8]),
    transfer: &mut Transfer,
    facts: &Facts,
    account: &mut account::Request,
    body_done: &Cell<bool>,
) -> Result<Forwarded, Failure<'static>> {
    let local = conn.local.clone();
    let counters = &backend.state.counters[local.id];
    let chosen = plan.choose(backend, &local.turn(&[]));
    let mut next = chosen.inspect_err(|_| counters.no_server.bump()).map_err(Failure::Unanswered)?;
    // All of it lies in `out`, and may be said twice.
    let whole = transfer.done();
    let repeatable = whole && facts.idempotent;
    let mut attempts = Attempts { class: passage.priority_class(), ..Attempts::default() };
    loop {
        // 3. + 4. A server, a place on it, a connection.
        let (arrival, timer) = (&*conn.arrival, &mut conn.timer);
        let reaching = Reaching { local: &local, backend, arrival, plan, timer, account, attempts: &mut attempts };
        let reached = reach(reaching, next).await;
        let Reached { server, slot, mut stream, mut reused } = reached.map_err(Failure::Unanswered)?;
        let state = &backend.servers[server].state;
        state.counters[local.id].requests.bump();
        let closes = backend.config.faults.on_marked_down == OnMarkedDown::Close;
        let watch = closes.then(|| Watches::enter(&local.watches, state));
        // 5. to 8. The request out, the answer back.
        let (pinned, retries) = (plan.pinned(), attempts.retries.get());
        let statuses = repeatable && !pinned && !backend.config.faults.retry_on.statuses.is_empty();
        let drops = |status| attempts.drops(status, backend, server, local.id);
        let drops = statuses.then_some(&drops as &dyn Fn(u16) -> bool);
        let mut talk =
            Talk { conn, backend, server, retries, plan: &mut *plan, passage, account, facts, body_done, drops };
        let mut refusals = 0;
        let answered = loop {
            let answered = {
                let mut run = pin!(talk.run(frontend, &mut stream, out, transfer));
                poll_fn(|cx| poll_watched(watch.as_ref(), run.as_mut(), cx)).await
            };
            let answered = answered.unwrap_or_else(|| Err(talk.lost()));
            let again = match answered {
                // An idle connection that the server closed as we wrote on it: nothing is lost that may not be said twice.
                Err(Fault::Nothing(_)) => std::mem::take(&mut reused) && facts.idempotent,
                // The server has not even looked at it.
                Err(Fault::Unprocessed) => {
                    refusals += 1;
                    refusals <= REFUSALS
                }
                _ => false,
            };
            if !again || !whole {
                break answered;
            }
            let limit = backend.config.timeout.connect;
            let to = &backend.servers[server];
            match Box::pin(upstream::connect(&local, backend, to, &talk.conn.arrival, limit, &mut talk.conn.timer))
                .await
            {
                Ok(fresh) => stream = fresh,
                Err(_) => break Err(Fault::Before(Reason::CONNECT_FAILED)),
            }
        };
        outcome::count(backend, server, local.id, &answered, account.status);
        let fault = match answered {
            Ok(Answered::Done { keep_client, keep_server }) => {
                let anybodys = stream.h2().is_none() && upstream::is_for_anybody(&backend.servers[server]);
                if keep_server && body_done.get() && anybodys {
                    local.pool.give(state.uid, stream, backend.config.max_idle);
                }
                drop(slot);
                return Ok(Forwarded::Done { keep: keep_client });
            }
            Ok(Answered::Switched { from_server, handshake }) => {
                let holding = Holding::new(plan.held(backend), watch);
                let timeout = backend.config.timeout.tunnel;
                return Ok(Forwarded::Switched { server: stream, from_server, slot, timeout, holding, handshake });
            }
            Err(fault) => fault,
        };
        drop((stream, slot));
        if fault.is_servers() {
            state.counters[local.id].response_errors.bump();
        }
        let again = if repeatable { attempts.after(&fault, backend, server, local.id, pinned) } else { None };
        next = match again {
            None => return Err(fault.into()),
            Some(Again::Here) => server,
            Some(Again::Elsewhere) => {
                attempts.failed.push(server);
                plan.again(backend, server, &local.turn(&attempts.failed)).map_err(Failure::Unanswered)?
            }
        };
    }
}

/// An exchange's end, or `None` when its server went down before. By the future's place, as [`poll_until_reset`].
fn poll_watched<T>(
    watch: Option<&Watch>,
    run: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    match (run.poll(cx), watch) {
        (Poll::Ready(end), _) => Poll::Ready(Some(end)),
        (Poll::Pending, Some(watch)) => watch.poll(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_small() {
        fn size<F>(_: fn(&'static mut Conn, Request) -> F) -> usize {
            size_of::<F>()
        }
        // It goes to the heap, once a request: what is seldom needed has a box of its own.
        assert!(size(exchange) <= 4608, "{}", size(exchange));
    }
}
