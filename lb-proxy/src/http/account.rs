//! What is counted and logged of one request: once, when it ends, however it ends.
use super::affinity::Why;
use super::head;
use super::limits::Counting;
use super::patience;
use super::reason::Reason;
use crate::arrival::Arrival;
use crate::listener::Listening;
use crate::shared::{AccessLine, at};
use crate::stream::Stream;
use crate::worker::Local;
use lb_core::limit::Action;
use lb_core::server::{Count, ServerState};
use lb_core::snapshot::{Backend, DURATION_BUCKETS, Limit};
use lb_core::time::Timestamp;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// One request's account.
pub(crate) struct Request {
    local: Rc<Local>,
    listening: Rc<Listening>,
    server: Option<Arc<ServerState>>,
    started: Instant,
    /// Status that the client got; 0: none yet.
    pub(crate) status: u16,
    /// Body bytes from the client.
    pub(crate) bytes_in: u64,
    /// Body bytes to the client.
    pub(crate) bytes_out: u64,
    /// It is a connection that is passed on as it is, no request.
    tcp: bool,
    /// Only when a table counts it.
    counting: Option<Box<Counting>>,
    /// Only when an access log is kept.
    log: Option<Box<AccessLine>>,
}

impl Request {
    pub(crate) fn new(
        local: &Rc<Local>,
        listening: &Rc<Listening>,
        arrival: &Arrival,
        request: &head::Request,
        buf: &[u8],
    ) -> Self {
        let text = |piece: head::Piece| String::from_utf8_lossy(piece.get(buf)).into_owned();
        Self::begin(local, listening, arrival, || (text(request.method), text(request.authority), text(request.target)))
    }

    /// A connection that is passed on as it is.
    pub(crate) fn connection(local: &Rc<Local>, listening: &Rc<Listening>, arrival: &Arrival) -> Self {
        let words = || ("TCP".into(), String::new(), String::new());
        let mut connection = Self { tcp: true, ..Self::begin(local, listening, arrival, words) };
        if let Some(log) = &mut connection.log {
            log.protocol = "tcp";
        }
        connection
    }

