//! The `lb` command: parse, dispatch, exit code. 0: done; 1: the answer is no; 2: misuse.
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod demo;
mod diagnose;
mod output;

use args::{Command, Lb};
use clap::{CommandFactory, Parser};
use commands::{cert, check, hash_password, life, peers, server, status, table, verify};
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Lb::parse().command) {
        Ok(exit) => exit,
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{}: {error:#}", output::styled(output::BAD, "error"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // It makes its own threads and runtimes.
        Command::Run { file } => life::run(file),
        Command::Check { file, json } => Ok(check::run(file.config, file.name, json)),
        Command::Cert { command } => cert::run(command),
        Command::HashPassword { cost } => hash_password::run(cost),
        Command::Schema => print(lb_core::config::schema::text().as_bytes()),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Lb::command(), "lb", &mut text);
            print(&text)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Lb::command()).render(&mut text)?;
            print(&text)
        }
        command => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(ask(command)),
    }
}

async fn ask(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo { length, kill, clients, json } => demo::run(demo::Options { length, kill, json, clients }).await,
        Command::Status { at } => status::run(at).await,
        Command::Peers { command: Some(args::Peers::Verify { table, at }), .. } => verify::verify(table, at).await,
        Command::Peers { command: None, at } => peers::run(at).await,
        Command::Table { command } => table::run(command).await,
        Command::Server { command } => server::run(command).await,
        Command::Reload { at } => life::reload(at).await,
        Command::Stop { drain, wait, at } => life::stop(drain, wait, at).await,
        Command::Run { .. }
        | Command::Check { .. }
        | Command::Cert { .. }
        | Command::HashPassword { .. }
        | Command::Schema
        | Command::Completions { .. }
        | Command::Man => unreachable!("dispatched before"),
    }
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text)?;
    Ok(ExitCode::SUCCESS)
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}
