//! The one block that an instance logs when it has started: what listens where, what goes where, in which state.
use lb_core::status::{BackendStatus, PeersStatus, ServerStatus, Status, TableStatus};
use lb_core::time::format_duration;
use std::path::Path;
use std::time::Duration;

/// The block, as aligned columns.
pub(super) fn layout(status: &Status, socket: Option<&Path>) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    let mut row =
        |kind: &str, name: &str, what: String, more: String| rows.push([kind.into(), name.into(), what, more]);
    let process = format!("{} workers, pid {}", status.workers, status.pid);
    row("instance", &status.name, format!("lb {}", status.version), process);
    if let Some(admin) = &status.admin {
        row("admin", "", format!("http://{admin}"), "/metrics /healthz /readyz".into());
    }
    if let Some(socket) = socket {
        row("admin", "", socket.display().to_string(), "for the command line".into());
    }
    for f in &status.frontends {
        f.listen.iter().for_each(|addr| row("listen", &f.name, addr.clone(), String::new()));
        f.routes.iter().for_each(|route| row("route", &f.name, route.clone(), String::new()));
    }
    for b in &status.backends {
        row("backend", &b.name, b.balance.clone(), sticky(b));
        b.servers.iter().for_each(|s| row("server", &format!("{}/{}", b.name, s.name), s.addr.clone(), server(s)));
    }
    status.tables.iter().for_each(|t| row("table", &t.name, kind(t), life(t)));
    if let Some(state) = &status.state {
        row("state", "", state.dir.clone(), state.error.clone().unwrap_or_else(|| "outlives a restart".into()));
    }
    if let Some(peers) = &status.peers {
        row("peers", &peers.cluster, peers.listen.clone(), pulled(peers));
        let peer = |p: &lb_core::status::PeerStatus| p.error.clone().unwrap_or_else(|| p.state.clone());
        peers.peers.iter().for_each(|p| row("peer", &p.name, p.addr.clone(), peer(p)));
    }
    align(&rows)
}

fn sticky(backend: &BackendStatus) -> String {
    if backend.sticky.is_empty() { "not sticky".into() } else { backend.sticky.join("; ") }
}

fn server(server: &ServerStatus) -> String {
    let state = format!("{:?}", server.state).to_lowercase();
    let health = format!("{:?}", server.health).to_lowercase();
    format!("{state}, {health}, weight {}", server.weight)
}

fn kind(table: &TableStatus) -> String {
    format!("{:?} keys, {} entries at most", table.kind, table.size).to_lowercase()
}

fn life(table: &TableStatus) -> String {
    let expire = format_duration(Duration::try_from_secs_f64(table.expire).unwrap_or_default());
    format!("expire {expire}, {}", if table.replicate { "replicated" } else { "this instance only" })
}

fn pulled(peers: &PeersStatus) -> String {
    if peers.pulled { "tables are here".into() } else { format!("pulling tables: {}", peers.pull) }
}

fn align(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for [a, b, c, d] in rows {
        let line = format!("  {a:<0$}  {b:<1$}  {c:<2$}  {d}", widths[0], widths[1], widths[2]);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}
