//! How the instances of a cluster share a server's bound: `maxconn = { cluster = 300 }`.
//!
//! Every node tells the others how many requests it has on a server and how many it wants there, and each computes its
//! own allowance from what all have told by one pure function, so that nobody has to be asked and nobody decides. What
//! makes the sum hold although nobody knows everything is a matter of who may know what, see `lb-peers`
//! (`replicator/loads.rs`).
use crate::server::{AdminState, ServerState};
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;

/// What a node told of itself on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests and tunnels on it.
    pub active: u32,
    /// The same and those that wait for it.
    pub wanted: u32,
}

/// Most requests that the node at `us` may have on a server that takes `bound` from all `nodes`, which stand in one
/// order on every node.
///
/// A bound is first dealt out evenly, to nobody more than it wants ("water-filling"); what is left is dealt out evenly to
/// all, so that the next request waits for nobody's word. A node that has more than its share, because it was larger a
/// moment ago, keeps what it has until its requests end: the others share the rest.
///
/// Of nodes with the same figures the allowances add up to the bound. An allowance never grows by another's wanting or
/// having more, nor shrinks by one's own wanting more.
pub fn allowance(bound: u32, nodes: &[Load], us: usize) -> u32 {
    let mut over = vec![false; nodes.len()];
    loop {
        let kept = nodes.iter().zip(&over).filter(|(_, over)| **over).map(|(n, _)| u64::from(n.active)).sum::<u64>();
        let rest = u64::from(bound).saturating_sub(kept);
        let sharing: Vec<usize> = (0..nodes.len()).filter(|i| !over[*i]).collect();
        let wanted: Vec<u64> = sharing.iter().map(|i| nodes[*i].wanted.into()).collect();
        let shares = dealt(rest, &wanted);
        let mut ours = 0;
        let mut found = false;
        for (i, share) in sharing.into_iter().zip(shares) {
            if i == us {
                ours = share;
            } else if u64::from(nodes[i].active) > share {
                (over[i], found) = (true, true);
            }
        }
        if !found {
            return u32::try_from(ours).unwrap_or(u32::MAX);
        }
    }
}

/// Deals `rest` out: one at a time to each in turn who wants more, then to each in turn.
fn dealt(rest: u64, wanted: &[u64]) -> Vec<u64> {
    let (mut rest, mut shares) = (rest, vec![0; wanted.len()]);
    loop {
        let hungry: Vec<usize> = (0..wanted.len()).filter(|i| shares[*i] < wanted[*i]).collect();
        let Some(least) = hungry.iter().map(|i| wanted[*i] - shares[*i]).min().filter(|_| rest > 0) else { break };
        let each = (rest / hungry.len() as u64).min(least);
        if each == 0 {
            hungry.iter().take(rest as usize).for_each(|i| shares[*i] += 1);
            return shares;
        }
        hungry.iter().for_each(|i| shares[*i] += each);
        rest -= each * hungry.len() as u64;
    }
    let n = wanted.len().max(1) as u64;
    for (i, share) in shares.iter_mut().enumerate() {
        *share += rest / n + u64::from((i as u64) < rest % n);
    }
    shares
}

/// The servers of the running configuration that instances tell each other of: those that have a bound for the whole
/// cluster, and those that drain or are in maintenance, so that an operator knows when nothing is open there.
#[derive(Debug, Default)]
pub struct SharedBounds {
    servers: RwLock<Vec<Arc<ServerState>>>,
}

impl SharedBounds {
    /// How many servers a node tells of, at most, those with a bound first; past it each instance goes by itself.
    pub const MAX: usize = 8192;

