//! The benchmark: the same load through `lb`, Debian's HAProxy and Debian's nginx, in turns on the same core.
//!
//! `cargo run --release -p lb-tests --bin perf -- http1 [ROUNDS]`, `-- h2 [ROUNDS]`, `-- tls [ROUNDS]`,
//! `-- tcp [ROUNDS]`, `-- ws [ROUNDS]`, `-- idle-ws [TUNNELS]`, and of replication `-- pull`,
//! `-- delay`, `-- frozen`, `-- quiet`. It installs what is missing (as root), builds `lb` in release, and needs two
//! cores: the proxy under test alone on core 0, load and backend on core 1. Machines are shared and noisy: only the
//! ratios of one run say something. An answer that is not the right one voids the run.
//!
//! Environment: `LB`, `HAPROXY`, `NGINX`, `WRK` name another binary.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // printing its figures is all that this program is for

mod backend;
mod cases;
mod h2;
mod http1;
mod idle;
mod measure;
mod peers;
mod proxy;
mod setup;
mod tcp;
mod tls;
mod ws;

use anyhow::{Context as _, Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The whole chain in a line, never a backtrace.
            eprintln!("perf: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["http1"] => http1::run(7),
        ["http1", rounds] => http1::run(number(rounds)?),
        ["h2"] => h2::run(7),
        ["h2", rounds] => h2::run(number(rounds)?),
        ["idle-ws"] => idle::run(6000),
        ["idle-ws", tunnels] => idle::run(number(tunnels)?),
        ["ws"] => ws::run(7),
        ["ws", rounds] => ws::run(number(rounds)?),
        ["tcp"] => tcp::run(5),
        ["tcp", rounds] => tcp::run(number(rounds)?),
        ["tls"] => tls::run(5),
        ["tls", rounds] => tls::run(number(rounds)?),
        ["pull"] => peers::pull(1_000_000, 5),
        ["pull", entries] => peers::pull(number(entries)?, 5),
        ["delay"] => peers::delay(20_000),
        ["delay", rate] => peers::delay(number(rate)?),
        ["frozen"] => peers::frozen(60),
        ["frozen", seconds] => peers::frozen(number(seconds)?),
        ["quiet"] => peers::quiet(1_000_000),
        ["quiet", entries] => peers::quiet(number(entries)?),
        _ => bail!(
            "usage: perf http1 [ROUNDS] | h2 [ROUNDS] | tls [ROUNDS] | tcp [ROUNDS] | ws [ROUNDS] | idle-ws [TUNNELS] | \
             pull [ENTRIES] | delay [PINS_A_SECOND] | \
             frozen [SECONDS] | quiet [ENTRIES]"
        ),
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse().ok().filter(|n| *n > 0).with_context(|| format!("\"{text}\" is no number of at least 1"))
}
