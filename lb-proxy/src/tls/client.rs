//! What a client's certificate says, where a rule asks for it: it is read anew then, and costs nothing where none does.
use crate::arrival::ClientCertificate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lb_core::rules::CertificatePart;
use std::io::Write;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

impl ClientCertificate {
    /// Appends a part of it.
    pub(crate) fn say(&self, part: CertificatePart, out: &mut Vec<u8>) {
        if self.der.is_empty() {
            // A proxy before us told its name alone.
            return;
        }
        match part {
            CertificatePart::Whole => return out.extend(STANDARD.encode(&self.der).into_bytes()),
            CertificatePart::Fingerprint => {
                return hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der).as_ref(), out);
            }
            _ => {}
        }
        // It was read when it was verified.
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&self.der) else { return };
        match part {
            CertificatePart::Subject => distinguished(parsed.subject(), out),
            CertificatePart::Issuer => distinguished(parsed.issuer(), out),
            _ => hex(parsed.raw_serial(), out),
        }
    }
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// A distinguished name as RFC 4514 writes it, the last part first: what one value holds never looks like another part.
fn distinguished(name: &X509Name<'_>, out: &mut Vec<u8>) {
    let parts: Vec<_> = name.iter_rdn().collect();
    for (i, part) in parts.iter().rev().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        for (i, attribute) in part.iter().enumerate() {
            if i > 0 {
                out.push(b'+');
            }
            pair(attribute, out);
        }
    }
}

fn pair(attribute: &AttributeTypeAndValue<'_>, out: &mut Vec<u8>) {
    match (oid2abbrev(attribute.attr_type(), oid_registry()), attribute.as_str()) {
        (Ok(name), Ok(value)) => {
            // By the name that OpenSSL and the servers know.
            out.extend_from_slice(if name == "Email" { b"emailAddress" } else { name.as_bytes() });
            out.push(b'=');
            escape(value, out);
        }
        // A kind without a name, or a value that is no text.
        _ => {
            let _ = write!(out, "{}=#", attribute.attr_type().to_id_string());
            hex(attribute.as_slice(), out);
        }
    }
}

fn escape(value: &str, out: &mut Vec<u8>) {
    let last = value.len().saturating_sub(1);
    for (i, byte) in value.bytes().enumerate() {
        let special = match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => true,
            b'#' => i == 0,
            b' ' => i == 0 || i == last,
            _ => false,
        };
        match byte {
            _ if special => out.extend([b'\\', byte]),
            // No header field can hold it.
            0..0x20 | 0x7f => {
                let _ = write!(out, "\\{byte:02x}");
            }
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    fn said(certificate: &ClientCertificate, part: CertificatePart) -> String {
        let mut out = Vec::new();
        certificate.say(part, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_name_is_written_so_that_no_value_looks_like_another_part() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "NL");
        params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc");
        params.distinguished_name.push(DnType::CommonName, " eve,CN=admin\n");
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let certificate = ClientCertificate { der: der.clone().into(), ..Default::default() };
        let subject = r"CN=\ eve\,CN\=admin\0a,O=Shop\, Inc,C=NL";
        assert_eq!(said(&certificate, CertificatePart::Subject), subject);
        assert_eq!(said(&certificate, CertificatePart::Issuer), subject);
        assert_eq!(said(&certificate, CertificatePart::Serial), "0abc");
        assert_eq!(said(&certificate, CertificatePart::Whole), STANDARD.encode(der));
        assert_eq!(said(&certificate, CertificatePart::Fingerprint).len(), 64);
    }
}
