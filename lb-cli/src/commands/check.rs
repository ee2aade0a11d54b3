//! `lb check`: is this file a configuration, and if not, everything that is wrong with it.
use crate::diagnose::{self, Read, Refused, count};
use crate::output;
use lb_core::config::{Config, Diagnostic, Fault, unused};
use lb_proxy::tls::TlsError;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs it. 0: valid; 1: not.
pub(crate) fn run(file: Option<PathBuf>, name: Option<String>, json: bool) -> ExitCode {
    let path = diagnose::path(file);
    let checked = check(&path, name.as_deref());
    match &checked {
        _ if json => output::line(format_args!("{:#}", as_json(&path, &checked))),
        Ok((config, warnings)) => {
            output::line(format_args!("{} is valid: {}", path.display(), summary(config)));
            warnings.iter().for_each(|warning| anstream::eprintln!("warning: {warning}"));
        }
        Err(refused) => refused.show(),
    }
    if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The configuration and warnings, if an instance would start with it. The files that it names are a part of it.
fn check(path: &Path, name: Option<&str>) -> Result<(Config, Vec<String>), Refused> {
    let Read { config, text } = diagnose::read(path, name)?;
    let files = lb_proxy::check(&config).map_err(|TlsError(faults)| diagnose::placed(path, &text, &faults))?;
    let place = |fault: Fault| {
        let Diagnostic { line, column, message, .. } = fault.placed(&text);
        format!("{}:{line}:{column}: {message}", path.display())
    };
    let mut warnings = here(&config);
    warnings.extend(files);
    warnings.extend(unused(&config).into_iter().map(place));
    Ok((config, warnings))
}

/// What the file is not to blame for, but this machine, and this user: it stops no start.
fn here(config: &Config) -> Vec<String> {
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

fn as_json(path: &Path, checked: &Result<(Config, Vec<String>), Refused>) -> Value {
    let errors = match checked {
        Ok(_) => json!([]),
        Err(Refused::Unread { why, help, .. }) => json!([{ "message": why, "help": help }]),
        Err(Refused::Wrong { found, .. }) => json!(found),
    };
    let warnings = checked.as_ref().map_or(&[][..], |(_, warnings)| warnings);
    json!({ "file": path.display().to_string(), "valid": checked.is_ok(), "errors": errors, "warnings": warnings })
}
