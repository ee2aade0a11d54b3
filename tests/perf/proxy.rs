//! The proxies under test: their configurations, made as alike as they can be, and their processes.
use crate::setup;
use anyhow::{Context as _, Result, bail};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One of the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lb,
    Haproxy,
    Nginx,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Its configuration for HTTP, with names in place of addresses.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Lb => LB,
            Self::Haproxy => HAPROXY,
            Self::Nginx => NGINX,
        }
    }

    fn config(template: &str, dir: &Path, own: SocketAddr, admin: SocketAddr, backend: SocketAddr) -> String {
        let dir = dir.display();
        let fill = |text: String, (name, value): (&str, String)| text.replace(name, &value);
        [
            ("OWN", own.to_string()),
            ("ADMIN", admin.to_string()),
            ("BACKEND", backend.to_string()),
            ("DIR", dir.to_string()),
        ]
        .into_iter()
        .fold(template.to_owned(), fill)
    }

    fn command(self, config: &Path, dir: &Path) -> Result<std::process::Command> {
        let pinned = |path: PathBuf| setup::pinned(setup::PROXY_CORE, &path);
        Ok(match self {
            Self::Lb => {
                let mut command = pinned(setup::lb()?);
                command.arg("run").arg("-c").arg(config);
                command
            }
            Self::Haproxy => {
                let mut command = pinned(setup::binary("HAPROXY", "haproxy")?);
                command.arg("-db").arg("-f").arg(config);
                command
            }
            Self::Nginx => {
                let mut command = pinned(setup::binary("NGINX", "nginx")?);
                command.arg("-p").arg(dir).arg("-e").arg("/dev/null").arg("-c").arg(config);
                command
            }
        })
    }
}

// Cookie affinity, health checks, metrics, no access log; the server `n1` is the one that the clients' cookie names.
const LB: &str = r#"
[instance]
name = "perf"
workers = 1
maxconn = 8000
[admin]
listen = "ADMIN"
[log]
level = "warn"
[frontend.web]
listen = ["OWN"]
backend = "app"
[backend.app]
balance = "leastconn"
sticky = [{ cookie = "SERVERID", insert = true, indirect = true, nocache = true }]
check = { http = "GET /health", expect = 200, interval = "2s" }
max_idle = 256
server = [{ name = "n1", addr = "BACKEND" }, { name = "n2", addr = "BACKEND" }]
"#;

const HAPROXY: &str = "
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout check 2s
frontend web
  bind OWN backlog 4096
  default_backend app
backend app
  balance leastconn
  cookie SERVERID insert indirect nocache
  option forwardfor
  option httpchk GET /health
  http-reuse always
  server n1 BACKEND cookie n1 check inter 2s
  server n2 BACKEND cookie n2 check inter 2s
";

// No persistence: Debian's nginx has none by cookie.
const NGINX: &str = r#"
daemon off;
master_process off;
worker_processes 1;
pid DIR/nginx.pid;
error_log /dev/null;
events { worker_connections 20000; }
http {
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  keepalive_requests 1000000000;
  upstream app {
    server BACKEND;
    keepalive 256;
    keepalive_requests 1000000000;
  }
  server {
    listen OWN backlog=4096;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
"#;

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) addr: SocketAddr,
    pub(crate) pid: u32,
    child: Child,
    _dir: TempDir,
}

impl Proxy {
    /// Starts it on the proxies' core, in front of the backend; waits until it accepts.
    pub(crate) fn start(kind: Kind, backend: SocketAddr) -> Result<Self> {
        Self::with(kind, kind.template(), backend)
    }

    /// As [`Self::start`], with a configuration of its own, in which OWN, ADMIN, BACKEND and DIR stand for what they are.
    pub(crate) fn with(kind: Kind, template: &str, backend: SocketAddr) -> Result<Self> {
        let dir = TempDir::new()?;
        let (addr, admin) = (free()?, free()?);
        let config = dir.path().join(if kind == Kind::Lb { "lb.toml" } else { "proxy.conf" });
        std::fs::write(&config, Kind::config(template, dir.path(), addr, admin, backend))?;
        let mut child = kind.command(&config, dir.path())?.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended at once: {status}", kind.name());
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not accept", kind.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        // taskset has become the proxy, so this is the proxy's own id.
        Ok(Self { kind, addr, pid: child.id(), child, _dir: dir })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address nobody listens on.
pub(crate) fn free() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).context("a free port")
}
