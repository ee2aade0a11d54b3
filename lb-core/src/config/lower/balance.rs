//! How a backend spreads its clients: `balance`, `load_bound`, `slow_start`, backups.
use super::super::reader::{Item, Section};
use super::super::{Balance, Server, SlowStart, Spread, suggest};
use super::{jwt, value};
use crate::stick::KeyExpr;
use std::sync::Arc;
use std::time::Duration;

const ALGORITHMS: [&str; 7] = ["roundrobin", "leastconn", "random(2)", "first", "source", "uri", "hash(EXPR)"];

pub(super) fn algorithm(item: &Item<'_>) -> Option<Balance> {
    let text = item.text()?;
    let word = text.trim();
    match word {
        "roundrobin" => return Some(Balance::RoundRobin),
        "leastconn" => return Some(Balance::LeastConn),
        "random" => return Some(Balance::Random(2)),
        "first" => return Some(Balance::First),
        "source" | "hash" => return Some(Balance::Hash(KeyExpr::Src)),
        "uri" => return Some(Balance::Hash(KeyExpr::Path)),
        _ => {}
    }
    let argument = |name| word.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')').map(str::trim);
    if let Some(draws) = argument("random") {
        let draws = draws.parse().ok().filter(|n| (1..=100).contains(n));
        if draws.is_none() {
            item.bad(format!("\"{text}\" does not say how many servers are drawn"), "write \"random(2)\"");
        }
        return draws.map(Balance::Random);
    }
    let inner = argument("hash");
    match inner.unwrap_or(word).parse() {
        Ok(expr) => jwt::with_keys(item, expr).map(Balance::Hash),
        Err(why) if inner.is_some() || word.contains('(') => {
            value::bad_expr(item, inner.unwrap_or(word), &why);
            None
        }
        Err(_) => {
            unknown(item, &text);
            None
        }
    }
}

fn unknown(item: &Item<'_>, text: &str) {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let meant = match plain.as_str() {
        "leastconnections" | "leastoutstandingrequests" => Some("leastconn"),
        "iphash" | "sourceip" => Some("source"),
        "p2c" | "poweroftwo" | "poweroftwochoices" | "leastrequest" | "randomtwo" => Some("random(2)"),
        "ringhash" | "maglev" | "rendezvous" | "consistent" | "consistenthash" => Some("hash(src)"),
        "staticrr" | "wrr" | "weightedroundrobin" => Some("roundrobin"),
        plain => suggest::nearest(plain, ALGORITHMS.into_iter()),
    };
    let help = match meant {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write \"roundrobin\", \"leastconn\", \"random(2)\", \"first\", \"source\" or a hash, as \
                 \"hash(header(X-Tenant))\""
            .into(),
    };
    item.bad(format!("\"{text}\" is no balancing algorithm"), help);
}

/// `algorithm`: `None` where it has a mistake of its own.
pub(super) fn spread(section: &Section<'_>, algorithm: Option<&Balance>, servers: &[Arc<Server>]) -> Spread {
    let bound_item = section.get("load_bound");
    let load_bound = bound_item.as_ref().and_then(|item| item.whole()).and_then(|n| u32::try_from(n).ok());
    if let Some(item) = bound_item.filter(|_| !matches!(algorithm, None | Some(Balance::Hash(_)))) {
        let help = "write `balance = \"source\"` or `balance = \"hash(EXPR)\"`, or remove it";
        item.cx.bad(item.word.clone(), &item.path, "`load_bound` is for hashing, which this backend does not do", help);
    }
    let (all_backups, backups) = (section.get("all_backups"), servers.iter().filter(|s| s.backup).count());
    if let Some(item) = all_backups.as_ref().filter(|_| backups == 0 && !servers.is_empty()) {
        let help = "add `backup = true` to the servers that are to wait, or remove it";
        item.cx.missing(item.word.clone(), &item.path, "`all_backups` without a backup", help);
    }
    if backups > 0 && backups == servers.len() {
        let help = "leave `backup` out where a server is to take clients every day";
        section.cx.bad(
            section.at.clone(),
            &section.path,
            format!("every server of `{}` is a backup", section.path),
            help,
        );
    }
    Spread { load_bound, all_backups: section.flag("all_backups", false) }
}

/// A time, or a time and a pace; `"0s"` of a server: none.
pub(super) fn slow_start(item: &Item<'_>) -> Option<SlowStart> {
    let value = item.either()?;
    if !value.is_section() {
        return value.duration().filter(|time| *time > Duration::ZERO).map(|time| SlowStart { time, pace: None });
    }
    let section = value.section()?;
    let time = section.need("time").and_then(|item| item.duration());
    let pace = section.get("pace").map_or(Some(None), |item| pace(&item).map(Some));
    Some(SlowStart { time: time?, pace: pace? })
}

/// `50/s`
fn pace(item: &Item<'_>) -> Option<std::num::NonZeroU32> {
    let text = item.text()?;
    let number = text.strip_suffix("/s").and_then(|n| n.trim().parse().ok()).filter(|n| *n <= 1_000_000);
    let pace = number.and_then(std::num::NonZeroU32::new);
    if pace.is_none() {
        item.bad(format!("\"{text}\" is no pace"), "write a number of clients a second, from 1 to 1000000: \"50/s\"");
    }
    pace
}
