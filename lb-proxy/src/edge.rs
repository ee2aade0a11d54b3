//! How connections begin, on both sides: what stands between `accept` and the first byte of a request, and between
//! connecting to a server and the first byte sent. Built by a start or a reload, before anything is swapped.
//!
//! A listener that accepts plain connections has nothing here, nor has a server that is spoken to plainly.
use crate::tls::TlsError;
use crate::tls::connect::{Connector, Purpose};
use crate::tls::terminate::Termination;
use crate::tls::tickets::Secret;
use ipnet::IpNet;
use lb_core::config::{Backend, Config, Fault, Frontend, ListenAddr, ServerTls};
use lb_core::tcp::Mode;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Of all listeners and servers.
#[derive(Default)]
pub struct Edges {
    listeners: Vec<Listener>,
    /// By backend: servers come and go, their terms are few.
    servers: HashMap<String, Vec<Arc<Connector>>>,
    /// Where secrets of tickets are; empty: the process's own is used.
    ticket_keys: Vec<PathBuf>,
    own: Option<Secret>,
}

struct Listener {
    frontend: String,
    addr: ListenAddr,
    edge: Arc<Edge>,
}

/// Of one listener.
pub(crate) struct Edge {
    pub(crate) tls: Option<Termination>,
    /// Networks whose connections begin with a PROXY header.
    accept_proxy: Vec<IpNet>,
}

impl Edge {
    /// Whether a connection from there begins with a PROXY header.
    pub(crate) fn expects_proxy(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.accept_proxy.iter().any(|net| net.contains(&from))
    }
}

/// The terms on which a backend's servers are spoken to, by requests and by checks, with what stands in the file for the
/// server; several times where several have the same.
fn to_servers(backend: &Backend) -> impl Iterator<Item = (String, &Arc<ServerTls>, Purpose)> {
    let traffic = Purpose::Traffic((backend.mode == Mode::Http).then_some(backend.proto));
    // Those that a template made stand behind those of the file.
    let listed = backend.servers.iter().enumerate().map(|(i, s)| (format!("server[{i}]"), &s.tls, &s.check));
    let found = backend.templates.iter().enumerate();
    let found = found.map(|(i, t)| (format!("server_template[{i}]"), &t.tls, &t.check));
    let all = found.chain(listed).chain([(String::new(), &None, &backend.check)]);
    all.flat_map(move |(at, tls, check)| {
        let check = check.as_ref().and_then(|check| {
            Some((at.clone(), check.tls.as_ref()?, Purpose::Check(check.probe.proto(backend.proto))))
        });
        tls.as_ref().map(|tls| (at, tls, traffic)).into_iter().chain(check)
    })
}

/// Where the terms stand in the file.
fn place(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Traffic(_) => "tls",
        Purpose::Check(_) => "check.tls",
    }
}

impl std::fmt::Debug for Edges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edges").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

impl Edges {
    /// Reads all files that the configuration names. `own` is the process's secret for tickets.
    ///
    /// # Errors
    /// Every reason why a listener or server cannot be had.
    pub fn build(config: &Config, own: &Secret) -> Result<Self, TlsError> {
        let mut edges = Self { ticket_keys: config.tls.ticket_keys.clone(), own: Some(own.clone()), ..Self::default() };
        let mut errors = Vec::new();
        let secrets = edges.secrets().unwrap_or_else(|why| {
            errors.push(Fault::new("tls.ticket_keys", why));
            Vec::new()
        });
        for frontend in &config.frontends {
            for number in 0..frontend.listen.len() {
                edges.listener(frontend, number, &secrets, &mut errors);
            }
        }
        for backend in &config.backends {
            let mut failed = Vec::new();
            for (at, tls, purpose) in to_servers(backend) {
                // Whatever is for both is told once.
                if edges.to_server(&backend.name, tls, purpose).is_some() || failed.contains(&tls) {
                    continue;
                }
                match Connector::load(tls, purpose) {
                    Ok(connector) => edges.servers.entry(backend.name.clone()).or_default().push(Arc::new(connector)),
                    Err(why) => {
                        let (name, place, key) = (&backend.name, place(purpose), about(&why));
                        // The reason begins with the key that it is about.
                        let message = match purpose {
                            Purpose::Traffic(_) => format!("backend \"{name}\": {place}: {why}"),
                            Purpose::Check(_) => format!("backend \"{name}\": {place}.{why}"),
                        };
                        let fault = Fault::new(format!("backend.{name}.{at}.{place}.{key}"), message);
                        errors.push(Fault { or: Some(format!("backend.{name}.{place}.{key}")), ..fault });
                        failed.push(tls);
                    }
                }
            }
        }
        if errors.is_empty() { Ok(edges) } else { Err(TlsError(errors)) }
    }

