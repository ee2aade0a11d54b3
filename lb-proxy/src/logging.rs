//! Where log lines go: `tracing` to standard error, the access log to its own writer ([`access`]).
//!
//! Set up once in a process; the filter can be changed while it runs (a reload). It knows nothing of instances.
use lb_core::config::{Log, LogFormat};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

pub mod access;

type FilterHandle = reload::Handle<EnvFilter, Registry>;

/// Set by [`init`]; empty where somebody else (a test) owns the subscriber.
static FILTER: OnceLock<FilterHandle> = OnceLock::new();

/// `log.level` is no filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.level: \"{level}\" is no filter: {why}. Write a level, as \"info\", or levels by part, as \"lb_peers=debug,info\""
)]
pub struct LevelError {
    level: String,
    why: String,
}

/// Sets up `tracing` for this process. A second call, or one where a subscriber is set already, only sets the level.
///
/// # Errors
/// [`LevelError`]
pub fn init(config: &Log) -> Result<(), LevelError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    // A line that cannot be written (a full disk, a closed pipe) is lost; complaining about it with `eprintln!`, as
    // the layer does by itself, would panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let terminal = std::io::stderr().is_terminal();
    let lines: Box<dyn Layer<_> + Send + Sync> = if is_text(config.format, terminal) {
        lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    };
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        // Only the one call that installed the subscriber gets here, so the cell is empty.
        FILTER.set(handle).ok();
        return Ok(());
    }
    set_level(&config.level)
}

/// Changes the filter while running. Nothing happens where [`init`] did not install the subscriber.
///
/// # Errors
/// [`LevelError`]; the old filter stays.
pub fn set_level(level: &str) -> Result<(), LevelError> {
    let filter = filter(level)?;
    if let Some(handle) = FILTER.get() {
        handle.reload(filter).map_err(|e| LevelError { level: level.into(), why: e.to_string() })?;
    }
    Ok(())
}

/// Whether lines are for people; `terminal` says if they are seen by one.
pub(crate) fn is_text(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

/// Checks a filter without using it.
///
/// # Errors
/// [`LevelError`]
pub(crate) fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let wrong = |e: &dyn std::fmt::Display| LevelError { level: level.into(), why: e.to_string() };
    let filter = EnvFilter::builder().parse(level).map_err(|e| wrong(&e))?;
    // It warns of what a client's hello says: whoever connects could fill the log.
    match level.contains("rustls") {
        true => Ok(filter),
        false => Ok(filter.add_directive("rustls=error".parse().map_err(|e| wrong(&e))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_for_people_on_a_terminal_and_json_elsewhere() {
        assert!(is_text(LogFormat::Auto, true) && !is_text(LogFormat::Auto, false));
        assert!(is_text(LogFormat::Text, false) && !is_text(LogFormat::Json, true));
    }

    #[test]
    fn what_clients_say_in_a_handshake_fills_no_log_unless_it_is_asked_for() {
        assert!(filter("info").unwrap().to_string().contains("rustls=error"));
        assert!(!filter("rustls=debug,info").unwrap().to_string().contains("rustls=error"));
    }

    #[test]
    fn a_wrong_level_says_what_to_write() {
        assert!(filter("lb_peers=debug,info").is_ok());
        let why = filter("lb_peers=loud").unwrap_err().to_string();
        assert!(why.contains("log.level") && why.contains("lb_peers=debug,info"), "{why}");
    }
}
