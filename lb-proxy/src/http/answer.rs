//! A server's answer on its way to the client: interim answers, the head, what it teaches the tables, the body.
use super::account;
use super::affinity::Plan;
use super::body::Transfer;
use super::forward::Facts;
use super::head::{self, Framing, Response};
use super::headers::{self, Onward};
use super::reason::Reason;
use crate::io::{self, Elapsed, Timer};
use crate::shared::now;
use crate::stream::{Reader, Writer};
use crate::worker::Local;
use lb_core::snapshot::Backend;
use std::cell::Cell;
use std::time::Duration;

/// Largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// Bodies up to this are copied behind their head, larger ones written from where they lie.
const COPY: usize = 4096;
/// Bodies with more than this to come are read in large pieces.
const LARGE: u64 = 64 * 1024;

/// What an answer works on.
pub(crate) struct Answering<'a, 's> {
    pub(crate) local: &'a Local,
    pub(crate) client: &'a Writer<'s>,
    pub(crate) server: &'a mut Reader<'s>,
    pub(crate) timer: &'a mut Timer,
    pub(crate) backend: &'a Backend,
    /// Index of the server.
    pub(crate) chosen: usize,
    pub(crate) retries: u32,
    pub(crate) plan: &'a mut Plan,
    pub(crate) account: &'a mut account::Request,
    pub(crate) facts: &'a Facts,
    /// Whether the request's body is all sent.
    pub(crate) body_done: &'a Cell<bool>,
    /// Grows while the request's body is being sent: a server that is being sent to owes no answer yet.
    pub(crate) sent: &'a Cell<u64>,
    pub(crate) client_timeout: Duration,
}

/// How it ended well.
pub(crate) enum Answered {
    /// Delivered to the last byte.
    Done { keep_client: bool, keep_server: bool },
    /// The upgrade was accepted, and the client told.
    Switched { from_server: Vec<u8> },
}

/// How it ended otherwise.
pub(crate) enum Fault {
    /// Not one byte came from the server.
    Nothing(Reason),
    /// Nothing final was sent to the client.
    Before(Reason),
    /// The client has a part of it.
    Cut(&'static str),
}

/// Brings the answer to the client.
pub(crate) async fn run(mut a: Answering<'_, '_>) -> Result<Answered, Fault> {
    let mut buf = Vec::new();
    let result = a.deliver(&mut buf).await;
    a.local.buffers.give(buf);
    result
}

impl Answering<'_, '_> {
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
        if response.status == 101 {
            return self.switch(buf, response).await;
        }
        let http11 = self.facts.http11;
        let unbounded = matches!(response.framing, Framing::Chunked | Framing::UntilClose);
        let chunked = unbounded && http11;
        let keep_client =
            self.facts.keep_alive && self.body_done.get() && !self.local.draining() && (http11 || !unbounded);
        let mut out = self.local.buffers.take();
        self.head_out(buf, &response, chunked, keep_client, &mut out);
        let mut transfer = Transfer::new(response.framing, chunked);
        let done = self.body(buf, response.len, &mut transfer, &mut out).await;
        self.local.buffers.give(out);
        let clean = done?;
        self.local.fields.give(response.fields);
        Ok(Answered::Done { keep_client, keep_server: response.keep_alive && clean })
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
            };
            let mut out = self.local.buffers.take();
            headers::response(buf, &response, &onward, &mut out);
            let sent = self.timer.within(self.client_timeout, io::write_all(self.client, &out)).await;
            self.local.buffers.give(out);
            if !matches!(sent, Ok(Ok(()))) {
                return Err(Fault::Before(Reason::CLIENT_GONE));
            }
        }
        buf.drain(..response.len);
        Ok(response.fields)
    }

    /// The server has answered: tables and counters learn of it, and the client's head is written.
    fn head_out(&mut self, buf: &[u8], response: &Response, chunked: bool, keep_alive: bool, out: &mut Vec<u8>) {
        let now = now();
        self.plan.answered(self.backend, self.chosen, &response.fields, buf, now);
        self.account.answered(self.backend, self.chosen, self.plan.why, self.retries);
        self.account.status = response.status;
        let onward = Onward {
            affinity: self.backend.cookie.as_ref(),
            set_cookie: self.plan.set_cookie(self.backend, self.chosen, now),
            cookie_value: self.plan.cookie_value(self.backend, self.chosen, &response.fields, buf, now),
            chunked,
            keep_alive,
            http11: self.facts.http11,
        };
        headers::response(buf, response, &onward, out);
    }

    /// Only a 101 that accepts the very upgrade that was asked for opens a tunnel.
    async fn switch(&mut self, buf: &[u8], response: Response) -> Result<Answered, Fault> {
        let asked = self.facts.upgrade.as_deref();
        let accepted = response.upgrade.map(|u| u.get(buf));
        let agreed = matches!((asked, accepted), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        if !agreed || !self.body_done.get() {
            return Err(Fault::Before(Reason::BAD_ANSWER));
        }
        let mut out = self.local.buffers.take();
        self.head_out(buf, &response, false, true, &mut out);
        let sent = self.timer.within(self.client_timeout, io::write_all(self.client, &out)).await;
        self.local.buffers.give(out);
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Fault::Cut(Reason::CLIENT_GONE.code));
        }
        Ok(Answered::Switched { from_server: buf[response.len..].to_vec() })
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
            at += self.pass(&buf[at..], transfer, out).await?;
            if transfer.done() {
                return Ok(at == buf.len());
            }
            self.local.buffers.give(std::mem::take(buf));
            at = 0;
            if transfer.left().is_some_and(|left| left > LARGE) {
                // While a large body flows there is nearly always something to read.
                *buf = Vec::with_capacity(LARGE as usize);
            }
            match self.timer.within(limit, io::fill(self.server, &self.local.buffers, buf)).await {
                Ok(Ok(0)) => {
                    transfer.closed(out).map_err(|_| Fault::Cut(Reason::SERVER_CLOSED.code))?;
                    self.pass(&[], transfer, out).await?;
                    return Ok(false);
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(Fault::Cut(Reason::SERVER_CLOSED.code)),
                Err(Elapsed) => return Err(Fault::Cut(Reason::SERVER_TIMEOUT.code)),
            }
        }
    }

    /// Writes what is in `out` and what belongs to the body of `input`; how much that was.
    async fn pass(&mut self, input: &[u8], transfer: &mut Transfer, out: &mut Vec<u8>) -> Result<usize, Fault> {
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
        self.account.sent(taken);
        let written = self.timer.within(self.client_timeout, io::write_both(self.client, out, rest)).await;
        out.clear();
        match written {
            Ok(Ok(())) => Ok(taken),
            Ok(Err(_)) => Err(Fault::Cut(Reason::CLIENT_GONE.code)),
            Err(Elapsed) => Err(Fault::Cut("client-timeout")),
        }
    }
}
