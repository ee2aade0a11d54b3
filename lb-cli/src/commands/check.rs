//! `lb check`: is this file a configuration, and if not, everything that is wrong with it.
use crate::diagnose::{self, Refused, count};
use crate::output;
use lb_core::config::Config;
use lb_proxy::tls::TlsError;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs it. 0: valid; 1: not.
pub(crate) fn run(file: Option<PathBuf>, name: Option<String>, json: bool) -> ExitCode {
    let path = diagnose::path(file);
    let read = diagnose::read(&path, name.as_deref());
    // The files that it names are a part of it: with a wrong certificate nothing starts.
    let files = read.as_ref().map_or_else(|_| Ok(Vec::new()), lb_proxy::tls::check);
    match (&read, &files) {
        _ if json => output::line(format_args!("{:#}", as_json(&path, &read, &files))),
        (Ok(_), Err(TlsError(whys))) => {
            whys.iter().for_each(|why| anstream::eprintln!("{}: error: {why}", path.display()));
        }
        (Ok(config), Ok(_)) => {
            output::line(format_args!("{} is valid: {}", path.display(), summary(config)));
            warnings(config, &files).iter().for_each(|warning| anstream::eprintln!("warning: {warning}"));
        }
        (Err(refused), _) => refused.show(),
    }
    if read.is_ok() && files.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the file is not to blame for, but this machine, and this user: it stops no start.
fn warnings(config: &Config, files: &Result<Vec<String>, TlsError>) -> Vec<String> {
    let state = config.instance.state.as_deref();
    let unusable = state.and_then(|dir| lb_proxy::instance::state::check(dir, &config.instance.name).err());
    let mut all: Vec<_> =
        unusable.into_iter().map(|why| format!("`instance.state` cannot be used here: {why}")).collect();
    all.extend(files.iter().flatten().cloned());
    all
}

fn summary(config: &Config) -> String {
    let servers = config.backends.iter().map(|b| b.servers.len()).sum();
    let mut parts = vec![
        count(config.frontends.len(), "frontend"),
        count(config.backends.len(), "backend"),
        count(servers, "server"),
        count(config.tables.len(), "table"),
    ];
    parts.extend(
        config.peers.as_ref().map(|peers| format!("node {} of cluster {}", config.instance.name, peers.cluster)),
    );
    parts.join(", ")
}

fn as_json(path: &Path, read: &Result<Config, Refused>, files: &Result<Vec<String>, TlsError>) -> Value {
    let plain = |whys: &[String]| whys.iter().map(|why| json!({ "message": why, "help": "" })).collect();
    let errors = match (read, files) {
        (Ok(_), Ok(_)) => json!([]),
        (Ok(_), Err(TlsError(whys))) => plain(whys),
        (Err(Refused::Unread { why, help, .. }), _) => json!([{ "message": why, "help": help }]),
        (Err(Refused::Wrong { found, .. }), _) => json!(found),
    };
    let warnings = read.as_ref().map_or_else(|_| Vec::new(), |config| warnings(config, files));
    let valid = read.is_ok() && files.is_ok();
    json!({ "file": path.display().to_string(), "valid": valid, "errors": errors, "warnings": warnings })
}
