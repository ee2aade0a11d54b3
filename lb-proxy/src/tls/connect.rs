//! TLS to servers: what it is asked for, what its certificate must be, what is shown to it.
//!
//! Sessions are resumed but by checks: a resumed session shows no certificate. The protocol is what is spoken then (ALPN).
use super::provider;
use super::terminate::roots;
use super::trust::verifier;
use arc_swap::ArcSwap;
use lb_core::config::{Proto, ServerAddr, ServerTls, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a connection is for, with the protocol that is spoken on it, where it has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients' requests and connections.
    Traffic(Option<Proto>),
    /// A check.
    Check(Option<Proto>),
}

impl Purpose {
    fn proto(self) -> Option<Proto> {
        let (Self::Traffic(proto) | Self::Check(proto)) = self;
        proto
    }
}

/// How the servers of a backend are spoken to that have the same terms.
pub(crate) struct Connector {
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) purpose: Purpose,
    /// `None`: the host name that the server was found by, or its address.
    name: Option<ServerName<'static>>,
    config: ArcSwap<ClientConfig>,
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(crate) fn load(tls: &Arc<ServerTls>, purpose: Purpose) -> Result<Self, String> {
        let name = tls.sni.clone().map(ServerName::try_from).transpose().map_err(|e| format!("sni: {e}"))?;
        let config = ArcSwap::from_pointee(client(tls, purpose)?);
        Ok(Self { tls: tls.clone(), purpose, name, config })
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// As [`Self::load`]; what was in use stays.
    pub(crate) fn reload(&self) -> Result<(), String> {
        self.config.store(Arc::new(client(&self.tls, self.purpose)?));
        Ok(())
    }

    /// The files that it is made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let own = self.tls.own.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]);
        self.tls.ca.iter().cloned().chain(own).collect()
    }

    /// The name that a server is asked for; `None`: it is asked for none.
    pub(crate) fn sni(&self) -> Option<&str> {
        self.tls.sni.as_deref()
    }

    /// Shakes hands with the server at this address, which was found by this host name if any.
    pub(crate) async fn connect<S>(&self, addr: &ServerAddr, host: Option<&str>, plain: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match (&self.name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => {
                ServerName::try_from(host.to_owned()).map_err(|e| io::Error::other(format!("\"{host}\": {e}")))?
            }
            (None, None) => address(addr).into(),
        };
        let config = self.config.load_full();
        let asks_for_h2 = self.purpose.proto() == Some(Proto::H2) && config.alpn_protocols.iter().any(|p| p == b"h2");
        let connector = TlsConnector::from(config);
        let stream = connector.connect(name.clone(), plain).await.map_err(|e| explain(e, &name))?;
        if asks_for_h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("it does not offer HTTP/2 in its TLS handshake"));
        }
        Ok(stream)
    }
}

/// A Unix socket has none: whose certificate is looked at has a name, so that this one is not used.
fn address(addr: &ServerAddr) -> IpAddr {
    match addr {
        ServerAddr::Tcp(addr) => addr.ip().to_canonical(),
        ServerAddr::Unix(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

fn client(tls: &ServerTls, purpose: Purpose) -> Result<ClientConfig, String> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| format!("min_version: {e}"))?;
    let builder = match tls.verify {
        true if tls.ca.is_empty() => builder.with_root_certificates(system_roots()?),
        true => builder.dangerous().with_custom_certificate_verifier(trusted(&tls.ca)?),
        false => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider()))),
    };
    let mut config = match &tls.own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
            let chain = chain.map_err(|e| format!("cert: {} cannot be used: {e}", cert.display()))?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|e| format!("key: {} cannot be used: {e}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| format!("cert: {} cannot be used: {e}", cert.display()))?
        }
    };
    config.alpn_protocols = match (&tls.alpn, purpose.proto()) {
        (Some(alpn), _) => alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
        (None, Some(proto)) => vec![proto.alpn().into()],
        (None, None) => Vec::new(),
    };
    if let Purpose::Check(_) = purpose {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(config)
}

/// Those whom these files name.
fn trusted(ca: &[PathBuf]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = roots("ca", ca, &mut Vec::new())?;
    let mut listed = Vec::with_capacity(roots.len());
    for file in ca {
        let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
        listed.extend(all.map_err(|e| format!("ca: {} cannot be used: {e}", file.display()))?);
    }
    verifier(roots, listed)
}

/// What the system trusts.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old roots that nobody can read are no reason to do without the others.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(format!(
            "ca: the system's certificates cannot be had: {why}. Install them (Debian: ca-certificates), or name a file"
        ));
    }
    Ok(roots)
}

/// What went wrong, and what to look at.
fn explain(error: io::Error, name: &ServerName<'_>) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return io::Error::other("it closed in the middle of the TLS handshake");
        }
        return error;
    };
    let name = name.to_str();
    let why = match tls {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not signed by a CA that we trust: see `tls.ca`".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            format!("its certificate is not for \"{name}\": see `tls.sni`")
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".into()
        }
        Error::InvalidMessage(_) => "it does not speak TLS".into(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of ours: see `tls.cert`".into()
        }
        other => format!("TLS failed: {other}"),
    };
    io::Error::other(why)
}

/// Whoever answers: `verify = false`. Signatures are checked all the same, so that at least the handshake is whole.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
