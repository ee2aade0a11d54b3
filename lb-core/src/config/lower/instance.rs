//! `[instance]`, `[admin]`, `[log]`
use super::super::reader::{Cx, Item, Section};
use super::super::{AccessLog, Admin, Instance, Log, LogFormat};
use super::{Addresses, secret, value};
use crate::pace::Pace;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(super) fn instance(
    cx: &Cx<'_>,
    section: Option<Section<'_>>,
    host_name: &str,
    name_override: Option<&str>,
) -> Instance {
    let given = section.as_ref().and_then(|s| s.get("name"));
    let name = given.as_ref().and_then(|item| {
        let name = item.text()?;
        value::check_name(cx, "node", &name, &item.at(), &item.path).then_some(name)
    });
    let name = match (name_override, name) {
        (Some(name), _) => checked(cx, name, "given with --name", "`lb run --name lb1`"),
        (None, Some(name)) => name,
        (None, None) if given.is_none() => checked(cx, host_name, "the host's", "`name = \"lb1\"` under `[instance]`"),
        (None, None) => String::new(),
    };
    let section = section.as_ref();
    if let Some(section) = section.filter(|s| s.get("state").is_none()) {
        section.useless(&["state_interval"], "without `state`", "add `state = \"/var/lib/lb\"`, or remove it");
    }
    Instance {
        name,
        workers: section.and_then(|s| s.get("workers")?.whole()).and_then(|n| usize::try_from(n).ok()),
        drain: section.map_or(DRAIN, |s| s.duration("drain", DRAIN)),
        maxconn: section.map_or(MAXCONN, |s| s.size("maxconn", MAXCONN)),
        state: section.and_then(|s| s.text("state")).map(Into::into),
        state_interval: section.map_or(STATE_INTERVAL, |s| s.duration("state_interval", STATE_INTERVAL)),
        close_pace: section.and_then(|s| s.get("close_pace")).and_then(|item| pace(&item)).unwrap_or_default(),
    }
}

const DRAIN: Duration = Duration::from_secs(30);
const MAXCONN: usize = 100_000;
const STATE_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn pace(item: &Item<'_>) -> Option<Pace> {
    let text = item.text()?;
    text.parse().map_err(|_| item.bad(format!("\"{text}\" is no pace"), "write as \"50/s\" or \"30/m\"")).ok()
}

/// A name from outside the file.
fn checked(cx: &Cx<'_>, name: &str, whose: &str, write: &str) -> String {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(fine) {
        let message =
            format!("the instance's name \"{name}\" ({whose}) is not 1 to 128 letters, digits, `.`, `_`, `-`, `:`");
        cx.bad(0..0, "instance.name", message, format!("name it: {write}"));
    }
    name.to_owned()
}

/// `None`: no such section in the file.
pub(super) fn admin(section: Option<Section<'_>>, addresses: &mut Addresses) -> Admin {
    let Some(section) = section else {
        return Admin { listen: Some(DEFAULT_ADMIN), socket: None, token: None };
    };
    let (listen, socket) = (section.get("listen"), section.text("socket").map(Into::into));
    let token = section.get("token").and_then(|item| secret::secret(&item));
    let token = token.map(|token| String::from_utf8_lossy(token.bytes()).into_owned());
    let listen = match listen {
        Some(item) => claimed(&item, addresses),
        None if socket.is_none() => Some(DEFAULT_ADMIN),
        None => {
            let help = "add `listen = \"127.0.0.1:8404\"`, or remove it: whoever may open the socket needs none";
            section.useless(&["token"], "without `listen`", help);
            None
        }
    };
    Admin { listen, socket, token }
}

/// Where the admin API listens when the file does not say: this machine only.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8404);

/// An address to listen on, that nothing else in the file listens on.
pub(super) fn claimed(item: &Item<'_>, addresses: &mut Addresses) -> Option<SocketAddr> {
    let addr = value::address(item)?;
    addresses.claim(item, addr);
    Some(addr)
}

pub(super) fn log(section: Option<Section<'_>>) -> Log {
    let Some(section) = section else {
        return Log { level: "info".into(), format: LogFormat::Auto, access: AccessLog::Off };
    };
    let level = section.get("level").and_then(|item| {
        let text = item.text()?;
        check_level(&item, &text);
        Some(text)
    });
    Log {
        level: level.unwrap_or_else(|| "info".into()),
        format: section.word("format").unwrap_or(LogFormat::Auto),
        access: section.get("access").and_then(|item| access(&item)).unwrap_or(AccessLog::Off),
    }
}

/// A path. A bare word is somebody's `yes`, or a stream that other balancers name.
fn access_file(item: &Item<'_>) -> Option<std::path::PathBuf> {
    let text = item.text()?;
    if text.contains('/') {
        return Some(text.into());
    }
    let help =
        format!("write `access = true` for standard output, or a path, as \"/var/log/lb/access.log\" or \"./{text}\"");
    item.bad(format!("\"{text}\" does not say where"), help);
    None
}

fn access(item: &Item<'_>) -> Option<AccessLog> {
    let value = item.either()?;
    Some(match item.is_flag() {
        true if value.flag()? => AccessLog::Stdout,
        true => AccessLog::Off,
        false => AccessLog::File(access_file(&value)?),
    })
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Each part of the filter ends in a level, so that "inof" is not taken for the name of a module.
fn check_level(item: &Item<'_>, text: &str) {
    for part in text.split(',').map(str::trim) {
        let level = part.rsplit('=').next().unwrap_or(part);
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let message = format!("\"{level}\" is no log level");
            item.bad(message, super::super::suggest::word(level, &LEVELS));
        }
    }
}
