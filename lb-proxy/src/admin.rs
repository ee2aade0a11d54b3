//! The admin: dashboard, REST API, `/metrics`, `/healthz`, `/readyz`, on a TCP address and on a Unix socket.
//!
//! Whoever reaches the Unix socket (mode 0600) may do everything. Over TCP everybody may read, and only who has the
//! token may change something. Bodies are the types of [`lb_core::status`]; every error is a
//! [`lb_core::status::Problem`] with a fitting HTTP status.
//!
//! It works on [`Control`] only, and runs on the control thread: whatever may take long yields or goes to a thread.
use crate::instance::Control;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
pub use listen::{OpenError, Server, Sockets, open, serve};
use problem::Failure;
use std::sync::Arc;

mod auth;
mod change;
mod entries;
mod listen;
mod problem;
mod read;
mod socket;
mod verify;

/// The longest body, in bytes.
const BODY: usize = 64 * 1024;

/// Which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The Unix socket: its mode says who may.
    Socket,
    /// The TCP address.
    Tcp,
}

/// All routes, for requests that came this way.
pub(crate) fn router(control: Arc<Control>, via: Via) -> Router {
    let read = Router::new()
        .route("/", get(read::dashboard))
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .route("/metrics", get(read::metrics))
        .route("/api/status", get(read::status))
        .route("/api/peers", get(read::peers))
        .route("/api/tables", get(read::tables))
        .route("/api/servers", get(read::servers))
        .route("/api/tables/{table}/entries", get(entries::list))
        .route("/api/tables/{table}/entry", get(entries::one));
    let change = Router::new()
        .route("/api/tables/{table}/entries", delete(change::clear))
        .route("/api/tables/{table}/entry", put(change::pin))
        .route("/api/servers/{backend}/{server}", post(change::server))
        .route("/api/peers/verify", post(verify::verify))
        .route("/api/reload", post(change::reload))
        .route("/api/stop", post(change::stop))
        .layer(DefaultBodyLimit::max(BODY))
        .route_layer(from_fn_with_state((via, control.clone()), auth::may_change));
    read.merge(change).fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(control)
}

async fn unknown(uri: Uri) -> Failure {
    let why = format!("there is nothing at {}; the API begins at /api/status, metrics are at /metrics", uri.path());
    Failure::new(StatusCode::NOT_FOUND, why)
}

async fn wrong_method(method: Method, request: Request) -> Failure {
    let why = format!("{} does not take {method}", request.uri().path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

#[cfg(test)]
mod tests;
