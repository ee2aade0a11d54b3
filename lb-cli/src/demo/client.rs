//! The demo's clients: each reconnects again and again, through one instance and then the other, and holds the
//! answers against what it knows: the same server, and a count that goes on. They know only the two addresses.
use super::ledger::Ledger;
use super::server::{Answer, COOKIE, HEADER, QUERY, pairs};
use anyhow::{Context as _, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// How long a client waits for anything it is owed. Longer than the balancer's own look at a peer or a server.
const PATIENCE: Duration = Duration::from_secs(5);
/// The cookie that the balancer inserts.
pub(super) const PIN_COOKIE: &str = "SERVERID";

/// What the balancer knows a client by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// The cookie it inserted itself.
    Cookie,
    /// A header, in a table.
    Header,
    /// A query parameter, in a table.
    Query,
}

impl Pin {
    /// The path prefix, and the name of the backend behind it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::Query => "query",
        }
    }
}

/// One sample client.
pub(super) struct Client {
    index: usize,
    session: String,
    pin: Pin,
    websocket: bool,
    cookie: Option<String>,
    fronts: [SocketAddr; 2],
    ledger: Arc<Ledger>,
    dice: Dice,
}

impl Client {
    /// The client of this number: every pin gets a third of them, and three of four speak WebSocket.
    pub(super) fn new(index: usize, fronts: [SocketAddr; 2], ledger: Arc<Ledger>) -> Self {
        let pin = [Pin::Cookie, Pin::Header, Pin::Query][index % 3];
        let websocket = (index / 3) % 4 != 3;
        let session = format!("{}-{index:02}", pin.name());
        Self { index, session, pin, websocket, cookie: None, fronts, ledger, dice: Dice::new() }
    }

    /// Comes and goes until the task is ended.
    pub(super) async fn run(mut self) {
        sleep(self.dice.millis(0, 200)).await;
        let mut turn = self.index;
        loop {
            let sure = self.connect(turn).await;
            let pause = if sure { self.dice.millis(200, 800) } else { self.dice.millis(20, 100) };
            sleep(pause).await;
            turn += 1;
        }
    }

