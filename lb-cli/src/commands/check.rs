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
        Ok(config) => output::line(format_args!("{} is valid: {}", path.display(), summary(config))),
        Err(refused) => refused.show(),
    }
    if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
    json!({ "file": path.display().to_string(), "valid": read.is_ok(), "errors": errors })
}
