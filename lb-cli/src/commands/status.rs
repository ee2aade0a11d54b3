//! `lb status`: an instance and its cluster on one screen.
use super::{peers, server, table};
use crate::args::At;
use crate::client::Client;
use crate::output::{self, BAD, GOOD, ODD, seconds, styled};
use lb_core::status::{CertificatesStatus, NameStatus, StateStatus, Status};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs it.
pub(crate) async fn run(at: At) -> anyhow::Result<ExitCode> {
    let status: Status = Client::new(&at)?.get("/api/status").await?;
    if at.json {
        output::json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let phase = match status.phase.as_str() {
        "ready" => styled(GOOD, &status.phase),
        "draining" | "stopped" => styled(BAD, &status.phase),
        _ => styled(ODD, &status.phase),
    };
    output::line(format_args!(
        "{} is {phase} (lb {}, pid {}, up {}, configuration {}, {} workers{})",
        styled(output::HEAD, &status.name),
        status.version,
        status.pid,
        seconds(status.uptime as f64),
        status.generation,
        status.workers,
        status.admin.as_ref().map_or(String::new(), |a| format!(", admin http://{a}")),
    ));
    section("Frontends");
    let frontends = status.frontends.iter().map(|f| {
        vec![
            f.name.clone(),
            f.listen.join(" "),
            f.open.to_string(),
            f.accepted.to_string(),
            f.requests.to_string(),
            f.routes.join("; "),
        ]
    });
    output::table(&["frontend", "listen", "open", "accepted", "requests", "routes"], frontends.collect());
    if let Some(certificates) = &status.certificates {
        section("Certificates");
        show_certificates(certificates);
    }
    section("Servers");
    let rules = |b: &lb_core::status::BackendStatus| match b.sticky.is_empty() {
        true => b.balance.clone(),
        false => format!("{}, sticky: {}", b.balance, b.sticky.join("; ")),
    };
    for backend in &status.backends {
        output::line(format_args!("{}: {}", backend.name, rules(backend)));
        if backend.panic {
            output::line(styled(BAD, "  too few servers are up: health is ignored"));
        }
    }
    server::show(&status.backends.iter().flat_map(|b| b.servers.clone()).collect::<Vec<_>>());
    if !status.names.is_empty() {
        section("Names");
        show_names(&status.names);
    }
    if !status.tables.is_empty() {
        section("Tables");
        table::show_tables(&status.tables);
    }
    if let Some(state) = &status.state {
        section("State");
        show_state(state);
    }
    section("Peers");
    match &status.peers {
        Some(peers) => peers::show(peers),
        None => output::line("none: this instance stands alone"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Names that servers are found by.
fn show_names(names: &[NameStatus]) {
    let row = |name: &NameStatus| {
        let state = if name.found { styled(GOOD, "found") } else { styled(BAD, "lost") };
        let left_out = (name.left_out > 0).then(|| format!("{} left out: there are no more slots", name.left_out));
        let notes: Vec<_> = name.error.clone().into_iter().chain(left_out).collect();
        vec![name.backend.clone(), name.name.clone(), state, name.servers.to_string(), notes.join("; ")]
    };
    output::table(&["backend", "name", "state", "servers", ""], names.iter().map(row).collect());
}

/// What is kept on disk, and what could not be.
fn show_state(state: &StateStatus) {
    let age = |at: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        format!("written {} ago", seconds((now - at as f64 / 1000.0).max(0.0)))
    };
    let saved = state.saved.map_or_else(|| "not written yet".into(), age);
    output::line(format_args!("{}: {saved}", state.dir));
    for wrong in state.error.iter().chain(&state.set_aside) {
        output::line(styled(BAD, wrong));
    }
}

fn section(title: &str) {
    output::line("");
    output::heading(title);
}

fn show_certificates(certificates: &CertificatesStatus) {
    let row = |c: &lb_core::status::CertificateStatus| {
        let (until, left) = super::cert::end(c.not_after / 1000).unwrap_or_default();
        let ocsp = c.ocsp_until.and_then(|until| Some(super::cert::end(until / 1000)?.0));
        let ocsp = ocsp.unwrap_or_else(|| "-".into());
        vec![c.frontend.clone(), c.listen.clone(), c.names.join(" "), until, left, ocsp, c.file.clone()]
    };
    let rows = certificates.shown.iter().map(row).collect();
    output::table(&["frontend", "listen", "names", "until", "left", "ocsp until", "file"], rows);
    if let Some(error) = &certificates.error {
        output::line(format_args!("{}: {error}", styled(BAD, "new files cannot be used, these stay")));
    }
}