    /// Of the frontend's address with this number.
    fn listener(&mut self, frontend: &Frontend, number: usize, secrets: &[Secret], errors: &mut Vec<Fault>) {
        let listen = &frontend.listen[number];
        match Termination::load(listen, secrets) {
            Ok(None) if listen.accept_proxy.is_empty() => {}
            Ok(tls) => {
                let edge = Arc::new(Edge { tls, accept_proxy: listen.accept_proxy.clone() });
                self.listeners.push(Listener { frontend: frontend.name.clone(), addr: listen.addr.clone(), edge });
            }
            Err(whys) => {
                let place = format!("frontend \"{}\", {}", frontend.name, listen.addr);
                let key = format!("frontend.{}.listen[{number}].tls", frontend.name);
                let fault = |why: String| Fault::new(format!("{key}.{}", about(&why)), format!("{place}: {why}"));
                errors.extend(whys.into_iter().map(fault));
            }
        }
    }

    /// Secrets for tickets, as the files say now.
    fn secrets(&self) -> Result<Vec<Secret>, String> {
        if self.ticket_keys.is_empty() {
            return Ok(self.own.iter().cloned().collect());
        }
        let read = |file: &PathBuf| Secret::read(file).map_err(|why| format!("tls.ticket_keys: {why}"));
        self.ticket_keys.iter().map(read).collect()
    }

    /// What a listener's connections begin with; `None`: nothing but bytes.
    pub(crate) fn of(&self, frontend: &str, addr: &ListenAddr) -> Option<&Arc<Edge>> {
        self.listeners.iter().find(|l| l.addr == *addr && l.frontend == frontend).map(|l| &l.edge)
    }

    /// How a server is spoken to that wants TLS on these terms.
    pub(crate) fn to_server(&self, backend: &str, tls: &Arc<ServerTls>, purpose: Purpose) -> Option<&Arc<Connector>> {
        let all = self.servers.get(backend)?;
        all.iter().find(|c| c.purpose == purpose && (Arc::ptr_eq(&c.tls, tls) || c.tls == *tls))
    }

    /// Listeners with TLS, with frontend and address.
    pub(crate) fn with_tls(&self) -> impl Iterator<Item = (&str, &ListenAddr, &Termination)> {
        self.listeners.iter().filter_map(|l| Some((l.frontend.as_str(), &l.addr, l.edge.tls.as_ref()?)))
    }

    fn connectors(&self) -> impl Iterator<Item = (&String, &Arc<Connector>)> {
        self.servers.iter().flat_map(|(backend, all)| all.iter().map(move |tls| (backend, tls)))
    }

    /// All files that they are made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.with_tls().flat_map(|(.., tls)| tls.files()).collect();
        files.extend(self.connectors().flat_map(|(.., tls)| tls.files()));
        files.extend(self.ticket_keys.iter().cloned());
        files.sort();
        files.dedup();
        files
    }

    /// Reads all files anew, each listener and server for itself: one bad file keeps only its own from new ones.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let secrets = self.secrets()?;
        let mut errors = Vec::new();
        for (frontend, addr, tls) in self.with_tls() {
            if let Err(whys) = tls.reload(&secrets) {
                errors.extend(whys.into_iter().map(|why| format!("frontend \"{frontend}\", {addr}: {why}")));
            }
        }
        for (backend, tls) in self.connectors() {
            if let Err(why) = tls.reload() {
                errors.push(format!("backend \"{backend}\": {}: {why}", place(tls.purpose)));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    /// Certificates that do not hold now, or not for long.
    pub(crate) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = Vec::new();
        for (frontend, addr, tls) in self.with_tls() {
            for chain in &tls.serving().certificates.chains {
                let (file, life) = (chain.file.display(), chain.life);
                let place = format!("frontend \"{frontend}\", {addr}: cert: {file}");
                match (life.holds(now), life.ends_soon(now)) {
                    (false, _) => warnings.push(format!("{place} does not hold now: it is for {life}")),
                    (true, true) => warnings.push(format!("{place} expires soon: it is for {life}")),
                    (true, false) => {}
                }
                let place = format!("{place}.ocsp");
                match chain.stapled().map(|told| (told.holds(now), told.ends_soon(now), told)) {
                    Some((false, _, told)) => warnings.push(format!("{place} is not shown: it is for {told}")),
                    Some((true, true, told)) => warnings.push(format!("{place} ends soon: it is for {told}")),
                    _ => {}
                }
            }
        }
        warnings
    }
}

/// The key that a reason is about, with which it begins.
fn about(why: &str) -> &str {
    why.split(':').next().unwrap_or_default()
}
