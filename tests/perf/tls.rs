//! TLS 1.3 with clients: a request on a kept connection, a megabyte, a full handshake with a request, a resumed one.
use crate::cases::{Case, Turn, measured, report, rounds};
use crate::proxy::{Kind, Proxy};
use crate::setup;
use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "perf.test";
const KILOBYTE: usize = 1 << 10;
const MEGABYTE: usize = 1 << 20;
const TURN: Duration = Duration::from_secs(3);

// Cookie affinity, health checks, metrics, no access log; tickets as each proxy gives them out by itself.
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
listen = [{ addr = "OWN", tls = { cert = "CERTS/site.pem" }, alpn = ["http/1.1"] }]
backend = "app"
[backend.app]
balance = "leastconn"
sticky = [{ cookie = "SERVERID", insert = true, indirect = true, nocache = true }]
check = { tcp = true, interval = "2s" }
server = [{ name = "n1", addr = "BACKEND" }, { name = "n2", addr = "BACKEND" }]
"#;

const HAPROXY: &str = "
global
  nbthread 1
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout check 2s
frontend web
  bind OWN ssl crt CERTS/site.pem backlog 4096
  default_backend app
backend app
  balance leastconn
  cookie SERVERID insert indirect nocache
  option forwardfor
  http-reuse always
  server n1 BACKEND cookie n1 check inter 2s
  server n2 BACKEND cookie n2 check inter 2s
";

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
    listen OWN ssl backlog=4096;
    ssl_certificate CERTS/site.pem;
    ssl_certificate_key CERTS/site.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
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

/// What a client does again and again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Small,
    Large,
    Full,
    Resumed,
}

/// So many interleaved rounds of each; medians and ratios.
pub(crate) fn run(count: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("nginx", "nginx-light"), ("taskset", "util-linux")])?;
    let dir = tempfile::TempDir::new()?;
    let roots = certificate(dir.path())?;
    let backend = backend()?;
    let certs = dir.path().to_str().context("a path of text")?;
    let case = |name, kind, template: &str| Case { name, kind, template: template.replace("CERTS", certs) };
    let cases = [case("lb", Kind::Lb, LB), case("haproxy", Kind::Haproxy, HAPROXY), case("nginx", Kind::Nginx, NGINX)];
    let start = |case: &Case| Proxy::with(case.kind, &case.template, backend).context(case.name);
    let proxies = cases.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (what, clients, work) in [
        ("1 KB, kept connections", 32, Work::Small),
        ("1 MB, kept connections", 4, Work::Large),
        ("full handshake, 1 KB", 4, Work::Full),
        ("resumed handshake, 1 KB", 4, Work::Resumed),
    ] {
        for proxy in &proxies {
            turn(proxy, 0, clients, work, &roots, Duration::from_millis(500))?;
        }
        let turns = rounds(what, &cases, count, |case| turn(&proxies[case], case, clients, work, &roots, TURN))?;
        report(&format!("TLS 1.3, {what}, {clients} clients"), &cases, &turns, count)?;
    }
    Ok(())
}

/// Makes a certificate and its key in one file, as all three read it; what trusts it.
fn certificate(dir: &Path) -> Result<RootCertStore> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(dir.join("site.pem"), made.cert.pem() + &made.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    Ok(roots)
}

fn turn(proxy: &Proxy, case: usize, clients: usize, work: Work, roots: &RootCertStore, time: Duration) -> Result<Turn> {
    measured(proxy, case, clients, time, || {
        let mut client = Client::new(proxy.addr, work, roots)?;
        Ok(move || client.work())
    })
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

struct Client {
    addr: SocketAddr,
    work: Work,
    config: Arc<ClientConfig>,
    kept: Option<Tls>,
    buf: Vec<u8>,
    first: bool,
}

impl Client {
    fn new(addr: SocketAddr, work: Work, roots: &RootCertStore) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        if work != Work::Resumed {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { addr, work, config: Arc::new(config), kept: None, buf: vec![0; 256 << 10], first: true })
    }

    fn work(&mut self) -> Result<()> {
        let mut tls = match self.kept.take() {
            Some(kept) => kept,
            None => self.connect()?,
        };
        let large = self.work == Work::Large;
        let got = get(&mut tls, if large { "/large" } else { "/" }, &mut self.buf)?;
        ensure!(got == if large { MEGABYTE } else { KILOBYTE }, "a body of {got} bytes");
        match self.work {
            Work::Small | Work::Large => self.kept = Some(tls),
            Work::Full | Work::Resumed => self.check(&tls)?,
        }
        Ok(())
    }

    fn connect(&self) -> Result<Tls> {
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(StreamOwned::new(ClientConnection::new(self.config.clone(), ServerName::try_from(NAME)?)?, stream))
    }

    /// Whether the handshake was of the kind that is measured.
    fn check(&mut self, tls: &Tls) -> Result<()> {
        let wanted = if self.work == Work::Full || self.first { HandshakeKind::Full } else { HandshakeKind::Resumed };
        self.first = false;
        match tls.conn.handshake_kind() {
            Some(kind) if kind == wanted => Ok(()),
            other => bail!("a handshake of the kind {other:?} instead of {wanted:?}"),
        }
    }
}

/// Asks; the length of the answer's body, all of which has come.
fn get(tls: &mut Tls, path: &str, buf: &mut [u8]) -> Result<usize> {
    write!(tls, "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nCookie: SERVERID=n1\r\n\r\n")?;
    let mut have = 0;
    let (head, length) = loop {
        let n = tls.read(&mut buf[have..])?;
        ensure!(n > 0, "the connection ended");
        have += n;
        let Some(end) = buf[..have].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buf[..end])?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).context("no length")?;
        break (end + 4, length.trim().parse::<usize>()?);
    };
    let mut left = length - (have - head);
    while left > 0 {
        let want = left.min(buf.len());
        let n = tls.read(&mut buf[..want])?;
        ensure!(n > 0 && buf[0] == b'x' && buf[n - 1] == b'x', "a wrong body");
        left -= n;
    }
    Ok(length)
}

/// A thread for each connection, all on the load's core.
fn backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the backend")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                setup::pin_this_thread(setup::LOAD_CORE)?;
                serve(stream).map_err(anyhow::Error::from)
            });
        }
    });
    Ok(addr)
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = |length: usize| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b'x');
        answer
    };
    let (small, large) = (answer(KILOBYTE), answer(MEGABYTE));
    let (mut buf, mut have) = ([0; 4096], 0);
    loop {
        match stream.read(&mut buf[have..])? {
            0 => return Ok(()),
            n => have += n,
        }
        if buf[..have].ends_with(b"\r\n\r\n") {
            stream.write_all(if buf.starts_with(b"GET /large") { &large } else { &small })?;
            have = 0;
        }
    }
}
