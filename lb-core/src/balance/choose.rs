//! The algorithms, each over a list of candidates.
use super::{Candidate, Rotation, less, score};
use crate::hash;
use smallvec::SmallVec;

/// The load that one more would make, for a weight: +1, so that among idle servers the heavier is the less loaded.
fn loaded(candidate: &Candidate) -> (u64, u64) {
    (candidate.load + 1, candidate.share)
}

/// Fewest requests and tunnels for its weight; among equals the key decides, so that two instances that meet one new
/// client in the same moment mostly agree, and without a key the rotation.
pub(super) fn least_conn(candidates: &[Candidate], key: Option<u64>, rotation: &Rotation) -> Option<usize> {
    let least = loaded(candidates.iter().min_by(|a, b| less(loaded(a), loaded(b)))?);
    let tied: SmallVec<[Candidate; 16]> =
        candidates.iter().filter(|c| less(loaded(c), least).is_eq()).copied().collect();
    match (tied.as_slice(), key) {
        ([only], _) => Some(only.index),
        (tied, Some(key)) => rendezvous(tied, key),
        (tied, None) => rotation.next(tied),
    }
}

/// The least loaded of a few drawn by weight (two: the power of two choices), each server once.
pub(super) fn random(candidates: &[Candidate], draws: u32, seed: u64) -> Option<usize> {
    let mut left: SmallVec<[Candidate; 16]> = candidates.into();
    let mut best: Option<Candidate> = None;
    for draw in 0..draws {
        let total: u64 = left.iter().map(|c| c.share).sum();
        // The high half of the product: a number below `total`.
        let chance = hash::rendezvous(seed, u64::from(draw) + 1);
        let mut at = ((u128::from(chance) * u128::from(total)) >> 64) as u64;
        let Some(drawn) = left.iter().position(|c| {
            let here = at < c.share;
            at = at.saturating_sub(c.share);
            here
        }) else {
            break;
        };
        let drawn = left.swap_remove(drawn);
        if best.is_none_or(|best| less(loaded(&drawn), loaded(&best)).is_lt()) {
            best = Some(drawn);
        }
    }
    best.map(|c| c.index)
}

/// The first in the order of the file that has room; the least loaded where nobody has.
pub(super) fn first(candidates: &[Candidate], key: Option<u64>, rotation: &Rotation) -> Option<usize> {
    let open = candidates.iter().find(|c| c.room).map(|c| c.index);
    open.or_else(|| least_conn(candidates, key, rotation))
}

/// Weighted rendezvous hashing (Thaler and Ravishankar): when a server goes, only its own clients move.
pub(super) fn rendezvous(candidates: &[Candidate], key: u64) -> Option<usize> {
    // `score` is a function of integers and one logarithm; it is compared with scores of the same making.
    candidates.iter().map(|c| (c.index, score(key, c))).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// Rendezvous with bounded loads (Mirrokni, Thorup and Zadimoghaddam): no server gets one more that has more than
/// `percent` of its part of the load already; its key goes to the next in the key's own order.
pub(super) fn bounded(candidates: &[Candidate], key: u64, percent: u64) -> Option<usize> {
    let total: u64 = candidates.iter().map(|c| c.load).sum::<u64>() + 1;
    let shares: u64 = candidates.iter().map(|c| c.share).sum();
    // With more than 100 percent somebody is always below.
    let below = |c: &&Candidate| {
        u128::from(c.load) * 100 * u128::from(shares) < u128::from(total) * u128::from(percent) * u128::from(c.share)
    };
    let below: SmallVec<[Candidate; 16]> = candidates.iter().filter(below).copied().collect();
    rendezvous(&below, key)
}
