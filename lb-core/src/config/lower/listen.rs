//! `[tls]`, and `listen` of a frontend
use super::super::reader::{Item, Section};
use super::super::{
    ClientCerts, Listen, ListenAddr, ListenTls, Proto, ProxyVersion, ServerTls, SocketOptions, Tls, Wanted,
};
use super::{Addresses, instance, peers, tcp, value};
use crate::tcp::Mode;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};
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

/// `"0.0.0.0:80"` or `{ addr = "0.0.0.0:80" }`. `trusted`: the frontend's proxies.
pub(super) fn listen(item: &Item<'_>, mode: Mode, trusted: &[IpNet], addresses: &mut Addresses) -> Option<Listen> {
    let value = item.either()?;
    let plain = |addr| Listen {
        addr,
        socket: SocketOptions::default(),
        accept_proxy: Vec::new(),
        tls: None,
        alpn: Vec::new(),
        h2c: false,
    };
    if item.is_text() {
        return Some(plain(address(&value, addresses)?));
    }
    let section = value.section()?;
    tcp::listen(&section, mode);
    let addr = section.need("addr").and_then(|item| address(&item, addresses));
    let socket = socket(&section, addr.as_ref());
    let accept_proxy = section.get("accept_proxy").and_then(|item| accept_proxy(&item, addr.as_ref(), mode, trusted));
    let tls = section.get("tls").map(|item| item.section().and_then(|s| listen_tls(&s, mode)));
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
    Some(Listen { socket, accept_proxy: accept_proxy.unwrap_or_default(), tls, alpn, h2c, ..plain(addr?) })
}

/// An address that nothing else in the file listens on.
fn address(item: &Item<'_>, addresses: &mut Addresses) -> Option<ListenAddr> {
    let text = item.text()?;
    let addr = if let Some(path) = text.strip_prefix("unix:") {
        ListenAddr::Unix(value::unix_path(item, &text, path, UNIX_PATH, "unix:/run/lb/web.sock")?)
    } else if let Some(name) = text.strip_prefix("fd@") {
        ListenAddr::Inherited(value::unix_path(item, &text, name, UNIX_PATH, "fd@web")?.display().to_string())
    } else if text.starts_with(['/', '.', '@']) {
        item.bad(
            format!("\"{text}\" is no address"),
            format!("for a Unix socket write \"unix:{}\"", text.trim_start_matches('@')),
        );
        return None;
    } else {
        return instance::claimed(item, addresses).map(ListenAddr::Tcp);
    };
    addresses.claim_text(item, &text);
    Some(addr)
}

/// What the kernel takes, less the ending of the name that a socket is made under.
const UNIX_PATH: usize = 100;

fn socket(section: &Section<'_>, addr: Option<&ListenAddr>) -> SocketOptions {
    let v6only = section.flag("v6only", false);
    let wrong = |name, message: &str, help: &str| {
        if let Some(item) = section.get(name) {
            item.cx.bad(item.word.clone(), &item.path, message, help);
        }
    };
    let v6 = addr.is_none_or(|addr| addr.tcp().is_some_and(|addr| addr.is_ipv6()));
    if v6only && !v6 {
        wrong("v6only", "`v6only` is for IPv6 addresses", "remove it, or listen on an IPv6 address, as \"[::]:80\"");
    }
    if addr.is_some_and(|addr| !matches!(addr, ListenAddr::Unix(_))) {
        for name in ["mode", "user", "group"] {
            wrong(name, &format!("`{name}` is for Unix sockets"), "remove it, or listen on \"unix:/run/lb/web.sock\"");
        }
    }
    let mode = section.get("mode").and_then(|item| {
        let text = item.text()?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            item.bad(format!("\"{text}\" is no mode of a file"), "write it in octal, as \"0660\"");
        }
        mode
    });
    SocketOptions { v6only, mode, user: section.text("user"), group: section.text("group") }
}

fn accept_proxy(item: &Item<'_>, addr: Option<&ListenAddr>, mode: Mode, trusted: &[IpNet]) -> Option<Vec<IpNet>> {
    let value = item.either()?;
    if item.is_text() {
        return Some(value::network(&value).into_iter().collect());
    }
    if item.is_list() {
        return Some(value.elements().iter().filter_map(value::network).collect());
    }
    if !value.flag()? {
        return Some(Vec::new());
    }
    match addr {
        Some(ListenAddr::Unix(_)) => Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()]),
        _ if trusted.is_empty() => {
            let networks = "name the networks of the proxies, as `accept_proxy = [\"10.0.0.0/8\"]`";
            // A frontend of TCP mode has no `trusted_proxies`: nothing else there could name the client.
            let help = match mode {
                Mode::Http => format!("{networks}, or set `trusted_proxies`"),
                Mode::Tcp => networks.into(),
            };
            item.bad("whoever connects could say that it is somebody else: no proxy is trusted", help);
            None
        }
        _ => Some(trusted.to_vec()),
    }
}

