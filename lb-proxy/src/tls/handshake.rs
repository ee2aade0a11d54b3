//! One client's handshake: bounded in time and number, counted however it ends.
//!
//! A bound holds from the client's first word on, when the work begins. Those who say nothing cost what any silent
//! connection costs, and must not keep others out.
use super::certificates::dns_names;
use super::terminate::Serving;
use crate::arrival::{ClientCertificate, TlsFacts};
use crate::stream::{Plain, Stream};
use crate::worker::Local;
use lb_core::config::Tls;
use lb_core::edge::{HandshakeFailure, Handshakes};
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// What a worker's handshakes share.
#[derive(Default)]
pub(crate) struct Bounds {
    working: Cell<usize>,
    /// A second, and how many began in it.
    second: Cell<Option<(Instant, usize)>>,
}

/// A handshake's place under the bounds; given back when dropped.
struct Place<'a>(&'a Bounds);

impl Bounds {
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
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), plain).await.map_err(failed)?;
    let config = local.snapshot().config.clone();
    let Some(_place) = local.handshakes.enter(&config.tls) else {
        hello.io.reset_on_drop();
        return Err((HandshakeFailure::Shed, None));
    };
    hello.into_stream(serving.config.clone()).await.map_err(failed)
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
        cipher: session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("-").into(),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        sni: session.server_name().map(Into::into),
        alpn: session.alpn_protocol().map(Into::into),
        certificate: session.peer_certificates().and_then(<[_]>::first).map(|c| Box::new(certificate(c))),
        hosts: None,
    }
}

/// What a client's certificate says. It was verified, so it can be read.
fn certificate(der: &[u8]) -> ClientCertificate {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else { return ClientCertificate::default() };
    let common_name: Option<String> = parsed.subject().iter_common_name().find_map(|n| n.as_str().ok()).map(Into::into);
    let mut names: Vec<_> = common_name.iter().cloned().collect();
    names.extend(dns_names(&parsed).into_iter().filter(|name| Some(name) != common_name.as_ref()));
    ClientCertificate { common_name, names }
}
