//! `[frontend.NAME]`
use super::super::reader::{Item, Section};
use super::super::{Frontend, Route, suggest};
use super::mode::Backends;
use super::{
    Addresses, Defaults, Side, http2, limit, listen::listen, matcher, rules, rules::Known, table::Tables, tcp, value,
};
use crate::limit::Limit;
use crate::matcher::Matcher;
use crate::rules::Rules;
use crate::tcp::Mode;
use std::sync::Arc;

pub(super) fn frontends(
    root: &Section<'_>,
    backends: &Backends,
    known: &Known<'_>,
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
        let frontend = frontend(name, &section, backends, known, defaults, maxconn, addresses);
        backends.settle(&section, frontend.tcp.as_ref().map_or(Mode::Http, |_| Mode::Tcp));
        good.then(|| Arc::new(frontend))
    };
    item.named().into_iter().filter_map(read).collect()
}

fn frontend(
    name: String,
    section: &Section<'_>,
    backends: &Backends,
    known: &Known<'_>,
    defaults: &Defaults,
    maxconn: usize,
    addresses: &mut Addresses,
) -> Frontend {
    let mode = section.get("mode").map_or(Some(Mode::Http), |item| item.word());
    section.cx.mode_unknown.set(section.cx.mode_unknown.get() || mode.is_none());
    let mode = mode.unwrap_or_default();
    let listen_item = section.need("listen");
    let trusted = section.get("trusted_proxies");
    let trusted: Vec<_> = trusted.iter().flat_map(Item::elements).filter_map(|i| value::network(&i)).collect();
    let listen: Vec<_> =
        listen_item.iter().flat_map(Item::elements).filter_map(|i| listen(&i, mode, &trusted, addresses)).collect();
    if let Some(item) = listen_item.filter(|item| item.elements().is_empty() && item.is_list()) {
        item.bad(format!("`{}` listens nowhere", section.path), item.example());
    }
    let routes_item = section.get("routes");
    let tcp = tcp::frontend(section, mode, backends);
    let of_http = routes_item.iter().filter(|_| tcp.is_none());
    let routes = of_http.flat_map(Item::elements).filter_map(|i| route(&i, backends, known.tables)).collect();
    let backend_item = section.get("backend");
    if backend_item.is_none() && routes_item.is_none() {
        let help = match mode {
            Mode::Http => "add `backend = \"app\"`, or `routes = [{ path_prefix = \"/\", backend = \"app\" }]`",
            Mode::Tcp => "add `backend = \"app\"`, or `routes = [{ sni = \"a.example.com\", backend = \"app\" }]`",
        };
        section.cx.missing(section.at.clone(), &section.path, format!("`{}` leads to no backend", section.path), help);
    }
    let limit_item = section.get("limit");
    Frontend {
        name,
        tcp,
        listen,
        routes,
        backend: backend_item.and_then(|item| backend_name(&item, backends)),
        timeout: defaults.timeouts(section, Side::Frontend),
        maxconn: section.size("maxconn", maxconn),
        maxconn_per_address: section.size("maxconn_per_address", 0),
        forwarded: section.flag("forwarded", true),
        trusted_proxies: trusted,
        max_head: section.size("max_head", 16 * 1024),
        max_headers: section.size("max_headers", 100),
        min_rate: section.size("min_rate", 240) as u64,
        limit: limit_item
            .iter()
            .flat_map(Item::elements)
            .filter_map(|i| limit(&i.section()?, mode, known.tables))
            .collect(),
        max_tarpit: section.size("max_tarpit", 1000),
        rules: Rules { request_id: rules::request_id(section), ..rules::rules(section, known) },
        http2: http2::http2(section),
    }
}

/// A rule of `limit`, as the frontend's mode allows it.
fn limit(section: &Section<'_>, mode: Mode, tables: &Tables) -> Option<Limit> {
    let rule = limit::rule(section, tables);
    tcp::limit(section, rule.as_ref(), mode);
    rule
}

/// The name of a backend that the file has.
pub(super) fn backend_name(item: &Item<'_>, backends: &Backends) -> Option<String> {
    let name = item.text()?;
    if !backends.contains(&name) {
        let help = suggest::name(&name, "backend", backends);
        item.cx.missing(item.at(), &item.path, format!("there is no backend \"{name}\""), help);
        return None;
    }
    backends.used(item, &name);
    Some(name)
}

fn route(item: &Item<'_>, backends: &Backends, tables: &Tables) -> Option<Route> {
    let section = item.section()?;
    tcp::not_in_http(&section);
    let mut tests = matcher::short(&section);
    let asked = section.get("if").map(|item| item.section().and_then(|s| matcher::matcher(&s, tables)));
    if section.given().all(|item| item.name() == "backend") {
        let help = "add `host`, `path_prefix`, `header`, `websocket` or `if`; what no route takes goes to the \
                    frontend's `backend`";
        section.lacks("this route has no condition", help);
    }
    let backend = section.need("backend").and_then(|item| backend_name(&item, backends));
    tests.extend(asked.map_or(Some(Matcher::default()), |read| read)?.0);
    Some(Route { when: Matcher(tests), backend: backend? })
}
