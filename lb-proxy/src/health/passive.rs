//! What failed connects of the data plane say about servers. Workers only count ([`ServerState::connect_failed`]);
//! here the counts become changes of health, for servers without a check, or an early check for those with one.
//!
//! It polls: a notice from the workers would cost the request path more than a look at a few atomics costs here.
use super::Checks;
use lb_core::server::{AdminState, Health, ServerState};
use lb_core::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the counts are read.
pub const POLL: Duration = Duration::from_millis(200);
/// Failed connects in a row that mean something.
const TOO_MANY: u32 = 3;

/// What is known of servers that stand out; the others have no entry.
#[derive(Debug, Default)]
pub struct Passive(HashMap<u32, Mark>);

#[derive(Clone, Copy, Debug)]
enum Mark {
    /// Taken out; tried again after `retry_after`. On the monotonic clock, because the wall clock may jump.
    Down { since: Instant },
    /// In again on trial: the next failure takes it out at once. `connects` is what it had opened when the trial began.
    Trial { connects: u64 },
    /// Has a check, which was asked for early when so many had failed.
    Nudged { failures: u32 },
}

impl Passive {
    /// Looks at every server once.
    pub fn poll(&mut self, snapshot: &Snapshot, checks: &Checks, now: Instant) {
        let mut seen = HashMap::with_capacity(self.0.len());
        for backend in &snapshot.backends {
            for server in backend.servers.iter().filter(|s| s.state.admin() != AdminState::Maint) {
                let (checked, server) = (server.config.check.is_some(), &server.state);
                let mark = self.0.get(&server.uid).copied();
                let next = if checked && checks.is_checked(server.uid) {
                    nudge(server, mark, checks)
                } else {
                    judge(server, mark, backend.config.retry_after, checks, now)
                };
                if let Some(mark) = next {
                    seen.insert(server.uid, mark);
                }
            }
        }
        self.0 = seen;
    }
}

fn nudge(server: &Arc<ServerState>, mark: Option<Mark>, checks: &Checks) -> Option<Mark> {
    let failures = server.connect_failures();
    if failures < TOO_MANY || server.checked() == Health::Down {
        return None;
    }
    match mark {
        // Once for each doubling: a server that fails on and on is not checked five times a second.
        Some(Mark::Nudged { failures: told }) if failures < told.saturating_mul(2) => mark,
        _ => {
            checks.nudge(server.uid);
            Some(Mark::Nudged { failures })
        }
    }
}

fn judge(
    server: &Arc<ServerState>,
    mark: Option<Mark>,
    retry_after: Duration,
    checks: &Checks,
    now: Instant,
) -> Option<Mark> {
    let failures = server.connect_failures();
    if server.checked() == Health::Down {
        let since = match mark {
            Some(Mark::Down { since }) => since,
            // A check that is gone since a reload left it down.
            _ => now,
        };
        if now.saturating_duration_since(since) < retry_after {
            return Some(Mark::Down { since });
        }
        checks.reasons.change(server, Health::Up, "tried again after retry_after");
        return Some(Mark::Trial { connects: server.sum(|c| &c.connects) });
    }
    let bound = if matches!(mark, Some(Mark::Trial { .. })) { 1 } else { TOO_MANY };
    if failures >= bound {
        let reason = format!("{failures} connects in a row failed");
        checks.reasons.change(server, Health::Down, &reason);
        return Some(Mark::Down { since: now });
    }
    // The trial is over when a connect succeeded; with none yet, it goes on.
    mark.filter(|m| matches!(m, Mark::Trial { connects } if server.sum(|c| &c.connects) == *connects))
}
