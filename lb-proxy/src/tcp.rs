//! A connection of a frontend with `mode = "tcp"`, top to bottom: limits, the client's hello where something looks at it,
//! backend, server, connection, and then a tunnel. The bytes are passed on as they came.
//!
//! A silent client holds a socket, a timer and no buffer. Where nothing looks at the hello nothing is awaited, so that
//! servers which speak first do.
use crate::arrival::Arrival;
use crate::closing::{Watch, Watches};
use crate::http::account;
use crate::http::affinity::Plan;
use crate::http::h1::more;
use crate::http::limits::{self, Opened};
use crate::http::reach::{Reached, Reaching, ask_peers, reach};
use crate::http::reason::Reason;
use crate::http::retry::Attempts;
use crate::io::{Elapsed, Timer};
use crate::listener::{Admission, Listening};
use crate::shared::now;
use crate::stream::Stream;
use crate::tunnel::{self, Start, Tunnel};
use crate::worker::Local;
use hello::{ClientHello, Read};
use lb_core::config::faults::OnMarkedDown;
use lb_core::snapshot::Frontend;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) mod first;
mod hello;
mod opening;

pub(crate) use opening::Opening;

/// A client's connection, until it is passed on.
struct Conn {
    local: Rc<Local>,
    stream: Stream,
    arrival: Rc<Arrival>,
    listening: Rc<Listening>,
    admission: Admission,
    timer: Timer,
    /// What came and was not sent yet.
    input: Vec<u8>,
    opened: Opened,
}

/// Why a connection is not passed on.
enum Refusal {
    Reason(Reason),
    Denied(limits::Denied),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// A connection whose client has said what is awaited of it.
struct Begun {
    conn: Conn,
    account: account::Request,
    hello: Option<ClientHello>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    local: Rc<Local>,
    stream: Stream,
    arrival: Rc<Arrival>,
    listening: Rc<Listening>,
    admission: Admission,
) {
    let (timer, input, opened) = (Timer::new(), Vec::new(), Opened::default());
    let conn = Conn { local, stream, arrival, listening, admission, timer, input, opened };
    // Each apart, so that a silent client does not hold the memory of what comes after it spoke, nor a tunnel that of
    // what led to it.
    let Some(begun) = Box::pin(conn.begin()).await else { return };
    if let Some(tunnel) = Box::pin(begun.open()).await {
        tokio::task::spawn_local(tunnel::run(tunnel));
    }
}

impl Begun {
    /// The tunnel that it becomes; `None`: it was refused, and is over.
    async fn open(self) -> Option<Box<Tunnel>> {
        let Self { mut conn, mut account, hello } = self;
        match conn.pass(hello.as_ref(), &mut account).await {
            Ok(passed) => Some(conn.tunnel(passed, account)),
            Err(refusal) => {
                conn.refuse(refusal, account).await;
                None
            }
        }
    }
}

impl Conn {
    /// Everything that is awaited of the client; `None`: it was refused, and is over.
    async fn begin(mut self) -> Option<Begun> {
        let mut account = account::Request::connection(&self.local, &self.listening, &self.arrival);
        match self.ask(&mut account).await {
            Ok(hello) => Some(Begun { conn: self, account, hello }),
            Err(refusal) => {
                self.refuse(refusal, account).await;
                None
            }
        }
    }

    async fn refuse(mut self, refusal: Refusal, account: account::Request) {
        match refusal {
            Refusal::Reason(reason) => account.refused(reason.code, false),
            Refusal::Denied(denied) => {
                let snap = self.local.snapshot();
                let here = match self.listening.frontend(&snap) {
                    Some(frontend) => denied.hold(&self.local, &mut self.timer, &self.stream, frontend).await,
                    None => true,
                };
                account.refused(if here { "limit" } else { Reason::CLIENT_GONE.code }, true);
            }
        }
        self.stream.reset_on_drop();
    }

    /// Limits that look at the address alone, and the client's hello where something looks at that.
    async fn ask(&mut self, account: &mut account::Request) -> Result<Option<ClientHello>, Refusal> {
        let snap = self.local.snapshot();
        let frontend = self.listening.frontend(&snap).ok_or(Reason::NO_ROUTE)?;
        let src = self.arrival.client.ip();
        // What can be denied for its address is denied before a byte is read.
        if !limits_look_inside(frontend) {
            self.limit(frontend, src, None, account)?;
        }
        let delay = frontend.config.tcp.as_ref().map(|tcp| tcp.inspect_delay).filter(|_| frontend.inspect);
        drop(snap);
        let hello = match (&self.arrival.tls, delay) {
            // TLS has ended here: what it agreed on is known.
            (Some(tls), _) => Some(ClientHello::agreed(tls.sni.as_deref(), tls.alpn.as_deref())),
            (None, Some(delay)) => self.hello(delay).await?,
            (None, None) => return Ok(None),
        };
        account.asked(hello.as_ref().and_then(|hello| hello.sni.as_deref()));
        Ok(hello)
    }

