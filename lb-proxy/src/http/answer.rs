//! A server's answer on its way to the client: interim answers, the head, what it teaches the tables, the body.
use super::account;
use super::affinity::Plan;
use super::body::{self, Transfer};
use super::compression::{self, Encoder};
use super::edits::Edits;
use super::forward::Facts;
use super::head::{self, Framing, Response, first_value};
use super::headers::{self, Onward};
use super::passage::Passage;
use super::patience::{self, Lost, Patience};
use super::reason::Reason;
use super::upload;
use crate::http2::{Exchange, is_unprocessed};
use crate::io::{self, Elapsed, Timer};
use crate::shared::now;
use crate::splice;
use crate::stream::{Reader, Writer};
use crate::websocket::Handshake;
use crate::worker::Local;
use lb_core::snapshot::{Backend, Frontend};
use std::cell::Cell;
use std::time::Duration;

/// Largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// Bodies up to this are copied behind their head, larger ones written from where they lie.
const COPY: usize = 4096;
/// Bodies with more than this to come are read in large pieces.
const LARGE: u64 = 64 * 1024;

/// What an answer works on.
pub(crate) struct Answering<'a, 's, 'r> {
    pub(crate) local: &'a Local,
    pub(crate) client: &'a Writer<'s>,
    pub(crate) server: &'a mut Reader<'s>,
    pub(crate) timer: &'a mut Timer,
    pub(crate) backend: &'a Backend,
    /// Index of the server.
    pub(crate) chosen: usize,
    pub(crate) retries: u32,
    pub(crate) plan: &'a mut Plan,
    pub(crate) passage: &'a Passage<'r>,
    pub(crate) frontend: &'r Frontend,
    pub(crate) account: &'a mut account::Request,
    pub(crate) facts: &'a Facts,
    /// Whether the request's body is all sent.
    pub(crate) body_done: &'a Cell<bool>,
    /// Grows while the request's body is being sent: a server that is being sent to owes no answer yet.
    pub(crate) sent: &'a Cell<u64>,
    pub(crate) client_timeout: Duration,
    /// With the client while it takes the body.
    pub(crate) patience: Patience,
    /// Whether an answer with this status is dropped, and the request tried again; `None`: none is.
    pub(crate) drops: Option<&'a dyn Fn(u16) -> bool>,
}

/// How it ended well.
pub(crate) enum Answered {
    /// Delivered to the last byte.
    Done { keep_client: bool, keep_server: bool },
    /// The upgrade was accepted, and the client told.
    Switched { from_server: Vec<u8>, handshake: Option<Handshake> },
}

/// How it ended otherwise.
pub(crate) enum Fault {
    /// The server says that it has not looked at the request.
    Unprocessed,
    /// Not one byte came from the server.
    Nothing(Reason),
    /// Nothing final was sent to the client.
    Before(Reason),
    /// The answer, of this status, was dropped: the request is tried again.
    Dropped(u16),
    /// The client has a part of it.
    Cut(&'static str),
}

impl Fault {
    /// Whether the server is to blame.
    pub(crate) fn is_servers(&self) -> bool {
        match self {
            Self::Nothing(reason) | Self::Before(reason) => reason.is_servers(),
            Self::Cut(_) | Self::Unprocessed => true,
            // It answered.
            Self::Dropped(_) => false,
        }
    }
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        Self::Cut(match lost {
            Lost::Silent => "client-timeout",
            Lost::Slow => patience::TOO_SLOW,
        })
    }
}

impl<'r> Answering<'_, '_, 'r> {
    /// Brings the answer to the client.
    pub(crate) async fn run(&mut self) -> Result<Answered, Fault> {
        let mut buf = Vec::new();
        let result = self.deliver(&mut buf).await;
        self.local.buffers.give(buf);
        result
    }

