//! Operators' decisions: making them, and making servers follow them.
//!
//! A decision for all instances and one for this instance only may both be there; the later one holds, as everywhere.
use super::Control;
use crate::shared::now;
use lb_core::config::DrainMode;
use lb_core::decisions::Decision;
use lb_core::pace::{Closing, Pace};
use lb_core::server::AdminState;
use lb_core::snapshot::{Backend, Server, Snapshot};
use std::time::Duration;

/// The greatest weight.
const MAX_WEIGHT: u32 = 256;
/// The longest author or reason, in bytes: they travel to every peer and into every log.
const MAX_TEXT: usize = 256;

/// What an operator wants of a server. What is not named stays as decided before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// `Some(None)`: as configured.
    pub state: Option<Option<AdminState>>,
    /// `Some(None)`: as configured.
    pub weight: Option<Option<u32>>,
    /// When and how fast open sockets are closed; only beside a state.
    pub closing: Option<Closing>,
    /// For this instance only.
    pub local: bool,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Sockets on a server that are to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// How long until that begins.
    pub(super) left: Duration,
    /// How fast, all instances together; `None`: as this one is configured.
    pub(super) pace: Option<Pace>,
    /// It was decided for this instance only.
    pub(super) local: bool,
}

/// Why a decision was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// No such server here.
    #[error("{0}")]
    Unknown(String),
    /// Nothing, or nonsense, was asked for.
    #[error("{0}")]
    Invalid(String),
}

impl Control {
    /// Makes a decision on a server: it holds here at once, and on the peers as soon as they hear of it.
    ///
    /// # Errors
    /// [`DecideError`]; nothing has changed then.
    pub fn decide(&self, backend: &str, server: &str, change: Change) -> Result<Decision, DecideError> {
        let snapshot = self.snapshot();
        if snapshot.server(backend, server).is_none() {
            return Err(DecideError::Unknown(unknown(&snapshot, backend, server)));
        }
        validate(&change)?;
        let before = self.decision(backend, server).map(|(d, _)| d);
        let now = now();
        let decision = Decision {
            server: (backend.into(), server.into()),
            state: change.state.unwrap_or_else(|| before.as_ref().and_then(|d| d.state)),
            weight: change.weight.unwrap_or_else(|| before.as_ref().and_then(|d| d.weight)),
            // A state decided anew is decided whole.
            closing: if change.state.is_some() { change.closing } else { before.and_then(|d| d.closing) },
            stamp: self.shared.base.clock.stamp(now),
            node: snapshot.config.instance.name.clone(),
            author: change.author,
            reason: change.reason,
            at: now.0,
        };
        let into = if change.local { &self.local } else { &self.decisions };
        if !into.merge(decision.clone(), now) {
            return Err(DecideError::Invalid("too many servers have decisions already".into()));
        }
        if let Some(peers) = self.peers.read().as_ref().filter(|_| !change.local) {
            peers.decide(decision.clone());
        }
        self.apply_decisions();
        Ok(decision)
    }

    /// The decision that holds on a server, and whether it is for this instance only.
    pub fn decision(&self, backend: &str, server: &str) -> Option<(Decision, bool)> {
        let everywhere = self.decisions.get(backend, server, now());
        let here = self.local.get(backend, server, now());
        match (everywhere, here) {
            (Some(all), Some(here)) if here.stamp > all.stamp => Some((here, true)),
            (Some(all), _) => Some((all, false)),
            (None, here) => here.map(|d| (d, true)),
        }
    }

    /// Makes every server follow what was decided about it, or else the configuration.
    pub(crate) fn apply_decisions(&self) {
        let snapshot = self.shared.snapshot.load();
        for backend in &snapshot.backends {
            for server in &backend.servers {
                self.follow(server);
            }
        }
        self.bounds.set(snapshot.servers());
        self.shared.queues.review(&snapshot.backends);
        self.closing.notify_one();
    }

    /// When and how fast the sockets on a server are closed, by what was decided or is configured; `None`: not at all.
    pub(super) fn closing(&self, backend: &Backend, server: &Server) -> Option<Order> {
        let decision = self.decision(&server.state.backend, &server.state.name);
        let local = decision.as_ref().is_some_and(|(_, local)| *local);
        let decision = decision.map(|(d, _)| d);
        let state = decision.as_ref().and_then(|d| d.state).unwrap_or(server.config.state);
        let said = decision.and_then(|d| d.closing);
        let at_once = match state {
            AdminState::Ready => return None,
            AdminState::Maint => true,
            AdminState::Drain => backend.config.drain == DrainMode::Move,
        };
        let left = match said {
            Some(closing) => closing.left,
            None if at_once => Duration::ZERO,
            None => return None,
        };
        Some(Order { left, pace: said.and_then(|c| c.pace), local })
    }

    fn follow(&self, server: &Server) {
        let state = &server.state;
        let decision = self.decision(&state.backend, &state.name).map(|(d, _)| d);
        let wanted = decision.as_ref().and_then(|d| d.state);
        let before = state.admin();
        if !state.decide(wanted, server.config.state, decision.as_ref().and_then(|d| d.weight)) {
            return;
        }
        let wanted = state.admin();
        let (author, reason, node) =
            decision.as_ref().map_or(("", "", ""), |d| (d.author.as_str(), d.reason.as_str(), d.node.as_str()));
        let name = format!("{}/{}", state.backend, state.name);
        tracing::info!(server = %name, state = ?wanted, weight = server.weight(), node, author, reason, "server decided");
        if before == AdminState::Maint {
            state.came_up(crate::shared::now().0);
            // It was not checked meanwhile.
            self.checks.nudge(state.uid);
        }
    }
}

fn validate(change: &Change) -> Result<(), DecideError> {
    let invalid = |why: String| Err(DecideError::Invalid(why));
    if change.state.is_none() && change.weight.is_none() {
        return invalid("nothing to change: give \"state\" (\"ready\", \"drain\", \"maint\") or \"weight\"".into());
    }
    if change.closing.is_some() && !matches!(change.state, Some(Some(AdminState::Drain | AdminState::Maint))) {
        return invalid("\"deadline\" and \"pace\" go with \"state\": \"drain\" or \"maint\"".into());
    }
    if let Some(Some(weight)) = change.weight.filter(|w| w.is_some_and(|w| w > MAX_WEIGHT)) {
        return invalid(format!("weight {weight} is too great: write 0 to {MAX_WEIGHT}"));
    }
    for (name, text) in [("author", &change.author), ("reason", &change.reason)] {
        if text.len() > MAX_TEXT {
            return invalid(format!("\"{name}\" is longer than {MAX_TEXT} bytes: shorten it"));
        }
    }
    Ok(())
}

fn unknown(snapshot: &Snapshot, backend: &str, server: &str) -> String {
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match snapshot.backends.iter().find(|b| b.config.name == backend) {
        None => {
            let names = snapshot.backends.iter().map(|b| b.config.name.as_str()).collect();
            format!("there is no backend \"{backend}\" here; backends: {}", list(names))
        }
        Some(b) => {
            let names = b.servers.iter().map(|s| s.config.name.as_str()).collect();
            format!("backend \"{backend}\" has no server \"{server}\"; its servers: {}", list(names))
        }
    }
}
