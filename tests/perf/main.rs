//! The benchmark: the same load through `lb`, Debian's HAProxy and Debian's nginx, in turns on the same core.
//!
//! `cargo run --release -p lb-tests --bin perf -- http1` or `-- idle-ws`. It installs what is missing (as root), builds
//! `lb` in release, and needs two cores: the proxy under test alone on core 0, load and backend on core 1. Machines
//! are shared and noisy: only the ratios of one run say something. An answer that is not the right one voids the run.
//!
//! Environment: `LB`, `HAPROXY`, `NGINX` take another binary; `PERF_ROUNDS`, `PERF_SECONDS`, `PERF_TUNNELS` another
//! length.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // printing its figures is all that this program is for

mod backend;
mod http1;
mod idle;
mod measure;
mod proxy;
mod setup;

use anyhow::{Result, anyhow};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let done = match mode.as_str() {
        "http1" => http1::run(),
        "idle-ws" => idle::run(),
        other => Err(anyhow!("\"{other}\" is no benchmark: say http1 or idle-ws")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The whole chain in a line, never a backtrace.
            eprintln!("perf: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// A number from the environment, else the default.
fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| anyhow!("{name}=\"{text}\" is no number")),
        Err(_) => Ok(default),
    }
}
