//! A WebSocket in a tunnel: its frames are followed, so that it can be ended as its ends expect it.
//!
//! A close by us goes through these [phases](Phase), each bounded by `websocket.close_timeout`:
//!
//! ```text
//! Open -> Stopping   the client's message that is on its way goes on to its end
//!      -> Asked      the server has our Close; what it still says goes to the client, up to its own Close
//!      -> Told       the client has our Close; its own is awaited, what else it says is dropped
//!      -> the end    both connections are closed
//! ```
//!
//! The server is asked first because nothing may be said after a Close: so whatever it has answered is delivered, and
//! what it was not asked is not answered; a client knows what to ask anew. A server that is lost is not asked. What
//! client and server close themselves is only looked at.
//!
//! It knows no sockets: [`crate::tunnel`] moves the bytes, and asks [`WebSocket::advance`] what comes next.
use crate::tunnel::{Broken, Way};
use close::{By, Side, Why};
use flow::{Flow, Mode, Rules};
use lb_core::config::{Backend, websocket::Idle};
use lb_core::snapshot::BackendState;
use ping::Pings;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;

pub(crate) mod accept;
pub(crate) mod close;
pub(crate) mod flow;
pub(crate) mod frame;
#[cfg(test)]
mod model;
mod ping;
pub(crate) mod refuse;

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our Close waits for the end of the client's message.
    Stopping,
    /// The server has our Close.
    Asked,
    /// The client has our Close.
    Told,
    /// Client and server are closing it themselves.
    Parting,
}

/// What the tunnel does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Waits.
    Wait,
    /// Moves bytes again: there are more.
    Again,
    /// Ends, with this word.
    End(&'static str),
    /// Ends in the middle of a frame: both sides see a reset.
    Reset(&'static str),
}

/// How the two directions stand.
pub(crate) type Ways = (Poll<Result<(), Broken>>, Poll<Result<(), Broken>>);

/// What a tunnel knows of its WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// From the client.
    pub(crate) up: Flow,
    /// From the server.
    pub(crate) down: Flow,
    backend: Arc<Backend>,
    counts: Arc<BackendState>,
    phase: Phase,
    /// Why we close it.
    why: Option<Why>,
    /// When the phase ends at the latest; `None`: once that has passed, and while it is open.
    deadline: Option<Instant>,
    /// Who ended it first, and with which code.
    first: Option<By>,
    code: Option<u16>,
    pings: Option<Box<Pings>>,
}

/// What a handshake has come to.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    /// An extension was agreed on.
    pub(crate) extended: bool,
    pub(crate) backend: Arc<Backend>,
    pub(crate) counts: Arc<BackendState>,
}

impl WebSocket {
    pub(crate) fn new(handshake: Handshake) -> Box<Self> {
        let Handshake { extended, backend, counts } = handshake;
        let pings = backend.websocket.ping.as_ref().map(|ping| Box::new(Pings::new(ping, Instant::now())));
        Box::new(Self {
            up: Flow::new(extended),
            down: Flow::new(extended),
            backend,
            counts,
            phase: Phase::Open,
            why: None,
            deadline: None,
            first: None,
            code: None,
            pings,
        })
    }

    /// Both directions with what holds for them.
    pub(crate) fn flows(&mut self) -> ((&mut Flow, Rules), (&mut Flow, Rules)) {
        let config = &self.backend.websocket;
        let rules = |from| Rules {
            from,
            strict: config.strict,
            max_frame: config.max_frame.unwrap_or(u64::MAX),
            data_only: config.idle == Idle::Data,
        };
        let (up, down) = (rules(Side::Client), rules(Side::Server));
        ((&mut self.up, up), (&mut self.down, down))
    }

    /// Takes what came with the handshake; what of it goes on.
    pub(crate) fn begin(&mut self, from_client: Vec<u8>, from_server: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        fn take((flow, rules): (&mut Flow, Rules), bytes: Vec<u8>) -> Vec<u8> {
            let mut out = Vec::new();
            if !bytes.is_empty() {
                flow.filter(&rules, &bytes, &mut out);
            }
            out
        }
        let (up, down) = self.flows();
        (take(up, from_client), take(down, from_server))
    }

