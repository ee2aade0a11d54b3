//! What operators decided about servers, as entries that merge like pins: the later stamp wins, everywhere.
use crate::hlc::Stamp;
use crate::server::AdminState;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// One decision on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Backend and server name.
    pub server: (String, String),
    /// What is wanted; `None`: as configured.
    pub state: Option<AdminState>,
    /// Weight; `None`: as configured.
    pub weight: Option<u32>,
    /// Version.
    pub stamp: Stamp,
    /// Name of the node where it was made.
    pub node: String,
    /// Who, as given.
    pub author: String,
    /// Why, as given.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at: u64,
}

/// All decisions that hold, by backend and server. Bounded by [`Decisions::MAX`].
#[derive(Debug, Default)]
pub struct Decisions {
    by_server: Mutex<BTreeMap<(String, String), Decision>>,
}

impl Decisions {
    /// How many servers can have a decision.
    pub const MAX: usize = 65_536;

    /// Takes in a decision made here or elsewhere; true when it is news.
    pub fn merge(&self, decision: Decision) -> bool {
        let mut all = self.by_server.lock();
        match all.get(&decision.server) {
            Some(known) if known.stamp >= decision.stamp => return false,
            None if all.len() >= Self::MAX => return false,
            _ => {}
        }
        all.insert(decision.server.clone(), decision);
        true
    }

    /// The decision on a server.
    pub fn get(&self, backend: &str, server: &str) -> Option<Decision> {
        self.by_server.lock().get(&(backend.to_owned(), server.to_owned())).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Decision> {
        self.by_server.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn decision(clock: u64, state: AdminState) -> Decision {
        Decision {
            server: ("app".into(), "node1".into()),
            state: Some(state),
            weight: None,
            stamp: Stamp::new(clock, NodeId::new("lb1", 1)),
            node: "lb1".into(),
            author: String::new(),
            reason: String::new(),
            at: 0,
        }
    }

    #[test]
    fn the_later_decision_holds_in_whatever_order_they_arrive() {
        let (a, b) = (Decisions::default(), Decisions::default());
        let (drain, ready) = (decision(1, AdminState::Drain), decision(2, AdminState::Ready));
        assert!(a.merge(drain.clone()) && a.merge(ready.clone()));
        assert!(b.merge(ready.clone()) && !b.merge(drain));
        assert_eq!(a.all(), b.all());
        assert_eq!(a.get("app", "node1"), Some(ready));
    }
}
