//! What `mode = "tcp"` allows and what it does not: connections are not understood there, so whatever asks for a request
//! is a mistake, and the other way round.
use super::super::reader::{Item, Section};
use super::super::{Balance, StickAction, Sticky};
use super::{frontend, matcher, mode::Backends, value};
use crate::limit::{Action, Limit};
use crate::stick::KeyExpr;
use crate::tcp::{Mode, Route, Tcp};
use std::time::Duration;

/// What a frontend has in either mode, or in this one alone.
const FRONTEND_KEYS: [&str; 9] =
    ["mode", "listen", "backend", "routes", "timeout", "maxconn", "maxconn_per_address", "limit", "inspect_delay"];
/// What a route has in this mode.
const ROUTE_KEYS: [&str; 4] = ["sni", "alpn", "src", "backend"];
/// What a backend has in HTTP alone.
const HTTP_BACKEND_KEYS: [&str; 13] = [
    "retry_on",
    "real_ip",
    "max_idle",
    "max_body",
    "proto",
    "request",
    "response",
    "error_pages",
    "maintenance",
    "compression",
    "websocket",
    "force_persist",
    "ignore_persist",
];

const HELP: &str = "remove it, or set `mode = \"http\"`";

/// What a frontend with `mode = "tcp"` has of its own; what it may not have is reported.
pub(super) fn frontend(section: &Section<'_>, mode: Mode, backends: &Backends) -> Option<Tcp> {
    let delay = section.get("inspect_delay").and_then(|item| item.duration());
    if mode == Mode::Http {
        if let Some(item) = section.get("inspect_delay") {
            unfit(&item, "`inspect_delay` is for `mode = \"tcp\"`", "remove it, or add `mode = \"tcp\"`");
        }
        return None;
    }
    for item in section.given().filter(|item| !FRONTEND_KEYS.contains(&item.name())) {
        unfit(&item, &format!("`{}` is of HTTP, and this frontend has `mode = \"tcp\"`", item.name()), HELP);
    }
    timeouts(section, &["http_request", "http_keep_alive"], "remove it");
    let items = section.get("routes").map_or(Vec::new(), |item: Item<'_>| item.elements());
    let routes = items.iter().filter_map(|item| route(item, backends)).collect();
    Some(Tcp { routes, inspect_delay: delay.unwrap_or(Duration::from_secs(5)) })
}

/// Reports what an address of a frontend has of HTTP alone.
pub(super) fn listen(section: &Section<'_>, mode: Mode) {
    if let Some(item) = section.get("h2c").filter(|_| mode == Mode::Tcp) {
        unfit(&item, "`h2c` is of HTTP, and this frontend has `mode = \"tcp\"`", HELP);
    }
}

/// As [`listen`], of its `tls`.
pub(super) fn listen_tls(section: &Section<'_>, mode: Mode) {
    if let Some(item) = section.get("check_host").filter(|_| mode == Mode::Tcp) {
        unfit(&item, "`check_host` looks at requests, and this frontend has `mode = \"tcp\"`", HELP);
    }
}

/// Reports, in a route of a frontend with `mode = "http"`, what only the other mode has.
pub(super) fn not_in_http(section: &Section<'_>) {
    for item in ["sni", "alpn", "src"].iter().filter_map(|name| section.get(name)) {
        let help = "remove it (a route of HTTP has `host` and `if`), or set `mode = \"tcp\"` on the frontend";
        unfit(&item, &format!("`{}` is for routes of a frontend with `mode = \"tcp\"`", item.name()), help);
    }
}

fn route(item: &Item<'_>, backends: &Backends) -> Option<Route> {
    let section = item.section()?;
    for item in section.given().filter(|item| !ROUTE_KEYS.contains(&item.name())) {
        let help = "a route of a TCP frontend has `sni`, `alpn` and `src`";
        unfit(&item, &format!("`{}` is of HTTP, and this frontend has `mode = \"tcp\"`", item.name()), help);
    }
    if section.given().all(|item| item.name() == "backend") {
        let help = "add `sni`, `alpn` or `src`; what no route takes goes to the frontend's `backend`";
        section.lacks("this route has no condition", help);
    }
    let all = |name| section.get(name).map_or(Vec::new(), |item: Item<'_>| item.elements());
    let sni = all("sni").iter().filter_map(server_name).collect();
    let alpn = all("alpn").iter().filter_map(protocol).collect();
    let src = all("src").iter().filter_map(value::network).collect();
    let backend = section.need("backend").and_then(|item| frontend::backend_name(&item, backends));
    Some(Route { sni, alpn, src, backend: backend? })
}

/// A host name; TLS clients send no addresses.
fn server_name(item: &Item<'_>) -> Option<String> {
    let name = matcher::host(item)?;
    if name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[') {
        item.bad(format!("TLS clients ask for names, never for an address as \"{name}\""), item.example());
        return None;
    }
    Some(name)
}

fn protocol(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.len() > 255 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "write it as it is registered: \"h2\", \"http/1.1\", \"imap\"";
        item.bad(format!("\"{text}\" is no protocol of ALPN"), help);
        return None;
    }
    Some(text)
}

/// Reports what a rule of `limit` asks of a connection that has no such thing.
pub(super) fn limit(section: &Section<'_>, rule: Option<&Limit>, mode: Mode) {
    let Some(rule) = rule else { return };
    if let Some(item) = section.get("key") {
        key(&item, &rule.key, mode, false);
    }
    let says_status = |text: &str| text.split_whitespace().any(|word| word.bytes().all(|b| b.is_ascii_digit()));
    if mode == Mode::Tcp
        && let Action::Deny(_) | Action::Tarpit(..) = rule.then
        && let Some(item) = section.get("then")
        && let Some(text) = item.text().filter(|text| says_status(text))
    {
        let help = "write \"deny\" or \"tarpit 10s\": the connection is reset";
        let message = format!("\"{text}\" answers with a status, and this frontend has `mode = \"tcp\"`");
        item.cx.unfit(item.at(), &item.path, message, help);
    }
}

/// Reports what a backend has of the other mode.
pub(super) fn backend(section: &Section<'_>, mode: Mode) {
    if mode == Mode::Tcp {
        for item in HTTP_BACKEND_KEYS.iter().filter_map(|name| section.get(name)) {
            unfit(&item, &format!("`{}` is of HTTP, and this backend has mode \"tcp\"", item.name()), "remove it");
        }
        timeouts(section, &["server"], "write `tunnel`: silence of both sides");
    }
}

/// Reports times of requests and answers.
fn timeouts(section: &Section<'_>, names: &[&'static str], help: &str) {
    let Some(timeout) = super::section(section, "timeout") else { return };
    for item in names.iter().filter_map(|name| timeout.get(name)) {
        unfit(&item, &format!("`{}` is a time of HTTP, and the mode here is \"tcp\"", item.name()), help);
    }
}

