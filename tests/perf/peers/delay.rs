//! From a client's answer on one instance to the moment at which the other knows its pin; and what a new pin costs the
//! instance that makes it.
//!
//! The moment is seen by asking the other's admin again and again: its round trip is in every figure, alike for both
//! kinds, and printed beside.
use super::cluster::{Cluster, key};
use super::load;
use crate::measure::{Spread, cpu_ns};
use crate::proxy::Kind;
use crate::{backend, setup};
use anyhow::{Context as _, Result, ensure};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Seconds of load in one round, and rounds.
const SECONDS: usize = 4;
const ROUNDS: usize = 3;
/// One key of so many is waited for.
const SAMPLE: usize = 97;
const PATIENCE: Duration = Duration::from_secs(5);

/// What one round showed.
#[derive(Debug)]
struct Seen {
    /// Seconds, sorted.
    delays: Vec<f64>,
    admin: f64,
    /// CPU microseconds a request: with a new key, with a known one.
    new: f64,
    known: f64,
}

/// Makes so many pins a second on one of two instances, in turns.
pub(crate) fn run(rate: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    let mut seen: [Vec<Seen>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kind, seen) in [Kind::Lb, Kind::Haproxy].into_iter().zip(&mut seen) {
            seen.push(round(kind, backend, rate).with_context(|| format!("with {}", kind.name()))?);
        }
    }
    println!("{rate} new pins a second: milliseconds until the other instance knows, CPU microseconds of the first");
    println!("{:8} {:>9} {:>9} {:>13} {:>10} {:>11}", "", "p50", "p99", "admin's own", "new pin", "known pin");
    for (kind, seen) in [Kind::Lb, Kind::Haproxy].into_iter().zip(&seen) {
        let median = |of: &dyn Fn(&Seen) -> f64| Spread::of(seen.iter().map(of)).map_or(f64::NAN, |s| s.median);
        let at = |share: f64| median(&|s| s.delays[(s.delays.len() as f64 * share) as usize] * 1e3);
        println!(
            "{:8} {:>9.3} {:>9.3} {:>13.3} {:>10.2} {:>11.2}",
            kind.name(),
            at(0.5),
            at(0.99),
            median(&|s| s.admin * 1e3),
            median(&|s| s.new),
            median(&|s| s.known)
        );
    }
    Ok(())
}

fn round(kind: Kind, backend: std::net::SocketAddr, rate: usize) -> Result<Seen> {
    let cluster = Cluster::new(kind, 2, backend, 10_000_000)?;
    let (a, b) = (cluster.start(0, setup::PROXY_CORE)?, cluster.start(1, setup::LOAD_CORE)?);
    a.accepts()?;
    b.accepts()?;
    let mut admin = b.admin()?;
    // The link is up once a first key has come over.
    load::run(a.web, (0, 1), 0, |_| {})?;
    super::cluster::until("a link", Duration::from_secs(20), || admin.has(&key(0)))?;
    let asked = Instant::now();
    (0..200).try_for_each(|_| admin.has("nobody").map(drop))?;
    let round_trip = asked.elapsed().as_secs_f64() / 200.0;
    let (tell, told) = mpsc::channel();
    let watcher = std::thread::spawn(move || watch(&mut admin, &told));
    let pins = (1, 1 + rate * SECONDS);
    let new = spent(a.pid, pins, || {
        load::run(a.web, pins, rate, |i| {
            if i % SAMPLE == 0 {
                // It fails when the watcher has, which says so itself.
                let _ = tell.send((i, Instant::now()));
            }
        })
    })?;
    drop(tell);
    let mut delays = watcher.join().map_err(|_| anyhow::anyhow!("the watcher died"))??;
    delays.sort_by(f64::total_cmp);
    ensure!(delays.len() > 20, "too few samples");
    let known = spent(a.pid, pins, || load::run(a.web, pins, rate, |_| {}))?;
    Ok(Seen { delays, admin: round_trip, new, known })
}

/// CPU microseconds of a process for each of the requests.
fn spent(pid: u32, (from, to): (usize, usize), work: impl FnOnce() -> Result<Duration>) -> Result<f64> {
    let before = cpu_ns(pid)?;
    work()?;
    Ok((cpu_ns(pid)? - before) as f64 / 1e3 / (to - from) as f64)
}

/// Waits for each key that it is told of. One that was told while another was waited for, and is there at the first
/// look, counts for nothing: nobody saw when it came.
fn watch(admin: &mut super::cluster::Admin, told: &mpsc::Receiver<(usize, Instant)>) -> Result<Vec<f64>> {
    let mut delays = Vec::new();
    while let Ok((i, since)) = told.recv() {
        let late = since.elapsed() > Duration::from_millis(1);
        let mut looks = 0;
        while !admin.has(&key(i))? {
            looks += 1;
            ensure!(since.elapsed() < PATIENCE, "a pin never came over");
        }
        if !late || looks > 0 {
            delays.push(since.elapsed().as_secs_f64());
        }
    }
    Ok(delays)
}
