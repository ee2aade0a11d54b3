//! `lb check`: is this file a configuration, and if not, everything that is wrong with it.
use crate::diagnose::{self, Refused, count};
use crate::output;
use lb_core::config::Config;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs it. 0: valid; 1: not.
pub(crate) fn run(file: Option<PathBuf>, name: Option<String>, json: bool) -> ExitCode {
    let path = diagnose::path(file);
    let read = diagnose::read(&path, name.as_deref());
    match &read {
        result if json => output::line(format_args!("{:#}", as_json(&path, result))),
        Ok(config) => {
            output::line(format_args!("{} is valid: {}", path.display(), summary(config)));
            warnings(config).iter().for_each(|warning| anstream::eprintln!("warning: {warning}"));
        }
        Err(refused) => refused.show(),
    }
    if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the file is not to blame for, but this machine, and this user: it stops no start.
fn warnings(config: &Config) -> Vec<String> {
    let state = config.instance.state.as_deref();
    let unusable = state.and_then(|dir| lb_proxy::instance::state::check(dir, &config.instance.name).err());
    unusable.into_iter().map(|why| format!("`instance.state` cannot be used here: {why}")).collect()
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

fn as_json(path: &Path, read: &Result<Config, Refused>) -> Value {
    let errors = match read {
        Ok(_) => json!([]),
        Err(Refused::Unread { why, help, .. }) => json!([{ "message": why, "help": help }]),
        Err(Refused::Wrong { found, .. }) => json!(found),
    };
    let warnings = read.as_ref().map_or_else(|_| Vec::new(), warnings);
    json!({ "file": path.display().to_string(), "valid": read.is_ok(), "errors": errors, "warnings": warnings })
}
