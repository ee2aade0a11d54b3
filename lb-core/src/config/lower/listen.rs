//! `[tls]`, and `listen` of a frontend
use super::super::reader::{Item, Section};
use super::super::{ClientCerts, Listen, ListenTls, Tls, Wanted};
use super::{Addresses, instance};
use crate::tcp::Mode;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn tls(section: Option<Section<'_>>) -> Tls {
    let default = Tls::default();
    let Some(section) = section else { return default };
    Tls {
        ticket_keys: paths(&section, "ticket_keys"),
        max_handshakes: section.size("max_handshakes", default.max_handshakes),
        max_handshake_rate: section.size("max_handshake_rate", default.max_handshake_rate),
    }
}

/// `"0.0.0.0:80"` or `{ addr = "0.0.0.0:80" }`
pub(super) fn listen(item: &Item<'_>, mode: Mode, addresses: &mut Addresses) -> Option<Listen> {
    let value = item.either()?;
    if item.is_text() {
        let addr = instance::claimed(&value, addresses)?;
        return Some(Listen { addr, tls: None, alpn: Vec::new(), h2c: false });
    }
    let section = value.section()?;
    let addr = section.need("addr").and_then(|item| instance::claimed(&item, addresses));
    let tls = section.get("tls").map(|item| item.section().and_then(|s| listen_tls(&s)));
    let alpn = section.get("alpn");
    if let Some(item) = alpn.as_ref().filter(|_| tls.is_none()) {
        let help = "add `tls = { cert = \"site.pem\" }`, or remove `alpn`";
        item.cx.bad(item.word.clone(), &item.path, "`alpn` is agreed on in TLS, and this listener has none", help);
    }
    let default: &[&str] = if tls.is_some() && mode == Mode::Http { &PROTOCOLS } else { &[] };
    let alpn = match alpn {
        Some(list) => list.elements().iter().filter_map(|item| protocol(item, mode)).collect(),
        None => default.iter().map(|protocol| (*protocol).to_owned()).collect(),
    };
    let h2c = section.flag("h2c", false);
    if let Some(item) = section.get("h2c").filter(|_| h2c && tls.is_some()) {
        let help = "remove `h2c`: with TLS, `alpn` is where HTTP/2 is agreed on";
        item.cx.bad(item.word.clone(), &item.path, "`h2c` is HTTP/2 without TLS, and this listener has TLS", help);
    }
    let tls = match tls {
        Some(tls) => Some(Arc::new(tls?)),
        None => None,
    };
    Some(Listen { addr: addr?, tls, alpn, h2c })
}

/// Those that are spoken, the better liked first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

fn protocol(item: &Item<'_>, mode: Mode) -> Option<String> {
    let text = item.text()?;
    if PROTOCOLS.contains(&text.as_str()) || (mode == Mode::Tcp && text.len() < 256) {
        return Some(text);
    }
    let help = match text.to_ascii_lowercase().as_str() {
        "http2" | "http/2" | "h2c" | "http/2.0" => "write \"h2\"",
        "http1" | "http" | "http/1" | "http1.1" | "http/1.0" => "write \"http/1.1\"",
        _ => "write \"h2\", \"http/1.1\" or both",
    };
    item.bad(format!("\"{text}\" is no protocol that is spoken here"), help);
    None
}

fn listen_tls(section: &Section<'_>) -> Option<ListenTls> {
    let cert_item = section.need("cert");
    let cert: Vec<PathBuf> =
        cert_item.iter().flat_map(Item::elements).filter_map(|item| item.text()).map(Into::into).collect();
    if let Some(item) = cert_item.filter(|item| item.is_list() && item.elements().is_empty()) {
        item.bad(format!("`{}` has no certificate", section.path), item.example());
    }
    let ca = paths(section, "client_ca");
    if section.get("client_ca").is_none() {
        for item in ["client_cert", "client_crl"].into_iter().filter_map(|name| section.get(name)) {
            let message = "clients' certificates need a CA that they are checked against";
            item.cx.bad(item.word.clone(), &item.path, message, "add `client_ca = \"clients-ca.pem\"`, or remove it");
        }
    }
    let wanted = section.word("client_cert").unwrap_or(Wanted::Required);
    let crl = paths(section, "client_crl");
    Some(ListenTls {
        key: paths(section, "key"),
        min_version: section.word("min_version").unwrap_or_default(),
        strict_sni: section.flag("strict_sni", false),
        check_host: section.flag("check_host", false),
        client: (!ca.is_empty()).then_some(ClientCerts { ca, crl, wanted }),
        cert: (!cert.is_empty()).then_some(cert)?,
    })
}

fn paths(section: &Section<'_>, name: &'static str) -> Vec<PathBuf> {
    let item = section.get(name);
    item.iter().flat_map(Item::elements).filter_map(|item| item.text()).map(Into::into).collect()
}
