//! Listeners and TLS, by key.
use super::{Fields, list, or_none, word};
use crate::config::{ClientCerts, Listen, ListenTls, ServerTls, SocketOptions, Tls};
use std::path::PathBuf;

pub(in super::super) fn tls(of: &Tls) -> Fields {
    let Tls { ticket_keys, max_handshakes, max_handshake_rate } = of;
    vec![
        ("ticket_keys", paths(ticket_keys)),
        ("max_handshakes", max_handshakes.to_string()),
        ("max_handshake_rate", max_handshake_rate.to_string()),
    ]
}

/// Without the address, which is its identity.
pub(in super::super) fn listener(of: &Listen) -> Fields {
    let Listen { addr: _, socket, accept_proxy, tls, alpn, h2c } = of;
    let SocketOptions { v6only, mode, user, group } = socket;
    vec![
        ("tls", or_none(tls.as_deref().map(listen_tls))),
        ("alpn", list(alpn, Clone::clone)),
        ("h2c", h2c.to_string()),
        ("accept_proxy", list(accept_proxy, ToString::to_string)),
        ("v6only", v6only.to_string()),
        ("mode", or_none(mode.map(|mode| format!("{mode:04o}")))),
        ("user", or_none(user.as_ref())),
        ("group", or_none(group.as_ref())),
    ]
}

fn listen_tls(of: &ListenTls) -> String {
    let ListenTls { cert, key, min_version, strict_sni, check_host, client } = of;
    let mut words = vec![format!("cert {}", paths(cert))];
    words.extend((!key.is_empty()).then(|| format!("key {}", paths(key))));
    words.push(format!("from {}", min_version.as_str()));
    words.extend(strict_sni.then(|| "strict_sni".to_owned()));
    words.extend(check_host.then(|| "check_host".to_owned()));
    words.extend(client.as_ref().map(|ClientCerts { ca, crl, wanted }| {
        let crl = if crl.is_empty() { String::new() } else { format!(" crl {}", paths(crl)) };
        format!("client_cert {} by {}{crl}", word(wanted), paths(ca))
    }));
    words.join(" ")
}

pub(in super::super) fn server_tls(of: &ServerTls) -> String {
    let ServerTls { ca, verify, sni, own, min_version, alpn } = of;
    let ca = if ca.is_empty() { "system".into() } else { paths(ca) };
    let mut words = vec![if *verify { format!("ca {ca}") } else { "not verified".into() }];
    words.extend(sni.as_ref().map(|sni| format!("sni {sni}")));
    words.extend(own.as_ref().map(|(cert, key)| format!("cert {} key {}", cert.display(), key.display())));
    words.push(format!("from {}", min_version.as_str()));
    words.extend(alpn.as_ref().map(|alpn| format!("alpn {}", list(alpn, Clone::clone))));
    words.join(" ")
}

fn paths(of: &[PathBuf]) -> String {
    list(of, |path| path.display().to_string())
}
