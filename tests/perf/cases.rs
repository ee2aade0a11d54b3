//! Several proxies measured side by side: interleaved turns, medians, the ratio of the first to each.
use crate::measure::{Spread, cpu_ns};
use crate::proxy::{Kind, Proxy};
use crate::setup;
use anyhow::{Context as _, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A proxy as it is set up here.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) template: String,
}

/// One turn of one proxy.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) case: usize,
    /// Pieces of work a second.
    pub(crate) rate: f64,
    /// CPU for each of them.
    pub(crate) cpu_us: f64,
}

/// One turn: so many clients, a thread each, do their piece of work again and again. `client` makes one, which does a
/// piece each time that it is called.
pub(crate) fn measured<W: FnMut() -> Result<()>>(
    proxy: &Proxy,
    case: usize,
    clients: usize,
    time: Duration,
    client: impl Fn() -> Result<W> + Sync,
) -> Result<Turn> {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let run = || -> Result<()> {
            setup::pin_this_thread(setup::LOAD_CORE)?;
            let mut work = client()?;
            while !stop.load(Ordering::Relaxed) {
                work().context("the run is void")?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(run)).collect();
        std::thread::sleep(Duration::from_millis(300));
        let (before, from, cpu) = (Instant::now(), done.load(Ordering::Relaxed), cpu_ns(proxy.pid)?);
        std::thread::sleep(time);
        let cpu = cpu_ns(proxy.pid)? - cpu;
        let count = (done.load(Ordering::Relaxed) - from) as f64;
        let rate = count / before.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        ensure!(count > 0.0, "nothing was answered");
        Ok(Turn { case, rate, cpu_us: cpu as f64 / 1e3 / count })
    })
}

/// Interleaved rounds: each case comes first, second and last in turn, so that drift falls on all alike.
pub(crate) fn rounds(
    what: &str,
    cases: &[Case],
    rounds: usize,
    mut turn: impl FnMut(usize) -> Result<Turn>,
) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for round in 0..rounds {
        for i in 0..cases.len() {
            let case = (i + round) % cases.len();
            let turn = turn(case).context(cases[case].name)?;
            eprintln!("{:16} {what:24} {:8.0}/s  {:7.2} µs CPU each", cases[case].name, turn.rate, turn.cpu_us);
            turns.push(turn);
        }
    }
    Ok(turns)
}

/// Prints medians, and the ratio of the first case to each.
pub(crate) fn report(what: &str, cases: &[Case], turns: &[Turn], rounds: usize) -> Result<()> {
    println!("{what}: medians of {rounds} rounds (least–greatest)");
    println!("{:16} {:>22} {:>26} {:>24}", "", "each second", "CPU µs each", "lb's CPU × it");
    for (case, Case { name, .. }) in cases.iter().enumerate() {
        let spread = |value: fn(&Turn) -> f64| {
            Spread::of(turns.iter().filter(|t| t.case == case).map(value)).context("no round was run")
        };
        let (rate, cpu) = (spread(|t| t.rate)?, spread(|t| t.cpu_us)?);
        // Round by round, because the machine's pace changes from one to the next.
        let ratios = turns.chunks(cases.len()).filter_map(|round| {
            let of = |case| round.iter().find(|t| t.case == case).map(|t| t.cpu_us);
            Some(of(0)? / of(case)?)
        });
        let ratio = Spread::of(ratios).context("no round was run")?;
        let show =
            |s: Spread, digits: usize| format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.least, s.greatest);
        println!("{name:16} {:>22} {:>26} {:>24}", show(rate, 0), show(cpu, 2), show(ratio, 3));
    }
    Ok(())
}
