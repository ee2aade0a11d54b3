//! What separates two configurations, as a reload would meet it. It changes nothing and knows no live state: how many
//! connections a change touches is counted by whoever has them.
use super::{Backend, Config, Frontend, Peers, Table};
use crate::rules::Auth;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

mod checks;
mod faults;
mod fields;
use fields::Fields;

/// Something in a configuration that has an identity of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    /// `[instance]`
    Instance,
    /// `[admin]`
    Admin,
    /// `[peers]`
    Peers,
    /// `[log]`
    Log,
    /// `[jwt]`
    Jwt,
    /// `[auth.NAME]`
    Auth(String),
    /// `[tls]`
    Tls,
    /// `[table.NAME]`
    Table(String),
    /// `[frontend.NAME]`
    Frontend(String),
    /// An address that a frontend listens on. One that moves between frontends is two changes.
    Listener {
        /// Its frontend.
        frontend: String,
        /// The address.
        addr: String,
    },
    /// `[backend.NAME]`
    Backend(String),
    /// A server, by backend and name.
    Server {
        /// Its backend.
        backend: String,
        /// Its name.
        name: String,
    },
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the new configuration has it.
    Added(Thing),
    /// Only the old one has it.
    Removed(Thing),
    /// Both have it, with another value of one key.
    Changed {
        /// What.
        thing: Thing,
        /// Which key, as the file writes it.
        key: &'static str,
        /// The old value, for people.
        from: String,
        /// The new value.
        to: String,
    },
}

/// What a reload can do about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Taken on at once; what is open stays.
    Live,
    /// Taken on at once; the table starts empty.
    EmptiesTable,
    /// Taken on at once; clients of that server go to others.
    MovesClients,
    /// Only a restart takes it on.
    NeedsRestart,
}

impl Change {
    /// What it is about.
    pub fn thing(&self) -> &Thing {
        match self {
            Self::Added(thing) | Self::Removed(thing) | Self::Changed { thing, .. } => thing,
        }
    }

    /// What a reload can do about it.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Added(Thing::Peers) | Self::Removed(Thing::Peers) => Effect::NeedsRestart,
            Self::Removed(Thing::Table(_)) => Effect::EmptiesTable,
            Self::Removed(Thing::Server { .. } | Thing::Backend(_)) => Effect::MovesClients,
            Self::Added(_) | Self::Removed(_) => Effect::Live,
            Self::Changed { thing, key, .. } => match (thing, *key) {
                (Thing::Instance, "name" | "workers")
                | (Thing::Admin, "listen" | "socket")
                | (Thing::Log, "format")
                | (Thing::Peers, "cluster" | "listen" | "tls" | "max_clock_ahead") => Effect::NeedsRestart,
                (Thing::Table(_), "type" | "len" | "replicate") => Effect::EmptiesTable,
                _ => Effect::Live,
            },
        }
    }

    /// Whether only a restart takes it on.
    pub fn needs_restart(&self) -> bool {
        self.effect() == Effect::NeedsRestart
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.write_str("instance"),
            Self::Admin => f.write_str("admin"),
            Self::Peers => f.write_str("peers"),
            Self::Log => f.write_str("log"),
            Self::Jwt => f.write_str("jwt"),
            Self::Auth(name) => write!(f, "auth {name}"),
            Self::Tls => f.write_str("tls"),
            Self::Table(name) => write!(f, "table {name}"),
            Self::Frontend(name) => write!(f, "frontend {name}"),
            Self::Listener { frontend, addr } => write!(f, "listener {addr} of frontend {frontend}"),
            Self::Backend(name) => write!(f, "backend {name}"),
            Self::Server { backend, name } => write!(f, "server {backend}/{name}"),
        }
    }
}

/// `added server ws/node3`, `table sessions: expire 30m -> 1h (the table starts empty)`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(thing) => write!(f, "added {thing}")?,
            Self::Removed(thing) => write!(f, "removed {thing}")?,
            Self::Changed { thing, key, from, to } => write!(f, "{thing}: {key} {from} -> {to}")?,
        }
        f.write_str(match (self, self.effect()) {
            (_, Effect::Live) | (Self::Removed(Thing::Table(_)), _) => "",
            (_, Effect::EmptiesTable) => " (the table starts empty)",
            (_, Effect::MovesClients) => " (its clients go to others)",
            (_, Effect::NeedsRestart) => " (needs a restart)",
        })
    }
}

