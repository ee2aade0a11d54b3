//! One rule of `sticky`
use super::super::reader::{Item, Section};
use super::super::{KeyKind, StickAction, Sticky, Table, TableRule};
use super::{cookie, matcher, table, table::Tables, value};
use crate::matcher::Matcher;
use crate::stick::KeyExpr;
use crate::table::StickKey;

const ACTIONS: [(&str, StickAction); 4] = [
    ("on", StickAction::On),
    ("match", StickAction::Match),
    ("store_request", StickAction::StoreRequest),
    ("store_response", StickAction::StoreResponse),
];

/// What only a cookie has.
const COOKIE_KEYS: [&str; 17] = [
    "insert", "rewrite", "prefix", "passive", "value", "keys", "indirect", "nocache", "httponly", "secure", "samesite",
    "domain", "path", "preserve", "maxidle", "maxlife", "attr",
];

pub(super) fn rule(section: &Section<'_>, tables: &Tables) -> Option<Sticky> {
    let actions: Vec<_> = ACTIONS.iter().filter(|(name, _)| section.get(name).is_some()).collect();
    match (section.get("cookie"), actions.as_slice()) {
        (Some(_), []) => {
            misplaced(section, &["table"], "a cookie needs no table");
            cookie::cookie(section, tables).map(Sticky::Cookie)
        }
        (None, [(name, action)]) => {
            misplaced(section, &COOKIE_KEYS, "this is for a cookie");
            table_rule(section, name, *action, tables).map(Sticky::Table)
        }
        (None, []) => {
            let help = "write `cookie = \"SERVERID\", insert = true`, or one of `on`, `match`, `store_request`, \
                        `store_response` with a key, and `table`";
            section.lacks("this rule says neither a cookie nor a key", help);
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
        && let Some(key) = key.as_ref().filter(|key| of_request(key))
    {
        let help = "write `header(NAME)` or `cookie(NAME)`, which the answer has, or use `store_request`";
        item.bad(format!("`{key}` is of the request: an answer has none"), help);
    }
    let when = when(section, tables);
    let (table, spec) = table::named(&section.need("table")?, tables)?;
    if let Some(spec) = spec {
        check_type(&item, key.as_ref()?, &spec);
    }
    Some(TableRule { action, key: key?, table, when: when? })
}

/// `if` of a sticky rule.
pub(super) fn when(section: &Section<'_>, tables: &Tables) -> Option<Matcher> {
    section.get("if").map_or(Some(Matcher::default()), |item| matcher::matcher(&item.section()?, tables))
}

/// `force_persist` or `ignore_persist`.
pub(super) fn any_of(section: &Section<'_>, name: &'static str, tables: &Tables) -> Vec<Matcher> {
    let items = section.get(name).map_or(Vec::new(), |item: Item<'_>| item.elements());
    items.iter().filter_map(|item| matcher::matcher(&item.section()?, tables)).collect()
}

/// Whether an answer never has it.
fn of_request(key: &KeyExpr) -> bool {
    !matches!(key, KeyExpr::Header(_) | KeyExpr::Cookie(_) | KeyExpr::TlsSessionId | KeyExpr::Const(_))
}

/// Reports an expression none of whose values could ever be a key of the table.
pub(super) fn check_type(item: &Item<'_>, key: &KeyExpr, table: &Table) {
    let number = matches!(table.kind, KeyKind::Ip | KeyKind::Ipv6 | KeyKind::Integer);
    let (fits, types) = match key {
        KeyExpr::Src => (table.kind != KeyKind::Binary, "\"ip\", \"ipv6\" (both families) or \"string\""),
        KeyExpr::Path | KeyExpr::Segments(_) | KeyExpr::Url | KeyExpr::Sni => (!number, "\"string\""),
        KeyExpr::TlsSessionId => (table.kind == KeyKind::Binary, "\"binary\" with `len = 32`"),
        KeyExpr::Const(text) => (StickKey::from_value(table.kind, table.len, text.as_bytes()).is_some(), "\"string\""),
        KeyExpr::Header(_) | KeyExpr::Cookie(_) | KeyExpr::Query(_) | KeyExpr::Segment(_) | KeyExpr::Jwt(_) => {
            (true, "")
        }
    };
    if !fits {
        let kind = format!("{:?}", table.kind).to_lowercase();
        let message = format!("`{key}` is never a key of table \"{}\", whose type is \"{kind}\"", table.name);
        item.bad(message, format!("use a table of type {types}"));
    }
}
