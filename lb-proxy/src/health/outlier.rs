//! Outliers: servers that fail requests are taken out for a while, whatever their checks say. Workers count
//! ([`lb_core::server::ServerState::failed`]); here the counts become ejections, and time ends them.
//!
//! An ejection is not health: a check does not end it, and it moves no rise/fall machine.
use lb_core::config::faults::Outlier;
use lb_core::server::ServerState;
use lb_core::snapshot::{Backend, Snapshot};
use std::collections::HashMap;
use std::time::Instant;

/// What is known of servers of backends that take outliers out.
#[derive(Debug, Default)]
pub struct Outliers(HashMap<u32, Mark>);

#[derive(Clone, Copy, Debug)]
struct Mark {
    out: Option<Out>,
    /// Ejections that count for the length of the next; one is forgiven for each `eject` without another.
    times: u32,
    forgiven: Instant,
    /// Where the rate's interval began: when, requests, failures.
    began: (Instant, u64, u64),
}

/// A time out. On the monotonic clock, because the wall clock may jump.
#[derive(Clone, Copy, Debug)]
struct Out {
    until: Instant,
}

impl Outliers {
    /// Looks at every server once.
    pub fn poll(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut seen = HashMap::with_capacity(self.0.len());
        for backend in &snapshot.backends {
            match &backend.config.faults.outlier {
                Some(outlier) => self.judge(backend, outlier, now, &mut seen),
                // A reload took it away.
                None => backend.servers.iter().filter(|s| s.state.ejected()).for_each(|s| back(&s.state)),
            }
        }
        self.0 = seen;
    }

    fn judge(&self, backend: &Backend, of: &Outlier, now: Instant, seen: &mut HashMap<u32, Mark>) {
        let states = || backend.servers.iter().map(|s| &s.state);
        let most = states().count() * of.max_ejected as usize / 100;
        let mut out = states().filter(|s| s.ejected()).count();
        for server in states() {
            let fresh = Mark { out: None, times: 0, forgiven: now, began: (now, requests(server), failures(server)) };
            let mut mark = self.0.get(&server.uid).copied().unwrap_or(fresh);
            if mark.out.is_some_and(|out| out.until <= now) {
                mark = Mark { out: None, forgiven: now, ..fresh_rate(mark, server, now) };
                out -= usize::from(server.ejected());
                back(server);
            }
            let why = mark.why(server, of, now);
            match why.filter(|_| mark.out.is_none()) {
                Some(why) if out < most => {
                    mark.eject(server, of, now, &why);
                    out += 1;
                }
                Some(why) => {
                    let name = format!("{}/{}", server.backend, server.name);
                    tracing::warn!(server = %name, reason = why, "it stays in: outlier.max_ejected are out already");
                }
                None => mark.forgive(of, now),
            }
            seen.insert(server.uid, mark);
        }
    }
}

impl Mark {
    /// Why the server is to be taken out, if it is.
    fn why(&mut self, server: &ServerState, of: &Outlier, now: Instant) -> Option<String> {
        let row = server.tripped().then(|| format!("{} failures in a row", of.consecutive));
        let (began, requests_then, failures_then) = self.began;
        if now.saturating_duration_since(began) < of.interval {
            return row;
        }
        let requests = requests(server).wrapping_sub(requests_then);
        let failures = failures(server).wrapping_sub(failures_then);
        *self = fresh_rate(*self, server, now);
        let many = of.failure_rate > 0 && requests >= of.min_requests.into();
        let rate = many && failures * 100 >= requests * u64::from(of.failure_rate);
        row.or_else(|| rate.then(|| format!("{failures} of {requests} requests failed")))
    }

    fn eject(&mut self, server: &ServerState, of: &Outlier, now: Instant, why: &str) {
        self.times += 1;
        let time = of.eject.saturating_mul(self.times).min(of.max_eject);
        self.out = Some(Out { until: now + time });
        server.eject(Some(crate::shared::now().0.saturating_add(lb_core::time::millis(time))));
        server.control.ejections.bump();
        let name = format!("{}/{}", server.backend, server.name);
        tracing::warn!(server = %name, reason = why, for_ = ?time, "server is taken out");
    }

    fn forgive(&mut self, of: &Outlier, now: Instant) {
        if self.out.is_none() && self.times > 0 && now.saturating_duration_since(self.forgiven) >= of.eject {
            self.times -= 1;
            self.forgiven = now;
        }
    }
}

fn fresh_rate(mark: Mark, server: &ServerState, now: Instant) -> Mark {
    Mark { began: (now, requests(server), failures(server)), ..mark }
}

fn back(server: &ServerState) {
    if server.eject(None) {
        server.came_up(crate::shared::now().0);
        let name = format!("{}/{}", server.backend, server.name);
        tracing::info!(server = %name, "server is taken in again");
    }
}

fn requests(server: &ServerState) -> u64 {
    // Connects that fail are no requests yet, but failures.
    server.sum(|c| &c.requests) + server.sum(|c| &c.connect_errors)
}

