//! Memory of an instance whose peer is frozen while it makes 10,000 new pins a second.
use super::cluster::{Cluster, until};
use super::load;
use crate::measure::memory;
use crate::proxy::Kind;
use crate::{backend, setup};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const RATE: usize = 10_000;
/// Entries of the table: full before the peer is frozen, so that what grows is not the table.
const TABLE: usize = 100_000;

/// Freezes the peer for so many seconds.
pub(crate) fn run(seconds: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    println!("a peer frozen for {seconds} s at {RATE} new pins a second into a full table of {TABLE}: MiB resident");
    println!("{:8} {:>10} {:>10} {:>10} {:>22}", "", "before", "greatest", "at the end", "pins missed after it");
    for kind in [Kind::Lb, Kind::Haproxy] {
        freeze(kind, backend, seconds).with_context(|| format!("with {}", kind.name()))?;
    }
    Ok(())
}

fn freeze(kind: Kind, backend: std::net::SocketAddr, seconds: usize) -> Result<()> {
    let cluster = Cluster::new(kind, 2, backend, TABLE)?;
    let (a, b) = (cluster.start(0, setup::PROXY_CORE)?, cluster.start(1, setup::LOAD_CORE)?);
    a.accepts()?;
    b.accepts()?;
    // Twice the table, at the same rate: what grows at first has grown.
    load::run(a.web, (0, 2 * TABLE), RATE, |_| {})?;
    let mib = || Ok::<_, anyhow::Error>(memory(a.pid)?.0 as f64 / f64::from(1 << 20));
    let (before, mut greatest) = (mib()?, 0f64);
    let pid = Pid::from_raw(b.pid.try_into()?).context("a process")?;
    kill_process(pid, Signal::STOP)?;
    let mut next = 2 * TABLE;
    for _ in 0..seconds {
        load::run(a.web, (next, next + RATE), RATE, |_| {})?;
        next += RATE;
        greatest = greatest.max(mib()?);
    }
    let end = mib()?;
    kill_process(pid, Signal::CONT)?;
    // The newest thousand are in both tables, whatever was evicted.
    let newest = || (next - 1000..next).map(super::cluster::key);
    let mut admin = b.admin()?;
    let mut missing = 0;
    let caught_up = until("all pins over", Duration::from_secs(15), || {
        missing = 0;
        for key in newest() {
            missing += usize::from(!admin.has(&key)?);
        }
        Ok(missing == 0)
    });
    // Not to come in that time is a result, too.
    drop(caught_up);
    println!("{:8} {before:>10.1} {greatest:>10.1} {end:>10.1} {missing:>17} of 1000", kind.name());
    Ok(())
}
