//! `lb peers`: replication, a row for each peer.
use crate::args::At;
use crate::client::Client;
use crate::commands::cert;
use crate::output::{self, BAD, GOOD, ODD, seconds, styled};
use anyhow::bail;
use lb_core::status::{PeerStatus, PeersStatus, TlsStatus};
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(at: At) -> anyhow::Result<ExitCode> {
    let client = Client::new(&at)?;
    let peers: Option<PeersStatus> = client.get("/api/peers").await?;
    if at.json {
        output::json(&peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(peers) = peers else { bail!("this instance stands alone: its configuration has no [peers]") };
    show(&peers);
    Ok(ExitCode::SUCCESS)
}

/// Prints the peers of a cluster.
pub(crate) fn show(peers: &PeersStatus) {
    output::line(format_args!(
        "cluster {}, this is {} at {}; {}{}",
        peers.cluster,
        peers.node,
        peers.listen,
        if peers.pulled { "" } else { "not ready: " },
        peers.pull
    ));
    peers.tls.iter().for_each(certificate);
    if peers.peers.is_empty() {
        output::line("no peers: [peers] join names none but this instance");
        return;
    }
    let headings = [
        "peer", "state", "in sync", "address", "up for", "rtt", "clock", "sent", "acked", "received", "backlog",
        "pulled",
    ];
    output::table(&headings, peers.peers.iter().map(row).collect());
    for peer in &peers.peers {
        if let Some(error) = &peer.error {
            output::line(format_args!("{}: {error}", peer.name));
        }
        for table in peer.tables.iter().filter(|t| t.equal == Some(false)) {
            let note = table.note.as_deref().unwrap_or("it differs");
            output::line(format_args!("{}, table {}: {note}", peer.name, table.table));
        }
    }
}

/// Whether its tables are ours, and since when that is known.
fn in_sync(peer: &PeerStatus) -> String {
    let ago = peer.tables.iter().filter_map(|t| t.compared_ago).max();
    match (peer.in_sync, ago) {
        (Some(true), Some(ago)) => styled(GOOD, format_args!("yes, {ago}s ago")),
        (Some(true), None) => styled(GOOD, "yes"),
        (Some(false), _) => {
            let differ = peer.tables.iter().filter(|t| t.equal == Some(false));
            let each: Vec<String> = differ
                .map(|t| match t.buckets_differed {
                    0 => t.table.clone(),
                    1 => format!("1 bucket of {}", t.table),
                    n => format!("{n} buckets of {}", t.table),
                })
                .collect();
            styled(BAD, format_args!("no: {}", each.join(", ")))
        }
        (None, _) => "-".into(),
    }
}

fn certificate(tls: &TlsStatus) {
    if let Some((date, left)) = cert::end(tls.not_after / 1000) {
        output::line(format_args!("certificate until {date}, {left}"));
    }
    if let Some(error) = &tls.error {
        output::line(format_args!("{}: {error}", styled(BAD, "the files of the certificate cannot be used")));
    }
}

fn row(peer: &PeerStatus) -> Vec<String> {
    let state = match peer.state.as_str() {
        "up" => styled(GOOD, "up"),
        "connecting" => styled(ODD, "connecting"),
        other => styled(BAD, other),
    };
    let ms = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.1}ms"));
    vec![
        peer.name.clone(),
        state,
        in_sync(peer),
        peer.addr.clone(),
        peer.up_for.map_or("-".into(), |s| seconds(s as f64)),
        ms(peer.rtt_ms),
        ms(peer.clock_offset_ms),
        peer.sent.to_string(),
        peer.acked.to_string(),
        peer.received.to_string(),
        peer.backlog.to_string(),
        peer.pulled.map_or("-".into(), |(entries, ms)| format!("{entries} in {ms}ms")),
    ]
}