fn failures(server: &ServerState) -> u64 {
    server.sum(|c| &c.failures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::sync::Arc;
    use std::time::Duration;

    const OF: Outlier = Outlier {
        on: lb_core::config::faults::FailureKind::Server,
        consecutive: 3,
        failure_rate: 50,
        min_requests: 10,
        interval: Duration::from_secs(10),
        eject: Duration::from_secs(30),
        max_eject: Duration::from_secs(70),
        max_ejected: 50,
    };

    fn backend(servers: usize) -> Snapshot {
        let names = ["a", "b", "c", "d"];
        let servers: Vec<_> = names[..servers].iter().map(|n| (*n, ([127, 0, 0, 1], 1).into())).collect();
        let mut backend = fixture::backend("app", &servers);
        backend.faults.outlier = Some(OF);
        let mut config = fixture::config();
        config.backends = vec![Arc::new(backend)];
        fixture::snapshot(config)
    }

    fn state<'a>(snapshot: &'a Snapshot, name: &str) -> &'a ServerState {
        &snapshot.server("app", name).unwrap().state
    }

    fn fail(server: &ServerState, times: usize) {
        (0..times).for_each(|_| server.failed(0, OF.consecutive));
    }

    #[test]
    fn failures_in_a_row_take_a_server_out_and_each_time_for_longer() {
        let (snapshot, start) = (backend(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut outliers, a) = (Outliers::default(), state(&snapshot, "a"));
        outliers.poll(&snapshot, at(0));
        fail(a, 2);
        a.succeeded();
        fail(a, 2);
        outliers.poll(&snapshot, at(1));
        assert!(!a.ejected(), "a success between them");
        fail(a, 1);
        a.succeeded();
        outliers.poll(&snapshot, at(2));
        assert!(a.ejected() && !a.takes_new() && !a.takes_pinned(), "though it answered meanwhile");
        outliers.poll(&snapshot, at(31));
        assert!(a.ejected());
        outliers.poll(&snapshot, at(32));
        assert!(a.takes_new());
        for (from, until) in [(33, 93), (94, 164), (165, 235)] {
            fail(a, 3);
            outliers.poll(&snapshot, at(from));
            outliers.poll(&snapshot, at(until - 1));
            assert!(a.ejected(), "{from}");
            outliers.poll(&snapshot, at(until));
            assert!(!a.ejected(), "{from}: 60 s, then the most, 70 s");
        }
        assert_eq!(a.control.ejections.get(), 4);
        // Four times 30 s without another: all is forgiven.
        (1..=4).for_each(|i| outliers.poll(&snapshot, at(235 + 30 * i)));
        fail(a, 3);
        outliers.poll(&snapshot, at(400));
        outliers.poll(&snapshot, at(430));
        assert!(!a.ejected());
    }

    #[test]
    fn no_more_than_the_share_are_out_at_a_time() {
        let snapshot = backend(4);
        let mut outliers = Outliers::default();
        ["a", "b", "c", "d"].iter().for_each(|name| fail(state(&snapshot, name), 3));
        outliers.poll(&snapshot, Instant::now());
        assert_eq!(snapshot.servers().filter(|s| s.ejected()).count(), 2);
        let alone = backend(1);
        fail(state(&alone, "a"), 3);
        Outliers::default().poll(&alone, Instant::now());
        assert!(!state(&alone, "a").ejected(), "half of one is none");
    }

    #[test]
    fn a_share_of_failures_takes_a_server_out_when_there_were_enough_requests() {
        let (snapshot, start) = (backend(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut outliers, a) = (Outliers::default(), state(&snapshot, "a"));
        let serve = |good: usize, bad: usize| {
            (0..good + bad).for_each(|_| a.counters[0].requests.bump());
            (0..bad).for_each(|_| {
                a.failed(0, 0);
                a.succeeded();
            });
        };
        outliers.poll(&snapshot, at(0));
        serve(4, 5);
        outliers.poll(&snapshot, at(10));
        assert!(!a.ejected(), "nine are too few");
        serve(6, 5);
        outliers.poll(&snapshot, at(20));
        assert!(!a.ejected(), "fewer than half");
        serve(5, 5);
        outliers.poll(&snapshot, at(25));
        assert!(!a.ejected(), "not yet");
        outliers.poll(&snapshot, at(30));
        assert!(a.ejected());
    }

    #[test]
    fn a_reload_without_outlier_takes_everybody_in() {
        let snapshot = backend(2);
        let mut outliers = Outliers::default();
        fail(state(&snapshot, "a"), 3);
        outliers.poll(&snapshot, Instant::now());
        let mut config = (*snapshot.config).clone();
        config.backends = vec![Arc::new(lb_core::config::Backend {
            faults: lb_core::config::Faults::default(),
            ..(*config.backends[0]).clone()
        })];
        let next = Snapshot::build(Arc::new(config), &fixture::base(), Some(&snapshot));
        outliers.poll(&next, Instant::now());
        assert!(state(&next, "a").takes_new());
    }
}
