//! `lb table`: look into stick tables and change them.
use crate::args::{At, Cleared, Table};
use crate::client::{Client, encode};
use crate::commands::life::say;
use crate::output::{self, bytes, seconds};
use anyhow::{Context, bail};
use hyper::Method;
use lb_core::status::{Done, EntryStatus, TableStatus};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs it.
pub(crate) async fn run(command: Table) -> anyhow::Result<ExitCode> {
    match command {
        Table::List { at } => list(at).await,
        Table::Show { table, key, server, when, limit, at } => {
            let filter = [("key", key), ("server", server), ("when", when)];
            show(&table, &filter, limit, at).await
        }
        Table::Get { table, key, at } => get(&table, &key, at).await,
        Table::Set { table, key, server, at } => {
            let done = set(&Client::new(&at)?, &table, &key, &server).await?;
            say(&done, at.json)
        }
        Table::Clear { table, what, at } => clear(&table, what, at).await,
        Table::Diff { table, with, at } => super::verify::diff(table, with, at).await,
        Table::Dump { table, at } => dump(&table, at).await,
        Table::Load { table, at } => load(&table, at).await,
    }
}

async fn list(at: At) -> anyhow::Result<ExitCode> {
    let tables: Vec<TableStatus> = Client::new(&at)?.get("/api/tables").await?;
    if at.json {
        output::json(&tables)?;
    } else {
        show_tables(&tables);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints tables, a row each.
pub(crate) fn show_tables(tables: &[TableStatus]) {
    let mut headings =
        vec!["table", "type", "entries", "size", "expire", "hits", "misses", "stores", "evicted", "memory"];
    let counting = tables.iter().any(|t| !t.store.is_empty());
    headings.extend(["counted", "counts"].into_iter().filter(|_| counting));
    let row = |t: &TableStatus| {
        let kind = serde_json::to_value(t.kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let counts = [t.hits, t.misses, t.stores, t.evictions].map(|n| n.to_string());
        let mut row = vec![t.name.clone(), kind, t.entries.to_string(), t.size.to_string(), seconds(t.expire)];
        row.extend(counts);
        row.push(bytes(t.memory));
        let counts = if t.store.is_empty() { "-".into() } else { t.store.join(" ") };
        row.extend([t.counted.to_string(), counts].into_iter().filter(|_| counting));
        row
    };
    output::table(&headings, tables.iter().map(row).collect());
}

async fn entries(
    client: &Client,
    table: &str,
    filter: &[(&str, Option<String>)],
    limit: usize,
) -> anyhow::Result<Vec<EntryStatus>> {
    let mut path = format!("/api/tables/{}/entries?limit={limit}", encode(table));
    for (name, value) in filter {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    client.get(&path).await
}

async fn show(table: &str, filter: &[(&str, Option<String>)], limit: usize, at: At) -> anyhow::Result<ExitCode> {
    let entries = entries(&Client::new(&at)?, table, filter, limit).await?;
    if at.json {
        output::json(&entries)?;
    } else {
        show_entries(&entries);
        if entries.len() == limit {
            output::line(format_args!("the first {limit}; more with --limit"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints entries, a row each; counters as columns.
fn show_entries(entries: &[EntryStatus]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let counters: BTreeSet<&str> = entries.iter().flat_map(|e| e.counters.keys()).map(String::as_str).collect();
    let row = |e: &EntryStatus| {
        let pinned = |text: String| if e.server.is_empty() { "-".to_owned() } else { text };
        let age = seconds((now - e.written as f64 / 1000.0).max(0.0));
        let (server, node) = (pinned(e.server.clone()), pinned(e.node.clone()));
        let mut row = vec![e.key.clone(), server, seconds(e.expires), node, pinned(format!("{age} ago"))];
        row.extend(counters.iter().map(|c| e.counters.get(*c).map_or("-".into(), u64::to_string)));
        row
    };
    let headings: Vec<_> =
        ["key", "server", "expires", "written by", "written"].into_iter().chain(counters.iter().copied()).collect();
    output::table(&headings, entries.iter().map(row).collect());
}

async fn get(table: &str, key: &str, at: At) -> anyhow::Result<ExitCode> {
    let path = format!("/api/tables/{}/entry?key={}", encode(table), encode(key));
    // No such pin is an error of the instance: the answer is no.
    let entry: EntryStatus = Client::new(&at)?.get(&path).await?;
    if at.json {
        output::json(&entry)?;
    } else {
        output::line(if entry.server.is_empty() { "-" } else { &entry.server });
        for (counter, value) in entry.counters {
            output::line(format_args!("{counter} {value}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(client: &Client, table: &str, key: &str, server: &str) -> anyhow::Result<Done> {
    let path = format!("/api/tables/{}/entry", encode(table));
    client.call(Method::PUT, &path, Some(&json!({ "key": key, "server": server }))).await
}

async fn clear(table: &str, what: Cleared, at: At) -> anyhow::Result<ExitCode> {
    let query = match (what.key, what.server) {
        (Some(key), _) => format!("key={}", encode(&key)),
        (None, Some(server)) => format!("server={}", encode(&server)),
        (None, None) => "all=true".into(),
    };
    let path = format!("/api/tables/{}/entries?{query}", encode(table));
    let done: Done = Client::new(&at)?.call(Method::DELETE, &path, None::<&()>).await?;
    say(&done, at.json)
}

async fn dump(table: &str, at: At) -> anyhow::Result<ExitCode> {
    let entries = entries(&Client::new(&at)?, table, &[], usize::MAX).await?;
    // What is only counted has nothing that `load` could set.
    for entry in entries.iter().filter(|e| !e.server.is_empty()) {
        output::json_line(entry)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `load` needs of a dumped entry; it starts with the table's full life.
#[derive(Deserialize)]
struct Dumped {
    key: String,
    server: String,
}

async fn load(table: &str, at: At) -> anyhow::Result<ExitCode> {
    let client = Client::new(&at)?;
    let mut changed = 0;
    for (number, line) in std::io::stdin().lines().enumerate() {
        let line = line.context("standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        let entry: Dumped = match serde_json::from_str(&line) {
            Ok(entry) => entry,
            Err(e) => bail!(
                "line {}: {e}; write one object a line, as {{\"key\":\"abc\",\"server\":\"node1\"}} \
                 ({changed} entries were set before it)",
                number + 1
            ),
        };
        set(&client, table, &entry.key, &entry.server).await.with_context(|| format!("line {}", number + 1))?;
        changed += 1;
    }
    say(&Done { changed, message: format!("{changed} keys pinned in {table}") }, at.json)
}