    /// Everything up to a server's connection.
    async fn pass(&mut self, hello: Option<&ClientHello>, account: &mut account::Request) -> Result<Passed, Refusal> {
        let local = self.local.clone();
        let snap = local.snapshot();
        let frontend = self.listening.frontend(&snap).ok_or(Reason::NO_ROUTE)?;
        let opening = Opening { src: self.arrival.client.ip(), hello };
        if limits_look_inside(frontend) {
            self.limit(frontend, opening.src, hello, account)?;
        }
        let index = route(frontend, &opening).ok_or(Reason::NO_ROUTE)?;
        let backend = &snap.backends[index];
        account.at_backend(backend);
        let mut plan = Plan::of_connection(backend, &opening);
        for (table, key) in plan.counted(backend) {
            account.counting().join(&mut self.opened, table, key);
        }
        ask_peers(&local, backend, &plan).await;
        let counters = &backend.state.counters[local.id];
        let chosen = plan.choose(backend, &local.turn(&[])).inspect_err(|_| counters.no_server.bump())?;
        let mut attempts = Attempts::default();
        if let Some(budget) = &backend.budget {
            budget.request(local.id, now());
        }
        // Apart, so that a silent client does not hold the memory of it.
        let (arrival, timer) = (&*self.arrival, &mut self.timer);
        let attempts = &mut attempts;
        let reaching = Reaching { local: &local, backend, arrival, plan: &mut plan, timer, account, attempts };
        let reached = Box::pin(reach(reaching, chosen)).await?;
        let Reached { server, slot, stream, .. } = reached;
        if backend.config.faults.outlier.is_some() {
            backend.servers[server].state.succeeded();
        }
        let closes = backend.config.faults.on_marked_down == OnMarkedDown::Close;
        let watch = closes.then(|| Watches::enter(&local.watches, &backend.servers[server].state));
        account.answered(backend, server, plan.why, attempts.retries.get());
        let (timeout, client) = (backend.config.timeout.tunnel, frontend.config.timeout.client);
        let first = first::Unanswered::new(&snap, index, server, plan);
        Ok(Passed { server: stream, slot, first, watch, timeout, client })
    }

    fn limit(
        &mut self,
        frontend: &Frontend,
        src: IpAddr,
        hello: Option<&ClientHello>,
        account: &mut account::Request,
    ) -> Result<(), Refusal> {
        let opening = Opening { src, hello };
        let denied = limits::apply(frontend, &mut self.opened, account, false, |key, table| opening.key(key, table));
        denied.map_or(Ok(()), |denied| Err(Refusal::Denied(denied)))
    }

    /// Reads the client's hello. `None`: it speaks something else, or waits for the server to speak.
    async fn hello(&mut self, delay: Duration) -> Result<Option<ClientHello>, Reason> {
        let until = Instant::now() + delay;
        loop {
            match self.timer.until(until, more(&self.local, &mut self.stream, &mut self.input)).await {
                Err(Elapsed) if self.input.is_empty() => return Ok(None),
                Err(Elapsed) => return Err(Reason::HELLO_TIMEOUT),
                Ok(Ok(0)) if !self.input.is_empty() => return Err(Reason::BAD_HELLO),
                Ok(Ok(0) | Err(_)) => return Err(Reason::CLIENT_GONE),
                Ok(Ok(_)) => {}
            }
            match hello::client(&self.input) {
                Read::Whole(hello) => return Ok(Some(hello)),
                Read::Other => return Ok(None),
                Read::Broken => return Err(Reason::BAD_HELLO),
                Read::More => {}
            }
        }
    }

    fn tunnel(self, passed: Passed, account: account::Request) -> Box<Tunnel> {
        account.start_tunnel();
        let Passed { server, slot, first, watch, timeout, client } = passed;
        Tunnel::new(Start {
            client: self.stream,
            server,
            from_client: self.input,
            from_server: Vec::new(),
            timeout,
            after_server: client,
            handshake: None,
            holding: tunnel::Holding::new(std::iter::empty(), watch),
            first,
            account,
            slot,
            opened: self.opened,
            admission: Some(self.admission),
        })
    }
}

/// A connection that a server has taken.
struct Passed {
    server: Stream,
    slot: crate::upstream::Slot,
    first: Option<Box<first::Unanswered>>,
    /// Its place among those that are closed when the server goes down.
    watch: Option<Watch>,
    timeout: Duration,
    /// How long a client may be silent once its server has closed.
    client: Duration,
}

/// Whether a limit looks at the hello.
fn limits_look_inside(frontend: &Frontend) -> bool {
    frontend.limits.iter().any(|limit| lb_core::tcp::is_inside(&limit.rule.key))
}

/// Index of the backend that takes the connection.
fn route(frontend: &Frontend, opening: &Opening<'_>) -> Option<usize> {
    let routes = frontend.config.tcp.iter().flat_map(|tcp| &tcp.routes);
    let matched = routes.zip(&frontend.routes).find(|(route, _)| route.takes(opening));
    matched.map(|(_, index)| *index).or(frontend.backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_says_nothing_and_a_tunnel_are_small() {
        fn connection<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        fn begin<F>(_: fn(Conn) -> F) -> usize {
            size_of::<F>()
        }
        // The first lasts as long as the tunnel.
        assert!(connection(serve) <= 384, "{}", connection(serve));
        assert!(begin(Conn::begin) <= 2048, "{}", begin(Conn::begin));
    }
}