    /// `words`: method, host and target for the log.
    fn begin(
        local: &Rc<Local>,
        listening: &Rc<Listening>,
        arrival: &Arrival,
        words: impl FnOnce() -> (String, String, String),
    ) -> Self {
        let log = local.shared.access.load().is_some().then(|| {
            let (method, host, target) = words();
            Box::new(AccessLine {
                time: crate::shared::wall().0,
                client: arrival.client,
                src: arrival.client.ip().to_canonical(),
                tls: arrival.tls_version(),
                frontend: listening.state.name.clone(),
                backend: None,
                server: None,
                method,
                host,
                target,
                status: 0,
                bytes_in: 0,
                bytes_out: 0,
                total_us: 0,
                wait_us: None,
                why: "-".into(),
                id: None,
                user: None,
                end: "-",
                retries: 0,
                tunnel: false,
                close_code: None,
                close_by: None,
                protocol: "http/1.1",
            })
        });
        Self {
            local: local.clone(),
            listening: listening.clone(),
            server: None,
            started: Instant::now(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            tcp: false,
            counting: None,
            log,
        }
    }

    /// When it began.
    pub(crate) fn began(&self) -> Timestamp {
        at(self.started.into())
    }

    /// A malformed request, of which nothing is known but the client.
    pub(crate) fn unread(local: &Rc<Local>, listening: &Rc<Listening>, arrival: &Arrival) -> Self {
        let empty = b"- -";
        let request = head::Request {
            len: 0,
            method: head::Piece::default(),
            target: head::Piece::default(),
            path: head::Piece::default(),
            plain: None,
            query: head::Piece::default(),
            authority: head::Piece::default(),
            host: head::Piece::default(),
            http11: true,
            framing: head::Framing::Empty,
            keep_alive: false,
            upgrade: None,
            names: false,
            fields: Vec::new(),
        };
        Self::new(local, listening, arrival, &request, empty)
    }

    /// Who asks, as trusted proxies say.
    pub(crate) fn asked_by(&mut self, src: IpAddr) {
        if let Some(log) = &mut self.log {
            log.src = src;
        }
    }

    /// What the client speaks.
    pub(crate) fn protocol(&mut self, stream: &Stream) {
        if let Some(log) = self.log.as_mut().filter(|_| stream.h2().is_some()) {
            log.protocol = "h2";
        }
    }

    /// The server has answered.
    pub(crate) fn answered(&mut self, backend: &Backend, server: usize, why: Why, retries: u32) {
        let counters = &backend.state.counters[self.local.id];
        match why {
            Why::Cookie => counters.by_cookie.bump(),
            Why::Table(_) => counters.by_table.bump(),
            Why::New => counters.new.bump(),
            Why::Redispatched => counters.redispatched.bump(),
            Why::Returned => counters.returned.bump(),
        }
        self.at_server(backend, server, why, retries);
        if let Some(log) = &mut self.log {
            log.wait_us = Some(micros(self.started));
        }
    }

    /// A server was chosen.
    pub(crate) fn at_server(&mut self, backend: &Backend, server: usize, why: Why, retries: u32) {
        let chosen = &backend.servers[server];
        self.server = Some(chosen.state.clone());
        if let Some(log) = &mut self.log {
            log.server = Some(chosen.config.name.clone());
            log.retries = retries;
            log.why = match why {
                Why::Cookie => "cookie".into(),
                Why::Table(rule) => format!("table:{}", backend.stick[rule].0.table),
                Why::New => "new".into(),
                Why::Redispatched => "redispatched".into(),
                Why::Returned => "returned".into(),
            };
        }
    }

    /// A backend was found.
    pub(crate) fn at_backend(&mut self, backend: &Backend) {
        if let Some(log) = &mut self.log {
            log.backend = Some(backend.config.name.clone());
        }
    }

    /// It has an id.
    pub(crate) fn identified(&mut self, id: &str) {
        if let Some(log) = &mut self.log {
            log.id = Some(id.into());
        }
    }

    /// Somebody showed a right password.
    pub(crate) fn user(&mut self, user: &str) {
        if let Some(log) = &mut self.log {
            log.user = Some(user.into());
        }
    }

    /// A rule refuses it, or sends it elsewhere.
    pub(crate) fn ruled(&mut self, rule: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.why = rule();
        }
    }

    /// Where tables count it.
    pub(crate) fn counting(&mut self) -> &mut Counting {
        self.counting.get_or_insert_with(|| Box::new(Counting::new()))
    }

    /// A rule does what it does.
    pub(crate) fn limited(&mut self, number: usize, limit: &Limit) {
        limit.done[self.local.id].0.bump();
        if let (Some(log), Action::Deny(_) | Action::Tarpit(..)) = (&mut self.log, limit.rule.then) {
            log.why = format!("limit[{number}]");
        }
    }

