//! Makes certificates. It must not know where they go.
use anyhow::{Context, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls_pki_types::DnsName;
use std::net::IpAddr;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

/// Clocks of machines differ: a certificate of just now holds on one that is behind, too.
const SKEW: Duration = Duration::HOUR;

/// A certificate and its key.
pub(super) struct Made {
    pub(super) pem: String,
    pub(super) key: String,
    pub(super) until: OffsetDateTime,
    /// It ends before the days asked for, with its CA.
    pub(super) cut: bool,
}

/// A CA that signs certificates of nodes, and no other CAs.
pub(super) fn ca(cluster: &str, days: u32) -> anyhow::Result<Made> {
    let mut params = params(&format!("lb peers of {cluster}"), days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (until, key) = (params.not_after, KeyPair::generate()?);
    let pem = params.self_signed(&key)?.pem();
    Ok(Made { pem, key: key.serialize_pem(), until, cut: false })
}

/// The names in a node's certificate. Peers compare its DNS names with the name that the node says.
pub(super) fn names(node: &str, also: &[String]) -> anyhow::Result<Vec<SanType>> {
    if DnsName::try_from(node).is_err() || node.parse::<IpAddr>().is_ok() {
        bail!(
            "\"{node}\" cannot stand in a certificate as a DNS name, and peers look for the instance's name there: give \
             the instance a name of letters, digits, `-` and `.` in [instance] name, as lb1"
        );
    }
    let others = also.iter().map(|name| match name.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) if DnsName::try_from(name.as_str()).is_ok() => Ok(SanType::DnsName(name.as_str().try_into()?)),
        Err(_) => bail!("--also {name} is neither a DNS name nor an IP address: write lb1.internal or 10.0.0.1"),
    });
    std::iter::once(Ok(SanType::DnsName(node.try_into()?))).chain(others).collect()
}

/// A certificate for both roles of a peer, signed by the CA of these files.
pub(super) fn issue(ca: &Path, ca_key: &Path, node: &str, names: Vec<SanType>, days: u32) -> anyhow::Result<Made> {
    let (issuer, ca_until) = issuer(ca, ca_key)?;
    let mut params = params(node, days);
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let cut = ca_until < params.not_after;
    params.not_after = params.not_after.min(ca_until);
    let (until, key) = (params.not_after, KeyPair::generate()?);
    let pem = params.signed_by(&key, &issuer)?.pem();
    Ok(Made { pem, key: key.serialize_pem(), until, cut })
}

fn params(name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + Duration::days(days.into());
    params
}

/// Reads the CA, and until when it is one.
fn issuer(ca: &Path, ca_key: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, OffsetDateTime)> {
    let (pem, key) = (read(ca)?, read(ca_key)?);
    let key = KeyPair::from_pem(&key).with_context(|| format!("{} is no private key", ca_key.display()))?;
    let (_, found) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .with_context(|| format!("{} is no PEM certificate", ca.display()))?;
    let parsed = found.parse_x509().with_context(|| format!("{} is no certificate", ca.display()))?;
    let until = fitting(&parsed, &key, ca, ca_key)?;
    Ok((Issuer::from_ca_cert_pem(&pem, key)?, until))
}

fn fitting(cert: &X509Certificate<'_>, key: &KeyPair, ca: &Path, ca_key: &Path) -> anyhow::Result<OffsetDateTime> {
    ensure!(cert.is_ca(), "{} is not a CA's certificate: `lb cert init` makes one", ca.display());
    ensure!(
        cert.public_key().raw == key.subject_public_key_info(),
        "{} is not the key of {}: they must come from one `lb cert init`",
        ca_key.display(),
        ca.display()
    );
    let until = cert.validity().not_after.to_datetime();
    ensure!(
        until > OffsetDateTime::now_utc(),
        "the CA {} expired on {}: make a new one with `lb cert init --dir`, put both into one file while instances \
         change over, and issue anew",
        ca.display(),
        super::date(until)
    );
    Ok(until)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow::anyhow!(
                "there is no {}: make a CA with `lb cert init`, or say with --dir where it is",
                path.display()
            )
        }
        _ => anyhow::anyhow!("{} cannot be read: {error}", path.display()),
    })
}
