//! Closing open sockets as operators decided, or because the instance leaves: not before the deadline, then at a pace,
//! with jitter, so that their clients do not all come back at one moment.
//!
//! Each instance closes its own. A pace that was decided for the whole cluster is shared by the instances that are up. Who
//! has been told to end counts no longer, whether it has ended or not: [`crate::sockets`].
use super::Control;
use super::decide::Order;
use crate::websocket::close::Why;
use crate::worker::Close;
use lb_core::pace::Pace;
use lb_core::server::ServerState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at what is to be closed, as a mean.
const STEP: Duration = Duration::from_millis(20);
/// Of the time of a stop, in which sockets are told; the rest is for their answers.
const TELLING: f64 = 0.75;
/// Longest sleep: a clock or a peer may have changed.
const LOOK: Duration = Duration::from_secs(5);

/// Runs as long as the instance.
pub(super) async fn run(control: Arc<Control>) {
    let mut due = Dues::default();
    loop {
        let sleep = step(&control, &mut due);
        tokio::select! {
            () = control.closing.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Tells those to end whose turn it is; how long until the next look.
fn step(control: &Control, dues: &mut Dues) -> Duration {
    let now = Instant::now();
    let mut sleep = LOOK;
    let default = control.snapshot().config.instance.close_pace;
    if let Some(end) = control.stops_at() {
        let left = control.shared.websockets.iter().map(|slot| slot.0.get()).sum::<u64>();
        let rate = dues.leaving(left, end, default, now);
        let count = dues.of(None, rate, left, now);
        let by_worker: Vec<u64> = control.shared.websockets.iter().map(|slot| slot.0.get()).collect();
        tell(control, None, Why::Leaving, count, &by_worker);
        return if left > count as u64 { jitter() } else { STEP };
    }
    let mut seen = Vec::new();
    for (backend, server) in control.snapshot().backends.iter().flat_map(|b| b.servers.iter().map(move |s| (b, s))) {
        let order = control.closing(backend, server);
        let begun = order.is_some_and(|order| order.left.is_zero());
        server.state.set_closing(begun);
        match order {
            Some(order) if !begun => sleep = sleep.min(order.left.max(Duration::from_millis(1))),
            Some(order) => {
                seen.push(server.state.uid);
                let left = server.state.sum(|c| &c.unclosed);
                let count = dues.of(Some(server.state.uid), rate(control, order, default), left, now);
                tell(control, Some(&server.state), Why::Drained, count, &unclosed(&server.state));
                // Somebody may be on its way to it still.
                sleep = sleep.min(if left > 0 { jitter() } else { Duration::from_millis(200) });
            }
            None => {}
        }
    }
    dues.by_server.retain(|uid, _| uid.is_some_and(|uid| seen.contains(&uid)));
    sleep
}

fn unclosed(server: &ServerState) -> Vec<u64> {
    server.counters.iter().map(|c| c.unclosed.get()).collect()
}

/// This instance's part of the pace: what is decided for all is shared by those who are up.
fn rate(control: &Control, order: Order, default: Pace) -> f64 {
    let peers = control.peers_status().map_or(0, |p| p.peers.iter().filter(|p| p.state == "up").count());
    let sharing = if order.local { 1 } else { 1 + peers };
    order.pace.unwrap_or(default).rate() / sharing as f64
}

/// Tells so many, from the workers that have most.
fn tell(control: &Control, server: Option<&Arc<ServerState>>, why: Why, count: usize, by_worker: &[u64]) {
    let mut left = by_worker.to_vec();
    let mut counts = vec![0; left.len()];
    for _ in 0..count {
        let Some((worker, most)) = left.iter_mut().enumerate().max_by_key(|(_, n)| **n) else { return };
        *most = most.saturating_sub(1);
        counts[worker] += 1;
    }
    for (worker, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        control.close_sockets(worker, Close { server: server.map(|s| s.uid), count, why });
    }
}

/// How much of a socket is due, for each server, and for all.
#[derive(Debug, Default)]
struct Dues {
    by_server: HashMap<Option<u32>, Due>,
    /// The rate of a leaving instance, for the end that it was computed for.
    leaving: Option<(Instant, f64)>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    sockets: f64,
}

impl Dues {
    /// How many of those that are left are due by now.
    fn of(&mut self, server: Option<u32>, rate: f64, left: u64, now: Instant) -> usize {
        // The first goes at once.
        let due = self.by_server.entry(server).or_insert(Due { at: now, sockets: 1.0 });
        due.sockets += rate * now.saturating_duration_since(due.at).as_secs_f64();
        due.at = now;
        // Nothing is saved up while there is nobody.
        let count = (due.sockets.floor() as u64).min(left);
        due.sockets = (due.sockets - count as f64).min(1.0);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// As fast as configured, or as fast as it takes.
    fn leaving(&mut self, left: u64, end: Instant, pace: Pace, now: Instant) -> f64 {
        match self.leaving {
            Some((known, rate)) if known == end => rate,
            _ => {
                let rate = pace.at_least(left, end.saturating_duration_since(now).mul_f64(TELLING));
                self.leaving = Some((end, rate));
                rate
            }
        }
    }
}

/// A step, a half more or less.
fn jitter() -> Duration {
    let dice = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    STEP.mul_f64(0.5 + dice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_at_the_pace_and_nothing_is_saved_up() {
        let (start, mut dues) = (Instant::now(), Dues::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(dues.of(None, 10.0, 100, at(0)), 1, "the first goes at once");
        assert_eq!(dues.of(None, 10.0, 100, at(50)), 0);
        let told: usize = (1..=100).map(|i| dues.of(None, 10.0, 100, at(50 + i * 20))).sum();
        assert!((20..=21).contains(&told), "{told} in two seconds");
        assert_eq!(dues.of(None, 10.0, 0, at(60_000)), 0);
        assert!(dues.of(None, 10.0, 100, at(60_050)) <= 2, "an hour without sockets is no debt");
    }

    #[test]
    fn a_leaving_instance_is_as_fast_as_its_time_demands() {
        let (now, mut dues) = (Instant::now(), Dues::default());
        let end = now + Duration::from_secs(10);
        assert_eq!(dues.leaving(10, end, Pace::DEFAULT, now), 50.0);
        assert_eq!(dues.leaving(10_000, end, Pace::DEFAULT, now), 50.0, "reckoned once for one end");
        let sooner = now + Duration::from_secs(4);
        assert_eq!(dues.leaving(3_000, sooner, Pace::DEFAULT, now), 1000.0);
    }
}
