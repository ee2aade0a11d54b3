//! What keeps clients off a server: one word, which the request path reads, and whose parts others set.
use super::{AdminState, Health};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Checks or connects found it down.
const DOWN: u8 = 1;
/// Its agent says that it is down.
const AGENT_DOWN: u8 = 1 << 1;
/// It failed too many requests, and is out for a while.
const EJECTED: u8 = 1 << 2;
/// Discovery knows it no more.
const GONE: u8 = 1 << 3;
/// So few servers of its backend are up that health is ignored.
const PANIC: u8 = 1 << 4;
/// Pinned clients only.
const DRAIN: u8 = 1 << 5;
/// Nobody.
const MAINT: u8 = 1 << 6;

const SICK: u8 = DOWN | AGENT_DOWN | EJECTED;

/// Who may come.
#[derive(Debug)]
pub(super) struct Gate {
    word: AtomicU8,
    wants: Mutex<Wants>,
}

/// What is wanted of a server, by whom.
#[derive(Clone, Copy, Debug, Default)]
struct Wants {
    /// By its operator, else by the configuration.
    operator: AdminState,
    /// Whether it is an operator's decision: then the agent has no say.
    decided: bool,
    agent: Option<AdminState>,
}

impl Gate {
    pub(super) fn new(admin: AdminState) -> Self {
        let gate = Self { word: AtomicU8::new(0), wants: Mutex::default() };
        gate.want(admin, false);
        gate
    }

    /// Whether a pinned client may come.
    pub(super) fn takes_pinned(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (MAINT | GONE) == 0 && healthy(word)
    }

    /// Whether a new client may come.
    pub(super) fn takes_new(&self) -> bool {
        let word = self.word.load(Relaxed);
        word == 0 || (word & (MAINT | GONE | DRAIN) == 0 && healthy(word))
    }

    pub(super) fn admin(&self) -> AdminState {
        match self.word.load(Relaxed) {
            word if word & MAINT != 0 => AdminState::Maint,
            word if word & DRAIN != 0 => AdminState::Drain,
            _ => AdminState::Ready,
        }
    }

    /// What the operator (`decided`) or else the configuration wants. True: that is news.
    pub(super) fn want(&self, state: AdminState, decided: bool) -> bool {
        self.change(|wants| (wants.operator, wants.decided) = (state, decided))
    }

    /// What the agent wants; it holds unless an operator decided. True: that is news.
    pub(super) fn agent_wants(&self, state: Option<AdminState>) -> bool {
        self.change(|wants| wants.agent = state)
    }

    fn change(&self, change: impl FnOnce(&mut Wants)) -> bool {
        let mut wants = self.wants.lock();
        let before = self.admin();
        change(&mut wants);
        let state = if wants.decided { wants.operator } else { wants.agent.unwrap_or(wants.operator) };
        self.put(DRAIN, state == AdminState::Drain);
        self.put(MAINT, state == AdminState::Maint);
        before != state
    }

    pub(super) fn health(&self) -> Health {
        if self.word.load(Relaxed) & (DOWN | AGENT_DOWN) == 0 { Health::Up } else { Health::Down }
    }

    pub(super) fn checked(&self) -> Health {
        if self.has(DOWN) { Health::Down } else { Health::Up }
    }

    /// These say whether that is news.
    pub(super) fn set_checked(&self, health: Health) -> bool {
        self.put(DOWN, health == Health::Down)
    }

    pub(super) fn agent_down(&self) -> bool {
        self.has(AGENT_DOWN)
    }

    pub(super) fn set_agent_down(&self, down: bool) -> bool {
        self.put(AGENT_DOWN, down)
    }

    pub(super) fn ejected(&self) -> bool {
        self.has(EJECTED)
    }

    pub(super) fn set_ejected(&self, ejected: bool) -> bool {
        self.put(EJECTED, ejected)
    }

    pub(super) fn gone(&self) -> bool {
        self.has(GONE)
    }

    pub(super) fn set_gone(&self, gone: bool) -> bool {
        self.put(GONE, gone)
    }

    pub(super) fn panics(&self) -> bool {
        self.has(PANIC)
    }

    pub(super) fn set_panics(&self, panics: bool) -> bool {
        self.put(PANIC, panics)
    }

    fn has(&self, bit: u8) -> bool {
        self.word.load(Relaxed) & bit != 0
    }

    fn put(&self, bit: u8, on: bool) -> bool {
        let before = if on { self.word.fetch_or(bit, Relaxed) } else { self.word.fetch_and(!bit, Relaxed) };
        (before & bit != 0) != on
    }
}

fn healthy(word: u8) -> bool {
    word & SICK == 0 || word & PANIC != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_alone_keeps_clients_off() {
        let gate = Gate::new(AdminState::Ready);
        assert!(gate.takes_new() && gate.takes_pinned());
        for set in [Gate::set_agent_down, Gate::set_ejected, Gate::set_gone] {
            assert!(set(&gate, true) && !set(&gate, true), "news is told once");
            assert!(!gate.takes_new() && !gate.takes_pinned());
            set(&gate, false);
            assert!(gate.takes_new() && gate.takes_pinned());
        }
        gate.set_checked(Health::Down);
        assert!(!gate.takes_new() && !gate.takes_pinned() && gate.health() == Health::Down);
    }

    #[test]
    fn in_panic_health_is_ignored_and_the_operator_is_not() {
        let gate = Gate::new(AdminState::Ready);
        gate.set_checked(Health::Down);
        gate.set_ejected(true);
        gate.set_panics(true);
        assert!(gate.takes_new() && gate.takes_pinned());
        gate.want(AdminState::Drain, true);
        assert!(!gate.takes_new() && gate.takes_pinned());
        gate.want(AdminState::Maint, true);
        assert!(!gate.takes_pinned());
        gate.want(AdminState::Ready, true);
        gate.set_gone(true);
        assert!(!gate.takes_pinned(), "who is gone is not merely sick");
    }

    #[test]
    fn an_operators_decision_holds_over_the_agents_word_and_that_over_the_configuration() {
        let gate = Gate::new(AdminState::Drain);
        assert!(gate.agent_wants(Some(AdminState::Ready)));
        assert_eq!(gate.admin(), AdminState::Ready);
        assert!(gate.want(AdminState::Maint, true));
        assert!(!gate.agent_wants(Some(AdminState::Drain)), "the operator's word stands");
        assert_eq!(gate.admin(), AdminState::Maint);
        assert!(gate.want(AdminState::Ready, false), "taken back: the agent's word counts again");
        assert_eq!(gate.admin(), AdminState::Drain);
        assert!(gate.agent_wants(None));
        assert_eq!(gate.admin(), AdminState::Ready);
    }
}
