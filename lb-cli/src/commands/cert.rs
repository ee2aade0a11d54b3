//! `lb cert`: a private CA for the peers of a cluster, a certificate for each instance, and what a certificate says.
//!
//! Files in, files out: it knows no running instance. What a certificate must say is `lb-peers/src/tls.rs`'s to judge.
use crate::args::Cert;
use crate::output::{self, BAD, ODD, styled};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::format_description::FormatItem;
use time::{OffsetDateTime, UtcOffset};

mod files;
mod make;
mod show;

/// Days before its end from which on a certificate wants to be renewed.
const SOON: i64 = 14;
/// How dates are shown.
const DATE: &[FormatItem<'_>] = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");

/// Runs it.
pub(crate) fn run(command: Cert) -> anyhow::Result<ExitCode> {
    match command {
        Cert::Init { dir, cluster, days } => init(&dir, &cluster, days),
        Cert::Issue { node, dir, out, days, also, force } => {
            let out = out.unwrap_or_else(|| dir.clone());
            issue(&Issue { node, dir, out, days, also, force })
        }
        Cert::Show { file, json } => show::run(&file, json),
    }
}

fn init(dir: &Path, cluster: &str, days: u32) -> anyhow::Result<ExitCode> {
    let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if let Some(there) = [&cert, &key].into_iter().find(|path| path.exists()) {
        bail!(
            "{} is there already: a new CA would not know the certificates of the old one. Name another directory with \
             --dir, or move the old CA away",
            there.display()
        );
    }
    let made = make::ca(cluster, days)?;
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    files::write(&key, &made.key, files::Secret::Yes)?;
    files::write(&cert, &made.pem, files::Secret::No)?;
    output::line(format_args!(
        "{} is the CA of cluster {cluster} until {}; every instance gets a copy.\n\
         {} signs certificates: who has it can join the cluster. No instance needs it.\n\n\
         Next, for each instance: lb cert issue NODE{}",
        cert.display(),
        date(made.until),
        key.display(),
        if dir == Path::new("certs") { String::new() } else { format!(" --dir {}", dir.display()) },
    ));
    Ok(ExitCode::SUCCESS)
}

struct Issue {
    node: String,
    dir: PathBuf,
    out: PathBuf,
    days: u32,
    also: Vec<String>,
    force: bool,
}

fn issue(issue: &Issue) -> anyhow::Result<ExitCode> {
    let node = &issue.node;
    let names = make::names(node, &issue.also)?;
    let (ca, ca_key) = (issue.dir.join("ca.pem"), issue.dir.join("ca.key"));
    let (cert, key) = (issue.out.join(format!("{node}.pem")), issue.out.join(format!("{node}.key")));
    if cert == ca {
        bail!("an instance called \"{node}\" would overwrite the CA: name another directory with --out");
    }
    let there = [&cert, &key].into_iter().find(|path| path.exists());
    if let Some(there) = there.filter(|_| !issue.force) {
        bail!("{} is there already: --force replaces it", there.display());
    }
    let made = make::issue(&ca, &ca_key, node, names, issue.days)?;
    std::fs::create_dir_all(&issue.out).with_context(|| format!("{} cannot be made", issue.out.display()))?;
    // An instance that looks between the two sees a pair that does not fit, and looks again.
    files::write(&key, &made.key, files::Secret::Yes)?;
    files::write(&cert, &made.pem, files::Secret::No)?;
    output::line(format_args!(
        "{} and {} are for {node} until {}{}.\n\n[peers]\ntls = {{ ca = {}, cert = {}, key = {} }}",
        cert.display(),
        key.display(),
        date(made.until),
        if made.cut { ", when their CA expires, too" } else { "" },
        quoted(&ca)?,
        quoted(&cert)?,
        quoted(&key)?
    ));
    Ok(ExitCode::SUCCESS)
}

/// A path as TOML text.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text =
        path.to_str().with_context(|| format!("{} is not UTF-8, as the configuration must be", path.display()))?;
    Ok(serde_json::to_string(text)?)
}

fn date(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(DATE).unwrap_or_default()
}

/// The end of a certificate's life, as a date and as what is left, for people.
pub(super) fn end(unix: u64) -> Option<(String, String)> {
    let until = OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()?;
    Some((date(until), left(until)))
}

fn left(until: OffsetDateTime) -> String {
    let left = until - OffsetDateTime::now_utc();
    match left.whole_days() {
        _ if left.is_negative() => styled(BAD, format!("expired {} days ago", -left.whole_days())),
        days @ ..SOON => styled(ODD, format!("{days} days left")),
        days => format!("{days} days left"),
    }
}
