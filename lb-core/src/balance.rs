//! Which server takes a client that no pin binds. Pure: counts and weights in, an index out.
use crate::config::Balance;
use crate::hash;
use crate::snapshot::{Backend, Server};
use parking_lot::Mutex;

/// Smooth weighted round robin (nginx's): each pick adds every server's weight to its credit, takes the one with the
/// most credit and charges it the sum. One for each worker, so the lock is never contended.
#[derive(Debug)]
pub struct Rotation(Mutex<Vec<i64>>);

impl Rotation {
    /// For `servers` servers.
    pub fn new(servers: usize) -> Self {
        Self(Mutex::new(vec![0; servers]))
    }

    fn next(&self, servers: &[Server], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut credit = self.0.lock();
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (i, server) in servers.iter().enumerate().filter(|(i, s)| usable(*i) && s.weight() > 0) {
            let weight = i64::from(server.weight());
            credit[i] += weight;
            total += weight;
            if best.is_none_or(|b| credit[i] > credit[b]) {
                best = Some(i);
            }
        }
        let best = best?;
        credit[best] -= total;
        Some(best)
    }
}

/// Picks a server for a new client.
///
/// `key` is the stable hash of what should lead instances to the same choice: the stick key, or the balance key.
/// `excluded` are servers that failed this very request. Servers of weight 0 take no new client.
pub fn pick(backend: &Backend, worker: usize, key: Option<u64>, excluded: &[usize]) -> Option<usize> {
    let usable = |i: usize| backend.servers[i].state.takes_new() && !excluded.contains(&i);
    match (&backend.config.balance, key) {
        (Balance::RoundRobin, _) | (Balance::Hash(_), None) => backend.rotation[worker].next(&backend.servers, usable),
        (Balance::LeastConn, key) => least_conn(backend, worker, key, usable),
        (Balance::Hash(_), Some(key)) => rendezvous(&backend.servers, key, usable),
    }
}

/// Picks a server for a client whose own is out: by rendezvous of its key, whatever the algorithm.
pub fn redispatch(backend: &Backend, key: u64, excluded: &[usize]) -> Option<usize> {
    rendezvous(&backend.servers, key, |i| backend.servers[i].state.takes_new() && !excluded.contains(&i))
}

fn candidates(servers: &[Server], usable: impl Fn(usize) -> bool) -> impl Iterator<Item = (usize, &Server)> {
    servers.iter().enumerate().filter(move |(i, s)| usable(*i) && s.weight() > 0)
}

/// Fewest requests and tunnels for its weight; among equals the key decides, so that two instances that meet one new
/// client in the same moment mostly agree, and without a key the rotation.
fn least_conn(backend: &Backend, worker: usize, key: Option<u64>, usable: impl Fn(usize) -> bool) -> Option<usize> {
    // a / wa < b / wb without a division; +1 so that among idle servers the heavier is the less loaded.
    let load = |i: usize| u64::from(backend.servers[i].state.in_flight()) + 1;
    let weight = |i: usize| u64::from(backend.servers[i].weight());
    let least = candidates(&backend.servers, &usable)
        .map(|(i, _)| (load(i), weight(i)))
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))?;
    let tied = |i: usize| usable(i) && load(i) * least.1 == least.0 * weight(i);
    match key {
        Some(key) => rendezvous(&backend.servers, key, tied),
        None => backend.rotation[worker].next(&backend.servers, tied),
    }
    // A count that moved between the two passes can leave nobody tied.
    .or_else(|| backend.rotation[worker].next(&backend.servers, usable))
}

/// Weighted rendezvous hashing (Thaler and Ravishankar; weights by −w / ln u, Schindelhauer and Schomaker): when a
/// server goes, only its own clients move.
fn rendezvous(servers: &[Server], key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
    candidates(servers, usable)
        .map(|(i, s)| {
            // 53 bits to a number in (0, 1); exact in f64, so the same everywhere. ln of equal inputs is compared only
            // with itself scaled by small integers; instances run the same code.
            let unit = ((hash::rendezvous(key, s.hash) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            (i, f64::from(s.weight()) / -unit.ln())
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(i, _)| i)
}
