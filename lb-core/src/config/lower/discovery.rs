//! Servers that are found by name.
use super::super::discovery::{Identity, Origin, Template};
use super::super::reader::{Item, Section};
use super::super::{PeerAddr, ServerAddr};
use super::backend::Inherited;
use super::{Unique, backend, peers, value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn templates(section: &Section<'_>, inherited: &Inherited) -> Vec<Arc<Template>> {
    let mut names = Unique::default();
    let items = section.get("server_template").map_or(Vec::new(), |item| item.elements());
    items.iter().filter_map(|item| template(&item.section()?, inherited, &mut names)).map(Arc::new).collect()
}

fn template(section: &Section<'_>, inherited: &Inherited, names: &mut Unique) -> Option<Template> {
    let name = section.need("name").and_then(|item| {
        let name = item.text()?;
        let good = value::check_name(section.cx, "server", &name, &item.at(), &item.path);
        if let Some(line) = names.taken(section.cx, &name, &item.at()) {
            item.bad(format!("the name \"{name}\" is taken in line {line}"), "give each template a name of its own");
            return None;
        }
        good.then_some(name)
    });
    let addr = section.need("addr").and_then(|item| source(&item));
    let identity = section.word("identity").unwrap_or_default();
    if let (Some(item), Some(PeerAddr::Name { .. }), Identity::Name) = (section.get("identity"), &addr, identity) {
        let help = "write \"address\", or \"srv:…\" in `addr`: only SRV records name a host for each server";
        item.bad("all addresses of this name have one name", help);
    }
    let way = inherited.way(section);
    // It has no Unix sockets.
    let found = ServerAddr::Tcp(backend::ANYWHERE);
    let check = inherited.check(section, &way, &found);
    let agent = inherited.agent(section, &found);
    Some(Template {
        name: name?,
        addr: addr?,
        slots: section.size("slots", 10),
        identity,
        hold: section.duration("hold", Duration::ZERO),
        weight: section.whole("weight", 1),
        maxconn: section.get("maxconn").and_then(|item| backend::maxconn(&item)).unwrap_or_default(),
        backup: section.flag("backup", false),
        slow_start: way.slow_start,
        check,
        agent,
        tls: way.tls,
        send_proxy: way.send_proxy,
    })
}

/// What a template looks up.
fn source(item: &Item<'_>) -> Option<PeerAddr> {
    let text = item.text()?;
    if let Some(name) = text.strip_prefix("srv:") {
        return peers::service(item, &text, name);
    }
    if let Some(named) = text.strip_prefix("dns:").and_then(named) {
        return Some(named);
    }
    let help = match (text.parse::<SocketAddr>(), named(&text)) {
        (Ok(_), _) => "for one address write `server = [{ name = …, addr = … }]`".into(),
        (_, Some(_)) => format!("write \"dns:{text}\""),
        _ => "write \"dns:app.internal:8080\" or \"srv:_http._tcp.app.internal\"".into(),
    };
    item.bad(format!("\"{text}\" is nothing to look servers up by"), help);
    None
}

/// Where a server is: at an address, on a Unix socket, or at a name, with a stand-in for its address.
pub(super) fn place(item: &Item<'_>) -> Option<(ServerAddr, Origin)> {
    let text = item.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        let path = value::unix_path(item, &text, path, UNIX_PATH, "unix:/run/app.sock")?;
        return Some((ServerAddr::Unix(path), Origin::Written));
    }
    if text.starts_with(['/', '.', '@']) {
        let help = format!("for a Unix socket write \"unix:{}\"", text.trim_start_matches('@'));
        item.bad(format!("\"{text}\" is no address"), help);
        return None;
    }
    let stands_in = |name: PeerAddr| {
        let port = if let PeerAddr::Name { port, .. } = &name { *port } else { 0 };
        (SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(), Origin::Named(name))
    };
    if text.parse::<SocketAddr>().is_err() {
        if let Some(name) = named(&text) {
            return Some(stands_in(name));
        }
        if text.starts_with("dns:") || text.starts_with("srv:") {
            let bare = text.strip_prefix("dns:").filter(|bare| named(bare).is_some());
            let help = match bare {
                Some(bare) => format!("write \"{bare}\" for one of its addresses, or a `server_template` for all"),
                None => "write a `server_template` with this `addr`".into(),
            };
            item.bad(format!("\"{text}\" may be several servers"), help);
            return None;
        }
    }
    value::target(item).map(|addr| (addr.into(), Origin::Written))
}

/// What the kernel takes.
const UNIX_PATH: usize = 107;

/// `"app.internal:8080"`
fn named(text: &str) -> Option<PeerAddr> {
    let (host, port) = text.rsplit_once(':').filter(|(host, _)| peers::is_host(host))?;
    Some(PeerAddr::Name { host: host.to_ascii_lowercase(), port: port.parse().ok().filter(|p| *p != 0)? })
}

pub(super) fn resolver(section: &Section<'_>, default: Option<SocketAddr>) -> Option<SocketAddr> {
    section.get("resolver").map_or(default, |item| value::target(&item))
}
