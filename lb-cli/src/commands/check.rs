//! check
use std::{path::PathBuf, process::ExitCode};
/// Runs it.
pub(crate) fn run(file: Option<PathBuf>, name: Option<String>, _json: bool) -> ExitCode {
    match crate::diagnose::load(&crate::diagnose::path(file), name.as_deref()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => e,
    }
}
