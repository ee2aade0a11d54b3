//! Instances that are peers of each other, of either kind; how their tables are filled, read and watched.
use crate::proxy::{Kind, free};
use crate::setup;
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Addresses of one member of a cluster.
#[derive(Clone, Copy, Debug)]
struct Place {
    web: SocketAddr,
    peers: SocketAddr,
    admin: SocketAddr,
}

/// A cluster that is to be: who listens where.
#[derive(Debug)]
pub(crate) struct Cluster {
    kind: Kind,
    places: Vec<Place>,
    backend: SocketAddr,
    /// Entries a table holds at most.
    size: usize,
}

/// A running member; killed when dropped.
#[derive(Debug)]
pub(crate) struct Member {
    kind: Kind,
    pub(crate) web: SocketAddr,
    pub(crate) pid: u32,
    admin: SocketAddr,
    socket: PathBuf,
    child: Child,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) fn new(kind: Kind, members: usize, backend: SocketAddr, size: usize) -> Result<Self> {
        let place = |_| Ok(Place { web: free()?, peers: free()?, admin: free()? });
        let places = (0..members).map(place).collect::<Result<_>>()?;
        Ok(Self { kind, places, backend, size })
    }

    fn lb(&self, me: usize) -> String {
        let Place { web, peers, admin } = self.places[me];
        let others = (0..self.places.len()).filter(|n| *n != me).map(|n| format!("\"{}\"", self.places[n].peers));
        let (others, size, backend) = (others.collect::<Vec<_>>().join(", "), self.size, self.backend);
        format!(
            r#"
[instance]
name = "lb{me}"
workers = 1
[admin]
listen = "{admin}"
[log]
level = "warn"
[peers]
cluster = "perf"
listen = "{peers}"
join = [{others}]
[table.t]
type = "string"
len = 32
size = {size}
expire = "1h"
[frontend.web]
listen = ["{web}"]
backend = "app"
[backend.app]
sticky = [{{ on = "header(X-Key)", table = "t" }}]
max_idle = 256
server = [{{ name = "n1", addr = "{backend}" }}, {{ name = "n2", addr = "{backend}" }}]
"#
        )
    }

    fn haproxy(&self, me: usize, socket: &str) -> String {
        let (web, size, backend) = (self.places[me].web, self.size, self.backend);
        let mut peers = String::new();
        for (n, place) in self.places.iter().enumerate() {
            // Writing to a text cannot fail.
            _ = writeln!(peers, "  peer lb{n} {}", place.peers);
        }
        format!(
            "
global
  nbthread 1
  maxconn 8000
  localpeer lb{me}
  stats socket {socket} level admin
  stats timeout 1h
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
peers cluster
{peers}
frontend web
  bind {web}
  default_backend app
backend app
  http-reuse always
  stick-table type string len 33 size {size} expire 1h peers cluster
  stick on req.hdr(X-Key)
  server n1 {backend}
  server n2 {backend}
"
        )
    }

    /// Starts member `me` on a core.
    pub(crate) fn start(&self, me: usize, core: usize) -> Result<Member> {
        let dir = TempDir::new()?;
        let socket = dir.path().join("admin.sock");
        let config = dir.path().join(if self.kind == Kind::Lb { "lb.toml" } else { "haproxy.cfg" });
        let (text, program) = match self.kind {
            Kind::Lb => (self.lb(me), setup::lb()?),
            Kind::Haproxy => (self.haproxy(me, &socket.to_string_lossy()), setup::binary("HAPROXY", "haproxy")?),
            Kind::Nginx => bail!("nginx has no peers"),
        };
        std::fs::write(&config, text)?;
        let mut command = setup::pinned(core, &program);
        match self.kind {
            Kind::Lb => command.arg("run").arg("-c").arg(&config),
            _ => command.arg("-db").arg("-f").arg(&config),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let Place { web, admin, .. } = self.places[me];
        Ok(Member { kind: self.kind, web, pid: child.id(), admin, socket, child, _dir: dir })
    }
}

impl Member {
    /// Waits until it accepts clients.
    pub(crate) fn accepts(&self) -> Result<()> {
        until("accepting", Duration::from_secs(20), || Ok(TcpStream::connect(self.web).is_ok()))
    }

    /// A connection to its admin.
    pub(crate) fn admin(&self) -> Result<Admin> {
        Ok(match self.kind {
            Kind::Lb => Admin::Lb(BufReader::new(TcpStream::connect(self.admin)?)),
            _ => {
                let mut stream = UnixStream::connect(&self.socket)?;
                stream.write_all(b"prompt\n")?;
                let mut admin = Admin::Haproxy(BufReader::new(stream));
                admin.prompt()?;
                admin
            }
        })
    }

    /// Entries in its table; none as long as it does not answer.
    pub(crate) fn entries(&self) -> Result<u64> {
        match self.admin() {
            Ok(mut admin) => admin.entries(),
            Err(_) => Ok(0),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A kept connection to a member's admin.
pub(crate) enum Admin {
    Lb(BufReader<TcpStream>),
    Haproxy(BufReader<UnixStream>),
}

impl Admin {
    /// The answer up to HAProxy's prompt.
    fn prompt(&mut self) -> Result<String> {
        let Self::Haproxy(stream) = self else { return Ok(String::new()) };
        let mut text = Vec::new();
        while !text.ends_with(b"\n> ") {
            ensure!(stream.read_until(b' ', &mut text)? > 0, "haproxy closed its socket");
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn get(&mut self, path: &str) -> Result<(u16, String)> {
        let Self::Lb(stream) = self else { bail!("not an lb") };
        stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: perf\r\n\r\n").as_bytes())?;
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            ensure!(stream.read_line(&mut line)? > 0, "lb closed its admin connection");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.get(..3).and_then(|s| s.parse().ok()).context("a status")?;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn command(&mut self, command: &str) -> Result<String> {
        let Self::Haproxy(stream) = self else { bail!("not an haproxy") };
        stream.get_mut().write_all(format!("{command}\n").as_bytes())?;
        self.prompt()
    }

    /// Entries in the table.
    pub(crate) fn entries(&mut self) -> Result<u64> {
        if matches!(self, Self::Lb(_)) {
            let (_, body) = self.get("/api/tables")?;
            let tables: serde_json::Value = serde_json::from_str(&body)?;
            return tables[0]["entries"].as_u64().with_context(|| format!("entries in {body}"));
        }
        // With a name it would list every entry.
        let text = self.command("show table")?;
        let used = text.lines().next().and_then(|l| l.split("used:").nth(1)).context("a table")?;
        Ok(used.trim().parse()?)
    }

    /// Whether the table has a key.
    pub(crate) fn has(&mut self, key: &str) -> Result<bool> {
        if matches!(self, Self::Lb(_)) {
            return Ok(self.get(&format!("/api/tables/t/entry?key={key}"))?.0 == 200);
        }
        Ok(self.command(&format!("show table app key {key}"))?.contains("key="))
    }
}

/// The `i`th key: 32 bytes, as session ids are.
pub(crate) fn key(i: usize) -> String {
    let mixed = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:016x}", i as u64)
}

/// Asks again and again, every two milliseconds.
pub(crate) fn until(what: &str, within: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !holds()? {
        ensure!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
