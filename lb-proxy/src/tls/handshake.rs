//! One client's handshake: bounded in time and number, counted however it ends.
//!
//! A bound holds from the client's first word on, when the work begins. Those who say nothing cost what any silent
//! connection costs, and must not keep others out.
//!
//! The costly part, the hello and its answer, is done for one client at a time, and between two of them the worker looks
//! at its other connections: newcomers wait for each other, and those who are in do not wait for them.
use super::certificates::dns_names;
use super::terminate::Serving;
use crate::arrival::{ClientCertificate, TlsFacts};
use crate::stream::{Plain, Stream};
use crate::worker::Local;
use lb_core::config::Tls;
use lb_core::edge::{HandshakeFailure, Handshakes};
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// What a worker's handshakes share.
pub(crate) struct Bounds {
    working: Cell<usize>,
    /// Whose turn it is, in the order in which they came.
    turn: Semaphore,
    /// A second, and how many began in it.
    second: Cell<Option<(Instant, usize)>>,
}

/// A handshake's place under the bounds; given back when dropped.
struct Place<'a>(&'a Bounds);

impl Default for Bounds {
    fn default() -> Self {
        Self { working: Cell::default(), turn: Semaphore::new(1), second: Cell::default() }
    }
}

impl Bounds {
    /// Waits for a turn.
    async fn turn(&self) -> Turn<'_> {
        // Never closed.
        Turn { _permit: self.turn.acquire().await.ok() }
    }

    fn enter(&self, config: &Tls) -> Option<Place<'_>> {
        if self.working.get() >= config.max_handshakes {
            return None;
        }
        if config.max_handshake_rate > 0 {
            let now = Instant::now();
            let (since, begun) =
                self.second.get().filter(|(since, _)| now - *since < Duration::from_secs(1)).unwrap_or((now, 0));
            if begun >= config.max_handshake_rate {
                return None;
            }
            self.second.set(Some((since, begun + 1)));
        }
        self.working.set(self.working.get() + 1);
        Some(Place(self))
    }
}

/// Somebody's turn; the next one's comes after everybody else's.
struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl Turn<'_> {
    /// Runs a future up to where it first waits.
    async fn run<F: Future>(&self, mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    async fn end(self) {
        // The event loop is asked first what came for others.
        tokio::task::yield_now().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.working.set(self.0.working.get() - 1);
    }
}

/// Shakes hands; `None`: it came to nothing, which is counted.
pub(crate) async fn shake(
    local: &Local,
    frontend: &str,
    counters: &Handshakes,
    serving: &Serving,
    plain: Plain,
    within: Duration,
) -> Option<(Stream, Box<TlsFacts>)> {
    counters.active.bump();
    let ended = tokio::time::timeout(within, attempt(local, serving, plain)).await;
    counters.active.drop_one();
    match ended.map_err(|_: Elapsed| (HandshakeFailure::Timeout, None)).flatten() {
        Ok(stream) => {
            let facts = facts(stream.get_ref().1);
            if facts.resumed {
                counters.resumed.bump()
            } else {
                counters.full.bump()
            }
            Some((TlsStream::Server(stream).into(), Box::new(facts)))
        }
        Err((why, error)) => {
            counters.fail(why);
            let error: Option<io::Error> = error;
            let error = error.map(tracing::field::display);
            tracing::debug!(frontend, reason = why.as_str(), error, "a client's TLS handshake failed");
            None
        }
    }
}

type Failed = (HandshakeFailure, Option<io::Error>);

async fn attempt(
    local: &Local,
    serving: &Serving,
    plain: Plain,
) -> Result<tokio_rustls::server::TlsStream<Plain>, Failed> {
    let failed = |e: io::Error| (reason(&e), Some(e));
    poll_fn(|cx| plain.poll_read_ready(cx)).await.map_err(failed)?;
    let mut turn = local.handshakes.turn().await;
    let mut hello = pin!(LazyConfigAcceptor::new(rustls::server::Acceptor::default(), plain));
    let hello = match turn.run(hello.as_mut()).await {
        Poll::Ready(hello) => hello,
        Poll::Pending => {
            turn.end().await;
            let hello = hello.await;
            turn = local.handshakes.turn().await;
            hello
        }
    };
    let hello = hello.map_err(failed)?;
    let config = local.snapshot().config.clone();
    let Some(_place) = local.handshakes.enter(&config.tls) else {
        hello.io.reset_on_drop();
        return Err((HandshakeFailure::Shed, None));
    };
    let mut rest = pin!(hello.into_stream(serving.config.clone()));
    let answered = turn.run(rest.as_mut()).await;
    turn.end().await;
    match answered {
        Poll::Ready(ended) => ended.map_err(failed),
        Poll::Pending => rest.await.map_err(failed),
    }
}

/// Why a handshake failed.
fn reason(error: &io::Error) -> HandshakeFailure {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => HandshakeFailure::Closed,
            _ => HandshakeFailure::Other,
        };
    };
    match tls {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
            HandshakeFailure::ClientCertificate
        }
        Error::AlertReceived(_) => HandshakeFailure::Alert,
        Error::InvalidMessage(_) => HandshakeFailure::NotTls,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeFailure::Incompatible,
        // What rustls says when the resolver has nothing.
        Error::General(text) if text.contains("certificate") => HandshakeFailure::NoCertificate,
        _ => HandshakeFailure::Other,
    }
}

fn facts(session: &ServerConnection) -> TlsFacts {
    TlsFacts {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        },
        cipher: session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).map_or("-", registered).into(),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        sni: session.server_name().map(Into::into),
        alpn: session.alpn_protocol().map(Into::into),
        certificate: session.peer_certificates().and_then(<[_]>::first).map(|c| Box::new(certificate(c))),
        hosts: None,
    }
}

/// The registered name of a cipher suite: rustls calls those of TLS 1.3 by another.
fn registered(suite: &'static str) -> &'static str {
    match suite {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite,
    }
}

/// What a client's certificate says. It was verified, so it can be read.
fn certificate(der: &[u8]) -> ClientCertificate {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else { return ClientCertificate::default() };
    let common_name: Option<String> = parsed.subject().iter_common_name().find_map(|n| n.as_str().ok()).map(Into::into);
    let mut names: Vec<_> = common_name.iter().cloned().collect();
    names.extend(dns_names(&parsed).into_iter().filter(|name| Some(name) != common_name.as_ref()));
    ClientCertificate { common_name, names, der: der.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use tokio::task::{LocalSet, spawn_local};

    #[tokio::test]
    async fn between_two_handshakes_everybody_else_has_a_turn() {
        let (bounds, order) = (Rc::new(Bounds::default()), Rc::new(RefCell::new(String::new())));
        let everything = async {
            let mut tasks = Vec::new();
            for _ in 0..5 {
                let (bounds, order) = (bounds.clone(), order.clone());
                tasks.push(spawn_local(async move {
                    let turn = bounds.turn().await;
                    let work = pin!(async { order.borrow_mut().push('h') });
                    assert!(turn.run(work).await.is_ready());
                    turn.end().await;
                }));
            }
            let order = order.clone();
            tasks.push(spawn_local(async move {
                for _ in 0..20 {
                    order.borrow_mut().push('-');
                    tokio::task::yield_now().await;
                }
            }));
            for task in tasks {
                task.await.expect("no panic");
            }
        };
        LocalSet::new().run_until(everything).await;
        let order = order.borrow();
        assert!(order.matches('h').count() == 5 && !order.contains("hh"), "{order}");
    }
}