    /// Bytes have moved. True: some of them keep it from being idle.
    pub(crate) fn moved(&mut self, now: Instant) -> bool {
        let used = std::mem::take(&mut self.up.used) | std::mem::take(&mut self.down.used);
        let (client, server) = (std::mem::take(&mut self.up.heard), std::mem::take(&mut self.down.heard));
        if let Some(pings) = &mut self.pings {
            pings.heard(client, server, now);
        }
        used
    }

    /// Messages since the last time, from the client and to it.
    pub(crate) fn messages(&mut self) -> [u64; 2] {
        [&mut self.up, &mut self.down].map(|flow| std::mem::take(&mut flow.messages).into())
    }

    /// When [`Self::tick`] is due; `None`: never. `idle`: when it will have been idle for too long.
    pub(crate) fn due(&self, idle: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Open => Some(self.pings.as_ref().and_then(|p| p.due()).map_or(idle, |due| due.min(idle))),
            _ => self.deadline,
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, up: &mut Way, down: &mut Way, now: Instant, idle: bool) {
        if self.phase != Phase::Open {
            self.deadline = self.deadline.filter(|deadline| now < *deadline);
        } else if idle {
            self.close(Why::Idle);
        } else if let Some(mut pings) = self.pings.take() {
            let silent = pings.tick((self, up, down), now);
            self.pings = Some(pings);
            silent.into_iter().for_each(|why| self.close(why));
        }
    }

    /// What comes next, after bytes have moved as far as they could.
    pub(crate) fn advance(&mut self, up: &mut Way, down: &mut Way, ways: Ways, order: Option<Why>) -> Next {
        self.note();
        let (from_client, from_server) = ways;
        let broken = |way: Poll<Result<(), Broken>>| match way {
            Poll::Ready(Err(broken)) => Some(broken),
            _ => None,
        };
        if broken(from_client) == Some(Broken::Receiver) {
            up.cut();
        }
        if broken(from_server) == Some(Broken::Sender) {
            down.ended = true;
        }
        if broken(from_client) == Some(Broken::Sender) || broken(from_server) == Some(Broken::Receiver) {
            return self.client_lost();
        }
        match self.phase {
            Phase::Open => self.open(up, down, order),
            Phase::Stopping => self.stopping(up, down),
            Phase::Asked => self.asked(up, down),
            Phase::Told => self.told(up, down),
            Phase::Parting => self.parting(up, down),
        }
    }

    fn open(&mut self, up: &mut Way, down: &mut Way, order: Option<Why>) -> Next {
        if let Some(fault) = self.up.fault.or(self.down.fault) {
            self.close(fault);
            return Next::Again;
        }
        let closing = self.up.closed().is_some() || self.down.closed().is_some();
        if (self.up.closed().is_some() && self.down.closed().is_some()) || (order.is_some() && closing) {
            self.enter(Phase::Parting);
            return Next::Again;
        }
        if down.ended && !closing && !up.ended {
            return self.tell(Why::ServerLost, up, down);
        }
        if let Some(why) = order {
            self.close(why);
            return Next::Again;
        }
        self.ends(up, down)
    }

    /// We close it.
    fn close(&mut self, why: Why) {
        self.why = Some(why);
        self.enter(Phase::Stopping);
    }

    fn stopping(&mut self, up: &mut Way, down: &mut Way) -> Next {
        let why = self.why.unwrap_or(Why::Leaving);
        if self.up.closed().is_some() || self.down.closed().is_some() {
            self.enter(Phase::Parting);
            return Next::Again;
        }
        if up.ended {
            // The client has gone without a word; the server is to know it.
            return Next::End(why.end());
        }
        if down.ended || matches!(why, Why::ServerSilent | Why::ServerDown) || self.down.fault.is_some() {
            if self.up.at_border() && !down.ended {
                self.put(Side::Server, why, up);
            }
            return self.tell(why, up, down);
        }
        if self.up.mode == Mode::Hold || self.up.stop(!self.late()) {
            self.put(Side::Server, why, up);
            self.down.mode = Mode::Answer;
            self.enter(Phase::Asked);
            return Next::Again;
        }
        if self.late() {
            return self.reset(why);
        }
        if self.up.mode == Mode::Pass {
            self.up.mode = Mode::Last;
            return Next::Again;
        }
        Next::Wait
    }

    fn asked(&mut self, up: &mut Way, down: &mut Way) -> Next {
        let why = self.why.unwrap_or(Why::Leaving);
        if self.down.mode == Mode::Hold || down.ended || self.late() { self.tell(why, up, down) } else { Next::Wait }
    }