    async fn deliver(&mut self, buf: &mut Vec<u8>) -> Result<Answered, Fault> {
        let mut fields = self.local.fields.take();
        let response = loop {
            let response = self.head(buf, fields).await?;
            match response.status {
                101 => break response,
                100..=199 => {
                    fields = self.interim(buf, response).await?;
                }
                _ => break response,
            }
        };
        if self.drops.is_some_and(|drops| drops(response.status)) {
            return Err(Fault::Dropped(response.status));
        }
        if response.status == 101 {
            return self.switch(buf, response).await;
        }
        if self.client.h2().is_some() {
            return self.deliver_h2(buf, response).await;
        }
        let http11 = self.facts.http11;
        let unbounded = matches!(response.framing, Framing::Chunked | Framing::UntilClose);
        let (encoder, edits) = self.compression(buf, &response, response.framing);
        let chunked = (unbounded || encoder.is_some()) && http11;
        let keep_client =
            self.facts.keep_alive && self.body_done.get() && !self.local.draining() && (http11 || !unbounded);
        let mut out = self.local.buffers.take();
        self.head_out(buf, &response, edits, chunked, keep_client, &mut out);
        self.local.fields.give(response.fields);
        let done = match encoder {
            None => {
                let mut transfer = Transfer::new(response.framing, chunked);
                self.body(buf, response.len, &mut transfer, &mut out).await
            }
            // Apart: its memory is for those who use it.
            Some(encoder) => {
                let transfer = Transfer::new(response.framing, false);
                Box::pin(self.compressed(buf, response.len, transfer, encoder, &mut out)).await
            }
        };
        self.local.buffers.give(out);
        let clean = done?;
        Ok(Answered::Done { keep_client, keep_server: response.keep_alive && clean })
    }

    /// The same to a client of HTTP/2: head, body and trailers are told apart, and the connection goes on in any case.
    async fn deliver_h2(&mut self, buf: &mut Vec<u8>, response: Response) -> Result<Answered, Fault> {
        let Some(client) = self.client.h2() else { return Err(Fault::Before(Reason::CLIENT_GONE)) };
        // A success accepts the WebSocket, but the server has not switched (RFC 8441, 5).
        if client.expected().is_some() && (200..300).contains(&response.status) {
            return Err(Fault::Before(Reason::BAD_ANSWER));
        }
        let framing = match (self.server.h2(), response.framing) {
            (Some(server), _) if buf.len() == response.len && server.ended() => Framing::Empty,
            // The library counts; trailers may come behind.
            (Some(_), Framing::Length(_)) => Framing::UntilClose,
            (_, framing) => framing,
        };
        let (encoder, edits) = self.compression(buf, &response, framing);
        let mut out = self.local.buffers.take();
        self.head_out(buf, &response, edits, false, true, &mut out);
        self.local.fields.give(response.fields);
        let sent = client.respond(&out, framing == Framing::Empty);
        // Its memory is not held while the body waits for a window.
        self.local.buffers.give(std::mem::take(&mut out));
        let mut transfer = Transfer::new(framing, false);
        let done = match (sent, encoder) {
            (Ok(()), _) if framing == Framing::Empty => Ok(buf.len() == response.len),
            (Ok(()), None) => self.body(buf, response.len, &mut transfer, &mut out).await,
            (Ok(()), Some(encoder)) => Box::pin(self.compressed(buf, response.len, transfer, encoder, &mut out)).await,
            (Err(e), _) if e.kind() == std::io::ErrorKind::InvalidData => Err(Fault::Before(Reason::BAD_ANSWER)),
            (Err(_), _) => Err(Fault::Cut(Reason::CLIENT_GONE.code)),
        };
        self.local.buffers.give(out);
        let clean = done?;
        Ok(Answered::Done { keep_client: true, keep_server: response.keep_alive && clean })
    }

    /// Reads the next head into `buf`.
    async fn head(&mut self, buf: &mut Vec<u8>, mut fields: Vec<head::Field>) -> Result<Response, Fault> {
        let fault = |buf: &Vec<u8>, reason| if buf.is_empty() { Fault::Nothing(reason) } else { Fault::Before(reason) };
        let limit = self.backend.config.timeout.server;
        loop {
            if !buf.is_empty() {
                match head::response(buf, self.facts.head, std::mem::take(&mut fields)) {
                    Ok(Some(response)) => return Ok(response),
                    Ok(None) if buf.len() >= MAX_HEAD => return Err(Fault::Before(Reason::BAD_ANSWER)),
                    Ok(None) => {}
                    Err(reason) => return Err(Fault::Before(reason)),
                }
            }
            let sent = self.sent.get();
            match self.timer.within(limit, io::fill(self.server, &self.local.buffers, buf)).await {
                Ok(Ok(1..)) => {}
                Ok(Err(e)) if is_unprocessed(&e) => return Err(Fault::Unprocessed),
                Ok(_) => return Err(fault(buf, Reason::SERVER_CLOSED)),
                Err(Elapsed) if self.sent.get() != sent => {}
                Err(Elapsed) => return Err(Fault::Before(Reason::SERVER_TIMEOUT)),
            }
        }
    }

