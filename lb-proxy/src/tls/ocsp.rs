//! What a CA says of a certificate, for clients to be told in the handshake (OCSP stapling): `site.pem.ocsp` beside
//! `site.pem`, DER, as `openssl ocsp -respout` writes it. Whoever renews the file asks the CA; here nobody is asked. Whether
//! the CA has signed it is for clients to say; what is checked here is what an operator gets
//! wrong. One that has ended is no mistake of the configuration: as with certificates it is told, and it is not shown.
use aws_lc_rs::digest::{self, Algorithm};
use der::Decode;
use der::asn1::ObjectIdentifier;
use lb_core::life::Life;
use std::path::{Path, PathBuf};
use x509_ocsp::{BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus};
use x509_parser::certificate::X509Certificate;

/// Clocks of CAs may be ahead of ours by this much, in seconds.
const SKEW: i64 = 300;

/// Digests by which a response may name the one who signed the certificate.
fn algorithm(oid: &ObjectIdentifier) -> Option<&'static Algorithm> {
    match oid.to_string().as_str() {
        "1.3.14.3.2.26" => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}

/// A response that can be shown.
pub(super) struct Staple {
    pub(super) der: Vec<u8>,
    pub(super) life: Life,
}

/// Where the response for a certificate's file is.
pub(super) fn beside(certificate: &Path) -> PathBuf {
    let mut name = certificate.as_os_str().to_owned();
    name.push(".ocsp");
    name.into()
}

/// Reads the response beside a chain's file; `None`: there is none.
pub(super) fn read<C: AsRef<[u8]>>(file: &Path, chain: &[C]) -> Result<Option<Staple>, String> {
    let file = beside(file);
    let der = match std::fs::read(&file) {
        Ok(der) => der,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{} cannot be read: {e}", file.display())),
    };
    match life(&der, chain) {
        Ok(life) => Ok(Some(Staple { der, life })),
        Err(why) => Err(format!("{} cannot be used: {why}", file.display())),
    }
}

/// From when until when the response says that the certificate is good.
fn life<C: AsRef<[u8]>>(der: &[u8], chain: &[C]) -> Result<Life, String> {
    let basic = basic(der)?;
    let parse = |der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed).map_err(|e| e.to_string());
    let own = parse(chain.first().map(AsRef::as_ref).unwrap_or_default())?;
    let others = chain.iter().filter_map(|c| parse(c.as_ref()).ok());
    let issuer = others.into_iter().find(|other| other.subject() == own.issuer());
    let told = &basic.tbs_response_data.responses;
    let Some(about) = told.iter().find(|one| is_about(&one.cert_id, &own, issuer.as_ref())) else {
        let about = told.iter().map(|one| hex(one.cert_id.serial_number.as_bytes())).collect::<Vec<_>>().join(", ");
        let own = hex(own.raw_serial());
        return Err(format!(
            "it is about another certificate: it names serial number {about}, this one has {own}, or another has signed it"
        ));
    };
    match &about.cert_status {
        CertStatus::Good(_) => {}
        CertStatus::Revoked(info) => {
            let at = info.revocation_time.0.to_date_time();
            return Err(format!("the certificate was revoked at {at}: get another one"));
        }
        CertStatus::Unknown(_) => return Err("the CA's responder does not know the certificate".into()),
    }
    let Some(until) = &about.next_update else {
        return Err("it does not say how long it holds (nextUpdate)".into());
    };
    Ok(Life { from: unix(&about.this_update) - SKEW, until: unix(until) })
}

fn basic(der: &[u8]) -> Result<BasicOcspResponse, String> {
    let strange = |e: &dyn std::fmt::Display| {
        let pem = if der.starts_with(b"-----BEGIN") { "PEM" } else { "no OCSP response" };
        format!("it is {pem}: what is wanted is DER, as `openssl ocsp -respout` writes it ({e})")
    };
    let response = OcspResponse::from_der(der).map_err(|e| strange(&e))?;
    if response.response_status != OcspResponseStatus::Successful {
        return Err(format!("the CA's responder did not answer the question: {:?}", response.response_status));
    }
    let Some(bytes) = response.response_bytes else { return Err(strange(&"it is empty")) };
    BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(|e| strange(&e))
}

/// Whether these words name this certificate. Without its issuer's certificate that one is known by name alone.
fn is_about(id: &CertId, own: &X509Certificate<'_>, issuer: Option<&X509Certificate<'_>>) -> bool {
    let Some(algorithm) = algorithm(&id.hash_algorithm.oid) else { return false };
    let is = |hash: &[u8], of: &[u8]| digest::digest(algorithm, of).as_ref() == hash;
    bare(id.serial_number.as_bytes()) == bare(own.raw_serial())
        && is(id.issuer_name_hash.as_bytes(), own.issuer().as_raw())
        && issuer.is_none_or(|i| is(id.issuer_key_hash.as_bytes(), &i.public_key().subject_public_key.data))
}

/// A number without zeros before it.
fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn hex(number: &[u8]) -> String {
    bare(number).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unix(at: &OcspGeneralizedTime) -> i64 {
    i64::try_from(at.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
