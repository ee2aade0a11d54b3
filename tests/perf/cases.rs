//! Several proxies measured side by side: interleaved turns, medians, the ratio of the first to each.
use crate::measure::Spread;
use crate::proxy::Kind;
use anyhow::{Context as _, Result};

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
