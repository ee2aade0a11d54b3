//! The benchmark: `lb`, HAProxy and nginx in turn on the same work, each as one thread on core 0, load and server on
//! core 1. It prints medians and ratios of one run; absolute figures of different runs compare nothing.
//!
//! ```sh
//! cargo build --release && cargo run --release -p lb-tests --bin perf -- http1
//! cargo run --release -p lb-tests --bin perf -- idle-ws
//! ```
//!
//! Wants `haproxy`, `nginx-light` and `wrk` of Debian; `HAPROXY=path` takes another HAProxy. Linux, two cores.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program whose output is its purpose")]

mod backend;
mod http1;
mod idle;
mod proxies;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Some(default), |n| n.parse().ok());
    let result = match (args.first().map(String::as_str), number(1, 5)) {
        (Some("http1"), Some(rounds)) => http1::run(rounds.max(1)),
        (Some("idle-ws"), _) => number(1, 6000).map_or_else(|| Err("how many?".into()), idle::run),
        // Started by the others, on its own core.
        (Some("backend"), Some(port)) => backend::run(u16::try_from(port).unwrap_or(0)),
        _ => Err("usage: perf http1 [ROUNDS] | idle-ws [TUNNELS]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}
