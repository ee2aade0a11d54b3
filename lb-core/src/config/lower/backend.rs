//! `[backend.NAME]`
use super::super::reader::{Item, Section};
use super::super::{Backend, Balance, Maxconn, Server, Sticky, WebSocket, suggest};
use super::{Defaults, Unique, check, sticky, table::Tables, value, websocket};
use crate::stick::KeyExpr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn backend(
    name: &str,
    at: &Range<usize>,
    section: &Section<'_>,
    tables: &Tables,
    defaults: &Defaults,
) -> Option<Arc<Backend>> {
    let good = value::check_name(section.cx, "backend", name, at, &section.path);
    let servers = servers(section);
    let check = section.get("check").map(|item| item.section().and_then(|s| check::check(&s)));
    let backend = Backend {
        name: name.to_owned(),
        balance: section.get("balance").and_then(|item| balance(&item)).unwrap_or(Balance::RoundRobin),
        sticky: stickies(section, tables),
        on_down: section.word("on_down").unwrap_or_default(),
        drain: section.word("drain").unwrap_or_default(),
        check: check.flatten(),
        retries: section.whole("retries", defaults.retries),
        retry_after: section.duration("retry_after", Duration::from_secs(5)),
        max_queue: section.size("max_queue", 1000),
        real_ip: section.flag("real_ip", false),
        max_idle: section.size("max_idle", 64),
        timeout: defaults.timeouts(section),
        websocket: super::section(section, "websocket").map_or_else(WebSocket::default, |s| websocket::websocket(&s)),
        servers,
    };
    good.then(|| Arc::new(backend))
}

const ALGORITHMS: [&str; 4] = ["roundrobin", "leastconn", "source", "hash(EXPR)"];

fn balance(item: &Item<'_>) -> Option<Balance> {
    let text = item.text()?;
    let word = text.trim();
    match word {
        "roundrobin" => return Some(Balance::RoundRobin),
        "leastconn" => return Some(Balance::LeastConn),
        "source" | "hash" => return Some(Balance::Hash(KeyExpr::Src)),
        "uri" => return Some(Balance::Hash(KeyExpr::Path)),
        _ => {}
    }
    let inner = word.strip_prefix("hash(").and_then(|rest| rest.strip_suffix(')'));
    match inner.unwrap_or(word).parse() {
        Ok(expr) => Some(Balance::Hash(expr)),
        Err(why) if inner.is_some() || word.contains('(') => {
            value::bad_expr(item, inner.unwrap_or(word), &why);
            None
        }
        Err(_) => {
            let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
            let meant = match plain.as_str() {
                "leastconnections" | "leastoutstandingrequests" => Some("leastconn"),
                "iphash" | "sourceip" => Some("source"),
                plain => suggest::nearest(plain, ALGORITHMS.into_iter()),
            };
            let help = match meant {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    "write \"roundrobin\", \"leastconn\", \"source\" or a hash, as \"hash(header(X-Tenant))\"".into()
                }
            };
            item.bad(format!("\"{text}\" is no balancing algorithm"), help);
            None
        }
    }
}

fn stickies(section: &Section<'_>, tables: &Tables) -> Vec<Sticky> {
    let mut cookie_line = None;
    let mut rules = Vec::new();
    for item in section.get("sticky").map_or(Vec::new(), |item| item.elements()) {
        let Some(rule) = item.section() else {
            continue;
        };
        if let Some(cookie) = rule.get("cookie") {
            match cookie_line {
                Some(line) => cookie.bad(
                    format!("`{}` has two cookies, the other in line {line}", section.path),
                    "a backend has one: remove one of the two rules",
                ),
                None => cookie_line = Some(section.cx.line(&cookie.at())),
            }
        }
        rules.extend(sticky::rule(&rule, tables));
    }
    rules
}

fn servers(section: &Section<'_>) -> Vec<Arc<Server>> {
    let Some(list) = section.need("server") else {
        return Vec::new();
    };
    let items = list.elements();
    if items.is_empty() && list.is_list() {
        list.bad(format!("`{}` has no server", section.path), list.example());
    }
    let (mut names, mut cookies) = (Unique::default(), Unique::default());
    items.iter().filter_map(|item| server(&item.section()?, &mut names, &mut cookies)).map(Arc::new).collect()
}

fn server(section: &Section<'_>, names: &mut Unique, cookies: &mut Unique) -> Option<Server> {
    let cx = section.cx;
    let name_item = section.need("name");
    let name = name_item.as_ref().and_then(|item| {
        let name = item.text()?;
        let good = value::check_name(cx, "server", &name, &item.at(), &item.path);
        if let Some(line) = names.taken(cx, &name, &item.at()) {
            let help = "give each server of a backend a name of its own: tables know servers by name";
            item.bad(format!("the name \"{name}\" is taken in line {line}"), help);
            return None;
        }
        good.then_some(name)
    });
    let addr = section.need("addr").and_then(|item| value::target(&item));
    let cookie_item = section.get("cookie");
    let cookie = cookie_item.as_ref().and_then(sticky::cookie_value).or_else(|| name.clone());
    // The cookie's value is the name where none is given: two servers collide either way.
    if let (Some(value), Some(item)) = (&cookie, cookie_item.as_ref().or(name_item.as_ref()))
        && let Some(line) = cookies.taken(cx, value, &item.at())
    {
        let help = "give each server of a backend a cookie value of its own";
        item.bad(format!("the cookie value \"{value}\" is taken in line {line}"), help);
    }
    let weight = section.whole("weight", 1);
    let maxconn = section.get("maxconn").and_then(|item| maxconn(&item)).unwrap_or_default();
    let state = section.word("state").unwrap_or_default();
    Some(Server { name: name?, addr: addr?, weight, maxconn, cookie: cookie?, state })
}

/// A number is for this instance; a section may bound all together.
fn maxconn(item: &Item<'_>) -> Option<Maxconn> {
    let value = item.either()?;
    if !value.is_section() {
        return Some(Maxconn { instance: value.whole().and_then(|n| usize::try_from(n).ok())?, cluster: 0 });
    }
    let section = value.section()?;
    section.need("cluster");
    Some(Maxconn { instance: section.size("instance", 0), cluster: section.size("cluster", 0) })
}
