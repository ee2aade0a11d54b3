//! A sticky rule that is a cookie
use super::super::reader::{Item, Section};
use super::super::{Cookie, CookieMode, CookieValue, FailBack, SameSite, Sticky};
use super::{peers, secret, sticky, table::Tables};
use crate::secret::Secret;
use crate::stick::is_token;

const MODES: [(&str, CookieMode); 4] = [
    ("insert", CookieMode::Insert),
    ("rewrite", CookieMode::Rewrite),
    ("prefix", CookieMode::Prefix),
    ("passive", CookieMode::Passive),
];

/// What only a cookie has that lb sets itself.
const INSERT_KEYS: [&str; 11] = [
    "indirect", "nocache", "httponly", "secure", "samesite", "domain", "path", "preserve", "maxidle", "maxlife", "attr",
];

/// A key has at least so many bytes.
const KEY: usize = 16;

pub(super) fn cookie(section: &Section<'_>, tables: &Tables) -> Option<Cookie> {
    let item = section.get("cookie")?;
    let name = item.text();
    if let Some(name) = name.as_ref().filter(|n| !n.bytes().all(is_token)) {
        let help = "a cookie's name is letters, digits, `-`, `_`: write \"SERVERID\"";
        item.bad(format!("\"{name}\" is no cookie name"), help);
    }
    let mode = mode(section, &item);
    let value = section.get("value").map_or(Some(CookieValue::Name), |item| item.word());
    let keys = keys(section, value);
    let (samesite, secure) = (section.word("samesite"), section.flag("secure", false));
    if let Some(item) = section.get("samesite").filter(|_| samesite == Some(SameSite::None) && !secure) {
        item.cx.missing(
            item.at(),
            &item.path,
            "browsers refuse `SameSite=None` without `Secure`",
            "add `secure = true`",
        );
    }
    let domain = attribute(section, "domain", |d| peers::is_host(d.trim_start_matches('.')), "write \"example.com\"");
    let plain = |p: &str| p.starts_with('/') && p.bytes().all(|b| b > 0x20 && b != 0x7f && b != b';');
    let path = attribute(section, "path", plain, "write \"/\" or \"/app\"");
    let bound = |name| section.get(name).and_then(|item: Item<'_>| item.duration());
    Some(Cookie {
        mode: mode.unwrap_or_default(),
        value: value.unwrap_or_default(),
        keys,
        when: sticky::when(section, tables)?,
        name: name?,
        indirect: section.flag("indirect", false),
        nocache: section.flag("nocache", false),
        httponly: section.flag("httponly", false),
        secure,
        samesite,
        domain,
        path: path.unwrap_or_else(|| "/".into()),
        preserve: section.flag("preserve", false),
        max_idle: bound("maxidle"),
        max_life: bound("maxlife"),
        attr: section.get("attr").map_or(Vec::new(), |item| item.elements()).iter().filter_map(attr).collect(),
    })
}

/// Who sets it; and nothing that the mode has no use for.
fn mode(section: &Section<'_>, cookie: &Item<'_>) -> Option<CookieMode> {
    let given: Vec<_> = MODES.iter().filter(|(name, _)| section.flag(name, false)).collect();
    let (name, mode) = match given.as_slice() {
        [one] => **one,
        // What is given and is no flag is reported as that.
        [] if MODES.iter().any(|(name, _)| section.get(name).is_some_and(|item| !item.is_flag())) => return None,
        [] => {
            let help = "add `insert = true` (lb sets it), `rewrite = true` (the application sets it, lb puts in the \
                        server), `prefix = true` (… before the application's value) or `passive = true` (the \
                        application's own value is the server's). For a session id, write \
                        `store_response = \"cookie(NAME)\"` and `match = \"cookie(NAME)\"` with a table";
            cookie.cx.missing(cookie.at(), &cookie.path, "this cookie does not say who sets it", help);
            return None;
        }
        _ => {
            let names: Vec<_> = given.iter().map(|(name, _)| format!("`{name}`")).collect();
            let message = format!("one of {} can hold, not all", names.join(", "));
            cookie.bad(message, "keep one: a cookie has one way in which it is set");
            return None;
        }
    };
    let useless = |key: &str| match mode {
        CookieMode::Insert => false,
        CookieMode::Passive => true,
        _ => key != "nocache",
    };
    for key in INSERT_KEYS.into_iter().filter(|key| useless(key)) {
        if let Some(item) = section.get(key) {
            let message = format!("`{key}` has no meaning with `{name}`: the server sets this cookie");
            item.cx.bad(item.word.clone(), &item.path, message, "remove it, or write `insert = true` instead");
        }
    }
    if let (CookieMode::Passive, Some(item)) = (mode, section.get("value")) {
        let help = "remove it: the application's value is looked up among the servers' `cookie` values";
        item.cx.bad(item.word.clone(), &item.path, "`value` has no meaning with `passive`", help);
    }
    Some(mode)
}

/// `value`: `None` where it has a mistake of its own.
fn keys(section: &Section<'_>, value: Option<CookieValue>) -> Vec<Secret> {
    let Some(item) = section.get("keys") else {
        if let (Some(item), Some(value @ (CookieValue::Dynamic | CookieValue::Sealed))) = (section.get("value"), value)
        {
            let message = format!("`value = \"{value:?}\"` needs a key").to_lowercase();
            let help =
                "add `keys = [\"${COOKIE_KEY}\"]`, the same on every instance; `openssl rand -base64 24` makes one";
            item.cx.missing(item.at(), &item.path, message, help);
        }
        return Vec::new();
    };
    if value == Some(CookieValue::Name) {
        let help = "add `value = \"dynamic\"` or `value = \"sealed\"`, or remove it";
        item.cx.bad(item.word.clone(), &item.path, "a plain cookie has no use for keys", help);
    }
    let items = item.elements();
    if items.is_empty() && item.is_list() {
        item.bad("there is no key in this list", item.example());
    }
    items.iter().filter_map(key).collect()
}

fn key(item: &Item<'_>) -> Option<Secret> {
    let key = secret::secret(item)?;
    let len = key.bytes().len();
    if len < KEY {
        let message = format!("a key of {len} characters can be guessed");
        item.bad(message, format!("write {KEY} or more; `openssl rand -base64 24` makes one"));
        return None;
    }
    Some(key)
}

fn attribute(section: &Section<'_>, name: &'static str, good: fn(&str) -> bool, help: &str) -> Option<String> {
    let item: Item<'_> = section.get(name)?;
    let text = item.text()?;
    if !good(&text) {
        item.bad(format!("\"{text}\" cannot stand in a cookie's `{name}`"), help);
    }
    Some(text)
}

/// One more attribute, `NAME` or `NAME=VALUE`.
fn attr(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let name = text.split('=').next().unwrap_or_default().trim();
    let own = ["httponly", "secure", "samesite", "domain", "path"];
    if own.contains(&name.to_ascii_lowercase().as_str()) {
        let key = name.to_ascii_lowercase();
        item.bad(format!("`{name}` has a key of its own"), format!("write `{key} = …` in the rule"));
        return None;
    }
    let legal = |b: u8| b.is_ascii() && !b.is_ascii_control() && b != b';';
    if name.is_empty() || !name.bytes().all(is_token) || !text.bytes().all(legal) {
        item.bad(format!("\"{text}\" is no attribute of a cookie"), "write \"Partitioned\" or \"Max-Age=3600\"");
        return None;
    }
    Some(text.trim().to_owned())
}

/// What the rules of a backend, taken together, cannot do.
pub(super) fn fail_back(section: &Section<'_>, rules: &[Sticky]) -> FailBack {
    let Some(item) = section.get("fail_back") else { return FailBack::Never };
    let when = item.word().unwrap_or_default();
    let known = |rule: &Sticky| match rule {
        Sticky::Cookie(cookie) => cookie.mode == CookieMode::Insert,
        Sticky::Table(_) => true,
    };
    if when != FailBack::Never && section.get("sticky").is_none() {
        let help = "add a cookie with `insert = true`, or a rule with a table";
        item.cx.missing(item.at(), &item.path, "without `sticky` no client has a first server", help);
    } else if when != FailBack::Never && !rules.is_empty() && !rules.iter().any(known) {
        let help = "write `insert = true`, add a rule with a table, or remove `fail_back`";
        item.bad("nobody remembers the first server: the application sets this cookie", help);
    }
    let untimed = |rule: &Sticky| match rule {
        Sticky::Cookie(c) => c.mode == CookieMode::Insert && c.max_idle.is_none(),
        Sticky::Table(_) => false,
    };
    if when == FailBack::Idle && rules.iter().any(untimed) {
        let help = "add `maxidle = \"30m\"` to the cookie, or write `fail_back = \"now\"`";
        item.bad("the cookie does not say when its client was last here", help);
    }
    when
}
