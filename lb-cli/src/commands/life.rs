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

/// How often `lb stop --wait` looks.
const LOOK: Duration = Duration::from_millis(50);

/// `lb stop`
pub(crate) async fn stop(drain: Option<Duration>, wait: bool, at: At) -> anyhow::Result<ExitCode> {
    let client = Client::new(&at)?;
    let before = if wait { Some(client.get::<Instance>("/api/status").await?) } else { None };
    let body = serde_json::json!({ "drain": drain.map(format_duration) });
    let done: Done = client.call(Method::POST, "/api/stop", Some(&body)).await?;
    let exit = say(&done, at.json)?;
    // The admin is the last to close. Who answers with another number was started since, by a service manager.
    while let Some(before) = &before
        && client.is_reachable().await
    {
        if client.get::<Instance>("/api/status").await.is_ok_and(|now| now.pid != before.pid) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(exit)
}

#[derive(serde::Deserialize)]
struct Instance {
    pid: u32,
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
