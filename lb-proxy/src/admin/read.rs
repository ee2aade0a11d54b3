//! What can be read without asking anybody: life signs, metrics, status views, the dashboard.
use super::problem::Failure;
use crate::instance::{Control, Phase};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use lb_core::status::{PeersStatus, ServerStatus, Status, TableStatus};
use std::sync::Arc;

/// Nothing from elsewhere, and nothing framed: the page shows what an operator may know.
const CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) async fn dashboard() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, CSP)], Html(include_str!("dashboard.html")))
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(control): State<Arc<Control>>) -> (StatusCode, String) {
    let no = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    match control.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n".into()),
        Phase::Starting => no("starting".into()),
        Phase::Pulling => {
            let how = control.peers_status().map_or(String::new(), |p| p.pull);
            no(format!("pulling the tables from a peer: {how}"))
        }
        Phase::Draining => no("draining: the instance is about to stop".into()),
        Phase::Stopped => no("stopped".into()),
    }
}

pub(super) async fn metrics(State(control): State<Arc<Control>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], control.scrape())
}

pub(super) async fn status(State(control): State<Arc<Control>>) -> Json<Status> {
    Json(control.status())
}

pub(super) async fn peers(State(control): State<Arc<Control>>) -> Result<Json<PeersStatus>, Failure> {
    control.peers_status().map(Json).ok_or_else(alone)
}

/// There are no peers.
pub(super) fn alone() -> Failure {
    Failure::absent("this instance stands alone: its configuration has no [peers]")
}

pub(super) async fn tables(State(control): State<Arc<Control>>) -> Json<Vec<TableStatus>> {
    Json(control.tables())
}

pub(super) async fn servers(State(control): State<Arc<Control>>) -> Json<Vec<ServerStatus>> {
    Json(control.servers())
}
