//! Reads a configuration.
use lb_core::config::{Config, load as parse};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
/// Which file.
pub(crate) fn path(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| if Path::new("lb.toml").exists() { "lb.toml".into() } else { "/etc/lb/lb.toml".into() })
}
/// Loads.
pub(crate) fn load_quietly(path: &Path, name: Option<&str>) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)?;
    parse(&text, "host", name, &|k| std::env::var(k).ok()).map_err(|e| anyhow::anyhow!("{}", e[0]))
}
/// Loads.
pub(crate) fn load(path: &Path, name: Option<&str>) -> Result<Config, ExitCode> {
    load_quietly(path, name).map_err(|e| {
        anstream::eprintln!("{e:#}");
        ExitCode::FAILURE
    })
}
