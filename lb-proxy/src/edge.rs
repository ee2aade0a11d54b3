//! How connections begin, listener by listener: what stands between `accept` and the first byte of a request. Built by a
//! start or a reload, before anything is swapped; read once for each connection.
//!
//! A listener that accepts plain TCP has nothing here.
use crate::tls::TlsError;
use crate::tls::terminate::Termination;
use crate::tls::tickets::Secret;
use lb_core::config::Config;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Of all listeners.
#[derive(Default)]
pub struct Edges {
    listeners: Vec<Listener>,
    /// Where secrets of tickets are; empty: the process's own is used.
    ticket_keys: Vec<PathBuf>,
    own: Option<Secret>,
}

struct Listener {
    frontend: String,
    addr: SocketAddr,
    edge: Arc<Edge>,
}

/// Of one.
pub(crate) struct Edge {
    pub(crate) tls: Termination,
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
    /// Every reason why a listener cannot be had.
    pub fn build(config: &Config, own: &Secret) -> Result<Self, TlsError> {
        let mut edges =
            Self { listeners: Vec::new(), ticket_keys: config.tls.ticket_keys.clone(), own: Some(own.clone()) };
        let mut errors = Vec::new();
        let secrets = edges.secrets().unwrap_or_else(|why| {
            errors.push(why);
            Vec::new()
        });
        for frontend in &config.frontends {
            for listen in &frontend.listen {
                match Termination::load(listen, &secrets) {
                    Ok(None) => {}
                    Ok(Some(tls)) => {
                        let edge = Arc::new(Edge { tls });
                        edges.listeners.push(Listener { frontend: frontend.name.clone(), addr: listen.addr, edge });
                    }
                    Err(whys) => {
                        let place = format!("frontend \"{}\", {}", frontend.name, listen.addr);
                        errors.extend(whys.into_iter().map(|why| format!("{place}: {why}")));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(edges) } else { Err(TlsError(errors)) }
    }

    /// Secrets for tickets, as the files say now.
    pub(crate) fn secrets(&self) -> Result<Vec<Secret>, String> {
        if self.ticket_keys.is_empty() {
            return Ok(self.own.iter().cloned().collect());
        }
        let read = |file: &PathBuf| Secret::read(file).map_err(|why| format!("tls.ticket_keys: {why}"));
        self.ticket_keys.iter().map(read).collect()
    }

    /// What a listener's connections begin with; `None`: nothing but bytes.
    pub(crate) fn of(&self, frontend: &str, addr: SocketAddr) -> Option<&Arc<Edge>> {
        self.listeners.iter().find(|l| l.addr == addr && l.frontend == frontend).map(|l| &l.edge)
    }

    /// Those with TLS, with frontend and address.
    pub(crate) fn with_tls(&self) -> impl Iterator<Item = (&str, SocketAddr, &Termination)> {
        self.listeners.iter().map(|l| (l.frontend.as_str(), l.addr, &l.edge.tls))
    }

    /// All files that they are made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.with_tls().flat_map(|(.., tls)| tls.files()).collect();
        files.extend(self.ticket_keys.iter().cloned());
        files.sort();
        files.dedup();
        files
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
            }
        }
        warnings
    }
}
