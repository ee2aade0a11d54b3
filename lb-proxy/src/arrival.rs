//! What is known of a client's connection from its beginning: one small piece for each connection, for rules, headers and
//! logs. It must not know requests.
use crate::tls::certificates::Certificates;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection's facts.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The address that it came to, where somebody wants to know it.
    pub(crate) local: Option<Box<SocketAddr>>,
    /// What TLS agreed on; `None`: plain.
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// What a handshake agreed on: with us, or with a proxy that tells us of it.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// `TLSv1.3`
    pub(crate) version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`
    pub(crate) cipher: Cow<'static, str>,
    /// Whether it goes on with a former session.
    pub(crate) resumed: bool,
    /// The host that the client asked for.
    pub(crate) sni: Option<Box<str>>,
    /// The protocol agreed on.
    pub(crate) alpn: Option<Box<[u8]>>,
    /// The certificate that the client showed; it was verified.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
    /// Where a request must be for a host of the certificate that was shown: those it was chosen from.
    pub(crate) hosts: Option<Arc<Certificates>>,
}

/// A client's certificate.
#[derive(Debug, Default)]
pub(crate) struct ClientCertificate {
    /// Common name of the subject.
    pub(crate) common_name: Option<String>,
    /// That name, then the DNS names.
    pub(crate) names: Vec<String>,
    /// The whole of it.
    pub(crate) der: Box<[u8]>,
}

impl Arrival {
    /// `https` or `http`
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// `TLSv1.3`
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| tls.version)
    }

    /// The host that the client asked for in its handshake.
    pub(crate) fn sni(&self) -> Option<&str> {
        self.tls.as_ref()?.sni.as_deref()
    }

    /// Whether a request for this host should have come over another connection, by the listener's `check_host`.
    pub(crate) fn misdirected(&self, host: &[u8]) -> bool {
        let Some(hosts) = self.tls.as_ref().and_then(|tls| tls.hosts.as_ref()) else { return false };
        !std::str::from_utf8(host).is_ok_and(|host| hosts.belong_together(self.sni(), host))
    }
}
