//! Mutual TLS between instances: both ends show a certificate of the cluster's CA that names their node.
//!
//! A dialler does not know beforehand which node is at an address, so that it checks the chain here and the name
//! against the greeting (the replicator does).
use crate::StartError;
use lb_core::config::PeerTls;
use lb_core::life::Life;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both roles of this node.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) connector: TlsConnector,
    /// Of this node's certificate.
    pub(crate) life: Life,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No keys in logs.
        f.debug_struct("Tls").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that can't be used, and a certificate that does not name this node.
    pub(crate) fn load(files: &PeerTls, node: &str) -> Result<Self, StartError> {
        let roots = Arc::new(roots(&files.ca)?);
        let chain = certificates("cert", &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable("key", &files.key, &e))?;
        let own = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let life = life(own).map_err(|e| unusable("cert", &files.cert, &e))?;
        let names = chain.first().map(names).unwrap_or_default();
        if !names.iter().any(|name| name.eq_ignore_ascii_case(node)) {
            let shown = files.cert.display();
            return Err(StartError::Tls(format!(
                "cert: {shown} is for \"{}\", this instance is \"{node}\": its DNS names must hold instance.name",
                names.join("\", \"")
            )));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (server, client) = configs(&provider, &roots, chain, key).map_err(StartError::Tls)?;
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        Ok(Self { acceptor, connector, life })
    }
}

fn configs(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(ServerConfig, ClientConfig), String> {
    let text = |e: rustls::Error| format!("cert and key: {e}");
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(clients.build().map_err(|e| format!("ca: {e}"))?)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(text)?;
    let any_node = AnyNode { roots: roots.clone(), algorithms: provider.signature_verification_algorithms };
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(any_node))
        .with_client_auth_cert(chain, key)
        .map_err(text)?;
    // Links are few and live long; each new one looks at the certificates as they are now.
    client.resumption = Resumption::disabled();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok((server, client))
}

fn roots(path: &Path) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(|e| StartError::Tls(format!("ca: {}: {e}", path.display())))?;
    }
    Ok(roots)
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all = all.map_err(|e| unusable(what, path, &e))?;
    match all.is_empty() {
        true => Err(StartError::Tls(format!("{what}: {} holds no PEM certificate", path.display()))),
        false => Ok(all),
    }
}

fn unusable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Tls(format!("{what}: {} cannot be used: {error}", path.display()))
}

fn life(certificate: &[u8]) -> Result<Life, x509_parser::error::X509Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| match e {
        x509_parser::nom::Err::Error(e) | x509_parser::nom::Err::Failure(e) => e,
        x509_parser::nom::Err::Incomplete(_) => x509_parser::error::X509Error::InvalidCertificate,
    })?;
    let validity = parsed.validity();
    Ok(Life { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() })
}

/// The DNS names of a certificate.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    parsed.map(|c| c.valid_dns_names().map(str::to_owned).collect()).unwrap_or_default()
}

/// The names of the peer at the other end.
pub(crate) fn peer_names(connection: &rustls::CommonState) -> Vec<String> {
    connection.peer_certificates().and_then(|chain| chain.first()).map(names).unwrap_or_default()
}

/// Takes any certificate of the CA: which node it is for is checked when the peer has said its name.
#[derive(Debug)]
struct AnyNode {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether an error comes from TLS itself: trying again soon will not help.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<rustls::Error>())
}

/// What went wrong on a connection, and what to look at.
pub(crate) fn explain(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return error.to_string();
    };
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not signed by our CA: peers.tls.ca must be the same on all instances".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: give it a new one".into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: compare the clocks".into(),
        rustls::Error::NoCertificatesPresented => "it shows no certificate: it needs peers.tls".into(),
        rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "our certificate is not signed by its CA: peers.tls.ca must be the same on all instances".into()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that our certificate has expired: give this instance a new one".into()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of ours: give this instance peers.tls".into()
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: set peers.tls on both, or on neither".into(),
        other => format!("TLS failed: {other}"),
    }
}