    /// Passes on a 1xx; HTTP/1.0 knows none.
    async fn interim(&mut self, buf: &mut Vec<u8>, response: Response) -> Result<Vec<head::Field>, Fault> {
        if self.facts.http11 {
            let onward = Onward {
                affinity: None,
                set_cookie: None,
                cookie_value: None,
                chunked: false,
                keep_alive: true,
                http11: true,
                edits: None,
            };
            let mut out = self.local.buffers.take();
            headers::response(buf, &response, &onward, &mut out);
            let sent = match self.client.h2() {
                Some(client) => Ok(client.respond(&out, false)),
                None => self.timer.within(self.client_timeout, io::write_all(self.client, &out)).await,
            };
            self.local.buffers.give(out);
            if !matches!(sent, Ok(Ok(()))) {
                return Err(Fault::Before(Reason::CLIENT_GONE));
            }
        }
        buf.drain(..response.len);
        Ok(response.fields)
    }

    /// The server has answered: tables and counters learn of it, and the client's head is written.
    fn head_out(
        &mut self,
        buf: &[u8],
        response: &Response,
        edits: Option<Edits<'r>>,
        chunked: bool,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) {
        let now = now();
        self.plan.answered(self.backend, self.chosen, &response.fields, buf, now);
        self.account.answered(self.backend, self.chosen, self.plan.why, self.retries);
        self.account.status = response.status;
        let server = &self.backend.servers[self.chosen].config.name;
        let edits = self.passage.echo(edits, self.frontend);
        let field = |name: &str| first_value(&response.fields, buf, name);
        let edits = self.passage.answer(edits, response.status, &field, server, self.local.id);
        let onward = Onward {
            affinity: self.backend.cookie.as_ref(),
            set_cookie: self.plan.set_cookie(self.backend, self.chosen, now),
            cookie_value: self.plan.cookie_value(self.backend, self.chosen, &response.fields, buf, now),
            chunked,
            keep_alive,
            http11: self.facts.http11,
            edits: edits.as_ref(),
        };
        headers::response(buf, response, &onward, out);
    }

