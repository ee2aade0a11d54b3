//! `lb server`: what operators decide about servers.
use crate::args::{At, Decision, Server};
use crate::client::{Client, encode};
use crate::commands::life::say;
use crate::output::{self, BAD, GOOD, ODD, styled};
use anyhow::bail;
use hyper::Method;
use lb_core::pace::Pace;
use lb_core::server::{AdminState, Health};
use lb_core::status::{Done, ServerStatus};
use lb_core::time::format_duration;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Runs it.
pub(crate) async fn run(command: Server) -> anyhow::Result<ExitCode> {
    match command {
        Server::List { backend, at } => list(backend, at).await,
        Server::Drain { deadline, pace, wait, timeout, decision } => {
            let exit = decide(&decision, closing(json!({ "state": "drain" }), deadline, pace)).await?;
            if wait { until_empty(&decision, timeout).await } else { Ok(exit) }
        }
        Server::Maint { pace, decision } => decide(&decision, closing(json!({ "state": "maint" }), None, pace)).await,
        Server::Ready { decision } => decide(&decision, json!({ "state": "ready" })).await,
        Server::Weight { decision, weight } => decide(&decision, json!({ "weight": weight })).await,
    }
}

/// Adds when and how fast sockets are closed.
fn closing(mut body: serde_json::Value, deadline: Option<Duration>, pace: Option<Pace>) -> serde_json::Value {
    if let Some(deadline) = deadline {
        body["deadline"] = format_duration(deadline).into();
    }
    if let Some(pace) = pace {
        body["pace"] = pace.to_string().into();
    }
    body
}

async fn list(backend: Option<String>, at: At) -> anyhow::Result<ExitCode> {
    let mut servers: Vec<ServerStatus> = Client::new(&at)?.get("/api/servers").await?;
    if let Some(backend) = backend {
        let mut backends: Vec<_> = servers.iter().map(|s| s.backend.clone()).collect();
        backends.dedup();
        servers.retain(|s| s.backend == backend);
        if servers.is_empty() {
            bail!(
                "there are no servers of a backend \"{backend}\" here; backends with servers: {}",
                backends.join(", ")
            );
        }
    }
    if at.json {
        output::json(&servers)?;
    } else {
        show(&servers);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints servers, a row each.
pub(crate) fn show(servers: &[ServerStatus]) {
    let headings = ["server", "address", "health", "state", "weight", "active", "tunnels", "requests", "errors", ""];
    output::table(&headings, servers.iter().map(row).collect());
}

fn row(server: &ServerStatus) -> Vec<String> {
    let health = match server.health {
        Health::Up if server.ejected.is_some() => styled(BAD, "ejected"),
        Health::Up => styled(GOOD, "up"),
        Health::Down => styled(BAD, "down"),
    };
    let state = match server.state {
        AdminState::Ready => "ready".into(),
        AdminState::Drain => styled(ODD, "drain"),
        AdminState::Maint => styled(ODD, "maint"),
    };
    let decision = server.decision.as_ref().map(|d| {
        let scope = if d.local { " for itself" } else { "" };
        let by = if d.author.is_empty() { String::new() } else { format!(" by {}", d.author) };
        let why = if d.reason.is_empty() { String::new() } else { format!(": {}", d.reason) };
        format!("decided on {}{scope}{by}{why}", d.node)
    });
    let shared = server.maxconn.as_ref().and_then(|m| {
        let (cluster, allowance) = (m.cluster?, m.allowance?);
        Some(format!("{allowance} of {cluster} for this instance, {} elsewhere", m.elsewhere))
    });
    let agent = server.agent.as_ref().map(|agent| match &agent.error {
        Some(error) => format!("its agent is silent: {error}"),
        None => format!("its agent says \"{}\"", agent.said),
    });
    let found = match (server.gone, &server.host) {
        (true, _) => Some("found by its name no more: it drains".to_owned()),
        (false, host) => host.as_ref().map(|host| format!("found by {host}")),
    };
    let ejected = server.ejected.map(|left| format!("out for {left} s: it failed too many requests"));
    let queued = (server.queued > 0).then(|| format!("{} wait for it", server.queued));
    let others = server.elsewhere.filter(|n| *n > 0 && server.state != AdminState::Ready);
    let others = others.map(|n| format!("{n} active on other instances"));
    let backup = server.backup.then(|| "a backup".to_owned());
    let notes = [backup, found, server.reason.clone(), ejected, queued, agent, decision, shared, others]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ");
    vec![
        format!("{}/{}", server.backend, server.name),
        server.addr.clone(),
        health,
        state,
        server.weight.to_string(),
        server.active.to_string(),
        server.tunnels.to_string(),
        server.requests.to_string(),
        server.errors.to_string(),
        notes,
    ]
}

async fn decide(decision: &Decision, mut body: serde_json::Value) -> anyhow::Result<ExitCode> {
    let (backend, server) = &decision.server;
    body["local"] = decision.local.into();
    body["reason"] = decision.reason.as_str().into();
    body["author"] = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default().into();
    let path = format!("/api/servers/{}/{}", encode(backend), encode(server));
    let done: Done = Client::new(&decision.at)?.call(Method::POST, &path, Some(&body)).await?;
    say(&done, decision.at.json)
}

/// Waits until nothing is open on the server, on any instance, or with `--local` on the one that is asked.
async fn until_empty(decision: &Decision, timeout: Option<Duration>) -> anyhow::Result<ExitCode> {
    let client = Client::new(&decision.at)?;
    let deadline = timeout.map(|t| Instant::now() + t);
    let (backend, name) = &decision.server;
    // What begins in the moment of the decision shows on other instances a moment later: nothing twice is nothing.
    let mut empty = false;
    loop {
        let servers: Vec<ServerStatus> = client.get("/api/servers").await?;
        let Some(server) = servers.iter().find(|s| s.backend == *backend && s.name == *name) else {
            bail!("{backend}/{name} is gone from the configuration");
        };
        let elsewhere = if decision.local { Some(0) } else { server.elsewhere };
        let was_empty = std::mem::replace(&mut empty, server.active == 0 && elsewhere == Some(0));
        if empty && was_empty {
            return Ok(ExitCode::SUCCESS);
        }
        if !empty && deadline.is_some_and(|d| Instant::now() >= d) {
            let others = match elsewhere {
                Some(0) => String::new(),
                Some(n) => format!(", and {n} on other instances"),
                None => ", and other instances have not told what they have".into(),
            };
            bail!("{} still open on {backend}/{name}{others}", server.active);
        }
        sleep(Duration::from_millis(200)).await;
    }
}
