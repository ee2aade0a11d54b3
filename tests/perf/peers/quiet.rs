//! What two instances with equal, great tables spend on knowing that they are equal.
use super::cluster::{Cluster, until};
use super::load;
use crate::measure::cpu_ns;
use crate::proxy::Kind;
use crate::{backend, setup};
use anyhow::Result;
use std::time::Duration;

const SECONDS: u64 = 30;

/// Fills a pair with so many entries and watches it do nothing.
pub(crate) fn run(entries: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    println!("a quiet pair with {entries} entries: CPU milliseconds a second of each");
    for kind in [Kind::Lb, Kind::Haproxy] {
        let cluster = Cluster::new(kind, 2, backend, entries + entries / 10 + 1000)?;
        let (a, b) = (cluster.start(0, setup::PROXY_CORE)?, cluster.start(1, setup::LOAD_CORE)?);
        a.accepts()?;
        b.accepts()?;
        load::run(a.web, (0, entries), 0, |_| {})?;
        until("two full tables", Duration::from_secs(60), || Ok(b.entries()? >= entries as u64))?;
        // What follows the load at once is not quiet yet.
        std::thread::sleep(Duration::from_secs(5));
        let before = [cpu_ns(a.pid)?, cpu_ns(b.pid)?];
        std::thread::sleep(Duration::from_secs(SECONDS));
        let after = [cpu_ns(a.pid)?, cpu_ns(b.pid)?];
        let each = |n: usize| (after[n] - before[n]) as f64 / 1e6 / SECONDS as f64;
        println!("{:8} {:>8.2} {:>8.2}", kind.name(), each(0), each(1));
    }
    Ok(())
}
