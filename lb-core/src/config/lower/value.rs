//! Values that several sections read alike: addresses, names, header names and values, key expressions.
use super::super::reader::Item;
use super::jwt;
use crate::stick::{KeyExpr, is_token};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

/// An IP address and port.
pub(super) fn address(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text()?;
    match text.parse() {
        Ok(addr) => Some(addr),
        Err(_) => {
            let port = if item.name() == "resolver" { 53 } else { 8080 };
            let (why, help) = address_help(&text, port);
            item.bad(format!("\"{text}\" is no address: {why}"), help.unwrap_or_else(|| item.example()));
            None
        }
    }
}

/// As [`address`], for somewhere to connect to: port 0 is none.
pub(super) fn target(item: &Item<'_>) -> Option<SocketAddr> {
    let addr = address(item)?;
    if addr.port() == 0 {
        item.bad(format!("\"{addr}\" has port 0, which nobody can connect to"), item.example());
        return None;
    }
    Some(addr)
}

/// Why a text is no address, and what was probably meant; with this port where there is none.
fn address_help(text: &str, usual: u16) -> (&'static str, Option<String>) {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    if bare != text {
        return ("it is a URL", bare.parse::<SocketAddr>().ok().map(|a| format!("write \"{a}\"")));
    }
    if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
        return (
            "the port is missing",
            Some(format!("write \"{}\", with the port you mean", SocketAddr::new(ip, usual))),
        );
    }
    let Some((host, port)) = bare.rsplit_once(':') else {
        return ("it needs an IP address and a port", None);
    };
    let Ok(port) = port.parse::<u16>() else {
        if let Some((first, last)) =
            port.split_once('-').filter(|(a, b)| [a, b].iter().all(|p| p.parse::<u16>().is_ok()))
        {
            let help = format!("write an address for each port: [\"{host}:{first}\", …, \"{host}:{last}\"]");
            return ("there are no ranges of ports", Some(help));
        }
        return ("the port must be a number from 0 to 65535", None);
    };
    match host {
        "" | "*" => {
            ("the IP address is missing", Some(format!("write \"0.0.0.0:{port}\", or \"[::]:{port}\" for IPv6")))
        }
        "localhost" => ("a name stands where an IP address must", Some(format!("write \"127.0.0.1:{port}\""))),
        _ if host.contains(':') => ("an IPv6 address stands in brackets", Some(format!("write \"[{host}]:{port}\""))),
        _ => ("an IP address is needed here, names are not resolved", None),
    }
}

/// The path of a Unix socket, what follows `unix:` in a text; `most`: bytes that it may have.
pub(super) fn unix_path(item: &Item<'_>, text: &str, path: &str, most: usize, eg: &str) -> Option<PathBuf> {
    if path.is_empty() {
        item.bad(format!("\"{text}\" is no address: it ends too early"), format!("write \"{eg}\""));
        return None;
    }
    if path.len() > most {
        let help = format!("choose a path of at most {most} bytes");
        item.bad(format!("\"{text}\" is too long for a Unix socket"), help);
        return None;
    }
    Some(path.into())
}

/// Checks the name of a section: it appears in metrics, in `lb server drain BACKEND/SERVER`, in cookies.
pub(super) fn check_name(
    cx: &super::super::reader::Cx<'_>,
    what: &str,
    name: &str,
    at: &Range<usize>,
    path: &str,
) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    let good = !name.is_empty() && name.len() <= 128 && name.bytes().all(fine);
    if !good {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(128).collect();
        let help = format!("a {what}'s name is 1 to 128 letters, digits, `.`, `_`, `-`, `:`");
        let help = if plain.is_empty() { help } else { format!("{help}: write \"{plain}\"") };
        cx.bad(at.clone(), path, format!("\"{name}\" is no name of a {what}"), help);
    }
    good
}

/// The name of a header field.
pub(super) fn header_name(cx: &super::super::reader::Cx<'_>, name: &str, at: Range<usize>, path: &str) -> bool {
    let good = !name.is_empty() && name.bytes().all(is_token);
    if !good {
        let help = "a header's name is letters, digits and `-`, as X-Tenant; no colon, no spaces";
        cx.bad(at, path, format!("\"{name}\" is no header name"), help);
    }
    good
}

/// The value of a header field, as it goes over the wire.
pub(super) fn header_value(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) || text.trim() != text {
        let message = format!("the value of `{}` cannot stand in a header", item.path);
        item.bad(message, "write it on one line, without control characters and without spaces around it");
        return None;
    }
    Some(text)
}

/// A network, or an address as a network of one.
pub(super) fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let parsed = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    if parsed.is_err() {
        item.bad(format!("\"{text}\" is no network"), "write \"10.0.0.0/8\", \"2001:db8::/32\" or \"10.0.0.7\"");
    }
    parsed.ok()
}

/// A key expression.
pub(super) fn key_expr(item: &Item<'_>) -> Option<KeyExpr> {
    let text = item.text()?;
    let expr = text.parse().map_err(|why| bad_expr(item, &text, &why)).ok()?;
    jwt::with_keys(item, expr)
}

/// Reports a text that is no key expression.
pub(super) fn bad_expr(item: &Item<'_>, text: &str, why: &crate::stick::KeyExprError) {
    let word = text.split('(').next().unwrap_or("").trim();
    let help = match word {
        "hdr" | "req.hdr" => "write `header(NAME)`".into(),
        "req.cook" => "write `cookie(NAME)`".into(),
        "url_param" | "urlp" => "write `query(NAME)`".into(),
        _ => format!("write one of {}", crate::stick::FORMS),
    };
    // The reason ends with the list of forms, which is the help here.
    let why = why.to_string();
    let why = why.split(" There are:").next().unwrap_or(&why).trim_end_matches(';').to_owned();
    let elsewhere = ["hdr", "req.hdr", "req.cook", "url_param", "urlp"];
    let why = if elsewhere.contains(&word) { format!("\"{text}\" is no key expression") } else { why };
    item.bad(why, help);
}
