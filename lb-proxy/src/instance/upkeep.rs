//! What happens by itself while an instance runs: entries expire, failed connects are judged, peers are heard.
use super::{Control, Phase};
use crate::health::outlier::Outliers;
use crate::health::passive::{POLL, Passive};
use crate::health::standing::Standing;
use crate::shared::now;
use crate::tls::watch::LOOK;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How often entries past their deadline are dropped. Readers skip them anyway.
const EXPIRE: Duration = Duration::from_secs(1);
/// Entries looked at before other control work gets a turn.
const EXPIRE_BUDGET: usize = 10_000;
/// How often leases of open sockets are looked after, at most; a table says how often it needs that.
const RENEW: Duration = Duration::from_millis(50);
/// How often the metrics recorder tidies up; without it samples pile up until somebody scrapes.
const RECORDER: Duration = Duration::from_secs(5);
/// How often names of servers that are gone are forgotten, where there are many.
const FORGET: Duration = Duration::from_secs(60);
/// So many names are no burden.
const MANY_NAMES: usize = 4096;
/// How soon a reload's `state_interval` is noticed.
const SAVE_POLL: Duration = Duration::from_secs(1);

/// Starts all of it.
pub(super) fn spawn(control: &Arc<Control>, tasks: &mut JoinSet<()>) {
    tasks.spawn(expire(control.clone()));
    tasks.spawn(renew(control.clone()));
    tasks.spawn(judge(control.clone()));
    tasks.spawn(super::discovery::run(control.clone()));
    tasks.spawn(forget(control.clone()));
    tasks.spawn(recorder(control.clone()));
    tasks.spawn(save(control.clone()));
    tasks.spawn(super::closing::run(control.clone()));
    tasks.spawn(certificates(control.clone()));
    let peers = control.peers.read();
    if let Some(peers) = peers.as_ref() {
        tasks.spawn(pulled(control.clone(), peers.pulled()));
        tasks.spawn(decided(control.clone(), peers.decided()));
        tasks.spawn(allowed(control.clone(), peers.allowed()));
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn expire(control: Arc<Control>) {
    let mut ticks = every(EXPIRE);
    loop {
        ticks.tick().await;
        let tables: Vec<_> = control.shared.snapshot.load().tables.values().cloned().collect();
        for table in tables {
            // Much went: there may be more.
            while table.expire(now(), EXPIRE_BUDGET) >= EXPIRE_BUDGET / 2 {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn renew(control: Arc<Control>) {
    loop {
        let tables: Vec<_> = control.shared.snapshot.load().tables.values().cloned().collect();
        let soonest = tables.iter().map(|t| t.renew_every()).min().unwrap_or(EXPIRE);
        tables.iter().for_each(|table| _ = table.renew(now()));
        tokio::time::sleep((soonest / 4).clamp(RENEW, EXPIRE)).await;
    }
}

async fn judge(control: Arc<Control>) {
    let mut ticks = every(POLL);
    let (mut passive, mut outliers, mut standing) = (Passive::default(), Outliers::default(), Standing::default());
    loop {
        // A server that went down is news now, not at the next tick.
        tokio::select! { _ = ticks.tick() => {}, () = control.checks.changed() => {} }
        let snapshot = control.shared.snapshot.load_full();
        passive.poll(&snapshot, &control.checks, Instant::now());
        outliers.poll(&snapshot, Instant::now());
        for server in standing.poll(&snapshot) {
            control.close_on(server);
        }
        // A server may have gone down; an agent may have raised a bound.
        control.shared.queues.review(&snapshot.backends);
    }
}

/// Names of servers that are gone. Tables may be long.
async fn forget(control: Arc<Control>) {
    let mut ticks = every(FORGET);
    loop {
        ticks.tick().await;
        if control.shared.base.names.len() < MANY_NAMES {
            continue;
        }
        let control = control.clone();
        let sweep = move || control.shared.base.forget_names(control.shared.snapshot.load().tables.values());
        // An error: the runtime ends.
        if let Ok(forgotten @ 1..) = tokio::task::spawn_blocking(sweep).await {
            tracing::debug!(forgotten, "names of servers that are gone");
        }
    }
}

async fn recorder(control: Arc<Control>) {
    let mut ticks = every(RECORDER);
    loop {
        ticks.tick().await;
        control.recorder_upkeep();
    }
}

async fn save(control: Arc<Control>) {
    let mut last = Instant::now();
    loop {
        let interval = control.snapshot().config.instance.state_interval;
        tokio::time::sleep(interval.min(SAVE_POLL)).await;
        if last.elapsed() >= interval {
            last = Instant::now();
            control.save_state().await;
            // A directory that became usable may have told of some.
            control.apply_decisions();
        }
    }
}

/// Certificates whose files change. They may be on a disk that does not answer.
async fn certificates(control: Arc<Control>) {
    let mut ticks = every(LOOK);
    loop {
        ticks.tick().await;
        let control = control.clone();
        let look = move || control.certificates.look(&control.shared.edges.load_full(), SystemTime::now());
        // An error: the runtime ends.
        tokio::task::spawn_blocking(look).await.ok();
    }
}

async fn pulled(control: Arc<Control>, mut pulled: tokio::sync::watch::Receiver<bool>) {
    // An error means that replication has ended; the instance then serves alone rather than never.
    pulled.wait_for(|pulled| *pulled).await.ok();
    control.shared.ask.store(None);
    // They came with the tables: who is told "ready" must not send clients to a server in maintenance.
    control.apply_decisions();
    control.set_phase(Phase::Ready);
    let how = control.peers_status().map_or(String::new(), |p| p.pull);
    tracing::info!(tables = how, "ready");
}

async fn decided(control: Arc<Control>, mut decided: tokio::sync::watch::Receiver<u64>) {
    control.apply_decisions();
    while decided.changed().await.is_ok() {
        control.apply_decisions();
    }
}

/// Nobody of this instance need be on a server whose place has become free elsewhere.
async fn allowed(control: Arc<Control>, mut allowed: tokio::sync::watch::Receiver<u64>) {
    while allowed.changed().await.is_ok() {
        control.shared.queues.review(&control.shared.snapshot.load().backends);
    }
}