/// Reports a hash of what the mode does not have.
pub(super) fn balance(item: &Item<'_>, read: Option<Balance>, mode: Mode) -> Option<Balance> {
    if let Some(Balance::Hash(expr)) = &read {
        key(item, expr, mode, false);
    }
    read
}

/// Reports a sticky rule of the other mode.
pub(super) fn sticky(section: &Section<'_>, rule: Option<&Sticky>, mode: Mode) {
    match rule {
        Some(Sticky::Cookie(_)) if mode == Mode::Tcp => {
            if let Some(item) = section.get("cookie") {
                let help = "write `on = \"src\"` with a table, or set `mode = \"http\"`";
                unfit(&item, "cookies are of HTTP, and this backend has mode \"tcp\"", help);
            }
        }
        Some(Sticky::Table(rule)) => {
            if let Some(item) = section.get("if").filter(|_| mode == Mode::Tcp) {
                unfit(&item, "`if` asks a request, and this backend has mode \"tcp\"", HELP);
            }
            let names = ["on", "match", "store_request", "store_response"];
            if let Some(item) = names.iter().find_map(|name| section.get(name)) {
                key(&item, &rule.key, mode, rule.action == StickAction::StoreResponse);
            }
        }
        _ => {}
    }
}

/// Reports a key that the mode's connections do not have.
fn key(item: &Item<'_>, key: &KeyExpr, mode: Mode, of_answer: bool) {
    let help = match (mode, key, of_answer) {
        (Mode::Tcp, KeyExpr::Src | KeyExpr::Sni | KeyExpr::TlsSessionId | KeyExpr::Const(_), _) => return,
        (Mode::Http, KeyExpr::TlsSessionId, _) => "write `sni` or `header(Host)`, or set `mode = \"tcp\"`",
        (Mode::Http, _, _) => return,
        (Mode::Tcp, _, true) => "write `tls_session_id`, or set `mode = \"http\"`",
        (Mode::Tcp, _, false) => "write `src`, `sni` or `tls_session_id`, or set `mode = \"http\"`",
    };
    let message = match mode {
        Mode::Tcp => format!("`{key}` is of HTTP, and the mode here is \"tcp\""),
        Mode::Http => format!("`{key}` is of TLS that is passed on as it is: here it ends, in mode \"http\""),
    };
    item.cx.unfit(item.at(), &item.path, message, help);
}

/// Reports a key that has no place here.
fn unfit(item: &Item<'_>, message: &str, help: &str) {
    item.cx.unfit(item.word.clone(), &item.path, message, help);
}
