//! Responses made by hand: OpenSSL makes none that are wrong.
use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber};

/// One value of DER.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ ..128 => vec![u8::try_from(short).unwrap()],
        long @ ..256 => vec![0x81, u8::try_from(long).unwrap()],
        long => [&[0x82], &u16::try_from(long).unwrap().to_be_bytes()[..]].concat(),
    };
    [&[tag], &length[..], &content].concat()
}

const SHA1: &[u8] = b"\x06\x05\x2b\x0e\x03\x02\x1a";
const SHA256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const BASIC: &[u8] = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
const ECDSA: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const GOOD: &[u8] = b"\x80\x00";
const UNKNOWN: &[u8] = b"\x82\x00";
const REVOKED: &[u8] = b"\xa1\x11\x18\x0f20260131235959Z";

fn time(text: &str) -> Vec<u8> {
    tlv(0x18, &[text.as_bytes()])
}

/// A response, as said by whoever signed `issuer`'s certificates.
struct Told<'a> {
    digest: &'a [u8],
    issuer: &'a X509Certificate<'a>,
    serial: u8,
    status: &'a [u8],
    until: Option<&'a str>,
}

impl Told<'_> {
    fn der(&self) -> Vec<u8> {
        let algorithm = if self.digest == SHA1 { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
        let hash = |of: &[u8]| tlv(4, &[digest::digest(algorithm, of).as_ref()]);
        let name = hash(self.issuer.subject().as_raw());
        let key = hash(&self.issuer.public_key().subject_public_key.data);
        let id = tlv(0x30, &[&tlv(0x30, &[self.digest, b"\x05\x00"]), &name, &key, &[2, 1, self.serial]]);
        let until = self.until.map(|until| tlv(0xa0, &[&time(until)])).unwrap_or_default();
        let one = tlv(0x30, &[&id, self.status, &time("20260101000000Z"), &until]);
        let data = tlv(0x30, &[&tlv(0xa2, &[&key]), &time("20260101000000Z"), &tlv(0x30, &[&one])]);
        let basic = tlv(0x30, &[&data, &tlv(0x30, &[ECDSA]), b"\x03\x02\x00\x00"]);
        let bytes = tlv(0x30, &[BASIC, &tlv(4, &[&basic])]);
        tlv(0x30, &[b"\x0a\x01\x00", &tlv(0xa0, &[&bytes])])
    }
}

/// A CA, and a certificate of it with this serial number.
fn chain(ca: &str, serial: u8) -> Vec<Vec<u8>> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, ca);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["shop.example".into()]).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![serial]));
    let own = params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
    vec![own.der().to_vec(), ca.der().to_vec()]
}

#[test]
fn a_response_holds_for_its_certificate_from_its_first_second_to_its_last() {
    let chain = chain("Test CA", 7);
    let (_, issuer) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
    for digest in [SHA1, SHA256] {
        let told = Told { digest, issuer: &issuer, serial: 7, status: GOOD, until: Some("20260108000000Z") }.der();
        let (first, last) = (1_767_225_600, 1_767_830_400);
        assert_eq!(life(&told, &chain), Ok(Life { from: first - SKEW, until: last }), "clocks differ");
        assert!(life(&told, &chain[..1]).is_ok(), "without the CA's certificate in the chain its name is enough");
    }
}

#[test]
fn what_cannot_be_shown_is_told_with_its_reason() {
    let chain = chain("Test CA", 7);
    let (_, issuer) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
    let other = self::chain("Test CA", 7);
    let (_, namesake) = x509_parser::parse_x509_certificate(&other[1]).unwrap();
    let good = || Told { digest: SHA1, issuer: &issuer, serial: 7, status: GOOD, until: Some("20260108000000Z") };
    let mut longer = good().der();
    longer.push(0);
    let pem = b"-----BEGIN OCSP RESPONSE-----\nMAA=\n-----END OCSP RESPONSE-----\n".to_vec();
    for (der, reason) in [
        (Told { serial: 8, ..good() }.der(), "it names serial number 08, this one has 07"),
        (Told { issuer: &namesake, ..good() }.der(), "or another has signed it"),
        (Told { digest: ECDSA, ..good() }.der(), "it is about another certificate"),
        (Told { status: REVOKED, ..good() }.der(), "the certificate was revoked at 2026-01-31T23:59:59Z: get another"),
        (Told { status: UNKNOWN, ..good() }.der(), "does not know the certificate"),
        (Told { until: None, ..good() }.der(), "it does not say how long it holds"),
        (b"\x30\x03\x0a\x01\x03".to_vec(), "the CA's responder did not answer the question: TryLater"),
        (b"\x30\x03\x0a\x01\x00".to_vec(), "it is no OCSP response: what is wanted is DER"),
        (longer, "it is no OCSP response"),
        (pem, "it is PEM: what is wanted is DER"),
        (Vec::new(), "it is no OCSP response"),
    ] {
        let why = life(&der, &chain).unwrap_err();
        assert!(why.contains(reason), "{why}\n{reason}");
    }
}

#[test]
fn no_damage_to_a_response_panics_or_makes_it_about_another_certificate() {
    let (chain, other) = (chain("Test CA", 7), chain("Other CA", 9));
    let (_, issuer) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
    let told = Told { digest: SHA256, issuer: &issuer, serial: 7, status: GOOD, until: Some("20260108000000Z") }.der();
    for at in 0..told.len() {
        assert!(life(&told[..at], &chain).is_err(), "{at} bytes of it");
        for bit in 0..8 {
            let mut damaged = told.clone();
            damaged[at] ^= 1 << bit;
            let _ = life(&damaged, &chain);
            assert!(life(&damaged, &other).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn the_file_beside_a_certificate_has_its_whole_name() {
    assert_eq!(beside(Path::new("certs/site.pem")), Path::new("certs/site.pem.ocsp"));
}
