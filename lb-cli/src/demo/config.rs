//! The configuration file of the demo's instances: one way of pinning a client for each of three backends, so that
//! the demo shows them side by side. Only text; it starts nothing.
use super::client::{PIN_COOKIE, Pin};
use super::server::{HEADER, QUERY, Server};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where an instance listens and writes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its name.
    pub(super) name: String,
    /// For clients.
    pub(super) frontend: SocketAddr,
    /// Dashboard and API.
    pub(super) admin: SocketAddr,
    /// For its peer.
    pub(super) peers: SocketAddr,
    /// For the command line.
    pub(super) socket: PathBuf,
    /// Its configuration.
    pub(super) file: PathBuf,
    /// What it prints.
    pub(super) log: PathBuf,
}

/// The configuration of an instance at `here` in a cluster of `all`.
pub(super) fn toml(here: &Place, all: &[Place], servers: &[(String, SocketAddr)]) -> String {
    let join: Vec<String> = all.iter().map(|place| place.peers.to_string()).collect();
    let socket = here.socket.to_string_lossy();
    let mut text = format!(
        r#"# An instance of `lb demo`.
[instance]
name = {name:?}
workers = 1
drain = "1s"

[admin]
listen = "{admin}"
socket = {socket:?}

[peers]
cluster = "demo"
listen = "{peers}"
join = {join:?}
join_timeout = "5s"

[log]
level = "warn"
format = "text"

[table.sessions]
type = "string"
expire = "10m"

[table.rooms]
type = "string"
expire = "10m"

[frontend.web]
listen = [{{ addr = "{frontend}" }}]
routes = [
"#,
        name = here.name,
        admin = here.admin,
        peers = here.peers,
        frontend = here.frontend,
    );
    // Writing to a String cannot fail.
    for pin in [Pin::Cookie, Pin::Header, Pin::Query] {
        let _ = writeln!(text, "  {{ path_prefix = \"/{0}\", backend = \"{0}\" }},", pin.name());
    }
    text.push_str("]\n");
    for pin in [Pin::Cookie, Pin::Header, Pin::Query] {
        backend(&mut text, pin, servers);
    }
    text
}

fn backend(text: &mut String, pin: Pin, servers: &[(String, SocketAddr)]) {
    let rule = match pin {
        Pin::Cookie => format!(r#"{{ cookie = "{PIN_COOKIE}", insert = true, indirect = true, nocache = true }}"#),
        Pin::Header => format!(r#"{{ on = "header({HEADER})", table = "sessions" }}"#),
        Pin::Query => format!(r#"{{ on = "query({QUERY})", table = "rooms" }}"#),
    };
    let _ = write!(
        text,
        r#"
[backend.{name}]
balance = "leastconn"
sticky = [{rule}]
check = {{ http = "GET /health", expect = 200, interval = "1s" }}
server = [
"#,
        name = pin.name(),
    );
    for (name, addr) in servers {
        let _ = writeln!(text, "  {{ name = {name:?}, addr = \"{addr}\" }},");
    }
    text.push_str("]\n");
}

/// The servers as the configuration names them.
pub(super) fn named(servers: &[Server]) -> Vec<(String, SocketAddr)> {
    servers.iter().map(|server| (server.name.clone(), server.addr)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_takes_what_is_written_for_it() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let here = Place {
            name: "lb1".to_owned(),
            frontend: addr(1000),
            admin: addr(1001),
            peers: addr(1002),
            socket: "/tmp/a \"quoted\" directory/lb1.sock".into(),
            file: "lb1.toml".into(),
            log: "lb1.log".into(),
        };
        let servers = [("node1".to_owned(), addr(2001)), ("node2".to_owned(), addr(2002))];
        let text = toml(&here, std::slice::from_ref(&here), &servers);
        let Ok(config) = lb_core::config::load(&text, "host", Some("lb1"), &|_| None) else {
            panic!("the loader refuses it:\n{text}")
        };
        assert_eq!(config.frontends[0].listen[0].addr, here.frontend.into());
        assert_eq!(config.peers.as_ref().map(|peers| peers.listen), Some(here.peers));
        assert_eq!(config.admin.socket, Some(here.socket));
        let names: Vec<&str> = config.backends.iter().map(|backend| backend.name.as_str()).collect();
        assert_eq!(names, ["cookie", "header", "query"]);
        for backend in &config.backends {
            assert_eq!((backend.sticky.len(), backend.servers.len()), (1, 2), "{}", backend.name);
        }
    }
}
