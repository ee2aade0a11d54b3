//! `lb run`, `lb reload`, `lb stop`: an instance's life.
use crate::args::{At, File};
use crate::client::Client;
use crate::diagnose::{self, Read};
use crate::output;
use hyper::Method;
use lb_core::status::Done;
use lb_core::time::format_duration;
use std::process::ExitCode;
use std::time::Duration;

/// `lb run`
pub(crate) fn run(file: File) -> anyhow::Result<ExitCode> {
    let path = diagnose::path(file.config);
    let Read { config, text } = match diagnose::load(&path, file.name.as_deref()) {
        Ok(read) => read,
        Err(exit) => return Ok(exit),
    };
    let source = lb_proxy::ConfigSource { path: path.clone(), name: file.name };
    let Err(error) = lb_proxy::run(config.clone(), source) else { return Ok(ExitCode::SUCCESS) };
    match error.faults(&config).as_slice() {
        [] => Err(error.into()),
        faults => {
            diagnose::placed(&path, &text, faults).show();
            Ok(ExitCode::FAILURE)
        }
    }
}

/// `lb reload`
pub(crate) async fn reload(at: At) -> anyhow::Result<ExitCode> {
    let done: Done = Client::new(&at)?.call(Method::POST, "/api/reload", None::<&()>).await?;
    say(&done, at.json)
}

/// `lb stop`
pub(crate) async fn stop(drain: Option<Duration>, at: At) -> anyhow::Result<ExitCode> {
    let body = serde_json::json!({ "drain": drain.map(format_duration) });
    let done: Done = Client::new(&at)?.call(Method::POST, "/api/stop", Some(&body)).await?;
    say(&done, at.json)
}

/// Prints what a change did.
pub(crate) fn say(done: &Done, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::json(done)?;
    } else {
        output::line(&done.message);
    }
    Ok(ExitCode::SUCCESS)
}
