//! Holding the tables against the peers'. It changes nothing, but it costs: it is for those who may change something.
use super::problem::{Body, Failure};
use crate::instance::Control;
use crate::instance::view::Nodes;
use axum::Json;
use axum::extract::State;
use lb_core::status::Verified;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// One table; absent: all.
    table: Option<String>,
    /// One peer; absent: all.
    peer: Option<String>,
}

/// `POST /api/peers/verify`
pub(super) async fn verify(State(control): State<Arc<Control>>, body: Body) -> Result<Json<Verified>, Failure> {
    let Which { table, peer } = body.json(r#"{"table": "sessions", "peer": "lb2"}"#)?;
    let verifier = control.verifier().ok_or_else(super::read::alone)?;
    let nodes = Nodes::of(&control);
    let verified = verifier.verify(table.as_deref(), peer.as_deref(), |id| nodes.name(id)).await;
    verified.map(Json).map_err(|unknown| Failure::absent(unknown.to_string()))
}
