//! How long a fresh instance takes to have a whole table, from the start of its process.
use super::cluster::{Cluster, Member, until};
use super::load;
use crate::measure::Spread;
use crate::proxy::Kind;
use crate::{backend, setup};
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Instances with the whole table, and the place of a fresh one.
struct Sources {
    name: String,
    cluster: Cluster,
    _full: Vec<Member>,
}

/// Fills tables with so many entries, then starts fresh instances in turns.
pub(crate) fn run(entries: usize, rounds: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    let size = entries + entries / 10 + 1000;
    let mut all = Vec::new();
    for (kind, sources) in [(Kind::Haproxy, 1), (Kind::Lb, 1), (Kind::Lb, 2)] {
        let cluster = Cluster::new(kind, sources + 1, backend, size)?;
        let mut full = Vec::new();
        for me in 0..sources {
            let member = cluster.start(me, setup::LOAD_CORE)?;
            member.accepts()?;
            if me == 0 {
                eprintln!("filling a table of {} with {entries} entries", kind.name());
                load::run(member.web, (0, entries), 0, |_| {})?;
            }
            until("a full source", PATIENCE, || Ok(member.entries()? >= entries as u64))?;
            full.push(member);
        }
        all.push(Sources { name: format!("{} from {sources}", kind.name()), cluster, _full: full });
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for _ in 0..rounds {
        for (sources, times) in all.iter().zip(&mut times) {
            times.push(pull(sources, entries)?.as_secs_f64());
        }
    }
    println!("{entries} entries of 32-byte keys into a fresh instance, seconds from the start of its process");
    let spreads = times.into_iter().map(|t| Spread::of(t.into_iter()).context("no rounds"));
    let spreads = spreads.collect::<Result<Vec<_>>>()?;
    for (sources, s) in all.iter().zip(&spreads) {
        let ratio = s.median / spreads[0].median;
        println!("{:16} {:>8.3} ({:.3} to {:.3})   {ratio:.2}", sources.name, s.median, s.least, s.greatest);
    }
    Ok(())
}

fn pull(sources: &Sources, entries: usize) -> Result<Duration> {
    let begun = Instant::now();
    let fresh = sources.cluster.start(sources._full.len(), setup::PROXY_CORE)?;
    until("a whole table", PATIENCE, || Ok(fresh.entries()? >= entries as u64)).context(sources.name.clone())?;
    Ok(begun.elapsed())
}
