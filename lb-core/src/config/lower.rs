//! From the text of a file to a [`Config`], or to every mistake in it.
//!
//! Each section is read whole, then built: a wrong value is reported and its default stands in, so that reading goes
//! on and the next mistake is found as well. The result counts only if nothing was reported.
use super::diagnostic::Diagnostic;
use super::file::ROOT;
use super::reader::{Cx, Env, Files, Section};
use super::{Config, Timeouts};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;
use toml::de::DeTable;

mod auth;
mod backend;
mod balance;
mod check;
mod cookie;
mod counter;
mod discovery;
mod edit;
mod faults;
mod fixed;
mod frontend;
mod http2;
mod instance;
mod jwt;
mod limit;
mod listen;
mod matcher;
mod mode;
mod page;
mod peers;
mod place;
mod rules;
mod secret;
mod sticky;
mod syntax;
mod table;
mod tcp;
mod value;
mod websocket;

/// Reads a configuration file.
///
/// `host_name` names the instance if the file does not, `name_override` (`--name`) decides over both. `env` gives
/// variables for `${VAR}`. Paths are left as they are written.
///
/// # Errors
/// Every mistake in the file, in the order of the text.
pub fn load(text: &str, host_name: &str, name_override: Option<&str>, env: Env<'_>) -> Result<Config, Vec<Diagnostic>> {
    load_with(text, host_name, name_override, env, None)
}

/// As [`load`], with the files that the configuration names (pages, users): an instance runs with them. Without, they
/// are taken as empty.
///
/// # Errors
/// As [`load`], and files that cannot be read.
pub fn load_with(
    text: &str,
    host_name: &str,
    name_override: Option<&str>,
    env: Env<'_>,
    files: Option<Files<'_>>,
) -> Result<Config, Vec<Diagnostic>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut found = syntax::diagnostics(text, &errors);
    let cx = Cx::new(text, env, !found.is_empty()).with_files(files);
    let config = config(&cx, root.get_ref(), host_name, name_override);
    let meant = syntax::beside(&errors, &found, cx.into_found());
    found.extend(meant);
    found.sort_by_key(|d| (d.span.start, d.span.end));
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => {
            debug_assert!(!found.is_empty(), "a refused configuration has a reason");
            Err(found)
        }
    }
}

pub(super) fn config(cx: &Cx<'_>, root: &DeTable<'_>, host_name: &str, name_override: Option<&str>) -> Option<Config> {
    let root = Section::new(cx, String::new(), 0..0, root, &ROOT);
    let instance = instance::instance(cx, section(&root, "instance"), host_name, name_override);
    let mut addresses = Addresses::default();
    let admin = instance::admin(section(&root, "admin"), &mut addresses);
    let peers = match section(&root, "peers") {
        Some(peers) => peers::peers(&peers, &mut addresses).map(Some),
        None => Some(None),
    };
    let log = instance::log(section(&root, "log"));
    let tls = listen::tls(section(&root, "tls"));
    let defaults = Defaults::read(section(&root, "defaults"));
    let jwt = section(&root, "jwt").map(|s| jwt::keys(&s));
    cx.jwt.replace(jwt.clone());
    let tables = table::tables(&root);
    let named_backends = root.get("backend").map_or(Vec::new(), |item| item.named());
    let modes = mode::Backends::read(&named_backends);
    let (auth, auth_names) = auth::auths(&root);
    let known = rules::Known { tables: &tables, auth: &auth, auth_names: &auth_names };
    let frontends = frontend::frontends(&root, &modes, &known, &defaults, instance.maxconn, &mut addresses);
    let backends = named_backends
        .iter()
        .filter_map(|(name, at, section)| backend::backend(name, at, section, modes.mode(name), &known, &defaults))
        .collect();
    let tables = tables.into_iter().filter_map(|(_, table)| table).collect();
    let jwt = jwt.flatten();
    Some(Config { instance, admin, peers: peers?, log, tls, jwt, auth, tables, frontends, backends })
}

fn section<'a>(parent: &Section<'a>, name: &'static str) -> Option<Section<'a>> {
    parent.get(name)?.section()
}

/// `[defaults]`
struct Defaults {
    timeout: Given,
    retries: u32,
    resolver: Option<std::net::SocketAddr>,
}

impl Defaults {
    fn read(section: Option<Section<'_>>) -> Self {
        let retries = section.as_ref().map_or(3, |s| s.whole("retries", 3));
        let resolver = section.as_ref().and_then(|s| discovery::resolver(s, None));
        let timeout =
            section.and_then(|s| self::section(&s, "timeout")).map_or_else(Given::default, |s| Given::read(&s));
        Self { timeout, retries, resolver }
    }

