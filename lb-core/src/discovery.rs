//! From names to servers: which servers a configuration has, given what its names stand for. Pure; who asks the names, and
//! when, is the caller's part.
//!
//! A server's name is made of what makes it the same in every answer and on every instance, not of its place in an answer:
//! a pin in a table or a cookie finds it again whatever the order, and whatever else comes and goes.
use crate::config::discovery::{Identity, Origin, Template};
use crate::config::{Backend, Config, PeerAddr, Server};
use crate::server::AdminState;
use crate::time::{Timestamp, millis};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One thing that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Target of an SRV record, without its final dot; else the name that was asked for.
    pub host: String,
    /// Address and port.
    pub addr: SocketAddr,
    /// Priority of an SRV record, the lowest first; else 0.
    pub priority: u16,
    /// Weight of an SRV record; else 0.
    pub weight: u16,
}

/// A name, and whom it is asked of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The name.
    pub name: PeerAddr,
    /// DNS server; `None`: as the system does it.
    pub resolver: Option<SocketAddr>,
}

/// What is known of the names of a configuration.
#[derive(Debug, Default)]
pub struct Known {
    answers: HashMap<Source, Vec<Record>>,
    /// By backend and template.
    places: HashMap<(String, String), Places>,
}

/// The servers of one template.
#[derive(Debug, Default)]
struct Places {
    by_name: BTreeMap<String, Place>,
    left_out: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Place {
    addr: SocketAddr,
    /// What it was found by.
    host: String,
    weight: u32,
    backup: bool,
    /// Since when answers do not name it.
    missing: Option<Timestamp>,
    gone: bool,
}

/// The names that a configuration looks servers up by.
pub fn sources(config: &Config) -> HashSet<Source> {
    config.backends.iter().flat_map(|b| of_backend(b)).collect()
}

/// Those of one backend, and for servers with a host name which server.
fn of_backend(backend: &Backend) -> impl Iterator<Item = Source> {
    let resolver = backend.resolver;
    let templates = backend.templates.iter().map(|t| t.addr.clone());
    let named = backend.servers.iter().filter_map(|s| match &s.origin {
        Origin::Named(name) => Some(name.clone()),
        Origin::Written | Origin::Found => None,
    });
    templates.chain(named).map(move |name| Source { name, resolver })
}

impl Known {
    /// Whether a name was answered before.
    pub fn knows(&self, source: &Source) -> bool {
        self.answers.contains_key(source)
    }

    /// A name stands for these now. An empty answer is none: what was known holds.
    pub fn learn(&mut self, written: &Config, source: &Source, records: Vec<Record>, now: Timestamp) {
        if records.is_empty() {
            return;
        }
        self.answers.insert(source.clone(), records);
        self.place(written, now, |asked| asked == source);
    }

    /// Takes on another configuration, from what is known.
    pub fn adopt(&mut self, written: &Config, now: Timestamp) {
        let (sources, mut keys) = (sources(written), HashSet::new());
        for backend in &written.backends {
            keys.extend(backend.templates.iter().map(|t| (backend.name.clone(), t.name.clone())));
        }
        self.answers.retain(|source, _| sources.contains(source));
        self.places.retain(|key, _| keys.contains(key));
        self.place(written, now, |_| true);
    }

    fn place(&mut self, written: &Config, now: Timestamp, of: impl Fn(&Source) -> bool) {
        for backend in &written.backends {
            for template in &backend.templates {
                let source = Source { name: template.addr.clone(), resolver: backend.resolver };
                if let Some(records) = self.answers.get(&source).filter(|_| of(&source)) {
                    let places = self.places.entry((backend.name.clone(), template.name.clone())).or_default();
                    places.learn(template, records, now);
                }
            }
        }
    }

    /// Lets time pass: those that were held long enough are gone, and those that are gone and idle are forgotten. `busy`
    /// says of a backend and server whether anything is open there.
    pub fn tidy(&mut self, written: &Config, now: Timestamp, busy: impl Fn(&str, &str) -> bool) {
        for backend in &written.backends {
            for template in &backend.templates {
                if let Some(places) = self.places.get_mut(&(backend.name.clone(), template.name.clone())) {
                    places.tidy(template, now, |name| busy(&backend.name, name));
                }
            }
        }
    }

    /// The configuration with the servers that are known.
    pub fn effective(&self, written: &Config) -> Config {
        let mut config = written.clone();
        for backend in &mut config.backends {
            if of_backend(backend).next().is_some() {
                *backend = Arc::new(self.backend(backend));
            }
        }
        config
    }

    fn backend(&self, written: &Backend) -> Backend {
        let mut backend = written.clone();
        for server in &mut backend.servers {
            if let Origin::Named(name) = &server.origin {
                let source = Source { name: name.clone(), resolver: written.resolver };
                if let Some(addr) = self.answers.get(&source).and_then(|records| first(records)) {
                    *server = Arc::new(Server { addr: addr.into(), ..(**server).clone() });
                }
            }
        }
        for template in &written.templates {
            let Some(places) = self.places.get(&(written.name.clone(), template.name.clone())) else { continue };
            let taken: HashSet<String> = backend.servers.iter().map(|s| s.name.clone()).collect();
            let found = places.by_name.iter().filter(|(name, _)| !taken.contains(*name));
            backend.servers.extend(found.map(|(name, place)| Arc::new(server(template, name, place))));
        }
        backend
    }

