//! How often rules did what they do.
use super::Slot;
use crate::rules::Rules;
use std::sync::Arc;

/// A rule's counts, one slot a worker.
pub type Done = Arc<[Slot]>;

/// Counts of a frontend's or a backend's rules, in their order; survive reloads that leave a rule as it is.
#[derive(Debug, Default)]
pub struct Ruled {
    /// Of those on requests.
    pub request: Vec<Done>,
    /// Of those on answers.
    pub response: Vec<Done>,
}

impl Ruled {
    pub(super) fn new(rules: &Rules, workers: usize, old: Option<(&Rules, &Self)>) -> Self {
        let old_request = old.map_or((&[][..], &[][..]), |(rules, ruled)| (&rules.request[..], &ruled.request[..]));
        let old_response = old.map_or((&[][..], &[][..]), |(rules, ruled)| (&rules.response[..], &ruled.response[..]));
        Self {
            request: counts(&rules.request, workers, old_request),
            response: counts(&rules.response, workers, old_response),
        }
    }

    /// How often.
    pub fn times(done: &Done) -> u64 {
        done.iter().map(|slot| slot.0.get()).sum()
    }
}

fn counts<R: PartialEq>(rules: &[R], workers: usize, old: (&[R], &[Done])) -> Vec<Done> {
    let mut taken = vec![false; old.0.len()];
    let mut kept = |rule: &R| {
        // Two equal rules keep counts of their own.
        let at = (0..old.0.len()).find(|at| !taken[*at] && old.0[*at] == *rule)?;
        taken[at] = true;
        old.1.get(at).cloned()
    };
    let fresh = || (0..workers).map(|_| Slot::default()).collect();
    rules.iter().map(|rule| kept(rule).unwrap_or_else(fresh)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Matcher;
    use crate::rules::{Action, Rule};

    #[test]
    fn counts_stay_with_their_rules_over_a_reload() {
        let deny = |status| Rule { when: Matcher::default(), then: Action::Deny(status) };
        let rules = |of: &[u16]| Rules { request: of.iter().map(|s| deny(*s)).collect(), ..Rules::default() };
        let before = rules(&[401, 403, 403]);
        let old = Ruled::new(&before, 2, None);
        for (at, times) in [(0, 1), (1, 2), (2, 3)] {
            (0..times).for_each(|_| old.request[at][1].0.bump());
        }
        let new = Ruled::new(&rules(&[404, 403, 403, 401]), 2, Some((&before, &old)));
        assert_eq!(new.request.iter().map(Ruled::times).collect::<Vec<_>>(), [0, 2, 3, 1]);
    }
}
