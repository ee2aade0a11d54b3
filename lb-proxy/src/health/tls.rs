//! TLS under checks: a handshake, with or without a look at the certificate.
use crate::tls::connect::Anybody;
use crate::tls::{TlsError, provider};
use lb_core::config::{CheckTls, Config, Fault};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a server is spoken to in TLS. Two are equal when they verify alike.
#[derive(Clone, Debug)]
pub struct Tls {
    sni: Option<String>,
    /// The authorities as read.
    pem: Option<Arc<[u8]>>,
    config: ClientConfig,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        (&self.sni, &self.pem) == (&other.sni, &other.pem)
    }
}

/// Of every backend whose check speaks TLS. Made before anything is swapped, because files can be missing.
#[derive(Debug, Default)]
pub struct Prepared(HashMap<String, Tls>);

impl Prepared {
    /// Reads what the checks of a configuration need.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn of(config: &Config) -> Result<Self, TlsError> {
        let (mut all, mut wrong) = (HashMap::new(), Vec::new());
        for backend in &config.backends {
            let Some(tls) = backend.check.as_ref().and_then(|check| check.tls.as_ref()) else { continue };
            match Tls::new(tls) {
                Ok(made) => {
                    all.insert(backend.name.clone(), made);
                }
                Err(why) => {
                    let (name, path) = (&backend.name, tls.ca.clone().unwrap_or_default());
                    let message = format!("backend {name}: `check.tls.ca` {} cannot be used: {why}", path.display());
                    let fault = Fault::new(format!("backend.{name}.check.tls.ca"), message);
                    wrong.push(Fault { or: Some(format!("backend.{name}.tls.ca")), ..fault });
                }
            }
        }
        if wrong.is_empty() { Ok(Self(all)) } else { Err(TlsError(wrong)) }
    }

    pub(super) fn get(&self, backend: &str) -> Option<Tls> {
        self.0.get(backend).cloned()
    }
}

impl Tls {
    /// As configured.
    pub(super) fn new(of: &CheckTls) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let pem = of.ca.as_ref().map(std::fs::read).transpose().map_err(|e| e.to_string())?;
        let mut config = match &pem {
            Some(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
            // Without `ca` a check asks whether the server speaks TLS, not who it is.
            None => {
                let anybody = Arc::new(Anybody(provider()));
                builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
            }
        };
        // A resumed session would show no certificate.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { sni: of.sni.clone(), pem: pem.map(Into::into), config })
    }

    pub(super) fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// The handshake, for this protocol (ALPN) if any.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        ip: IpAddr,
        protocol: &[u8],
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let mut config = self.config.clone();
        if !protocol.is_empty() {
            config.alpn_protocols = vec![protocol.to_vec()];
        }
        let name = match &self.sni {
            Some(name) => ServerName::try_from(name.clone()).map_err(|e| io::Error::other(e.to_string()))?,
            None => ServerName::from(ip),
        };
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn roots(pem: &[u8]) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate".into()) } else { Ok(roots) }
}
