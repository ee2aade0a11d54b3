//! What operators decided about servers, as entries that merge like pins: the later stamp wins, everywhere.
use crate::hlc::Stamp;
use crate::pace::Closing;
use crate::server::AdminState;
use crate::time::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// One decision on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Backend and server name.
    pub server: (String, String),
    /// What is wanted; `None`: as configured.
    pub state: Option<AdminState>,
    /// Weight; `None`: as configured.
    pub weight: Option<u32>,
    /// When and how fast the sockets on it are closed; `None`: the state and the configuration say.
    pub closing: Option<Closing>,
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
    /// Each with when it came.
    by_server: Mutex<BTreeMap<(String, String), (Timestamp, Decision)>>,
}

impl Decisions {
    /// How many servers can have a decision.
    pub const MAX: usize = 65_536;

    /// Takes in a decision made here or elsewhere; true when it is news.
    pub fn merge(&self, decision: Decision, now: Timestamp) -> bool {
        let mut all = self.by_server.lock();
        match all.get(&decision.server) {
            Some((_, known)) if known.stamp >= decision.stamp => return false,
            None if all.len() >= Self::MAX => return false,
            _ => {}
        }
        all.insert(decision.server.clone(), (now, decision));
        true
    }

    /// The decision on a server.
    pub fn get(&self, backend: &str, server: &str, now: Timestamp) -> Option<Decision> {
        self.by_server.lock().get(&(backend.to_owned(), server.to_owned())).map(|of| aged(of, now))
    }

    /// All of them.
    pub fn all(&self, now: Timestamp) -> Vec<Decision> {
        self.by_server.lock().values().map(|of| aged(of, now)).collect()
    }
}

/// As it is now: less is left until sockets are closed than when it came.
fn aged((came, decision): &(Timestamp, Decision), now: Timestamp) -> Decision {
    let mut decision = decision.clone();
    if let Some(closing) = &mut decision.closing {
        closing.left = closing.left.saturating_sub(Duration::from_millis(now.0.saturating_sub(came.0)));
    }
    decision
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
            closing: None,
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
        let now = Timestamp(1000);
        assert!(a.merge(drain.clone(), now) && a.merge(ready.clone(), now));
        assert!(b.merge(ready.clone(), now) && !b.merge(drain, now));
        assert_eq!(a.all(now), b.all(now));
        assert_eq!(a.get("app", "node1", now), Some(ready));
    }

    #[test]
    fn a_deadline_comes_nearer_and_does_not_pass_into_the_past() {
        let (decisions, pace) = (Decisions::default(), Some("20/s".parse().unwrap()));
        let closing = |left| Some(Closing { left: Duration::from_secs(left), pace });
        decisions.merge(Decision { closing: closing(300), ..decision(1, AdminState::Drain) }, Timestamp(5_000));
        let left = |now| decisions.get("app", "node1", Timestamp(now)).unwrap().closing;
        assert_eq!((left(5_000), left(105_000), left(1_000_000)), (closing(300), closing(200), closing(0)));
        assert_eq!(decisions.all(Timestamp(105_000))[0].closing, closing(200));
    }
}