    /// The client gets its Close, if a frame may stand there.
    fn tell(&mut self, why: Why, up: &mut Way, down: &mut Way) -> Next {
        let why = *self.why.get_or_insert(why);
        if down.ended {
            up.cut();
        }
        if self.down.closed().is_some() && self.down.mode != Mode::Hold {
            // Its header had gone on already when it was asked for: the client has the server's.
            self.down.mode = Mode::Hold;
        } else if self.down.at_border() {
            self.put(Side::Client, why, down);
        } else if down.ended {
            self.ended_by(By::Server, None);
            return Next::End(why.end());
        } else {
            return self.reset(why);
        }
        self.down.mode = Mode::Hold;
        self.up.mode = Mode::Drop;
        self.enter(Phase::Told);
        Next::Again
    }

    fn told(&mut self, up: &mut Way, down: &mut Way) -> Next {
        let answered = self.up.closed().is_some() || up.ended;
        if self.late() || (answered && down.pending.is_empty()) {
            return Next::End(self.why.unwrap_or(Why::Leaving).end());
        }
        Next::Wait
    }

    /// Both have said Close, or one has and we want an end: they get the time to finish.
    fn parting(&mut self, up: &mut Way, down: &mut Way) -> Next {
        if self.late() {
            return Next::End(self.word());
        }
        self.ends(up, down)
    }

    /// Ends of the connections are passed on as they come.
    fn ends(&mut self, up: &mut Way, down: &mut Way) -> Next {
        if down.ended && down.keep_end {
            down.keep_end = false;
            return Next::Again;
        }
        if up.ended {
            self.ended_by(By::Client, None);
        } else if down.ended {
            self.ended_by(By::Server, None);
        }
        if up.is_over() && down.is_over() { Next::End(self.word()) } else { Next::Wait }
    }

    /// What was the first word.
    fn word(&self) -> &'static str {
        match self.first {
            Some(By::Server) => "server-closed",
            Some(By::Lb) => self.why.map_or("closed", Why::end),
            _ => "client-closed",
        }
    }

    fn client_lost(&mut self) -> Next {
        self.ended_by(By::Client, None);
        Next::End(self.why.map_or("reset", Why::end))
    }

    /// No frame can stand where the stream is.
    fn reset(&mut self, why: Why) -> Next {
        self.ended_by(By::Lb, None);
        Next::Reset(why.end())
    }

    /// Puts our Close behind what goes to this side.
    fn put(&mut self, to: Side, why: Why, way: &mut Way) {
        let (code, reason) = why.words(to);
        self.ended_by(By::Lb, Some(why.words(Side::Client).0));
        close::close_frame(code, reason, mask(to), &mut way.pending);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.deadline = Some(Instant::now() + self.backend.websocket.close_timeout);
    }

    /// Who has said Close first.
    fn note(&mut self) {
        if let Some(code) = self.up.closed() {
            self.ended_by(By::Client, Some(code));
        } else if let Some(code) = self.down.closed() {
            self.ended_by(By::Server, Some(code));
        }
    }

    /// Whoever comes first counts.
    fn ended_by(&mut self, by: By, code: Option<u16>) {
        if self.first.is_none() {
            (self.first, self.code) = (Some(by), code);
        }
    }

    /// Whether the phase has taken too long.
    fn late(&self) -> bool {
        self.deadline.is_none()
    }

    /// It has ended: counted once.
    pub(crate) fn count(&self, worker: usize) -> (Option<u16>, &'static str) {
        let (by, code) = (self.first.unwrap_or(By::Lb), self.code);
        let counters = &self.counts.counters[worker];
        counters.closes[close::class(code)][by as usize].bump();
        for (side, flow) in [&self.up, &self.down].into_iter().enumerate() {
            if let Some(place) = flow.flaw.and_then(|flaw| frame::Flaw::ALL.iter().position(|f| *f == flaw)) {
                counters.flaws[place][side].bump();
            }
        }
        (code, by.word())
    }
}

/// The mask of a frame to this side.
fn mask(to: Side) -> Option<[u8; 4]> {
    let bytes = random().to_ne_bytes();
    (to == Side::Server).then(|| [bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Unpredictable enough that nobody can send us the answer to a ping that it did not see.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_socket_is_small() {
        assert!(size_of::<WebSocket>() <= 160, "{}", size_of::<WebSocket>());
    }
}