    /// More of the answer's body is on its way.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
        self.flowed(0, 0);
    }

    /// Bytes flow; so many of them, up and down, are the tunnel's.
    pub(crate) fn flowed(&mut self, up: u64, down: u64) {
        if let Some(counting) = &mut self.counting {
            counting.flowed((self.bytes_in + up, self.bytes_out + down));
        }
    }

    /// When a tunnel that has moved so many bytes must be [told](Self::flowed) of even if nothing moves.
    pub(crate) fn due(&self, up: u64, down: u64) -> Option<tokio::time::Instant> {
        self.counting.as_ref()?.due((self.bytes_in + up, self.bytes_out + down))
    }

    /// The answer was ours.
    pub(crate) fn own_answer(&self) {
        self.listening.state.counters[self.local.id].own_answers.bump();
    }

    /// The request has ended: `end` is `ok` or a reason's code.
    pub(crate) fn finish(mut self, end: &'static str) {
        let total = micros(self.started);
        let counters = &self.listening.state.counters[self.local.id];
        let bucket = DURATION_BUCKETS.iter().position(|b| total <= *b).unwrap_or(DURATION_BUCKETS.len());
        counters.durations[bucket].bump();
        counters.duration_us.add(total);
        class(&counters.responses, self.status);
        match end {
            _ if end == Reason::BODY_TOO_SLOW.code => counters.slow_in.bump(),
            patience::TOO_SLOW => counters.slow_out.bump(),
            _ => {}
        }
        if let Some(server) = &self.server {
            let counters = &server.counters[self.local.id];
            class(&counters.responses, self.status);
            counters.bytes_in.add(self.bytes_in);
            counters.bytes_out.add(self.bytes_out);
        }
        self.count();
        self.log(end, total, None);
    }

    /// Messages of a WebSocket went by, up and down.
    pub(crate) fn messages(&self, messages: [u64; 2]) {
        if let Some(server) = &self.server {
            let counters = &server.counters[self.local.id];
            counters.messages.iter().zip(messages).filter(|(_, n)| *n > 0).for_each(|(count, n)| count.add(n));
        }
    }

    /// Where it is: the worker, and the server.
    pub(crate) fn place(&self) -> (&Rc<Local>, Option<&Arc<ServerState>>) {
        (&self.local, self.server.as_ref())
    }

    /// Whether it is a connection that is passed on as it is.
    pub(crate) fn is_tcp(&self) -> bool {
        self.tcp
    }

    /// The server name that a connection asks for.
    pub(crate) fn asked(&mut self, sni: Option<&str>) {
        if let (Some(log), Some(sni)) = (&mut self.log, sni) {
            log.host = sni.into();
        }
    }

    /// The connection is not passed on; `denied`: because a rule says so.
    pub(crate) fn refused(mut self, end: &'static str, denied: bool) {
        let counters = &self.listening.state.counters[self.local.id];
        match end {
            _ if denied => counters.denied.bump(),
            // It left by itself.
            "client-gone" => {}
            _ => counters.failed.bump(),
        }
        self.count();
        self.log(end, micros(self.started), None);
    }

    /// A tunnel begins: the 101 is counted, the server's tunnels are one more.
    pub(crate) fn start_tunnel(&self) {
        if self.tcp {
            self.listening.state.counters[self.local.id].passed.bump();
            return;
        }
        class(&self.listening.state.counters[self.local.id].responses, self.status);
        if let Some(server) = &self.server {
            let counters = &server.counters[self.local.id];
            class(&counters.responses, self.status);
            counters.tunnels.bump();
        }
    }

    /// It was closed because its server went down.
    pub(crate) fn closed_on_down(&self) {
        if let Some(server) = &self.server {
            server.counters[self.local.id].closed.bump();
        }
    }

    /// A tunnel has ended; a WebSocket with this code by this side.
    pub(crate) fn finish_tunnel(&mut self, end: &'static str, closed: Option<(Option<u16>, &'static str)>) {
        if let Some(server) = &self.server {
            let counters = &server.counters[self.local.id];
            if !self.tcp {
                counters.tunnels.drop_one();
            }
            counters.bytes_in.add(self.bytes_in);
            counters.bytes_out.add(self.bytes_out);
        }
        let total = micros(self.started);
        self.count();
        self.log(end, total, Some(closed));
    }

    fn count(&mut self) {
        if let Some(counting) = &mut self.counting {
            counting.ended(self.status, (self.bytes_in, self.bytes_out));
        }
    }

    /// `tunnel`: it was one, and perhaps a WebSocket.
    fn log(&mut self, end: &'static str, total_us: u64, tunnel: Option<Option<(Option<u16>, &'static str)>>) {
        let Some(mut line) = self.log.take() else { return };
        line.status = self.status;
        line.bytes_in = self.bytes_in;
        line.bytes_out = self.bytes_out;
        line.total_us = total_us;
        line.end = end;
        line.tunnel = tunnel.is_some();
        if let Some((code, by)) = tunnel.flatten() {
            (line.close_code, line.close_by) = (code, Some(by));
        }
        if let Some(sink) = self.local.shared.access.load().as_ref() {
            (sink.0)(*line);
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn class(responses: &[Count; 5], status: u16) {
    if let Some(count) = usize::from(status / 100).checked_sub(1).and_then(|i| responses.get(i)) {
        count.bump();
    }
}
