//! Whom we take for the server that we meant: who shows a certificate of one of the CAs, or one that stands among them.
//!
//! A self-signed certificate, as `openssl req -x509` makes it, is that of a CA: webpki refuses it as a server's, though its
//! very bytes were named. OpenSSL takes it, and so does who comes from there.
use super::certificates::describe;
use super::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Judges by these CAs; `listed` are their certificates.
///
/// # Errors
/// Why nobody can be judged by them.
pub(super) fn verifier(
    roots: RootCertStore,
    listed: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    Ok(Arc::new(Trust { chains: chains.map_err(|e| format!("ca: {e}"))?, listed }))
}

#[derive(Debug)]
struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.listed.iter().any(|listed| listed == certificate) {
            return self.chains.verify_server_cert(certificate, chain, name, ocsp, now);
        }
        let (_, life) = describe(certificate).map_err(|_| CertificateError::BadEncoding)?;
        if !life.holds(UNIX_EPOCH + Duration::from_secs(now.as_secs())) {
            let early = i64::try_from(now.as_secs()).is_ok_and(|now| now < life.from);
            return Err(if early { CertificateError::NotValidYet } else { CertificateError::Expired }.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn self_signed(ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["app.internal".to_owned()]).unwrap();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn judge(
        listed: &CertificateDer<'static>,
        shown: &CertificateDer<'static>,
        name: &str,
        at: u64,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(listed.clone()).unwrap();
        let trust = verifier(roots, vec![listed.clone()]).unwrap();
        let (name, now) = (name.to_owned().try_into().unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(at)));
        trust.verify_server_cert(shown, &[], &name, &[], now).map(|_| ())
    }

    /// In 2026.
    const NOW: u64 = 1_780_000_000;

    #[test]
    fn a_certificate_that_is_named_itself_is_taken_for_its_name_and_its_time() {
        for ca in [true, false] {
            let (ours, other) = (self_signed(ca), self_signed(ca));
            assert_eq!(judge(&ours, &ours, "app.internal", NOW), Ok(()), "{ca}");
            let wrong = |shown, name, at| match judge(&ours, shown, name, at) {
                Err(Error::InvalidCertificate(why)) => why,
                taken => panic!("{taken:?}"),
            };
            assert!(matches!(wrong(&ours, "shop.internal", NOW), CertificateError::NotValidForNameContext { .. }));
            assert_eq!(wrong(&ours, "app.internal", 1_500_000_000), CertificateError::NotValidYet);
            assert_eq!(wrong(&ours, "app.internal", 2_300_000_000), CertificateError::Expired);
            wrong(&other, "app.internal", NOW);
        }
    }
}
