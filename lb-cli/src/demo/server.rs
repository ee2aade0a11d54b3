//! The demo's own servers: stateful on purpose. Each keeps a counter for every session in its memory and nowhere
//! else, so that a client which lands on another server notices at once. They know nothing of the balancer.
use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Header, query field and cookie that carry a session's name, in the order they are tried.
pub(super) const HEADER: &str = "x-session-id";
/// See [`HEADER`].
pub(super) const QUERY: &str = "session";
/// See [`HEADER`].
pub(super) const COOKIE: &str = "DEMOSESSION";

/// What a server says to each request and each message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The server that answered.
    pub(super) server: String,
    /// The session it answered for.
    pub(super) session: String,
    /// How often this server was asked in this session, this time included.
    pub(super) count: u64,
}

/// A running demo server.
pub(super) struct Server {
    /// Its name in the balancer's configuration.
    pub(super) name: String,
    /// Where it listens.
    pub(super) addr: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Starts a server on a free loopback port; it lives as long as the runtime.
    pub(super) async fn start(name: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free loopback port for a demo server")?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State { name: name.to_owned(), counts: Mutex::default() });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { name: name.to_owned(), addr, state })
    }

    /// How many sessions it holds.
    pub(super) fn sessions(&self) -> usize {
        self.state.counts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

struct State {
    name: String,
    counts: Mutex<HashMap<String, u64>>,
}

impl State {
    fn answer(&self, session: &str) -> Answer {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(session.to_owned()).or_default();
        *count += 1;
        Answer { server: self.name.clone(), session: session.to_owned(), count: *count }
    }

    fn json(&self, session: &str) -> String {
        // A struct of two strings and a number always serializes; an empty text would show up as a failure.
        serde_json::to_string(&self.answer(session)).unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&state)))),
            // Out of descriptors, for one: some come back as clients leave.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let answer = respond(request, &state);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // The other end may go at any time, as it does when its instance is killed.
    let _ = connection.with_upgrades().await;
}

fn respond(mut request: Request<Incoming>, state: &Arc<State>) -> Response<Full<Bytes>> {
    if request.uri().path() == "/health" {
        return text(StatusCode::OK, "text/plain", "ok\n".to_owned());
    }
    let Some(session) = session_of(request.headers(), request.uri().query()) else {
        let help = format!("name a session: header {HEADER}, query ?{QUERY}= or cookie {COOKIE}\n");
        return text(StatusCode::BAD_REQUEST, "text/plain", help);
    };
    let Some(key) = websocket_key(request.headers()) else {
        return text(StatusCode::OK, "application/json", state.json(&session));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(&key));
    let upgrade = hyper::upgrade::on(&mut request);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        if let Ok(io) = upgrade.await {
            talk(WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await, &state, &session).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Answers each text message until the client goes.
async fn talk<S>(mut socket: WebSocketStream<S>, state: &State, session: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(Message::text(state.json(session))).await.is_err() {
            return;
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The client's key, when this is a WebSocket handshake.
fn websocket_key(headers: &HeaderMap) -> Option<Vec<u8>> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    upgrade.eq_ignore_ascii_case("websocket").then(|| key.as_bytes().to_vec())
}

fn session_of(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let field = || pairs(query?, '&').find(|(name, _)| *name == QUERY).map(|(_, value)| value);
    let cookie = || {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| pairs(line, ';')).find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
    };
    let session = header.or_else(field).or_else(cookie)?;
    (!session.is_empty()).then(|| session.to_owned())
}

/// `a=1&b=2` or `a=1; b=2` in its parts.
pub(super) fn pairs(text: &str, border: char) -> impl Iterator<Item = (&str, &str)> {
    text.split(border).filter_map(|part| part.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_session_is_named_by_header_or_query_or_cookie() {
        assert_eq!(session_of(&headers(HEADER, "a"), Some("session=b")).as_deref(), Some("a"));
        assert_eq!(session_of(&HeaderMap::new(), Some("x=1&session=b")).as_deref(), Some("b"));
        assert_eq!(session_of(&headers("cookie", "x=1; DEMOSESSION=c"), None).as_deref(), Some("c"));
        assert_eq!(session_of(&headers("cookie", "x=1"), Some("y=2")), None);
    }

    #[tokio::test]
    async fn a_session_counts_on_and_another_starts_at_one() {
        let server = Server::start("node1").await.unwrap();
        assert_eq!(server.state.answer("a").count, 1);
        assert_eq!(server.state.answer("a").count, 2);
        assert_eq!(server.state.answer("b").count, 1);
        assert_eq!(server.sessions(), 2);
    }
}
