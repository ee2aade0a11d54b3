//! The way back: a client that was redispatched, and its first server, which takes clients again.
use super::Plan;
use lb_core::balance::Turn;
use lb_core::config::{FailBack, StickAction};
use lb_core::cookie::rule::Found;
use lb_core::snapshot::Backend;
use lb_core::table::{StickKey, StickTable};
use lb_core::time::Timestamp;

/// The part of a life that a client must have been idle for.
const IDLE_PART: u32 = 4;

impl Plan {
    /// Looks a key up, and with it the way back: the first server, if the client goes there now.
    pub(super) fn look_up(&mut self, backend: &Backend, i: usize, turn: &Turn<'_>) -> Option<usize> {
        let keyed = &mut self.keys[i];
        let (rule, table) = &backend.stick[keyed.rule];
        if rule.action == StickAction::StoreRequest {
            return None;
        }
        let when = backend.config.persist.fail_back;
        // Before the look-up, which is use.
        let idle = when == FailBack::Idle && is_idle(table, &keyed.key, turn.now);
        let pin = table.lookup(&keyed.key, turn.now)?;
        keyed.found = Some(pin.server);
        let (here, home) = backend.placed(pin.server);
        keyed.home = home;
        keyed.lost = here.is_none() && backend.has_lost(pin.server, pin.stamp.time(), turn.now);
        let home = backend.by_id(keyed.home?)?;
        self.goes_back(backend, home, turn, idle)
    }

    /// The first server of a client with a cookie, if it goes there now.
    pub(super) fn cookie_home(&self, backend: &Backend, found: &Found, turn: &Turn<'_>) -> Option<usize> {
        let home = found.home?;
        let since = (turn.now.0 / 1000).saturating_sub(found.last);
        let bound = backend.cookie.as_ref()?.config.max_idle;
        let idle = bound.is_some_and(|bound| since >= (bound / IDLE_PART).as_secs());
        self.goes_back(backend, home, turn, idle)
    }

    fn goes_back(&self, backend: &Backend, home: usize, turn: &Turn<'_>, idle: bool) -> Option<usize> {
        let due = match backend.config.persist.fail_back {
            FailBack::Never => false,
            FailBack::Idle => idle,
            FailBack::Now => true,
        };
        let server = &backend.servers[home];
        // Those who come back are new to it: they come at its pace.
        let goes = due && server.state.takes_new() && server.may_start(turn.now);
        goes.then(|| {
            server.started(turn.now);
            home
        })
    }
}

/// Whether a key has not been used for a quarter of its life, and nobody has a socket open on it.
fn is_idle(table: &StickTable, key: &StickKey, now: Timestamp) -> bool {
    let Some(pin) = table.peek(key, now) else { return false };
    let expire = table.expire_after();
    pin.left <= expire - expire / IDLE_PART && !table.is_held(key, now)
}
