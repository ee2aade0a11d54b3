//! A request and its answer over one connection to a server: the head, then the body beside the answer.
use super::account;
use super::affinity::Plan;
use super::answer::{Answered, Answering, Fault};
use super::body::Transfer;
use super::forward::Facts;
use super::h1::Conn;
use super::passage::Passage;
use super::patience::Patience;
use super::reason::Reason;
use super::upload::{self, Uploading};
use crate::http2::is_unprocessed;
use crate::io::Elapsed;
use crate::stream::Stream;
use lb_core::snapshot::{Backend, Frontend};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// A request and its answer over one connection.
pub(super) struct Talk<'a, 's> {
    pub(super) conn: &'a mut Conn,
    pub(super) backend: &'a Backend,
    pub(super) server: usize,
    pub(super) retries: u32,
    pub(super) plan: &'a mut Plan,
    pub(super) passage: &'a Passage<'s>,
    pub(super) account: &'a mut account::Request,
    pub(super) facts: &'a Facts,
    pub(super) body_done: &'a Cell<bool>,
    /// As [`Answering::drops`].
    pub(super) drops: Option<&'a dyn Fn(u16) -> bool>,
}

impl Talk<'_, '_> {
    /// The server went down in the middle of it.
    pub(super) fn lost(&self) -> Fault {
        self.account.closed_on_down();
        match self.account.status {
            0 => Fault::Before(Reason::SERVER_DOWN),
            _ => Fault::Cut(Reason::SERVER_DOWN.code),
        }
    }

    /// From the request's first byte to the answer's last.
    pub(super) async fn run(
        &mut self,
        frontend: &Frontend,
        stream: &mut Stream,
        (head, body): (&[u8], &[u8]),
        transfer: &mut Transfer,
    ) -> Result<Answered, Fault> {
        let limit = self.backend.config.timeout.server;
        let writer = stream.writer();
        if let Some(server) = writer.h2() {
            server.request(head, transfer.done() && body.is_empty() && transfer.trailers().is_empty()).map_err(
                |e| {
                    if is_unprocessed(&e) { Fault::Unprocessed } else { Fault::Nothing(Reason::SERVER_CLOSED) }
                },
            )?;
        }
        match self.conn.timer.within(limit, upload::begin(&writer, head, body, transfer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Fault::Nothing(Reason::SERVER_CLOSED)),
            Err(Elapsed) => return Err(Fault::Before(Reason::SERVER_TIMEOUT)),
        }
        let Conn { local, stream: client, timer, input, .. } = &mut *self.conn;
        let (mut from_client, to_client) = client.split();
        let (mut from_server, to_server) = stream.split();
        let sent = Cell::new(0);
        let answered = {
            let mut answering = Answering {
                local,
                client: &to_client,
                server: &mut from_server,
                timer,
                backend: self.backend,
                chosen: self.server,
                retries: self.retries,
                plan: self.plan,
                passage: self.passage,
                frontend,
                account: self.account,
                facts: self.facts,
                body_done: self.body_done,
                sent: &sent,
                client_timeout: frontend.config.timeout.client,
                patience: Patience::new(frontend.config.timeout.client, frontend.config.min_rate),
                drops: self.drops,
            };
            let mut answer = pin!(answering.run());
            if transfer.done() {
                return answer.await;
            }
            let rate = if self.facts.endless { 0 } else { frontend.config.min_rate };
            // Apart: its memory is for those who send more than fits beside the head.
            let upload = Box::pin(upload::run(Uploading {
                local,
                client: &mut from_client,
                server: &to_server,
                transfer,
                input,
                patience: Patience::new(frontend.config.timeout.client, rate),
                server_timeout: limit,
                sent: &sent,
            }));
            both(upload, answer.as_mut(), self.body_done).await
        };
        self.account.bytes_in += sent.get();
        answered.unwrap_or_else(|reason| match self.account.status {
            0 => Err(Fault::Before(reason)),
            // It has the beginning of an answer.
            _ => Err(Fault::Cut(reason.code)),
        })
    }
}

/// Runs the upload beside the answer. The answer decides; an upload that the server stopped reading is given up, one
/// that the client broke off ends both: an error.
async fn both(
    mut upload: Pin<Box<impl Future<Output = Result<(), upload::Fault>>>>,
    mut answer: Pin<&mut impl Future<Output = Result<Answered, Fault>>>,
    done: &Cell<bool>,
) -> Result<Result<Answered, Fault>, Reason> {
    let mut uploading = true;
    poll_fn(|cx| {
        if uploading && let Poll::Ready(end) = upload.as_mut().poll(cx) {
            uploading = false;
            match end {
                Ok(()) => done.set(true),
                Err(upload::Fault::Client(reason)) => return Poll::Ready(Err(reason)),
                // Perhaps it has answered already: that is read next.
                Err(upload::Fault::Server) => {}
            }
        }
        answer.as_mut().poll(cx).map(Ok)
    })
    .await
}