    /// Whether a server is found no more, and only has what is open on it.
    pub fn is_gone(&self, backend: &str, server: &str) -> bool {
        let of_backend = self.places.iter().filter(|((b, _), _)| b == backend);
        of_backend.filter_map(|(_, places)| places.by_name.get(server)).any(|place| place.gone)
    }

    /// How many servers a template made, and how many it left out because it has no more slots.
    pub fn counts(&self, backend: &str, template: &str) -> (usize, usize) {
        let places = self.places.get(&(backend.to_owned(), template.to_owned()));
        places.map_or((0, 0), |p| (p.by_name.values().filter(|place| !place.gone).count(), p.left_out))
    }
}

/// The address that a server with a host name is reached at: the same as long as the answers hold it, in whatever order.
fn first(records: &[Record]) -> Option<SocketAddr> {
    records.iter().map(|r| r.addr).min_by_key(rank)
}

/// IPv4 first.
fn rank(addr: &SocketAddr) -> (bool, SocketAddr) {
    (addr.is_ipv6(), *addr)
}

fn server(template: &Template, name: &str, place: &Place) -> Server {
    Server {
        name: name.to_owned(),
        addr: place.addr.into(),
        origin: Origin::Found,
        host: Some(place.host.clone()),
        weight: place.weight,
        maxconn: template.maxconn,
        backup: place.backup || template.backup,
        slow_start: template.slow_start,
        // Shows no address to those who do not know it.
        cookie: format!("{:016x}", crate::hash::stable(name.as_bytes())),
        generation: 0,
        tls: template.tls.clone(),
        send_proxy: template.send_proxy,
        check: template.check.clone(),
        agent: template.agent.clone(),
        state: AdminState::Ready,
    }
}

impl Places {
    fn learn(&mut self, of: &Template, records: &[Record], now: Timestamp) {
        let mut wanted = wanted(of, records, &self.by_name);
        for (name, place) in &mut self.by_name {
            match wanted.remove(name) {
                Some(found) => *place = found,
                None => _ = place.missing.get_or_insert(now),
            }
        }
        self.tidy(of, now, |_| true);
        self.left_out = 0;
        // In the order of their names, so that instances with one answer take the same.
        for (name, place) in wanted {
            if self.by_name.values().filter(|p| !p.gone).count() < of.slots {
                self.by_name.insert(name, place);
            } else {
                self.left_out += 1;
            }
        }
    }

    fn tidy(&mut self, of: &Template, now: Timestamp, busy: impl Fn(&str) -> bool) {
        let held = |missing: Timestamp| now.0.saturating_sub(missing.0) < millis(of.hold);
        for place in self.by_name.values_mut() {
            place.gone |= place.missing.is_some_and(|missing| !held(missing));
        }
        self.by_name.retain(|name, place| !place.gone || busy(name));
    }
}

/// What the answer asks for, by name.
fn wanted(of: &Template, records: &[Record], before: &BTreeMap<String, Place>) -> BTreeMap<String, Place> {
    let heaviest = records.iter().map(|r| r.weight).max().unwrap_or(0);
    let best = records.iter().map(|r| r.priority).min().unwrap_or(0);
    let mut wanted = BTreeMap::<String, Place>::new();
    for record in records {
        let weight = match heaviest {
            0 => of.weight,
            // A record of weight 0 gets little, not nothing.
            heaviest @ 1..=256 => u32::from(record.weight.min(heaviest)).max(1),
            heaviest => (u32::from(record.weight) * 256).div_ceil(heaviest.into()).max(1),
        };
        let name = name(of, record);
        let (addr, host) = (record.addr, record.host.clone());
        let found = Place { addr, host, weight, backup: record.priority > best, missing: None, gone: false };
        let now_at = before.get(&name).map(|p| p.addr);
        wanted
            .entry(name)
            .and_modify(|known| {
                // A host with several addresses is one server, and stays where it is.
                let stays = Some(known.addr) == now_at;
                let better = Some(found.addr) == now_at || rank(&found.addr) < rank(&known.addr);
                if !stays && better {
                    known.addr = found.addr;
                }
                // Of several names of one address the same, whatever the order.
                known.host = std::mem::take(&mut known.host).min(found.host.clone());
            })
            .or_insert(found);
    }
    wanted
}

/// The name of a server: no longer than names are, and of their letters.
fn name(of: &Template, record: &Record) -> String {
    let identity = match (of.identity, record.addr.ip()) {
        (Identity::Name, _) => format!("{}:{}", record.host, record.addr.port()),
        (Identity::Address, IpAddr::V6(ip)) => format!("{ip}:{}", record.addr.port()),
        (Identity::Address, IpAddr::V4(ip)) => format!("{ip}:{}", record.addr.port()),
    };
    let fine = |c: char| if c.is_ascii_alphanumeric() || "._-:".contains(c) { c } else { '-' };
    let name: String = format!("{}-{identity}", of.name).chars().map(fine).collect();
    match name.len() {
        0..=128 => name,
        // Cut names could be one.
        _ => format!("{}-{:016x}", &name[..111], crate::hash::stable(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests;
