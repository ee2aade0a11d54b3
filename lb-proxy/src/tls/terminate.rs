//! One listener's TLS: what the configuration and the files make of it. New files make a new [`ServerConfig`], which the
//! next handshake uses; connections that are up know nothing of it.
use super::certificates::{Certificates, every_file};
use super::provider;
use super::tickets::{Secret, Tickets};
use arc_swap::ArcSwap;
use lb_core::config::{ClientCerts, Listen, ListenTls, TlsVersion, Wanted};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What handshakes use.
pub(crate) struct Serving {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
}

/// A listener's TLS.
pub(crate) struct Termination {
    pub(crate) tls: Arc<ListenTls>,
    alpn: Vec<String>,
    serving: ArcSwap<Serving>,
}

impl Termination {
    /// Reads the files. `None`: the listener has no TLS.
    ///
    /// # Errors
    /// Every reason why it cannot be had.
    pub(crate) fn load(listen: &Listen, secrets: &[Secret]) -> Result<Option<Self>, Vec<String>> {
        let Some(tls) = listen.tls.clone() else { return Ok(None) };
        let serving = serving(&tls, &listen.alpn, secrets)?;
        Ok(Some(Self { tls, alpn: listen.alpn.clone(), serving: ArcSwap::from_pointee(serving) }))
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// As [`Self::load`]; what was in use stays.
    pub(crate) fn reload(&self, secrets: &[Secret]) -> Result<(), Vec<String>> {
        self.serving.store(Arc::new(serving(&self.tls, &self.alpn, secrets)?));
        Ok(())
    }

    /// What handshakes use now.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// All files that it is made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let ListenTls { cert, key, client, .. } = &*self.tls;
        let mut all = every_file(cert, key);
        if let Some(ClientCerts { ca, crl, wanted: _ }) = client {
            all.extend(ca.iter().chain(crl).cloned());
        }
        all
    }
}

fn serving(tls: &ListenTls, alpn: &[String], secrets: &[Secret]) -> Result<Serving, Vec<String>> {
    let certificates = Certificates::load(&tls.cert, &tls.key, tls.strict_sni).map(Arc::new);
    let mut policy = Vec::new();
    let clients = tls.client.as_ref().map(|client| verifier(client, &mut policy)).transpose();
    let (certificates, clients) = match (certificates, clients) {
        (Ok(certificates), Ok(clients)) => (certificates, clients),
        (certificates, clients) => {
            let mut errors = certificates.err().unwrap_or_default();
            errors.extend(clients.err());
            return Err(errors);
        }
    };
    let versions: &[_] = match tls.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| vec![format!("min_version: {e}")])?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(secrets.to_vec(), policy));
    Ok(Serving { config: Arc::new(config), certificates })
}

/// What checks clients' certificates. All that it goes by is appended to `policy`.
fn verifier(client: &ClientCerts, policy: &mut Vec<u8>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = roots("client_ca", &client.ca, policy)?;
    let mut crls = Vec::new();
    for file in &client.crl {
        let pem = read("client_crl", file, policy)?;
        let unusable = |e: &dyn std::fmt::Display| format!("client_crl: {} cannot be used: {e}", file.display());
        let here: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        let here = here.map_err(|e| unusable(&e))?;
        if here.is_empty() {
            return Err(format!("client_crl: {} holds no PEM revocation list", file.display()));
        }
        crls.extend(here);
    }
    policy.push(u8::from(client.wanted == Wanted::Required));
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !crls.is_empty() {
        // A CA that has no list here has revoked nothing.
        builder = builder.with_crls(crls).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    if client.wanted == Wanted::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| format!("client_ca: {e}"))
}

/// The CAs of these files. What was read is appended to `policy`.
pub(super) fn roots(what: &str, files: &[PathBuf], policy: &mut Vec<u8>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let pem = read(what, file, policy)?;
        let unusable = |e: &dyn std::fmt::Display| format!("{what}: {} cannot be used: {e}", file.display());
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        }
        if roots.len() == before {
            return Err(format!("{what}: {} holds no PEM certificate", file.display()));
        }
    }
    Ok(roots)
}

fn read(what: &str, file: &Path, policy: &mut Vec<u8>) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{what}: {} cannot be read: {e}", file.display()))?;
    policy.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    policy.extend_from_slice(&bytes);
    Ok(bytes)
}
