//! One rule of `sticky`
use super::super::reader::{Item, Section};
use super::super::{Cookie, KeyKind, SameSite, StickAction, Sticky, Table, TableRule};
use super::{table, table::Tables, value};
use crate::stick::{KeyExpr, is_token};
use crate::table::StickKey;

const ACTIONS: [(&str, StickAction); 4] = [
    ("on", StickAction::On),
    ("match", StickAction::Match),
    ("store_request", StickAction::StoreRequest),
    ("store_response", StickAction::StoreResponse),
];

/// What only a cookie has.
const COOKIE_KEYS: [&str; 11] = [
    "insert", "indirect", "nocache", "httponly", "secure", "samesite", "domain", "path", "preserve", "maxidle",
    "maxlife",
];

pub(super) fn rule(section: &Section<'_>, tables: &Tables) -> Option<Sticky> {
    let actions: Vec<_> = ACTIONS.iter().filter(|(name, _)| section.get(name).is_some()).collect();
    match (section.get("cookie"), actions.as_slice()) {
        (Some(_), []) => {
            misplaced(section, &["table"], "a cookie needs no table");
            cookie(section).map(Sticky::Cookie)
        }
        (None, [(name, action)]) => {
            misplaced(section, &COOKIE_KEYS, "this is for a cookie of ours");
            table_rule(section, name, *action, tables).map(Sticky::Table)
        }
        (None, []) => {
            let help = "write `cookie = \"SERVERID\", insert = true`, or one of `on`, `match`, `store_request`, \
                        `store_response` with a key, and `table`";
            section.cx.missing(section.at.clone(), &section.path, "this rule says neither a cookie nor a key", help);
            None
        }
        _ => {
            let message = "this rule says several things at once";
            section.cx.bad(
                section.at.clone(),
                &section.path,
                message,
                "make a rule of its own of each: they are tried in order",
            );
            None
        }
    }
}

fn misplaced(section: &Section<'_>, names: &[&'static str], why: &str) {
    for item in names.iter().filter_map(|name| section.get(name)) {
        item.cx.bad(item.word.clone(), &item.path, format!("{why}, not for this rule"), "remove it");
    }
}

fn cookie(section: &Section<'_>) -> Option<Cookie> {
    let item = section.get("cookie")?;
    let name = item.text();
    if let Some(name) = name.as_ref().filter(|n| !n.bytes().all(is_token)) {
        let help = "a cookie's name is letters, digits, `-`, `_`: write \"SERVERID\"";
        item.bad(format!("\"{name}\" is no cookie name"), help);
    }
    if !section.flag("insert", false) {
        let help = "add `insert = true`: lb knows only cookies that it sets itself; for one that the application sets, \
                    write `store_response = \"cookie(NAME)\"` and `match = \"cookie(NAME)\"` with a table";
        item.cx.missing(item.at(), &item.path, "a cookie without `insert = true`", help);
    }
    let (samesite, secure) = (section.word("samesite"), section.flag("secure", false));
    if let Some(item) = section.get("samesite").filter(|_| samesite == Some(SameSite::None) && !secure) {
        item.cx.missing(
            item.at(),
            &item.path,
            "browsers refuse `SameSite=None` without `Secure`",
            "add `secure = true`",
        );
    }
    let attribute = |name, good: fn(&str) -> bool, help: &str| {
        let item: Item<'_> = section.get(name)?;
        let text = item.text()?;
        if !good(&text) {
            item.bad(format!("\"{text}\" cannot stand in a cookie's `{name}`"), help);
        }
        Some(text)
    };
    let domain = attribute("domain", |d| super::peers::is_host(d.trim_start_matches('.')), "write \"example.com\"");
    let plain = |p: &str| p.starts_with('/') && p.bytes().all(|b| b > 0x20 && b != 0x7f && b != b';');
    let path = attribute("path", plain, "write \"/\" or \"/app\"");
    let bound = |name| section.get(name).and_then(|item: Item<'_>| item.duration());
    let flags = (section.flag("indirect", false), section.flag("nocache", false), section.flag("httponly", false));
    let (preserve, max_idle, max_life) = (section.flag("preserve", false), bound("maxidle"), bound("maxlife"));
    Some(Cookie {
        name: name?,
        indirect: flags.0,
        nocache: flags.1,
        httponly: flags.2,
        secure,
        samesite,
        domain,
        path: path.unwrap_or_else(|| "/".into()),
        preserve,
        max_idle,
        max_life,
    })
}

/// A server's value in a cookie: cookie-octets of RFC 6265, without `|`, which separates dates from it.
pub(super) fn cookie_value(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let legal = |b: u8| b.is_ascii_graphic() && !b"\",;\\|".contains(&b);
    if !text.bytes().all(legal) || text.len() > 128 {
        let help = "write 1 to 128 letters, digits, `-`, `_`, `.`; no spaces, quotes, commas, semicolons, `|`";
        item.bad(format!("\"{text}\" cannot be the value of a cookie"), help);
        return None;
    }
    Some(text)
}

fn table_rule(section: &Section<'_>, name: &'static str, action: StickAction, tables: &Tables) -> Option<TableRule> {
    let item = section.get(name)?;
    let key = value::key_expr(&item);
    if action == StickAction::StoreResponse
        && let Some(key @ (KeyExpr::Src | KeyExpr::Query(_) | KeyExpr::Path | KeyExpr::Sni)) = &key
    {
        let help = "write `header(NAME)` or `cookie(NAME)`, which the answer has, or use `store_request`";
        item.bad(format!("`{key}` is of the request: an answer has none"), help);
    }
    let (table, spec) = table::named(&section.need("table")?, tables)?;
    if let Some(spec) = spec {
        check_type(&item, key.as_ref()?, &spec);
    }
    Some(TableRule { action, key: key?, table })
}

/// Reports an expression none of whose values could ever be a key of the table.
pub(super) fn check_type(item: &Item<'_>, key: &KeyExpr, table: &Table) {
    let number = matches!(table.kind, KeyKind::Ip | KeyKind::Ipv6 | KeyKind::Integer);
    let (fits, types) = match key {
        KeyExpr::Src => (table.kind != KeyKind::Binary, "\"ip\", \"ipv6\" (both families) or \"string\""),
        KeyExpr::Path | KeyExpr::Sni => (!number, "\"string\""),
        KeyExpr::TlsSessionId => (table.kind == KeyKind::Binary, "\"binary\" with `len = 32`"),
        KeyExpr::Const(text) => (StickKey::from_value(table.kind, table.len, text.as_bytes()).is_some(), "\"string\""),
        KeyExpr::Header(_) | KeyExpr::Cookie(_) | KeyExpr::Query(_) => (true, ""),
    };
    if !fits {
        let kind = format!("{:?}", table.kind).to_lowercase();
        let message = format!("`{key}` is never a key of table \"{}\", whose type is \"{kind}\"", table.name);
        item.bad(message, format!("use a table of type {types}"));
    }
}