/// `tls` of a backend, a server or a check; `None`: there is none. `default`: what holds where it says nothing. `spoken`: the
/// one protocol that is spoken then, where there is one.
pub(super) fn server_tls(
    section: &Section<'_>,
    default: Option<&Arc<ServerTls>>,
    spoken: Option<Proto>,
) -> Option<Arc<ServerTls>> {
    let Some(item) = section.get("tls") else { return default.cloned() };
    let value = item.either()?;
    let base = || default.cloned().unwrap_or_default();
    if item.is_flag() {
        return value.flag().unwrap_or_default().then(base);
    }
    let (section, base) = (value.section()?, base());
    let system = |path: &PathBuf| path.as_os_str() == "system";
    let ca_item = section.get("ca");
    let mut ca = if ca_item.is_some() { paths(&section, "ca") } else { base.ca.clone() };
    if let Some(item) = ca_item.as_ref().filter(|_| ca.len() > 1 && ca.iter().any(system)) {
        item.bad("\"system\" stands alone", "write \"system\", or the files of your own CAs");
    }
    ca.retain(|path| !system(path));
    // Who names a CA wants it asked.
    let verify = section.flag("verify", base.verify || ca_item.is_some());
    if let Some(item) = ca_item.filter(|_| !verify) {
        item.cx.bad(item.word.clone(), &item.path, "nothing is verified, so that no CA is needed", "remove it");
    }
    if !verify {
        ca.clear();
    }
    let sni = section.get("sni").map(|item| {
        let name = item.text()?;
        if !peers::is_host(&name) {
            item.bad(
                format!("\"{name}\" is no host name"),
                "write the name in the server's certificate, as \"app.internal\"",
            );
            return None;
        }
        Some(name.trim_end_matches('.').to_ascii_lowercase())
    });
    let (cert, key) = (section.text("cert"), section.text("key"));
    if let Some(item) = section.get("key").filter(|_| section.get("cert").is_none()) {
        item.cx.bad(item.word.clone(), &item.path, "a private key without its certificate", "add `cert = \"lb.pem\"`");
    }
    let own = cert.map(|cert| {
        let key = key.unwrap_or_else(|| cert.clone());
        (cert.into(), key.into())
    });
    let alpn = section.get("alpn").map(|item| offered(&item, spoken));
    Some(Arc::new(ServerTls {
        ca,
        verify,
        sni: sni.unwrap_or_else(|| base.sni.clone()),
        own: own.or_else(|| base.own.clone()),
        min_version: section.word("min_version").unwrap_or(base.min_version),
        alpn: alpn.or_else(|| base.alpn.clone()),
    }))
}

/// What is offered to a server. It may choose any of these: in HTTP there is only one that is spoken then.
fn offered(item: &Item<'_>, spoken: Option<Proto>) -> Vec<String> {
    let read = |item: &Item<'_>| {
        let text = item.text()?;
        let spoken = spoken.map(Proto::alpn);
        if spoken.is_some_and(|spoken| text != spoken) || text.len() > 255 {
            let help = match spoken {
                Some("h2") => {
                    "write `alpn = [\"h2\"]` or `alpn = []`, or remove `proto = \"h2\"` of the backend".into()
                }
                Some(_) if text == "h2" => "write `proto = \"h2\"` in the backend, or remove it here".into(),
                Some(spoken) => format!("write `alpn = [\"{spoken}\"]`, `alpn = []`, or leave it out"),
                None => "a protocol's name has 255 bytes at most".into(),
            };
            item.bad(format!("\"{text}\" is not what is spoken to these servers"), help);
            return None;
        }
        Some(text)
    };
    item.elements().iter().filter_map(read).collect()
}

/// `send_proxy` of a backend, a server or a check; `None`: there is none. `default`: what `true` stands for.
pub(super) fn send_proxy(item: &Item<'_>, default: Option<ProxyVersion>) -> Option<ProxyVersion> {
    let value = item.either()?;
    if !value.is_flag() {
        return value.word();
    }
    let on = value.flag()?;
    if on && default.is_none() {
        item.bad("this does not say which version", "write \"v2\", or \"v1\" where a server knows no other");
    }
    default.filter(|_| on)
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

fn listen_tls(section: &Section<'_>, mode: Mode) -> Option<ListenTls> {
    tcp::listen_tls(section, mode);
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
