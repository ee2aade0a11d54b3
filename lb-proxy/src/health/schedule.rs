//! The checks of one server: when it is asked, and what the answers come to.
use super::probe::{self, Failed, Target};
use super::{Reasons, jittered, random_unit};
use crate::edge::Edges;
use crate::tls::connect::Purpose;
use arc_swap::ArcSwap;
use lb_core::config::{Check, Proto, ServerAddr};
use lb_core::health::RiseFall;
use lb_core::server::{AdminState, Health, ServerState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The first check comes within this time of the start, the interval permitting: nobody wants to send clients to a
/// dead server for long, nor ask a hundred servers in one instant.
pub(super) const FIRST_WITHIN: Duration = Duration::from_millis(200);

/// What one task checks; when it changes, the task starts anew.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) check: Arc<Check>,
    pub(super) timeout: Duration,
    pub(super) addr: ServerAddr,
    /// The host name that the server was found by.
    pub(super) host: Option<String>,
    /// What the servers speak.
    pub(super) proto: Proto,
}

/// The checks of one server, one after the other.
pub(super) struct Schedule {
    pub(super) spec: Spec,
    pub(super) server: Arc<ServerState>,
    pub(super) health: RiseFall,
    /// Whether it ever passed (or was checked before a reload). A server that is new counts as up so that a start
    /// needs no waiting, but its first failure takes it out, as HAProxy does.
    pub(super) known: bool,
    pub(super) reasons: Arc<Reasons>,
    /// How connections over TLS begin, as the files say now.
    pub(super) edges: Arc<ArcSwap<Edges>>,
}

impl Schedule {
    pub(super) async fn run(mut self, nudge: Arc<Notify>) {
        let first = self.spec.check.interval.min(FIRST_WITHIN).mul_f64(random_unit());
        tokio::select! { () = tokio::time::sleep(first) => {}, () = nudge.notified() => {} }
        loop {
            if self.server.admin() != AdminState::Maint {
                self.check().await;
            }
            let pause = jittered(self.pause());
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = nudge.notified() => {} }
        }
    }

    /// Until the next check.
    fn pause(&self) -> Duration {
        let check = &self.spec.check;
        match self.health.health() {
            _ if self.health.in_transition() => check.fast_interval,
            Health::Up => check.interval,
            Health::Down => check.down_interval,
        }
    }

    async fn check(&mut self) {
        let result = self.ask().await;
        // An operator may have taken it out while the probe was on its way.
        if self.server.admin() == AdminState::Maint {
            return;
        }
        match &result {
            Ok(()) => self.server.control.checks_passed.bump(),
            Err(_) => self.server.control.checks_failed.bump(),
        }
        match result {
            Ok(()) => self.observe(true, "check passed"),
            Err(Failed::Server(why)) => self.observe(false, &why),
            Err(Failed::Local(why)) => {
                let name = format!("{}/{}", self.server.backend, self.server.name);
                tracing::warn!(server = %name, reason = why, "a check could not be made; the server's state stays");
            }
        }
    }

    async fn ask(&self) -> Result<(), Failed> {
        let Spec { check, timeout, addr, host, proto } = &self.spec;
        let tls = check.tls.as_ref().map(|terms| {
            let purpose = Purpose::Check(check.probe.proto(*proto));
            let tls = self.edges.load().to_server(&self.server.backend, terms, purpose).cloned();
            tls.ok_or_else(|| Failed::Local("its TLS is being changed by a reload".into()))
        });
        let (tls, send_proxy) = (tls.transpose()?, check.send_proxy);
        let (addr, host) = (addr.clone(), host.clone());
        let target = Target { addr, host, tls, send_proxy, h2: *proto == Proto::H2 };
        probe::probe(&check.probe, &target, *timeout).await
    }

    fn observe(&mut self, passed: bool, reason: &str) {
        let known = std::mem::replace(&mut self.known, true);
        if !known && !passed && self.health.health() == Health::Up {
            self.health = RiseFall::new(Health::Down, self.spec.check.rise, self.spec.check.fall);
            return self.reasons.change(&self.server, Health::Down, reason);
        }
        match self.health.observe(passed) {
            Some(health) => self.reasons.change(&self.server, health, reason),
            // A newer reason for the same state.
            None if !passed && self.health.health() == Health::Down => {
                self.reasons.why.lock().insert(self.server.uid, reason.to_owned());
            }
            // The data plane's failures in a row asked for a check, and it passed.
            None if passed && self.health.health() == Health::Up => self.server.connected(),
            None => {}
        }
    }
}
