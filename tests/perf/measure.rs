//! What the kernel knows of a process, and medians.
use anyhow::{Context as _, Result};

/// Nanoseconds that the process has spent on a processor, all its threads together, user and system.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the proxy has died")? {
        // A thread may end between the listing and the look.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        total += first.parse::<u64>()?;
    }
    Ok(total)
}

/// Bytes of memory of its own: (anonymous resident, proportional set size).
pub(crate) fn memory(pid: u32) -> Result<(u64, u64)> {
    let anonymous = field(&format!("/proc/{pid}/status"), "RssAnon:")?;
    let proportional = field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")?;
    Ok((anonymous, proportional))
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("{name} in {path}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, least, greatest })
    }
}
