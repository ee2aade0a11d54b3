//! The affinity cookie: found in a request, taken out of it, written into an answer.
//!
//! Its value is the server's cookie name; with `max_idle` or `max_life` two times follow, in seconds since the epoch:
//! `node1|<last seen>|<first seen>` (HAProxy's scheme).
use crate::config::{Cookie, SameSite};
use crate::time::Timestamp;
use std::fmt::Write as _;

/// The cookies of a `Cookie` header, as (name, value) with white space and one pair of quotes taken off.
pub fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|b| *b == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let eq = memchr::memchr(b'=', pair)?;
        let value = pair[eq + 1..].trim_ascii();
        let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        Some((pair[..eq].trim_ascii(), bare))
    })
}

/// The value of the first cookie of that name.
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pairs(header).find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
}

/// Appends the header's cookies without those of that name; nothing when no other is left.
pub fn without(header: &[u8], name: &str, out: &mut Vec<u8>) {
    let mut first = true;
    for pair in header.split(|b| *b == b';').map(<[u8]>::trim_ascii) {
        let bare = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if pair.is_empty() || bare == name.as_bytes() {
            continue;
        }
        if !first {
            out.extend_from_slice(b"; ");
        }
        first = false;
        out.extend_from_slice(pair);
    }
}

/// The name and value that a `Set-Cookie` field sets.
pub fn set_pair(field: &[u8]) -> Option<(&[u8], &[u8])> {
    pairs(field.split(|b| *b == b';').next()?).next()
}

/// What a request's affinity cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The server's cookie name.
    pub server: &'a [u8],
    /// First time it was set, seconds; 0: it does not say.
    pub first: u64,
    /// Whether the answer must set it again to keep it from going idle.
    pub renew: bool,
}

/// Reads a cookie's value under its rule. `None` when it is too old.
pub fn read<'a>(rule: &Cookie, value: &'a [u8], now: Timestamp) -> Option<Seen<'a>> {
    if rule.max_idle.is_none() && rule.max_life.is_none() {
        return Some(Seen { server: value, first: 0, renew: false });
    }
    let mut parts = value.split(|b| *b == b'|');
    let server = parts.next().unwrap_or_default();
    let mut time = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let now = now.0 / 1000;
    // A cookie without times comes from before the rule had bounds: taken, and set again with them.
    let (Some(last), Some(first)) = (time(), time()) else {
        return Some(Seen { server, first: now, renew: true });
    };
    let too_old =
        |since: u64, bound: Option<std::time::Duration>| bound.is_some_and(|b| now.saturating_sub(since) > b.as_secs());
    if too_old(last, rule.max_idle) || too_old(first, rule.max_life) {
        return None;
    }
    // Each answer need not set it; an eighth of the idle bound is the price in precision.
    let renew = rule.max_idle.is_some_and(|idle| now.saturating_sub(last) > idle.as_secs() / 8);
    Some(Seen { server, first, renew })
}

/// Appends `name=value; attributes`, the value of a `Set-Cookie` field. `first`: when it was first set, 0 for now.
pub fn write(rule: &Cookie, server: &str, first: u64, now: Timestamp, out: &mut String) {
    out.push_str(&rule.name);
    out.push('=');
    out.push_str(server);
    if rule.max_idle.is_some() || rule.max_life.is_some() {
        let now = now.0 / 1000;
        // Writing to a String cannot fail.
        let _ = write!(out, "|{now}|{}", if first == 0 { now } else { first });
    }
    out.push_str("; Path=");
    out.push_str(&rule.path);
    if let Some(domain) = &rule.domain {
        out.push_str("; Domain=");
        out.push_str(domain);
    }
    if rule.httponly {
        out.push_str("; HttpOnly");
    }
    if rule.secure {
        out.push_str("; Secure");
    }
    match rule.samesite {
        Some(SameSite::Strict) => out.push_str("; SameSite=Strict"),
        Some(SameSite::Lax) => out.push_str("; SameSite=Lax"),
        Some(SameSite::None) => out.push_str("; SameSite=None"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn rule() -> Cookie {
        Cookie { name: "SERVERID".into(), path: "/".into(), ..Cookie::default() }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_taken_out() {
        let header = b"a=1; SERVERID=node1 ;b=\"2\"; SERVERIDX=x";
        assert_eq!(find(header, "SERVERID"), Some(&b"node1"[..]));
        assert_eq!(find(header, "b"), Some(&b"2"[..]));
        assert_eq!(find(header, "ERVERID"), None);
        let mut out = Vec::new();
        without(header, "SERVERID", &mut out);
        assert_eq!(out, b"a=1; b=\"2\"; SERVERIDX=x");
        out.clear();
        without(b"SERVERID=node1", "SERVERID", &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_cookie_past_its_idle_or_life_bound_is_not_believed() {
        let rule =
            Cookie { max_idle: Some(Duration::from_secs(60)), max_life: Some(Duration::from_secs(600)), ..rule() };
        let at = |s: u64| Timestamp(s * 1000);
        let mut text = String::new();
        write(&rule, "node1", 0, at(1000), &mut text);
        let value = text.strip_prefix("SERVERID=").unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(value, "node1|1000|1000");
        assert_eq!(read(&rule, value.as_bytes(), at(1005)), Some(Seen { server: b"node1", first: 1000, renew: false }));
        assert!(read(&rule, value.as_bytes(), at(1030)).unwrap().renew);
        assert_eq!(read(&rule, value.as_bytes(), at(1061)), None);
        assert_eq!(read(&rule, b"node1|1650|1000", at(1651)), None);
    }

    #[test]
    fn attributes_are_written_as_configured() {
        let rule = Cookie {
            httponly: true,
            secure: true,
            samesite: Some(SameSite::Lax),
            domain: Some("example.org".into()),
            ..rule()
        };
        let mut text = String::new();
        write(&rule, "n1", 0, Timestamp(0), &mut text);
        assert_eq!(text, "SERVERID=n1; Path=/; Domain=example.org; HttpOnly; Secure; SameSite=Lax");
    }

    proptest! {
        #[test]
        fn no_header_bytes_make_the_cookie_reader_fail(header: Vec<u8>, value: Vec<u8>) {
            let _ = find(&header, "SERVERID");
            let mut out = Vec::new();
            without(&header, "SERVERID", &mut out);
            prop_assert_eq!(find(&out, "SERVERID"), None);
            let rule = Cookie { max_idle: Some(Duration::from_secs(1)), ..rule() };
            let _ = read(&rule, &value, Timestamp(5));
        }
    }
}