    /// Only a 101 that accepts the very upgrade that was asked for opens a tunnel.
    async fn switch(&mut self, buf: &[u8], response: Response) -> Result<Answered, Fault> {
        let asked = self.facts.upgrade.as_deref();
        let accepted = response.upgrade.map(|u| u.get(buf));
        let agreed = matches!((asked, accepted), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        // The key was ours: nobody else checks what the server made of it.
        let expected = self.client.h2().and_then(|client| client.expected());
        let answer = || head::first_value(&response.fields, buf, "sec-websocket-accept");
        let agreed = agreed && expected.is_none_or(|expected| answer() == Some(expected.as_bytes()));
        if !agreed || !self.body_done.get() {
            return Err(Fault::Before(Reason::BAD_ANSWER));
        }
        let handshake = self.handshake(buf, &response)?;
        let mut out = self.local.buffers.take();
        self.head_out(buf, &response, None, false, true, &mut out);
        let sent = match self.client.h2() {
            Some(client) => Ok(client.respond(&out, false)),
            None => self.timer.within(self.client_timeout, io::write_all(self.client, &out)).await,
        };
        self.local.buffers.give(out);
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Fault::Cut(Reason::CLIENT_GONE.code));
        }
        Ok(Answered::Switched { from_server: buf[response.len..].to_vec(), handshake })
    }

    /// What the server made of a WebSocket's handshake; `None`: it is none, bytes are bytes.
    fn handshake(&self, buf: &[u8], response: &Response) -> Result<Option<Handshake>, Fault> {
        let Some(accept) = &self.facts.accept else { return Ok(None) };
        let said = first_value(&response.fields, buf, "sec-websocket-accept");
        if said != Some(accept.as_bytes()) {
            let verify = self.backend.config.websocket.verify_accept;
            return if verify { Err(Fault::Before(Reason::BAD_ACCEPT)) } else { Ok(None) };
        }
        let extended = first_value(&response.fields, buf, "sec-websocket-extensions").is_some_and(|v| !v.is_empty());
        let (backend, counts) = (self.backend.config.clone(), self.backend.state.clone());
        Ok(Some(Handshake { extended, backend, counts }))
    }

    /// Whether the body is compressed, and what that changes in the head.
    fn compression(
        &self,
        buf: &[u8],
        response: &Response,
        framing: Framing,
    ) -> (Option<Box<Encoder>>, Option<Edits<'r>>) {
        let Some(spec) = &self.backend.config.rules.compression else { return (None, None) };
        let chunks = self.facts.http11 && framing != Framing::Empty;
        let encoding = self.passage.made().and_then(|made| made.encoding).filter(|_| chunks);
        compression::begin(spec, response, buf, encoding)
    }

    /// As [`Self::body`], compressed. Whatever is at hand goes to the client at once.
    async fn compressed(
        &mut self,
        buf: &mut Vec<u8>,
        mut at: usize,
        mut transfer: Transfer,
        mut encoder: Box<Encoder>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let limit = self.backend.config.timeout.server;
        let mut plain = Vec::new();
        let mut closed = false;
        loop {
            plain.clear();
            at += transfer.push(&buf[at..], &mut plain).map_err(|_| Fault::Cut(Reason::BAD_ANSWER.code))?;
            if (closed || self.server.h2().is_some_and(Exchange::ended)) && !transfer.done() {
                let trailers = self.server.h2().map_or(Vec::new(), Exchange::trailers);
                transfer.closed(trailers, &mut plain).map_err(|_| Fault::Cut(Reason::SERVER_CLOSED.code))?;
            }
            encoder.push(&plain);
            if transfer.done() {
                break;
            }
            // A buffer that was filled to its end has more behind it.
            let more = buf.len() == buf.capacity();
            self.piece(&encoder.take(!more), None, out).await?;
            self.local.buffers.give(std::mem::take(buf));
            at = 0;
            match self.timer.within(limit, io::fill(self.server, &self.local.buffers, buf)).await {
                Ok(Ok(n)) => closed = n == 0,
                Ok(Err(_)) => return Err(Fault::Cut(Reason::SERVER_CLOSED.code)),
                Err(Elapsed) => return Err(Fault::Cut(Reason::SERVER_TIMEOUT.code)),
            }
        }
        let clean = at == buf.len() && !closed;
        self.piece(&encoder.finish(), Some(transfer.trailers()), out).await?;
        Ok(clean)
    }

    /// Sends a piece of a compressed body behind what is in `out`; `end`: the last, with these trailers.
    async fn piece(&mut self, piece: &[u8], end: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.account.sent(piece.len());
        let (client, count) = (self.client, Cell::new(0));
        let sending = async {
            let Some(stream) = client.h2() else {
                body::write_chunk(piece, out);
                if let Some(trailers) = end {
                    [&b"0\r\n"[..], trailers, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
                }
                return io::write_counted(client, out, &[], &count).await;
            };
            stream.send(piece, &[], end.is_some_and(<[u8]>::is_empty)).await?;
            end.filter(|trailers| !trailers.is_empty()).map_or(Ok(()), |trailers| stream.finish(trailers))
        };
        let written = self.patience.watch(self.timer, || taken_by(client, &count), sending).await;
        out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Fault::Cut(Reason::CLIENT_GONE.code)),
            Err(lost) => Err(lost.into()),
        }
    }

    /// Sends head and body; true: the server's connection is clean at the end.
    async fn body(
        &mut self,
        buf: &mut Vec<u8>,
        mut at: usize,
        transfer: &mut Transfer,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let limit = self.backend.config.timeout.server;
        loop {
            let ended = self.server.h2().is_some_and(Exchange::ended);
            at += self.pass(&buf[at..], transfer, out, ended).await?;
            if transfer.done() {
                return Ok(at == buf.len());
            }
            self.local.buffers.give(std::mem::take(buf));
            at = 0;
            if let Some(client) = self.client.h2() {
                // What there is no window for stays at the server. One that never opens shows when something is written.
                if let Ok(Err(_)) = self.timer.within(self.client_timeout, client.room()).await {
                    return Err(Fault::Cut(Reason::CLIENT_GONE.code));
                }
            } else if transfer.left().is_some_and(|left| left >= splice::BODY) {
                self.splice(transfer).await?;
                if transfer.done() {
                    return Ok(true);
                }
            }
            if transfer.left().is_some_and(|left| left > LARGE) {
                // While a large body flows there is nearly always something to read.
                *buf = Vec::with_capacity(LARGE as usize);
            }
            match self.timer.within(limit, io::fill(self.server, &self.local.buffers, buf)).await {
                Ok(Ok(0)) => {
                    self.pass(&[], transfer, out, true).await?;
                    return Ok(false);
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(Fault::Cut(Reason::SERVER_CLOSED.code)),
                Err(Elapsed) => return Err(Fault::Cut(Reason::SERVER_TIMEOUT.code)),
            }
        }
    }

    /// Passes on what remains of a body without copying it, from TCP to TCP, as long as there are pipes for it.
    async fn splice(&mut self, transfer: &mut Transfer) -> Result<(), Fault> {
        let (Some(from), Some(to)) = (self.server.tcp(), self.client.tcp()) else { return Ok(()) };
        let limit = self.backend.config.timeout.server;
        while let Some(left @ 1..) = transfer.left() {
            let mut pipe = match self.timer.within(limit, splice::fill(from, left)).await {
                Ok(Ok(Some(pipe))) if pipe.held() > 0 => pipe,
                Ok(Ok(None)) => return Ok(()),
                Ok(_) => return Err(Fault::Cut(Reason::SERVER_CLOSED.code)),
                Err(Elapsed) => return Err(Fault::Cut(Reason::SERVER_TIMEOUT.code)),
            };
            transfer.passed(pipe.held() as usize);
            self.account.sent(pipe.held() as usize);
            while pipe.held() > 0 {
                let held = pipe.held();
                match self.patience.wait(self.timer, splice::drain(&mut pipe, to)).await {
                    Ok(Ok(())) => self.patience.moved((held - pipe.held()).into()),
                    Ok(Err(_)) => return Err(Fault::Cut(Reason::CLIENT_GONE.code)),
                    Err(lost) => return Err(lost.into()),
                }
            }
        }
        Ok(())
    }

    /// Writes what is in `out` and what belongs to the body of `input`; how much that was.
    /// `ended`: the server has sent no more.
    async fn pass(
        &mut self,
        input: &[u8],
        transfer: &mut Transfer,
        out: &mut Vec<u8>,
        ended: bool,
    ) -> Result<usize, Fault> {
        let (taken, rest) = match transfer.plain(input.len()) {
            Some(n) if n > COPY => {
                transfer.passed(n);
                (n, &input[..n])
            }
            _ => {
                let taken = transfer.push(input, out).map_err(|_| Fault::Cut(Reason::BAD_ANSWER.code))?;
                (taken, &[][..])
            }
        };
        if ended && !transfer.done() {
            let trailers = self.server.h2().map_or(Vec::new(), Exchange::trailers);
            transfer.closed(trailers, out).map_err(|_| Fault::Cut(Reason::SERVER_CLOSED.code))?;
        }
        self.account.sent(taken);
        let (client, count) = (self.client, Cell::new(0));
        let writing = upload::write(client, out, rest, transfer, &count);
        let written = self.patience.watch(self.timer, || taken_by(client, &count), writing).await;
        out.clear();
        match written {
            Ok(Ok(())) => Ok(taken),
            Ok(Err(_)) => Err(Fault::Cut(Reason::CLIENT_GONE.code)),
            Err(lost) => Err(lost.into()),
        }
    }
}

/// How much a client has taken: what its socket took, or its stream had room for.
fn taken_by(client: &Writer<'_>, count: &Cell<u64>) -> u64 {
    client.h2().map_or(count.get(), Exchange::handed)
}
