//! `lb peers verify` and `lb table diff`: the tables held against the peers' now.
use crate::args::At;
use crate::client::Client;
use crate::output::{self, BAD, GOOD, ODD, seconds, styled};
use hyper::Method;
use lb_core::status::{DifferingKey, HeldStatus, Verified, VerifiedTable};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

async fn ask(table: Option<String>, peer: Option<String>, at: &At) -> anyhow::Result<Verified> {
    let body = json!({ "table": table, "peer": peer });
    Client::new(at)?.call_long(Method::POST, "/api/peers/verify", &body).await
}

fn exit(verified: &Verified) -> ExitCode {
    if verified.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `lb peers verify`
pub(crate) async fn verify(table: Option<String>, at: At) -> anyhow::Result<ExitCode> {
    let verified = ask(table, None, &at).await?;
    if at.json {
        output::json(&verified)?;
        return Ok(exit(&verified));
    }
    if verified.comparisons.is_empty() {
        output::line("nothing to compare: there is no peer, or no table that is replicated");
        return Ok(exit(&verified));
    }
    output::table(&["peer", "table", "result"], verified.comparisons.iter().map(row).collect());
    for compared in verified.comparisons.iter().filter(|c| c.differing > 0) {
        output::line("");
        keys(&verified.node, compared);
    }
    if verified.equal {
        output::line(equal(&verified));
    }
    Ok(exit(&verified))
}

/// `lb table diff`
pub(crate) async fn diff(table: Option<String>, with: Option<String>, at: At) -> anyhow::Result<ExitCode> {
    let verified = ask(table, with, &at).await?;
    if at.json {
        output::json(&verified)?;
        return Ok(exit(&verified));
    }
    for compared in &verified.comparisons {
        match &compared.error {
            Some(why) => output::line(format_args!("{} of {}: not compared: {why}", compared.table, compared.peer)),
            None if compared.differing > 0 => keys(&verified.node, compared),
            None => {}
        }
    }
    if verified.equal {
        output::line(equal(&verified));
    }
    Ok(exit(&verified))
}

fn row(compared: &VerifiedTable) -> Vec<String> {
    let result = match (&compared.equal, &compared.error) {
        (Some(true), _) => styled(GOOD, "equal"),
        (Some(false), _) => styled(BAD, format_args!("{} keys differ", compared.differing)),
        (None, why) => styled(ODD, format_args!("not compared: {}", why.as_deref().unwrap_or("?"))),
    };
    vec![compared.peer.clone(), compared.table.clone(), result]
}

/// The keys that differ, side by side.
fn keys(node: &str, compared: &VerifiedTable) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let held = |held: &Option<HeldStatus>| match held {
        None => "missing".to_owned(),
        Some(held) => {
            let age = seconds((now - held.written as f64 / 1000.0).max(0.0));
            let server = held.server.as_deref().unwrap_or("cleared");
            format!("{server} (by {}, {age} ago; {} left)", held.node, seconds(held.expires))
        }
    };
    let row = |k: &DifferingKey| vec![k.key.clone(), held(&k.here), held(&k.there)];
    let (here, there) = (format!("on {node}"), format!("on {}", compared.peer));
    let key = format!("key of {}", compared.table);
    output::table(&[&key, &here, &there], compared.keys.iter().map(row).collect());
    let more = compared.differing - compared.keys.len() as u64;
    if more > 0 {
        output::line(format_args!("and {more} more"));
    }
}

/// What is known, and how.
fn equal(verified: &Verified) -> String {
    let peers: BTreeSet<&str> = verified.comparisons.iter().map(|c| c.peer.as_str()).collect();
    let tables = verified.tables.len();
    format!(
        "{tables} table{} equal on {} instances ({} entries here): digests over every key and version were compared, \
         and listed where they differed",
        if tables == 1 { "" } else { "s" },
        peers.len() + 1,
        verified.entries
    )
}
