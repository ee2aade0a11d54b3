//! Pings of ours to sides that are silent. Their answers come to us only: see [`super::flow::Flow::token`].
use super::close::{Side, Why, ping_frame};
use super::flow::Flow;
use super::{WebSocket, mask, random};
use crate::tunnel::Way;
use lb_core::config::websocket::{Ping, PingTo};
use std::time::Duration;
use tokio::time::Instant;

/// How soon a ping is tried again that found the stream in the middle of a frame.
const AGAIN: Duration = Duration::from_secs(1);

/// One side.
#[derive(Debug)]
struct Watch {
    /// When it is pinged, or was to have answered.
    due: Instant,
    /// It has a ping of ours to answer.
    asked: bool,
}

impl Watch {
    /// Pings this side, unless what goes to it is in the middle of a frame.
    fn ping(&mut self, side: Side, (from, to, way): (&mut Flow, &Flow, &mut Way), timeout: Duration, now: Instant) {
        if !to.at_border() {
            self.due = now + AGAIN;
            return;
        }
        let token = random().to_ne_bytes();
        ping_frame(&token, mask(side), &mut way.pending);
        from.token = Some(token);
        *self = Self { due: now + timeout, asked: true };
    }
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Pings {
    every: Duration,
    timeout: Duration,
    client: Option<Watch>,
    server: Option<Watch>,
}

impl Pings {
    pub(super) fn new(ping: &Ping, now: Instant) -> Self {
        let watch = |wanted: bool| wanted.then(|| Watch { due: now + ping.every, asked: false });
        let (client, server) = (watch(ping.to != PingTo::Server), watch(ping.to != PingTo::Client));
        Self { every: ping.every, timeout: ping.timeout, client, server }
    }

    /// Something came from one of them: it lives.
    pub(super) fn heard(&mut self, client: bool, server: bool, now: Instant) {
        let due = now + self.every;
        for (watch, heard) in [(&mut self.client, client), (&mut self.server, server)] {
            if let Some(watch) = watch.as_mut().filter(|_| heard) {
                *watch = Watch { due, asked: false };
            }
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        [&self.client, &self.server].into_iter().flatten().map(|watch| watch.due).min()
    }

    /// Pings whom it is time to ping; or why the socket must be closed.
    pub(super) fn tick(&mut self, of: (&mut WebSocket, &mut Way, &mut Way), now: Instant) -> Option<Why> {
        let (socket, up, down) = of;
        let ((of_client, _), (of_server, _)) = socket.flows();
        if let Some(watch) = self.client.as_mut().filter(|watch| now >= watch.due) {
            if watch.asked {
                return Some(Why::ClientSilent);
            }
            watch.ping(Side::Client, (of_client, of_server, down), self.timeout, now);
        }
        if let Some(watch) = self.server.as_mut().filter(|watch| now >= watch.due) {
            if watch.asked {
                return Some(Why::ServerSilent);
            }
            watch.ping(Side::Server, (of_server, of_client, up), self.timeout, now);
        }
        None
    }
}
