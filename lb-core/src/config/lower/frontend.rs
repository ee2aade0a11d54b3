//! `[frontend.NAME]`
use super::super::reader::{Item, Section};
use super::super::{Frontend, Listen, Route, suggest};
use super::{Addresses, Defaults, http2, instance, limit, peers, table::Tables, value};
use ipnet::IpNet;
use std::sync::Arc;

pub(super) fn frontends(
    root: &Section<'_>,
    backends: &[String],
    tables: &Tables,
    defaults: &Defaults,
    maxconn: usize,
    addresses: &mut Addresses,
) -> Vec<Arc<Frontend>> {
    let Some(item) = root.get("frontend") else {
        let help = "add `[frontend.web]` with `listen = \"0.0.0.0:80\"` and `backend = \"app\"`";
        root.cx.missing(0..0, "frontend", "no frontend: nothing would listen", help);
        return Vec::new();
    };
    let read = |(name, at, section): (String, _, Section<'_>)| {
        let good = value::check_name(section.cx, "frontend", &name, &at, &section.path);
        let frontend = frontend(name, &section, backends, tables, defaults, maxconn, addresses);
        good.then(|| Arc::new(frontend))
    };
    item.named().into_iter().filter_map(read).collect()
}

fn frontend(
    name: String,
    section: &Section<'_>,
    backends: &[String],
    tables: &Tables,
    defaults: &Defaults,
    maxconn: usize,
    addresses: &mut Addresses,
) -> Frontend {
    let listen_item = section.need("listen");
    let listen: Vec<_> = listen_item.iter().flat_map(Item::elements).filter_map(|i| listen(&i, addresses)).collect();
    if let Some(item) = listen_item.filter(|item| item.elements().is_empty() && item.is_list()) {
        item.bad(format!("`{}` listens nowhere", section.path), item.example());
    }
    let routes_item = section.get("routes");
    let routes = routes_item.iter().flat_map(Item::elements).filter_map(|i| route(&i, backends)).collect();
    let backend_item = section.get("backend");
    if backend_item.is_none() && routes_item.is_none() {
        let help = "add `backend = \"app\"`, or `routes = [{ path_prefix = \"/\", backend = \"app\" }]`";
        section.cx.missing(section.at.clone(), &section.path, format!("`{}` leads to no backend", section.path), help);
    }
    let trusted = section.get("trusted_proxies");
    let limit_item = section.get("limit");
    Frontend {
        name,
        listen,
        routes,
        backend: backend_item.and_then(|item| backend_name(&item, backends)),
        timeout: defaults.timeouts(section),
        maxconn: section.size("maxconn", maxconn),
        forwarded: section.flag("forwarded", true),
        trusted_proxies: trusted.iter().flat_map(Item::elements).filter_map(|i| network(&i)).collect(),
        max_head: section.size("max_head", 16 * 1024),
        max_headers: section.size("max_headers", 100),
        limit: limit_item.iter().flat_map(Item::elements).filter_map(|i| limit::rule(&i.section()?, tables)).collect(),
        max_tarpit: section.size("max_tarpit", 1000),
        http2: http2::http2(section),
    }
}

/// `"0.0.0.0:80"` or `{ addr = "0.0.0.0:80" }`
fn listen(item: &Item<'_>, addresses: &mut Addresses) -> Option<Listen> {
    let value = item.either()?;
    if item.is_text() {
        return Some(Listen { addr: instance::claimed(&value, addresses)?, h2c: false });
    }
    let section = value.section()?;
    let addr = instance::claimed(&section.need("addr")?, addresses)?;
    Some(Listen { addr, h2c: section.flag("h2c", false) })
}

/// The name of a backend that the file has.
fn backend_name(item: &Item<'_>, backends: &[String]) -> Option<String> {
    let name = item.text()?;
    if !backends.contains(&name) {
        let help = suggest::name(&name, "backend", backends);
        item.cx.missing(item.at(), &item.path, format!("there is no backend \"{name}\""), help);
        return None;
    }
    Some(name)
}

fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    // A single address is a network of one.
    let parsed = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    if parsed.is_err() {
        item.bad(format!("\"{text}\" is no network"), "write \"10.0.0.0/8\", \"2001:db8::/32\" or \"10.0.0.7\"");
    }
    parsed.ok()
}

fn route(item: &Item<'_>, backends: &[String]) -> Option<Route> {
    let section = item.section()?;
    let all = |name| section.get(name).map_or(Vec::new(), |item: Item<'_>| item.elements());
    let host = all("host").iter().filter_map(host).collect();
    let path_prefix = all("path_prefix").iter().filter_map(path_prefix).collect();
    let header = section.get("header").map_or(Vec::new(), |item| headers(&item));
    let websocket = section.get("websocket").and_then(|item| item.flag());
    if ["host", "path_prefix", "header", "websocket"].iter().all(|name| section.get(name).is_none()) {
        let help =
            "add `host`, `path_prefix`, `header` or `websocket`; what no route takes goes to the frontend's `backend`";
        section.cx.missing(section.at.clone(), &section.path, "this route has no condition", help);
    }
    let backend = section.need("backend").and_then(|item| backend_name(&item, backends));
    Some(Route { host, path_prefix, header, websocket, backend: backend? })
}

/// A host name without port, or `*.` and a host name.
fn host(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let name = text.strip_prefix("*.").unwrap_or(&text);
    let bracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let is_ip = name.parse::<std::net::Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    if peers::is_host(name) || (is_ip && name == text) {
        return Some(text.trim_end_matches('.').to_ascii_lowercase());
    }
    let bare = name.split("://").last().unwrap_or(name).split(['/', ':']).next().unwrap_or(name);
    let help = match peers::is_host(bare) {
        true => format!("write \"{bare}\": no scheme, port or path"),
        false => "write \"shop.example.com\", or \"*.example.com\" for everything under it".into(),
    };
    item.bad(format!("\"{text}\" is no host name"), help);
    None
}

fn path_prefix(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let legal = |b: u8| b > 0x20 && b != 0x7f && b != b'?' && b != b'#';
    if text.starts_with('/') && text.bytes().all(legal) {
        return Some(text);
    }
    let help = match text.starts_with('/') {
        true => "a path holds no spaces, no `?`, no `#`; write spaces as %20".into(),
        false => format!("write \"/{}\"", text.trim_start_matches(['*', '^', '/'])),
    };
    item.bad(format!("\"{text}\" is no path prefix"), help);
    None
}

/// `{ X-Tenant = "blue" }`, or `"X-Tenant"` for any value. Names come out in lower case.
fn headers(item: &Item<'_>) -> Vec<(String, Option<String>)> {
    let Some(value) = item.either() else {
        return Vec::new();
    };
    let good = |name: &str, item: &Item<'_>, at| value::header_name(item.cx, name, at, &item.path);
    if item.is_text() {
        let name = value.text().filter(|name| good(name, &value, value.at()));
        return name.map(|name| (name.to_ascii_lowercase(), None)).into_iter().collect();
    }
    let read = |(name, item): (String, Item<'_>)| {
        let named = good(&name, &item, item.word.clone());
        let text = value::header_value(&item)?;
        named.then(|| (name.to_ascii_lowercase(), Some(text)))
    };
    value.pairs().into_iter().filter_map(read).collect()
}