/// Every difference between two configurations: what is new, in the order of the new one; what is gone, after it.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let out = &mut changes;
    compare(&Thing::Instance, fields::instance(&old.instance), fields::instance(&new.instance), out);
    compare(&Thing::Admin, fields::admin(&old.admin), fields::admin(&new.admin), out);
    if old.admin.token != new.admin.token {
        // A secret: only that it changed is shown.
        let shown = |token: &Option<String>| if token.is_some() { "(secret)" } else { "none" }.to_owned();
        let (from, to) = (shown(&old.admin.token), shown(&new.admin.token));
        out.push(Change::Changed { thing: Thing::Admin, key: "token", from, to });
    }
    peers(old.peers.as_ref(), new.peers.as_ref(), out);
    compare(&Thing::Log, fields::log(&old.log), fields::log(&new.log), out);
    compare(&Thing::Jwt, fields::jwt(old.jwt.as_deref()), fields::jwt(new.jwt.as_deref()), out);
    let keys = |config: &Config| config.jwt.as_ref().map_or(Vec::new(), |keys| keys.made_of().to_vec());
    if keys(old) != keys(new) {
        let shown = |config| if keys(config).is_empty() { "none" } else { "(secret)" }.to_owned();
        out.push(Change::Changed { thing: Thing::Jwt, key: "keys", from: shown(old), to: shown(new) });
    }
    let auth = |a: &Arc<Auth>| Thing::Auth(a.name.clone());
    each(&old.auth, &new.auth, auth, |a, b, out| compare(&auth(b), fields::auth(a), fields::auth(b), out), out);
    compare(&Thing::Tls, fields::tls(&old.tls), fields::tls(&new.tls), out);
    let (table, frontend, backend) = (
        |t: &Arc<Table>| Thing::Table(t.name.clone()),
        |f: &Arc<Frontend>| Thing::Frontend(f.name.clone()),
        |b: &Arc<Backend>| Thing::Backend(b.name.clone()),
    );
    each(&old.tables, &new.tables, table, |a, b, out| compare(&table(b), fields::table(a), fields::table(b), out), out);
    each(
        &old.frontends,
        &new.frontends,
        frontend,
        |a, b, out| {
            compare(&frontend(b), fields::frontend(a), fields::frontend(b), out);
            let listener = |l: &super::Listen| Thing::Listener { frontend: b.name.clone(), addr: l.addr.to_string() };
            let both = |x: &super::Listen, y: &super::Listen, out: &mut Vec<Change>| {
                compare(&listener(y), fields::listener(x), fields::listener(y), out);
            };
            each(&a.listen, &b.listen, listener, both, out);
        },
        out,
    );
    each(
        &old.backends,
        &new.backends,
        backend,
        |a, b, out| {
            compare(&backend(b), fields::backend(a), fields::backend(b), out);
            if fields::secrets(a) != fields::secrets(b) {
                let (from, to) = ("(secret)".to_owned(), "(secret)".to_owned());
                out.push(Change::Changed { thing: backend(b), key: "sticky.keys", from, to });
            }
            let server = |s: &Arc<super::Server>| Thing::Server { backend: b.name.clone(), name: s.name.clone() };
            let (before, after) = (written(a), written(b));
            each(
                &before,
                &after,
                server,
                |x, y, out| compare(&server(y), fields::server(a, x), fields::server(b, y), out),
                out,
            );
        },
        out,
    );
    changes
}

/// The servers that the file has.
fn written(backend: &Backend) -> Vec<Arc<super::Server>> {
    backend.servers.iter().filter(|s| s.origin != super::Origin::Found).cloned().collect()
}

fn peers(old: Option<&Peers>, new: Option<&Peers>, out: &mut Vec<Change>) {
    match (old, new) {
        (Some(old), Some(new)) => compare(&Thing::Peers, fields::peers(old), fields::peers(new), out),
        (None, Some(_)) => out.push(Change::Added(Thing::Peers)),
        (Some(_), None) => out.push(Change::Removed(Thing::Peers)),
        (None, None) => {}
    }
}

/// Pairs what has the same identity, and reports what has no partner.
fn each<T>(
    old: &[T],
    new: &[T],
    thing: impl Fn(&T) -> Thing,
    both: impl Fn(&T, &T, &mut Vec<Change>),
    out: &mut Vec<Change>,
) {
    let mut before: HashMap<Thing, &T> = old.iter().map(|t| (thing(t), t)).collect();
    for item in new {
        match before.remove(&thing(item)) {
            Some(partner) => both(partner, item, out),
            None => out.push(Change::Added(thing(item))),
        }
    }
    out.extend(old.iter().map(thing).filter(|t| before.contains_key(t)).map(Change::Removed));
}

/// Reports the keys whose values differ.
fn compare(thing: &Thing, old: Fields, new: Fields, out: &mut Vec<Change>) {
    for ((key, from), (_, to)) in old.into_iter().zip(new).filter(|(a, b)| a != b) {
        out.push(Change::Changed { thing: thing.clone(), key, from, to });
    }
}

#[cfg(test)]
mod tests;
