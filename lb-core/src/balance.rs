//! Which server takes a client that no pin binds. Pure: counts, weights, time and chance in, an index out.
//!
//! A pick first lists who may be taken (`Candidate`), then the algorithm chooses among them. Primaries that are not
//! starting too fast come first, then all primaries, then backups: nobody is refused while somebody could serve.
use crate::config::Balance;
use crate::hash;
use crate::snapshot::{Backend, Server};
use crate::time::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;

mod choose;
#[cfg(test)]
mod tests;

/// What one pick is made by, besides the backend.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// The worker's number: it has a rotation of its own.
    pub worker: usize,
    /// The stable hash of what should lead instances to the same choice: the balance key, or the stick key.
    pub key: Option<u64>,
    /// A random number, for this pick alone.
    pub random: u64,
    /// Now, for servers that start slowly.
    pub now: Timestamp,
    /// Servers that failed this very request.
    pub excluded: &'a [usize],
}

/// A server that may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place in the backend.
    index: usize,
    /// Its identity under rendezvous.
    hash: u64,
    /// Its weight now, in parts of [`ServerState::FULL`](crate::server::ServerState::FULL); not 0.
    share: u64,
    /// Requests and tunnels on it, and those that wait for it.
    load: u64,
    /// Whether it takes one more without a queue.
    room: bool,
}

type Candidates = SmallVec<[Candidate; 16]>;

/// Smooth weighted round robin (nginx's): each pick adds every server's weight to its credit, takes the one with the
/// most credit and charges it the sum. One for each worker, so the lock is never contended.
#[derive(Debug)]
pub struct Rotation(Mutex<Vec<i64>>);

impl Rotation {
    /// For `servers` servers.
    pub fn new(servers: usize) -> Self {
        Self(Mutex::new(vec![0; servers]))
    }

    fn next(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut credit = self.0.lock();
        let mut total = 0;
        let mut best: Option<usize> = None;
        for candidate in candidates {
            let (i, weight) = (candidate.index, candidate.share as i64);
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

/// Picks a server for a new client. Servers of weight 0 take none.
pub fn pick(backend: &Backend, turn: &Turn<'_>) -> Option<usize> {
    among(backend, turn, |candidates| {
        let rotation = &backend.rotation[turn.worker];
        match (&backend.config.balance, turn.key) {
            (Balance::RoundRobin, _) | (Balance::Hash(_), None) => rotation.next(candidates),
            (Balance::LeastConn, key) => choose::least_conn(candidates, key, rotation),
            (Balance::Random(draws), key) => choose::random(candidates, *draws, key.unwrap_or(turn.random)),
            (Balance::First, key) => choose::first(candidates, key, rotation),
            (Balance::Hash(_), Some(key)) => bounded(backend, candidates, key),
        }
    })
}

/// Picks a server for a client whose own is out: by rendezvous of its key, whatever the algorithm.
pub fn redispatch(backend: &Backend, turn: &Turn<'_>, key: u64) -> Option<usize> {
    among(backend, turn, |candidates| bounded(backend, candidates, key))
}

fn bounded(backend: &Backend, candidates: &[Candidate], key: u64) -> Option<usize> {
    match backend.config.spread.load_bound {
        None => choose::rendezvous(candidates, key),
        Some(percent) => choose::bounded(candidates, key, percent.into()),
    }
}

/// Lists those who may be taken, the better ones first, until one is.
fn among(backend: &Backend, turn: &Turn<'_>, choose: impl Fn(&[Candidate]) -> Option<usize>) -> Option<usize> {
    let free = |i: usize, s: &Server| s.state.takes_new() && !turn.excluded.contains(&i);
    let primary = |s: &Server| !s.config.backup;
    if backend.paced {
        let unhurried = |i, s: &Server| primary(s) && free(i, s) && s.may_start(turn.now);
        if let Some(picked) = choose(&list(backend, turn.now, unhurried)) {
            backend.servers[picked].started(turn.now);
            return Some(picked);
        }
    }
    let picked = choose(&list(backend, turn.now, |i, s| primary(s) && free(i, s)));
    if picked.is_some() || !backend.backups {
        return picked;
    }
    let mut backups = list(backend, turn.now, |i, s| !primary(s) && free(i, s));
    if !backend.config.spread.all_backups {
        backups.truncate(1);
    }
    choose(&backups)
}

fn list(backend: &Backend, now: Timestamp, may: impl Fn(usize, &Server) -> bool) -> Candidates {
    let servers = backend.servers.iter().enumerate().filter(|(i, s)| may(*i, s));
    let candidate = |(index, s): (usize, &Server)| Candidate {
        index,
        hash: s.hash,
        share: s.share(now),
        load: u64::from(s.state.in_flight()) + u64::from(s.state.queued()),
        room: s.state.has_room(),
    };
    servers.map(candidate).filter(|c| c.share > 0).collect()
}

/// A share of two is compared without a division: `a / b < c / d`.
fn less(a: (u64, u64), b: (u64, u64)) -> std::cmp::Ordering {
    (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1)))
}

/// A hash to a number in (0, 1): 53 bits, exact in f64, so the same everywhere.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Weighted rendezvous score (weights by −w / ln u, Schindelhauer and Schomaker).
fn score(key: u64, candidate: &Candidate) -> f64 {
    candidate.share as f64 / -unit(hash::rendezvous(key, candidate.hash)).ln()
}
