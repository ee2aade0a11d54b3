//! The affinity cookie of a backend: which server a value names, and the value that names a server.
//!
//! In plain text a value is the server's cookie name or keyed hash. With `max_idle` or `max_life` two times follow, in
//! seconds since the epoch, and where clients go back to their first server, that one's:
//! `node1|<last seen>|<first seen>|<first server>` (HAProxy's scheme, but for the last). A sealed value has all of this
//! inside, and the server's generation.
use super::seal::{Sealer, dynamic};
use crate::config::{self, Cookie, CookieValue, SameSite};
use crate::time::Timestamp;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

pub use super::seal::NONCE;

/// A backend's cookie rule with its servers' values.
#[derive(Debug)]
pub struct Rule {
    /// As in the configuration.
    pub config: Cookie,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// For each server the values that name it; the first is the one that is written.
    Plain(Vec<Vec<String>>),
    Sealed(Sealer, Vec<Identity>),
}

/// What a sealed value says of a server.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    generation: u64,
}

/// What a request's affinity cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The server that it names.
    pub server: usize,
    /// The client's first server, when it was moved from there and may go back.
    pub home: Option<usize>,
    /// First time it was set, seconds; 0: it does not say.
    pub first: u64,
    /// Last time it was set, seconds; 0: it does not say.
    pub last: u64,
    /// Whether the answer must set it again: to keep it from going idle, or because its key or form is old.
    pub renew: bool,
}

/// A value read, before its times are looked at.
struct Said {
    server: usize,
    home: Option<usize>,
    last: u64,
    first: u64,
    old: bool,
}

impl Rule {
    /// Computes the servers' values.
    pub fn new(config: Cookie, servers: &[Arc<config::Server>]) -> Self {
        let hashed =
            |s: &Arc<config::Server>| config.keys.iter().map(|key| dynamic(key, &s.addr, s.generation)).collect();
        let identity = |s: &Arc<config::Server>| Identity { name: s.cookie.clone(), generation: s.generation };
        let values = match config.value {
            CookieValue::Name => Values::Plain(servers.iter().map(|s| vec![s.cookie.clone()]).collect()),
            CookieValue::Dynamic => Values::Plain(servers.iter().map(hashed).collect()),
            CookieValue::Sealed => {
                Values::Sealed(Sealer::new(&config.keys, &config.name), servers.iter().map(identity).collect())
            }
        };
        Self { config, values }
    }

    /// Reads a cookie's value. `None`: it names no server, or is too old.
    pub fn read(&self, value: &[u8], now: Timestamp) -> Option<Found> {
        // The application's own part is no business of ours.
        let value = match self.config.mode {
            config::CookieMode::Prefix => &value[..memchr::memchr(super::PREFIX_END, value)?],
            _ => value,
        };
        let Said { server, home, last, first, old } = match &self.values {
            Values::Plain(values) => plain(values, value)?,
            Values::Sealed(sealer, servers) => sealed(sealer, servers, value)?,
        };
        if !self.is_bounded() {
            return Some(Found { server, home, first, last, renew: old });
        }
        let now = now.0 / 1000;
        // A cookie without times comes from before the rule had bounds: taken, and set again with them.
        if last == 0 || first == 0 {
            return Some(Found { server, home, first: now, last: now, renew: true });
        }
        let too_old =
            |since: u64, bound: Option<Duration>| bound.is_some_and(|b| now.saturating_sub(since) > b.as_secs());
        if too_old(last, self.config.max_idle) || too_old(first, self.config.max_life) {
            return None;
        }
        // Each answer need not set it; an eighth of the idle bound is the price in precision.
        let idle = self.config.max_idle.is_some_and(|idle| now.saturating_sub(last) > idle.as_secs() / 8);
        Some(Found { server, home, first, last, renew: old || idle })
    }

    fn is_bounded(&self) -> bool {
        self.config.max_idle.is_some() || self.config.max_life.is_some()
    }

    /// The value that names a server. `first`: when it was first set, 0 for now. `None`: it could not be sealed.
    pub fn value(
        &self,
        server: usize,
        home: Option<usize>,
        first: u64,
        now: Timestamp,
        nonce: impl FnOnce() -> Option<[u8; NONCE]>,
    ) -> Option<String> {
        let now = now.0 / 1000;
        let (last, first) = match (self.is_bounded(), first) {
            (false, _) => (0, 0),
            (true, 0) => (now, now),
            (true, first) => (now, first),
        };
        match &self.values {
            Values::Plain(values) => {
                let mut text = values.get(server)?.first()?.clone();
                let home = home.and_then(|home| values.get(home)?.first());
                // Writing to a String cannot fail.
                if last != 0 || home.is_some() {
                    let _ = write!(text, "|{last}|{first}");
                }
                if let Some(home) = home {
                    let _ = write!(text, "|{home}");
                }
                Some(text)
            }
            Values::Sealed(sealer, servers) => {
                let (server, home) = (servers.get(server)?, home.and_then(|home| servers.get(home)));
                sealer.seal(&packed(server, home, last, first), nonce()?)
            }
        }
    }

    /// Appends `name=value; attributes`, the value of a `Set-Cookie` field.
    pub fn write(&self, value: &str, out: &mut String) {
        let rule = &self.config;
        for part in [&rule.name, "=", value, "; Path=", &rule.path] {
            out.push_str(part);
        }
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
        for attribute in &rule.attr {
            out.push_str("; ");
            out.push_str(attribute);
        }
    }
}

fn plain(values: &[Vec<String>], text: &[u8]) -> Option<Said> {
    let mut parts = text.split(|b| *b == b'|');
    // The server, and which of its values that is.
    let named = |part: &[u8]| {
        let of = |all: &Vec<String>| all.iter().position(|value| value.as_bytes() == part);
        values.iter().enumerate().find_map(|(server, all)| Some((server, of(all)?)))
    };
    let (server, value) = named(parts.next()?)?;
    let mut time = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let (last, first) = (time().unwrap_or(0), time().unwrap_or(0));
    let home = parts.next().and_then(named).map(|(server, _)| server);
    Some(Said { server, home, last, first, old: value > 0 })
}

/// Three numbers, the server's name, and the first server's generation and name, if there is one.
fn packed(server: &Identity, home: Option<&Identity>, last: u64, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    for number in [server.generation, last, first] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(server.name.as_bytes());
    if let Some(home) = home {
        // No name has a NUL.
        out.push(0);
        out.extend_from_slice(&home.generation.to_be_bytes());
        out.extend_from_slice(home.name.as_bytes());
    }
    out
}

fn sealed(sealer: &Sealer, servers: &[Identity], text: &[u8]) -> Option<Said> {
    fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
        let (number, rest) = bytes.split_first_chunk()?;
        Some((u64::from_be_bytes(*number), rest))
    }
    let (bytes, old) = sealer.open(text)?;
    let (generation, rest) = number(&bytes)?;
    let (last, rest) = number(rest)?;
    let (first, rest) = number(rest)?;
    let (name, home) = match memchr::memchr(0, rest) {
        Some(end) => (&rest[..end], Some(&rest[end + 1..])),
        None => (rest, None),
    };
    let find = |generation: u64, name: &[u8]| {
        servers.iter().position(|s| s.generation == generation && s.name.as_bytes() == name)
    };
    let home = home.and_then(number).and_then(|(generation, name)| find(generation, name));
    Some(Said { server: find(generation, name)?, home, last, first, old })
}

#[cfg(test)]
mod tests;
