//! Talks to a running instance: one HTTP/1.1 request over its Unix socket or its admin address.
use crate::args::At;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use lb_core::status::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long an answer may take. A reload binds sockets and reads files.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one may take that reads great tables of several instances.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// Where an instance's admin is.
#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    /// `host:port`
    Address(String),
}

/// A running instance's admin.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    place: Place,
    token: Option<String>,
}

/// What the instance answered instead of what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    message: String,
}

impl Client {
    /// The instance that the command line, else the environment, else the configuration here names.
    pub(crate) fn new(at: &At) -> anyhow::Result<Self> {
        Self::of(at, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(at: &At, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let typed = at.socket.is_some() || at.admin.is_some() || at.config.is_some();
        let socket = at.socket.clone().or_else(|| env("LB_SOCKET").filter(|_| !typed).map(PathBuf::from));
        let admin = at.admin.clone().or_else(|| env("LB_ADMIN").filter(|_| !typed));
        let place = match (socket, admin) {
            (Some(_), Some(_)) => bail!("LB_SOCKET and LB_ADMIN are both set: unset one, or pass --socket or --admin"),
            (Some(socket), None) => Place::Socket(socket),
            (None, Some(url)) => Place::Address(address(&url)?),
            (None, None) => from_config(at)?,
        };
        Ok(Self { place, token: at.token.clone() })
    }

    /// Whether anybody listens there.
    pub(crate) async fn is_reachable(&self) -> bool {
        match &self.place {
            Place::Socket(path) => UnixStream::connect(path).await.is_ok(),
            Place::Address(address) => TcpStream::connect(address).await.is_ok(),
        }
    }

    /// `GET`
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// A request with or without a JSON body.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        self.call_within(PATIENCE, method, path, body).await
    }

    /// A request that may take minutes.
    pub(crate) async fn call_long<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.call_within(LONG_PATIENCE, method, path, Some(body)).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let answer = tokio::time::timeout(patience, self.exchange(method, path, body));
        let (status, bytes) = answer.await.with_context(|| format!("{self} does not answer"))??;
        if !status.is_success() {
            let problem = serde_json::from_slice::<Problem>(&bytes).map(|p| p.error);
            let message = problem.unwrap_or_else(|_| format!("{self} answered {status}"));
            return Err(Refused { message }.into());
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{self} gave an answer that is not understood"))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).header(HOST, "lb");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let hint = || format!("cannot reach {self}: is the instance running? Start it with `lb run -c FILE`");
        match &self.place {
            Place::Socket(path) => send(UnixStream::connect(path).await.with_context(hint)?, request).await,
            Place::Address(address) => send(TcpStream::connect(address).await.with_context(hint)?, request).await,
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the instance closed the connection")?;
    let status = response.status();
    let bytes = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
    connection.abort();
    Ok((status, bytes))
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Socket(path) => write!(f, "socket {}", path.display()),
            Place::Address(address) => write!(f, "http://{address}"),
        }
    }
}

fn address(url: &str) -> anyhow::Result<String> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        None => url,
        Some((scheme, _)) => bail!("--admin {url}: {scheme} is not spoken here; write http://HOST:PORT"),
    };
    let authority = rest.trim_end_matches('/');
    if authority.contains('/')
        || !authority.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())
    {
        bail!("--admin {url}: write http://HOST:PORT");
    }
    Ok(authority.into())
}

fn from_config(at: &At) -> anyhow::Result<Place> {
    let path = crate::diagnose::path(at.config.clone());
    if at.config.is_none() && !path.exists() {
        bail!(
            "which instance? Pass --socket PATH or --admin URL, set LB_SOCKET or LB_ADMIN, or name its configuration with -c FILE"
        );
    }
    let config = crate::diagnose::load_quietly(&path, at.name.as_deref())?;
    match (config.admin.socket, config.admin.listen) {
        (Some(socket), _) => Ok(Place::Socket(socket)),
        (None, Some(listen)) => Ok(Place::Address(listen.to_string())),
        (None, None) => bail!("{} has neither admin.socket nor admin.listen: pass --socket or --admin", path.display()),
    }
}

/// A part of a path or a query, percent-encoded.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, Lb};
    use clap::Parser;

    #[test]
    fn keys_of_any_bytes_survive_the_way_into_a_path() {
        assert_eq!(encode("a/b?c=ü &"), "a%2Fb%3Fc%3D%C3%BC%20%26");
    }

    #[test]
    fn what_was_typed_decides_over_the_environment() {
        let place = |typed: &[&str], env: &[(&str, &str)]| {
            let line = ["lb", "status"].iter().chain(typed);
            let Ok(Lb { command: Command::Status { at } }) = Lb::try_parse_from(line) else { panic!("{typed:?}") };
            let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            Client::of(&at, env).map(|client| client.to_string()).unwrap_or_else(|why| why.to_string())
        };
        let both = [("LB_SOCKET", "/run/a"), ("LB_ADMIN", "http://127.0.0.1:1")];
        assert_eq!(place(&["--socket", "/run/b"], &both), "socket /run/b");
        assert_eq!(place(&["--admin", "http://127.0.0.1:2"], &both), "http://127.0.0.1:2");
        assert!(place(&["-c", "/no/such/file"], &both).contains("/no/such/file"));
        assert_eq!(place(&[], &both[..1]), "socket /run/a");
        assert_eq!(place(&[], &both[1..]), "http://127.0.0.1:1");
        assert!(place(&[], &both).contains("both set"));
    }

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(address("http://127.0.0.1:8404/").ok().as_deref(), Some("127.0.0.1:8404"));
        assert_eq!(address("localhost:1").ok().as_deref(), Some("localhost:1"));
        for bad in ["https://a:1", "http://a", "http://a:1/x", ":1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
