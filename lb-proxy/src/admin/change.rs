//! What changes something: decisions on servers, pins, reload, stop. [`super::auth`] has let the request through.
use super::entries::{key, table};
use super::problem::{Body, Failure, Path, Query};
use crate::instance::{Change, Control, DecideError};
use crate::reload::ReloadError;
use crate::shared::now;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lb_core::decisions::Decision;
use lb_core::pace::{Closing, Pace};
use lb_core::server::AdminState;
use lb_core::status::Done;
use lb_core::table::{StickTable, Stored};
use lb_core::time::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

type Answer = Result<Json<Done>, Failure>;

fn done(changed: u64, message: String) -> Answer {
    Ok(Json(Done { changed, message }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerChange {
    /// Absent: as decided before; null: as configured.
    #[serde(default, deserialize_with = "given")]
    state: Option<Option<AdminState>>,
    #[serde(default, deserialize_with = "given")]
    weight: Option<Option<u32>>,
    /// How long until open sockets are closed, as "300s".
    deadline: Option<String>,
    /// How fast, as "50/s".
    pace: Option<String>,
    #[serde(default)]
    local: bool,
    #[serde(default)]
    author: String,
    #[serde(default)]
    reason: String,
}

/// Tells `null` from absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// `POST /api/servers/{backend}/{server}`
pub(super) async fn server(
    State(control): State<Arc<Control>>,
    Path((backend, server)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let ServerChange { state, weight, deadline, pace, local, author, reason } =
        body.json(r#"{"state": "drain", "deadline": "300s", "pace": "50/s", "reason": "kernel update"}"#)?;
    let closing = closing(state.flatten(), deadline.as_deref(), pace.as_deref())?;
    let change = Change { state, weight, closing, local, author, reason };
    let decision = control.decide(&backend, &server, change).map_err(|e| match e {
        DecideError::Unknown(why) => Failure::absent(why),
        DecideError::Invalid(why) => Failure::bad(why),
    })?;
    done(1, decided(&decision, local))
}

fn closing(state: Option<AdminState>, deadline: Option<&str>, pace: Option<&str>) -> Result<Option<Closing>, Failure> {
    let bad = |e: &dyn std::fmt::Display, name, text| Failure::bad(format!("{name} {text:?}: {e}"));
    let pace = pace.map(|text| text.parse::<Pace>().map_err(|e| Failure::bad(e.to_string()))).transpose()?;
    let left = deadline.map(|text| parse_duration(text).map_err(|e| bad(&e, "deadline", text))).transpose()?;
    match (left, pace, state) {
        (None, None, _) => Ok(None),
        (None, Some(_), Some(AdminState::Drain)) => {
            Err(Failure::bad("a drain closes sockets when its \"deadline\" is over: give one, \"0s\" for at once"))
        }
        (left, pace, _) => Ok(Some(Closing { left: left.unwrap_or_default(), pace })),
    }
}

fn decided(decision: &Decision, local: bool) -> String {
    let (backend, server) = &decision.server;
    let state = match decision.state {
        Some(AdminState::Ready) => "ready",
        Some(AdminState::Drain) => "drain",
        Some(AdminState::Maint) => "maint",
        None => "in its configured state",
    };
    let weight = decision.weight.map_or(String::new(), |w| format!(", weight {w}"));
    let place = if local { "on this instance only" } else { "on every instance" };
    let sockets = match (decision.closing, decision.state) {
        (Some(Closing { left, .. }), _) if !left.is_zero() => {
            format!("; open sockets are closed after {}", format_duration(left))
        }
        (Some(_), _) | (None, Some(AdminState::Maint)) => "; open sockets are being closed".into(),
        _ => String::new(),
    };
    format!("{backend}/{server} is {state}{weight}, {place}{sockets}")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPin {
    key: String,
    server: String,
    /// Pin even to a server that no backend here has (a configuration roll half done).
    #[serde(default)]
    force: bool,
}

/// `PUT /api/tables/{table}/entry`
pub(super) async fn pin(State(control): State<Arc<Control>>, Path(name): Path<String>, body: Body) -> Answer {
    let NewPin { key: text, server, force } = body.json(r#"{"key": "abc", "server": "node1"}"#)?;
    let snapshot = control.snapshot();
    let table = table(&snapshot, &name)?;
    let key = key(&table, &text)?;
    let known = snapshot.backends.iter().any(|b| b.servers.iter().any(|s| s.config.name == server));
    if !known && !force {
        let why = format!("no backend has a server \"{server}\": name one that exists, or add \"force\": true");
        return Err(Failure::bad(why));
    }
    let id = snapshot.names.intern(&server);
    if id.is_none() {
        return Err(Failure::bad("the server's name is empty or too long"));
    }
    match table.store(&key, id, now()) {
        Stored::Pinned => done(1, format!("key {text:?} of table {name} is pinned to {server}")),
        Stored::Same => done(0, format!("key {text:?} of table {name} was pinned to {server} already")),
        Stored::Refused => {
            let why = format!("table {name} is full and refuses new keys: clear some, or raise table.{name}.size");
            Err(Failure::new(StatusCode::INSUFFICIENT_STORAGE, why))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    key: Option<String>,
    server: Option<String>,
    #[serde(default)]
    all: bool,
}

/// `DELETE /api/tables/{table}/entries?key=|server=|all=true`
pub(super) async fn clear(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Answer {
    let snapshot = control.snapshot();
    let table = table(&snapshot, &name)?;
    match which {
        Which { key: Some(text), server: None, all: false } => {
            let cleared = table.clear(&key(&table, &text)?, now());
            let what = if cleared { "cleared" } else { "had no entry" };
            done(cleared.into(), format!("key {text:?} of table {name}: {what}"))
        }
        Which { key: None, server: Some(server), all: false } => {
            let Some(id) = snapshot.names.find(&server) else {
                return done(0, format!("table {name} has no entry for server {server}"));
            };
            let cleared = clear_all(table, Some(id)).await?;
            done(cleared, format!("cleared {cleared} entries of table {name} for server {server}"))
        }
        Which { key: None, server: None, all: true } => {
            let cleared = clear_all(table, None).await?;
            done(cleared, format!("cleared {cleared} entries of table {name}"))
        }
        _ => Err(Failure::bad("say what to clear, by one of: ?key=KEY, ?server=SERVER, ?all=true")),
    }
}

/// Beside the control thread: a large table takes a while.
async fn clear_all(table: Arc<StickTable>, server: Option<lb_core::id::NameId>) -> Result<u64, Failure> {
    let cleared = tokio::task::spawn_blocking(move || table.clear_all(server, now()) as u64).await;
    cleared.map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("clearing broke off: {e}")))
}

/// `POST /api/reload`
pub(super) async fn reload(State(control): State<Arc<Control>>) -> Answer {
    // A task of its own: a client that hangs up must not break a reload off half-way.
    let reloaded = tokio::spawn(async move { control.reload().await }).await;
    let broke = |e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the reload broke off: {e}"));
    match reloaded.map_err(broke)? {
        Ok(r) => {
            let message =
                format!("configuration {} runs; listeners opened {}, closed {}", r.generation, r.opened, r.closed);
            done(1, message)
        }
        Err(e) => {
            let status = match e {
                ReloadError::Stopping | ReloadError::NeedsRestart(_) => StatusCode::CONFLICT,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Err(Failure::new(status, e.to_string()))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    drain: Option<String>,
}

/// `POST /api/stop`
pub(super) async fn stop(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let Stop { drain } = body.json(r#"{"drain": "30s"}"#)?;
    let within = drain.map(|text| parse_duration(&text).map_err(|e| Failure::bad(format!("drain {text:?}: {e}"))));
    let within = within.transpose()?;
    control.stop(within);
    let within = within.unwrap_or_else(|| control.snapshot().config.instance.drain);
    done(1, format!("stopping; open connections get {} to end", format_duration(within)))
}