    /// Takes on those of another configuration, or of other decisions.
    pub fn set(&self, servers: impl Iterator<Item = Arc<ServerState>>) {
        let (mut told, others): (Vec<_>, Vec<_>) = servers.partition(|s| s.cluster_bound().is_some());
        told.extend(others.into_iter().filter(|s| s.admin() != AdminState::Ready));
        told.truncate(Self::MAX);
        let mut servers = self.servers.write();
        let before: HashSet<u32> = servers.iter().map(|s| s.uid).collect();
        // What was known when it was last told of means nothing now.
        told.iter().filter(|s| !before.contains(&s.uid)).for_each(|s| s.set_elsewhere(None));
        *servers = told;
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<ServerState>> {
        self.servers.read().clone()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.read().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(active: u32, wanted: u32) -> Load {
        Load { active, wanted }
    }

    fn all(bound: u32, nodes: &[Load]) -> Vec<u32> {
        (0..nodes.len()).map(|us| allowance(bound, nodes, us)).collect()
    }

    #[test]
    fn a_bound_is_shared_evenly_and_what_one_does_not_want_the_others_get() {
        assert_eq!(all(300, &[load(0, 0); 2]), [150, 150]);
        assert_eq!(all(300, &[load(0, 1000), load(0, 0)]), [300, 0]);
        assert_eq!(all(300, &[load(0, 1000), load(0, 10)]), [290, 10]);
        assert_eq!(all(300, &[load(0, 1000), load(0, 1000), load(0, 1000)]), [100, 100, 100]);
        assert_eq!(all(300, &[load(0, 250), load(0, 0)]), [275, 25]);
        assert_eq!(all(2, &[load(0, 9), load(0, 9), load(0, 9)]), [1, 1, 0]);
        assert_eq!(all(300, &[load(7, 7)]), [300]);
    }

    #[test]
    fn who_has_more_than_its_share_keeps_it_and_the_others_share_the_rest() {
        let nodes = [load(200, 200), load(0, 100), load(0, 100)];
        assert_eq!((allowance(300, &nodes, 1), allowance(300, &nodes, 2)), (50, 50));
        assert_eq!(allowance(300, &nodes, 0), 100, "it takes nobody new");
        assert_eq!(allowance(300, &[load(300, 300), load(0, 5)], 1), 0);
    }

    fn figures(nodes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Load>> {
        let one = (0u32..40, 0u32..40).prop_map(|(active, queued)| load(active, active + queued));
        proptest::collection::vec(one, nodes)
    }

    proptest! {
        #[test]
        fn of_equal_views_the_allowances_add_up_to_the_bound(bound in 0u32..200, wanted in proptest::collection::vec(0u32..300, 1..9)) {
            let nodes: Vec<_> = wanted.iter().map(|w| load(0, *w)).collect();
            prop_assert_eq!(all(bound, &nodes).iter().sum::<u32>(), bound);
            for (share, wanted) in all(bound, &nodes).iter().zip(&wanted) {
                prop_assert!(share >= wanted || *share >= bound / nodes.len() as u32, "nobody gets less than an even part");
            }
        }

        #[test]
        fn others_who_want_or_have_more_never_add_and_wanting_more_oneself_never_takes(
            bound in 0u32..100, mut nodes in figures(2..6), more in 0u32..30, at in 0usize..6, active: bool,
        ) {
            let at = at % nodes.len();
            let before = all(bound, &nodes);
            let grown = if active { &mut nodes[at].active } else { &mut nodes[at].wanted };
            *grown += more;
            let after = all(bound, &nodes);
            for i in 0..nodes.len() {
                if i != at {
                    prop_assert!(after[i] <= before[i]);
                } else if !active {
                    prop_assert!(after[i] >= before[i]);
                }
            }
        }

        #[test]
        fn views_that_take_others_for_no_less_than_they_are_and_oneself_for_no_more_keep_the_bound(
            bound in 1u32..100,
            truth in figures(2..6),
            views in proptest::collection::vec(proptest::collection::vec((0u32..30, 0u32..30), 6), 6),
        ) {
            let taken = |us: usize| {
                let view: Vec<Load> = truth.iter().enumerate().map(|(i, n)| {
                    let (active, wanted) = if i == us { (0, 0) } else { views[us][i] };
                    load(n.active + active, n.wanted + wanted)
                }).collect();
                allowance(bound, &view, us)
            };
            // Who is below its allowance fills it; who is above it takes nobody new.
            let total: u64 = (0..truth.len()).map(|us| u64::from(taken(us).max(truth[us].active))).sum();
            let kept: u64 = truth.iter().map(|n| u64::from(n.active)).sum();
            prop_assert!(total <= kept.max(bound.into()), "{} of {}", total, bound);
        }
    }
}