    /// Timeouts of a frontend or backend: its own, else the default ones. Those of the other side are no use there.
    fn timeouts(&self, section: &Section<'_>, side: Side) -> Timeouts {
        let Some(own) = self::section(section, "timeout") else { return self.timeout.resolve() };
        for item in own.given().filter(|item| CLIENTS.contains(&item.name()) != matches!(side, Side::Frontend)) {
            let name = item.name();
            let (of, where_to) = match side {
                Side::Frontend => ("servers", "backend.NAME"),
                Side::Backend => ("clients", "frontend.NAME"),
            };
            let message = format!("`{name}` is a timeout of {of}: it would do nothing here");
            item.cx.bad(
                item.word.clone(),
                &item.path,
                message,
                format!("write it in `{where_to}.timeout` or `defaults.timeout`"),
            );
        }
        Given::read(&own).or(&self.timeout).resolve()
    }
}

/// Whose timeouts are read.
#[derive(Clone, Copy)]
enum Side {
    Frontend,
    Backend,
}

/// Timeouts that a frontend has; a backend has the others.
const CLIENTS: [&str; 4] = ["client", "http_request", "http_keep_alive", "tls_handshake"];

/// Timeouts as far as one place of the file gives them.
#[derive(Clone, Copy, Default)]
struct Given {
    connect: Option<Duration>,
    client: Option<Duration>,
    server: Option<Duration>,
    tunnel: Option<Duration>,
    http_request: Option<Duration>,
    http_keep_alive: Option<Duration>,
    queue: Option<Duration>,
    check: Option<Duration>,
    tls_handshake: Option<Duration>,
}

impl Given {
    fn read(section: &Section<'_>) -> Self {
        let given = |name| section.get(name).and_then(|item| item.duration());
        Self {
            connect: given("connect"),
            client: given("client"),
            server: given("server"),
            tunnel: given("tunnel"),
            http_request: given("http_request"),
            http_keep_alive: given("http_keep_alive"),
            queue: given("queue"),
            check: given("check"),
            tls_handshake: given("tls_handshake"),
        }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            connect: self.connect.or(other.connect),
            client: self.client.or(other.client),
            server: self.server.or(other.server),
            tunnel: self.tunnel.or(other.tunnel),
            http_request: self.http_request.or(other.http_request),
            http_keep_alive: self.http_keep_alive.or(other.http_keep_alive),
            queue: self.queue.or(other.queue),
            check: self.check.or(other.check),
            tls_handshake: self.tls_handshake.or(other.tls_handshake),
        }
    }

    fn resolve(&self) -> Timeouts {
        let default = Timeouts::default();
        let connect = self.connect.unwrap_or(default.connect);
        Timeouts {
            connect,
            client: self.client.unwrap_or(default.client),
            server: self.server.unwrap_or(default.server),
            tunnel: self.tunnel.unwrap_or(default.tunnel),
            http_request: self.http_request.unwrap_or(default.http_request),
            http_keep_alive: self.http_keep_alive.unwrap_or(default.http_keep_alive),
            queue: self.queue.unwrap_or(connect),
            check: self.check.unwrap_or(default.check),
            tls_handshake: self.tls_handshake.unwrap_or(default.tls_handshake),
        }
    }
}

/// Addresses listened on, each by one place of the file only.
#[derive(Default)]
struct Addresses(HashMap<String, String>);

impl Addresses {
    /// Takes an address for the place `item` speaks of, or reports who has it.
    fn claim(&mut self, item: &super::reader::Item<'_>, addr: std::net::SocketAddr) {
        if addr.port() == 0 {
            return;
        }
        self.claim_text(item, &addr.to_string());
    }

    /// As [`Self::claim`], for any form of an address.
    fn claim_text(&mut self, item: &super::reader::Item<'_>, addr: &str) {
        match self.0.get(addr) {
            Some(owner) => {
                item.bad(format!("{addr} is taken by `{owner}`"), "give each listener an address of its own")
            }
            None => {
                self.0.insert(addr.to_owned(), format!("{} in line {}", item.path, item.cx.line(&item.at())));
            }
        }
    }
}

/// Values that must differ within one place.
#[derive(Default)]
struct Unique(HashMap<String, usize>);

impl Unique {
    /// The line that has the value already; otherwise the value is taken.
    fn taken(&mut self, cx: &Cx<'_>, value: &str, at: &Range<usize>) -> Option<usize> {
        match self.0.get(value) {
            Some(line) => Some(*line),
            None => {
                self.0.insert(value.to_owned(), cx.line(at));
                None
            }
        }
    }
}
