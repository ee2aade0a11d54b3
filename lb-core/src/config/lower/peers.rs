//! `[peers]`
use super::super::reader::{Item, Section};
use super::super::{PeerAddr, PeerTls, Peers};
use super::{Addresses, instance, section, value};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn peers(peers: &Section<'_>, addresses: &mut Addresses) -> Option<Peers> {
    let cluster = peers.need("cluster").and_then(|item| {
        let name = item.text()?;
        value::check_name(peers.cx, "cluster", &name, &item.at(), &item.path).then_some(name)
    });
    let listen_item = peers.need("listen");
    let listen = listen_item.as_ref().and_then(|item| instance::claimed(item, addresses));
    let elements = peers.get("join").map_or(Vec::new(), |item| item.elements());
    let join: Vec<_> = elements.iter().filter_map(|item| Some((item, peer(item)?))).collect();
    let resolver = peers.get("resolver").map(|item| value::target(&item));
    let tls = section(peers, "tls").map(|s| tls(&s));
    let insecure = peers.flag("insecure", false);
    if insecure && tls.is_some() {
        peers.useless(&["insecure"], "with `tls`, which peers must speak then", "remove `insecure`, or `tls`");
    }
    if peers.get("tls").is_none() && !insecure {
        require_tls(listen_item.as_ref().zip(listen), &join);
    }
    let duration = |name, default| peers.duration(name, default);
    let rest = (
        duration("join_timeout", Duration::from_secs(10)),
        duration("ask_timeout", Duration::from_secs(1)),
        duration("heartbeat", Duration::from_secs(1)),
        duration("anti_entropy", Duration::from_secs(10)),
        duration("max_clock_ahead", Duration::from_secs(86_400)),
    );
    Some(Peers {
        cluster: cluster?,
        listen: listen?,
        join: join.into_iter().map(|(_, peer)| peer).collect(),
        resolver: match resolver {
            Some(resolver) => Some(resolver?),
            None => None,
        },
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        join_timeout: rest.0,
        ask_timeout: rest.1,
        heartbeat: rest.2,
        anti_entropy: rest.3,
        max_clock_ahead: rest.4,
    })
}

fn tls(tls: &Section<'_>) -> Option<PeerTls> {
    let path = |name| tls.need(name).and_then(|item| item.text());
    let (ca, cert, key) = (path("ca"), path("cert"), path("key"));
    Some(PeerTls { ca: ca?.into(), cert: cert?.into(), key: key?.into() })
}

/// Off loopback, peers need TLS: whoever reaches the port can read and write the tables. One report is enough.
fn require_tls(listen: Option<(&Item<'_>, SocketAddr)>, join: &[(&Item<'_>, PeerAddr)]) {
    let help = "add `tls = { ca = \"ca.pem\", cert = \"lb1.pem\", key = \"lb1.key\" }` (PEM files, the \
                certificate naming this node), or `insecure = true` where nobody else reaches that network";
    if let Some((item, addr)) = listen.filter(|(_, addr)| !addr.ip().is_loopback()) {
        item.bad(format!("peers would speak without TLS at {addr}"), help);
        return;
    }
    let far = |addr: &PeerAddr| match addr {
        PeerAddr::Socket(addr) => !addr.ip().is_loopback(),
        PeerAddr::Name { host, .. } => host != "localhost",
        PeerAddr::Service(_) => true,
    };
    if let Some((item, _)) = join.iter().find(|(_, addr)| far(addr)) {
        item.bad("this peer would be spoken to without TLS", help);
    }
}

/// `"10.0.0.2:8405"`, `"lb2.internal:8405"`, `"dns:lb-peers.internal:8405"` or `"srv:_lb-peers._tcp.shop.internal"`
fn peer(item: &Item<'_>) -> Option<PeerAddr> {
    let text = item.text()?;
    if let Some(name) = text.strip_prefix("srv:") {
        return service(item, &text, name);
    }
    let bare = text.strip_prefix("dns:").unwrap_or(&text);
    if let Ok(addr) = bare.parse::<SocketAddr>()
        && addr.port() != 0
    {
        return Some(PeerAddr::Socket(addr));
    }
    let named = bare.rsplit_once(':').filter(|(host, _)| is_host(host));
    if let Some((host, port)) = named.and_then(|(host, port)| Some((host, port.parse().ok().filter(|p| *p != 0)?))) {
        return Some(PeerAddr::Name { host: host.to_ascii_lowercase(), port });
    }
    let help = match bare.starts_with('_') && is_host(bare) {
        true => format!("for SRV records write \"srv:{bare}\""),
        false => "write \"10.0.0.2:8405\", \"lb2.internal:8405\", \"dns:lb-peers.internal:8405\" or \
                  \"srv:_lb-peers._tcp.shop.internal\""
            .into(),
    };
    item.bad(format!("\"{text}\" is no peer: it needs a host and a port from 1 to 65535"), help);
    None
}

/// What stands behind `srv:`. Its records say the ports.
pub(super) fn service(item: &Item<'_>, text: &str, name: &str) -> Option<PeerAddr> {
    let mut labels = name.split('.');
    let begins = [labels.next(), labels.next()].into_iter().flatten().filter(|l| l.len() > 1 && l.starts_with('_'));
    if begins.count() == 2 && labels.next().is_some() && is_host(name) {
        return Some(PeerAddr::Service(name.to_ascii_lowercase()));
    }
    let port = name.rsplit_once(':').filter(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
    let (why, help) = match port {
        Some((host, port)) if host.starts_with('_') => {
            (format!("SRV records have ports of their own, :{port} must go"), format!("write \"srv:{host}\""))
        }
        Some((host, port)) => (
            "it has a port, and no service and protocol".into(),
            format!("write \"srv:_lb-peers._tcp.{host}\" for SRV records, \"dns:{host}:{port}\" for addresses"),
        ),
        None => {
            ("it needs a service, a protocol and a name".into(), "write \"srv:_lb-peers._tcp.shop.internal\"".into())
        }
    };
    item.bad(format!("\"{text}\" is no name of SRV records: {why}"), help);
    None
}

/// A host name: labels of letters, digits, `-`, `_`. All digits and dots is an address gone wrong.
pub(super) fn is_host(host: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(label) && host.bytes().any(|b| b.is_ascii_alphabetic())
}
