//! Plain TCP through each proxy, on connections that stay open: a megabyte at a time, and echoes of 64 bytes.
use crate::cases::{Case, Turn, measured, report, rounds};
use crate::proxy::{Kind, Proxy};
use crate::setup;
use anyhow::{Context as _, Result, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const MEGABYTE: usize = 1 << 20;
const SMALL: usize = 64;
/// Asks the backend for a megabyte; everything else is echoed.
const ASK: &[u8; 8] = b"megabyte";
const TURN: Duration = Duration::from_secs(3);

fn cases() -> Vec<Case> {
    let haproxy = |splice: &str| HAPROXY.replace("SPLICE", splice);
    vec![
        Case { name: "lb", kind: Kind::Lb, template: LB.into() },
        Case {
            name: "haproxy, splice",
            kind: Kind::Haproxy,
            template: haproxy("option splice-request\n  option splice-response"),
        },
        Case { name: "haproxy, copy", kind: Kind::Haproxy, template: haproxy("") },
        Case { name: "nginx", kind: Kind::Nginx, template: NGINX.into() },
    ]
}

// Pinned by source, health checks, metrics, no access log.
const LB: &str = r#"
[instance]
name = "perf"
workers = 1
maxconn = 2000
[admin]
listen = "ADMIN"
[log]
level = "warn"
[table.clients]
type = "ip"
[frontend.web]
mode = "tcp"
listen = ["OWN"]
backend = "app"
[backend.app]
balance = "leastconn"
sticky = [{ on = "src", table = "clients" }]
check = { tcp = true, interval = "2s" }
server = [{ name = "n1", addr = "BACKEND" }, { name = "n2", addr = "BACKEND" }]
"#;

const HAPROXY: &str = "
global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  SPLICE
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout check 2s
frontend web
  bind OWN backlog 4096
  default_backend app
backend app
  balance leastconn
  stick-table type ip size 100k expire 30m
  stick on src
  server n1 BACKEND check inter 2s
  server n2 BACKEND check inter 2s
";

// No table: by a hash of the source, nginx's way.
const NGINX: &str = r"
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
worker_processes 1;
pid DIR/nginx.pid;
error_log /dev/null;
events { worker_connections 20000; }
stream {
  upstream app {
    hash $remote_addr consistent;
    server BACKEND;
  }
  server {
    listen OWN backlog=4096;
    proxy_pass app;
    tcp_nodelay on;
  }
}
";

/// So many interleaved rounds of both; medians and ratios.
pub(crate) fn run(count: usize) -> Result<()> {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    setup::install(&[("haproxy", "haproxy"), ("nginx", "nginx-light"), ("taskset", "util-linux")])?;
    setup::install_file(module, "libnginx-mod-stream")?;
    let backend = backend()?;
    let cases = cases();
    let start = |case: &Case| Proxy::with(case.kind, &case.template, backend).context(case.name);
    let proxies = cases.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (what, clients, load) in [("1 MB", 8, megabytes as Load), ("echo of 64 B", 32, echoes as Load)] {
        for proxy in &proxies {
            turn(proxy, 0, clients, load, Duration::from_millis(500))?;
        }
        let turns = rounds(what, &cases, count, |case| turn(&proxies[case], case, clients, load, TURN))?;
        report(&format!("{what}, {clients} connections, pinned by source"), &cases, &turns, count)?;
    }
    Ok(())
}

/// Does something with a connection again and again; false: an answer was not the right one.
type Load = fn(&mut TcpStream, &mut [u8]) -> std::io::Result<bool>;

fn megabytes(stream: &mut TcpStream, buf: &mut [u8]) -> std::io::Result<bool> {
    stream.write_all(ASK)?;
    let mut left = MEGABYTE;
    while left > 0 {
        let want = left.min(buf.len());
        let n = stream.read(&mut buf[..want])?;
        if n == 0 || buf[0] != b'x' || buf[n - 1] != b'x' {
            return Ok(false);
        }
        left -= n;
    }
    Ok(true)
}

fn echoes(stream: &mut TcpStream, buf: &mut [u8]) -> std::io::Result<bool> {
    stream.write_all(&[b'e'; SMALL])?;
    stream.read_exact(&mut buf[..SMALL])?;
    Ok(buf[..SMALL].iter().all(|b| *b == b'e'))
}

fn turn(proxy: &Proxy, case: usize, clients: usize, load: Load, time: Duration) -> Result<Turn> {
    measured(proxy, case, clients, time, || {
        let mut stream = TcpStream::connect(proxy.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buf = vec![0; 256 << 10];
        Ok(move || {
            ensure!(load(&mut stream, &mut buf)?, "a wrong answer");
            Ok(())
        })
    })
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
    let megabyte = vec![b'x'; MEGABYTE];
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            n if buf[..n] == *ASK => stream.write_all(&megabyte)?,
            n => stream.write_all(&buf[..n])?,
        }
    }
}
