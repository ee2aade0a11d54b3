//! `lb cert show`: what the certificates in a file say.
use super::date;
use crate::output::{self, BAD, styled};
use anyhow::{Context, bail};
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// One certificate.
#[derive(Debug, Serialize)]
struct Shown {
    subject: String,
    /// DNS names and IP addresses.
    names: Vec<String>,
    issuer: String,
    is_ca: bool,
    not_before: String,
    not_after: String,
    days_left: i64,
    /// Whether it holds now.
    valid: bool,
    #[serde(skip)]
    dates: (OffsetDateTime, OffsetDateTime),
}

/// Runs it. 0: all hold today; 1: one does not.
pub(super) fn run(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let all = all(&bytes).with_context(|| format!("{} cannot be shown", file.display()))?;
    match json {
        true => output::json(&all)?,
        false => all.iter().for_each(lines),
    }
    Ok(if all.iter().all(|c| c.valid) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all(bytes: &[u8]) -> anyhow::Result<Vec<Shown>> {
    let mut found = Vec::new();
    let mut other = None;
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.context("its PEM is broken")?;
        match pem.label.as_str() {
            "CERTIFICATE" => found.push(shown(&pem.parse_x509().context("it is no X.509 certificate")?)),
            label => other = Some(label.to_ascii_lowercase()),
        }
    }
    match other {
        Some(other) if found.is_empty() => bail!("it holds a {other} and no certificate: name the .pem file beside it"),
        None if found.is_empty() => bail!("it holds no PEM: a certificate begins with -----BEGIN CERTIFICATE-----"),
        _ => Ok(found),
    }
}

fn shown(cert: &X509Certificate<'_>) -> Shown {
    let (from, until) = (cert.validity().not_before.to_datetime(), cert.validity().not_after.to_datetime());
    let now = OffsetDateTime::now_utc();
    let names = cert.subject_alternative_name().ok().flatten();
    Shown {
        subject: cert.subject().to_string(),
        names: names.iter().flat_map(|n| &n.value.general_names).map(name).collect(),
        issuer: cert.issuer().to_string(),
        is_ca: cert.is_ca(),
        not_before: from.format(&Rfc3339).unwrap_or_default(),
        not_after: until.format(&Rfc3339).unwrap_or_default(),
        days_left: (until - now).whole_days(),
        valid: from <= now && now <= until,
        dates: (from, until),
    }
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => ip(bytes),
        other => other.to_string(),
    }
}

fn ip(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).to_string()))
        .unwrap_or_else(|_| format!("{bytes:02x?}"))
}

fn lines(cert: &Shown) {
    let (from, until) = cert.dates;
    let left = match from > OffsetDateTime::now_utc() {
        true => styled(BAD, "not valid yet"),
        false => super::left(until),
    };
    output::heading(&cert.subject);
    output::line(format_args!(
        "  {:<10} {}",
        "names",
        if cert.names.is_empty() { "-".into() } else { cert.names.join(", ") }
    ));
    output::line(format_args!("  {:<10} {}{}", "issuer", cert.issuer, if cert.is_ca { " (a CA itself)" } else { "" }));
    output::line(format_args!("  {:<10} {}", "not before", date(from)));
    output::line(format_args!("  {:<10} {} ({left})", "not after", date(until)));
}