    /// One visit, through the other instance when the first does not answer. `false`: it broke off midway.
    async fn connect(&mut self, turn: usize) -> bool {
        let order = [self.fronts[turn % 2], self.fronts[(turn + 1) % 2]];
        for front in order {
            let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(front)).await else { continue };
            let done = if self.websocket { self.talk(stream).await } else { self.browse(stream).await };
            if let Err(error) = &done {
                self.ledger.broken(self.index, &format!("{} via {front}: {error:#}", self.session));
            }
            return done.is_ok();
        }
        self.ledger.failed(self.index, &format!("{}: no instance takes connections", self.session));
        false
    }

    /// A WebSocket, a few messages, a close.
    async fn talk(&mut self, stream: TcpStream) -> anyhow::Result<()> {
        let mut request = format!("ws://{}{}", stream.peer_addr()?, self.target("/ws")).into_client_request()?;
        self.sign(request.headers_mut())?;
        let handshake = timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        let (mut socket, response) = handshake.context("no answer to the handshake")??;
        self.ledger.connected(self.index);
        self.keep_cookie(response.headers());
        for _ in 0..self.dice.between(2, 5) {
            socket.send(Message::text("hello")).await?;
            let message = timeout(PATIENCE, socket.next()).await.context("no answer to a message")?;
            let message = message.ok_or_else(|| anyhow!("the socket ended"))??;
            if let Message::Close(frame) = &message {
                bail!("the socket was closed: {frame:?}");
            }
            self.check(&message.into_data())?;
            sleep(self.dice.millis(10, 120)).await;
        }
        socket.close(None).await?;
        // The echo; what comes instead does not matter any more.
        let _ = timeout(PATIENCE, socket.next()).await;
        Ok(())
    }

    /// A keep-alive connection and a few requests on it.
    async fn browse(&mut self, stream: TcpStream) -> anyhow::Result<()> {
        let host = stream.peer_addr()?.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let _ends_with_us = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        self.ledger.connected(self.index);
        for _ in 0..self.dice.between(2, 5) {
            let mut request = Request::get(self.target("")).body(Empty::<Bytes>::new())?;
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(&host)?);
            self.sign(request.headers_mut())?;
            let response = timeout(PATIENCE, sender.send_request(request)).await.context("no answer")??;
            self.keep_cookie(response.headers());
            if response.status() != StatusCode::OK {
                bail!("answered with {}", response.status());
            }
            let body = timeout(PATIENCE, response.into_body().collect()).await.context("no whole answer")??;
            self.check(&body.to_bytes())?;
            sleep(self.dice.millis(10, 120)).await;
        }
        Ok(())
    }

    fn target(&self, path: &str) -> String {
        match self.pin {
            Pin::Query => format!("/query{path}?{QUERY}={}", self.session),
            pin => format!("/{}{path}", pin.name()),
        }
    }

    /// Adds what the session and its pin are known by.
    fn sign(&self, headers: &mut HeaderMap) -> anyhow::Result<()> {
        match self.pin {
            Pin::Query => {}
            Pin::Header => drop(headers.insert(HeaderName::from_static(HEADER), HeaderValue::from_str(&self.session)?)),
            Pin::Cookie => {
                let pinned = self.cookie.as_ref().map(|value| format!("; {PIN_COOKIE}={value}"));
                let line = format!("{COOKIE}={}{}", self.session, pinned.unwrap_or_default());
                headers.insert(header::COOKIE, HeaderValue::from_str(&line)?);
            }
        }
        Ok(())
    }

    fn keep_cookie(&mut self, headers: &HeaderMap) {
        let lines = headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        for line in lines {
            if let Some((PIN_COOKIE, value)) = pairs(line, ';').next() {
                self.cookie = Some(value.to_owned());
            }
        }
    }

    fn check(&self, body: &[u8]) -> anyhow::Result<()> {
        let answer: Answer = serde_json::from_slice(body).context("not an answer of a demo server")?;
        self.ledger.answered(self.index, &answer);
        Ok(())
    }
}

/// Small pseudo-random numbers (xorshift): jitter needs no more.
struct Dice(u64);

impl Dice {
    /// Other numbers each time: what depends on timing should meet as many timings as possible.
    fn new() -> Self {
        // Never 0, where xorshift would stay.
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + self.0 % (most - least + 1)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::server::Server;

    #[tokio::test]
    async fn clients_of_every_kind_recognise_the_server_that_answers() {
        let server = Server::start("node1").await.unwrap();
        let ledger = Arc::new(Ledger::new(12));
        let visits = (0..12).map(|index| {
            let mut client = Client::new(index, [server.addr; 2], Arc::clone(&ledger));
            async move { client.connect(0).await && client.connect(1).await }
        });
        assert!(futures_util::future::join_all(visits).await.into_iter().all(|sure| sure));
        let tally = ledger.tally();
        assert_eq!((tally.kept, tally.moved, tally.reconnects, tally.failures), (12, 0, 12, 0));
        assert_eq!(server.sessions(), 12);
    }

    #[tokio::test]
    async fn a_client_notices_that_it_landed_on_another_server() {
        let (one, two) = (Server::start("node1").await.unwrap(), Server::start("node2").await.unwrap());
        let ledger = Arc::new(Ledger::new(1));
        let mut client = Client::new(0, [one.addr, two.addr], Arc::clone(&ledger));
        assert!(client.connect(0).await && client.connect(1).await);
        assert_eq!(ledger.tally().moved, 1);
    }

    #[tokio::test]
    async fn a_dead_instance_sends_its_client_to_the_other_one() {
        let server = Server::start("node1").await.unwrap();
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ledger = Arc::new(Ledger::new(1));
        let mut client = Client::new(0, [dead, server.addr], Arc::clone(&ledger));
        assert!(client.connect(0).await);
        assert_eq!((ledger.tally().kept, ledger.tally().failures), (1, 0));
    }
}
