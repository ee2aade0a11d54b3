//! `if`: what a rule asks of a request
use super::super::condition::conditions;
use super::super::reader::{Cx, Item, Section};
use super::{check, peers, sticky, table, table::Tables, value};
use crate::matcher::{self as matching, AnswerMatcher, Matcher, Pattern, Test, Value};
use crate::stick::{KeyExpr, is_token};
use std::ops::Range;

/// Reads `if`.
pub(super) fn matcher(section: &Section<'_>, tables: &Tables) -> Option<Matcher> {
    let mut tests = short(section);
    tests.extend(some(list(section, "src", value::network), Test::Src));
    tests.extend(some(list(section, "host_regex", pattern), Test::HostRegex));
    tests.extend(some(list(section, "path", |item| plain(item, "path")), Test::Path));
    tests.extend(some(list(section, "path_regex", pattern), Test::PathRegex));
    tests.extend(some(list(section, "method", method), Test::Method));
    let named = |key, test: fn(String, Value) -> Test, good: Good| {
        section.get(key).map_or(Vec::new(), |item: Item<'_>| values(&item, test, good))
    };
    tests.extend(named("query", Test::Query, parameter_name));
    tests.extend(named("cookie", Test::Cookie, cookie_name));
    tests.extend(header_patterns(section).into_iter().map(|(name, value)| Test::Header(name, value)));
    let flag = |key| section.get(key).and_then(|item: Item<'_>| item.flag());
    tests.extend(flag("tls").map(Test::Tls));
    tests.extend(some(list(section, "sni", host), Test::Sni));
    tests.extend(flag("client_cert").map(Test::ClientCert));
    tests.extend(some(list(section, "client_name", |item| item.text()), Test::ClientName));
    let count = count(section, tables);
    let not = section.get("not").map(|item| none_of(&item, tables));
    tests.extend(count.clone().flatten());
    tests.extend(not.clone().flatten());
    if section.is_empty() {
        let help = "write what must hold, as `path_prefix = \"/admin\"`, or leave it out: it then holds always";
        section.cx.missing(section.at.clone(), &section.path, format!("`{}` asks nothing", section.path), help);
    }
    // What was wrong is reported; a rule must not match more for it.
    (count != Some(None) && not != Some(None)).then_some(Matcher(tests))
}

/// The keys that a route has of its own, too.
pub(super) fn short(section: &Section<'_>) -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(some(list(section, "host", host), Test::Host));
    tests.extend(some(list(section, "path_prefix", |item| plain(item, "path prefix")), Test::PathPrefix));
    let fields = section.get("header").map_or(Vec::new(), |item| headers(&item));
    tests.extend(fields.into_iter().map(|(name, value)| Test::Header(name, value)));
    tests.extend(section.get("websocket").and_then(|item| item.flag()).map(Test::Websocket));
    tests
}

fn list<T>(section: &Section<'_>, name: &'static str, read: impl Fn(&Item<'_>) -> Option<T>) -> Vec<T> {
    let Some(item) = section.get(name) else { return Vec::new() };
    let items = item.elements();
    if items.is_empty() && item.is_list() {
        item.bad(format!("`{}` lists nothing, so that nothing would match", item.path), item.example());
    }
    items.iter().filter_map(read).collect()
}

fn some<T>(values: Vec<T>, test: fn(Vec<T>) -> Test) -> Option<Test> {
    (!values.is_empty()).then(|| test(values))
}

/// A host name without port, or `*.` and a host name.
pub(super) fn host(item: &Item<'_>) -> Option<String> {
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

/// A path, whole or as a prefix: `what` it is called.
pub(super) fn path(item: &Item<'_>, what: &str) -> Option<String> {
    let text = item.text()?;
    let legal = |b: u8| b > 0x20 && b != 0x7f && b != b'?' && b != b'#';
    if text.starts_with('/') && text.bytes().all(legal) {
        return Some(text);
    }
    let help = match text.starts_with('/') {
        true => "a path holds no spaces, no `?`, no `#`; write spaces as %20".into(),
        false => format!("write \"/{}\"", text.trim_start_matches(['*', '^', '/'])),
    };
    item.bad(format!("\"{text}\" is no {what}"), help);
    None
}

/// A path as it is compared with those of requests.
pub(super) fn plain(item: &Item<'_>, what: &str) -> Option<String> {
    let text = path(item, what)?;
    Some(matching::path::plain(text.as_bytes()).and_then(|plain| String::from_utf8(plain).ok()).unwrap_or(text))
}

/// A regular expression.
pub(super) fn pattern(item: &Item<'_>) -> Option<Pattern> {
    let text = item.text()?;
    let read = Pattern::new(&text);
    let help = "write a regular expression, as \"^/user/[0-9]+$\"; in TOML, '…' needs no double backslashes";
    read.map_err(|why| item.bad(format!("\"{text}\" is no pattern: {why}"), help)).ok()
}

fn method(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.bytes().all(is_token) && !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Some(text);
    }
    let help = match text.bytes().all(is_token) {
        true => format!("write \"{}\"", text.to_ascii_uppercase()),
        false => "write \"GET\", or a list as [\"GET\", \"HEAD\"]".into(),
    };
    item.bad(format!("\"{text}\" is no method"), help);
    None
}

/// What a rule on answers asks of them: `status`, `header`, `header_regex`, `not`.
pub(super) fn of_answer(section: &Section<'_>) -> AnswerMatcher {
    let not = list(section, "not", |item| {
        let section = item.section()?;
        if section.is_empty() {
            let help = "write what must not hold, as `header = \"Cache-Control\"`, or leave it out";
            section.cx.missing(section.at.clone(), &section.path, format!("`{}` asks nothing", section.path), help);
        }
        Some(answer(&section))
    });
    AnswerMatcher { not, ..answer(section) }
}

fn answer(section: &Section<'_>) -> AnswerMatcher {
    let status = list(section, "status", check::status);
    let mut fields = section.get("header").map_or(Vec::new(), |item| headers(&item));
    fields.extend(header_patterns(section));
    AnswerMatcher { status, fields, not: Vec::new() }
}

/// `{ X-Tenant = "blue" }`, or `"X-Tenant"` for any value. Names come out in lower case.
fn headers(item: &Item<'_>) -> Vec<(String, Value)> {
    values(item, |name, value| (name.to_ascii_lowercase(), value), value::header_name)
}

/// Checks a name, and reports one that is none.
type Good = fn(&Cx<'_>, &str, Range<usize>, &str) -> bool;

fn cookie_name(cx: &Cx<'_>, name: &str, at: Range<usize>, path: &str) -> bool {
    let good = !name.is_empty() && name.bytes().all(is_token);
    if !good {
        cx.bad(at, path, format!("\"{name}\" is no cookie name"), "a cookie's name is letters, digits, `-`, `_`");
    }
    good
}

fn parameter_name(cx: &Cx<'_>, name: &str, at: Range<usize>, path: &str) -> bool {
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"=&#?".contains(&b));
    if !good {
        let help = "write the parameter's name as it is sent: no `=`, no `&`, no spaces";
        cx.bad(at, path, format!("\"{name}\" is no name of a query parameter"), help);
    }
    good
}

fn values<T>(item: &Item<'_>, test: fn(String, Value) -> T, good: Good) -> Vec<T> {
    let Some(value) = item.either() else {
        return Vec::new();
    };
    if item.is_text() {
        let name = value.text().filter(|name| good(item.cx, name, value.at(), &item.path));
        return name.map(|name| test(name, Value::Any)).into_iter().collect();
    }
    let read = |(name, item): (String, Item<'_>)| {
        let named = good(item.cx, &name, item.word.clone(), &item.path);
        let text = value::header_value(&item)?;
        named.then(|| test(name, Value::Is(text)))
    };
    value.pairs().into_iter().filter_map(read).collect()
}

fn header_patterns(section: &Section<'_>) -> Vec<(String, Value)> {
    let read = |(name, item): (String, Item<'_>)| {
        let named = value::header_name(item.cx, &name, item.word.clone(), &item.path);
        let pattern = pattern(&item)?;
        named.then(|| (name.to_ascii_lowercase(), Value::Like(pattern)))
    };
    let pairs = section.get("header_regex").map_or(Vec::new(), |item: Item<'_>| item.pairs());
    pairs.into_iter().filter_map(read).collect()
}

/// `key`, `table` and `when`, all or none of them. Inside, `None`: something is wrong with them.
fn count(section: &Section<'_>, tables: &Tables) -> Option<Option<Test>> {
    let names = ["key", "table", "when"];
    names.iter().find_map(|name| section.get(name))?;
    let [key_item, table_item, when_item] = names.map(|name| section.need(name));
    let key = key_item.as_ref().and_then(value::key_expr);
    if let (Some(item), Some(KeyExpr::TlsSessionId)) = (&key_item, &key) {
        item.bad("no request has a `tls_session_id`: TLS ends here", "write `sni`, `src` or `header(Host)`");
        return Some(None);
    }
    let read = || {
        let (_, spec) = table::named(table_item.as_ref()?, tables)?;
        let spec = spec?;
        if let (Some(item), Some(key)) = (&key_item, &key) {
            sticky::check_type(item, key, &spec);
        }
        if spec.store.is_empty() {
            let help = format!("add `store = [\"http_req_rate(10s)\"]` to `[table.{}]`", spec.name);
            table_item.as_ref()?.bad(format!("table \"{}\" counts nothing", spec.name), help);
            return None;
        }
        let item = when_item?;
        let when = conditions(&item.text()?, &spec).map_err(|wrong| item.bad(wrong.message, wrong.help)).ok()?;
        Some(Test::Count { key: key.clone()?, table: spec.name.clone(), when })
    };
    Some(read())
}

fn none_of(item: &Item<'_>, tables: &Tables) -> Option<Test> {
    let read: Vec<_> = item.elements().iter().map(|item| matcher(&item.section()?, tables)).collect();
    if read.is_empty() && item.is_list() {
        item.bad(format!("`{}` lists nothing", item.path), item.example());
    }
    let all: Option<Vec<_>> = read.into_iter().collect();
    all.map(Test::Not)
}
