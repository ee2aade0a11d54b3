//! Plain TCP through each proxy, on connections that stay open: a megabyte at a time, and echoes of 64 bytes.
use crate::measure::{Spread, cpu_ns};
use crate::proxy::{Kind, Proxy};
use crate::setup;
use anyhow::{Context as _, Result, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MEGABYTE: usize = 1 << 20;
const SMALL: usize = 64;
/// Asks the backend for a megabyte; everything else is echoed.
const ASK: &[u8; 8] = b"megabyte";
const TURN: Duration = Duration::from_secs(3);

/// A proxy as it is set up here.
struct Case {
    name: &'static str,
    kind: Kind,
    template: String,
}

fn cases() -> Vec<Case> {
    let haproxy = |splice: &str| HAPROXY.replace("SPLICE", splice);
    vec![
        Case { name: "lb", kind: Kind::Lb, template: LB.into() },
        Case { name: "haproxy, splice", kind: Kind::Haproxy, template: haproxy("option splice-auto") },
        Case { name: "haproxy, copy", kind: Kind::Haproxy, template: haproxy("no option splice-auto") },
        Case { name: "nginx", kind: Kind::Nginx, template: NGINX.into() },
    ]
}

// Pinned by source, health checks, metrics, no access log.
const LB: &str = r#"
[instance]
name = "perf"
workers = 1
maxconn = 8000
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
  maxconn 8000
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

/// One turn of one proxy.
#[derive(Clone, Copy)]
struct Turn {
    case: usize,
    /// Megabytes or echoes a second.
    rate: f64,
    /// CPU for each of them.
    cpu_us: f64,
}

/// So many interleaved rounds of both; medians and ratios.
pub(crate) fn run(rounds: usize) -> Result<()> {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    setup::install(&[("haproxy", "haproxy"), ("nginx", "nginx-light"), ("taskset", "util-linux")])?;
    setup::install_file(module, "libnginx-mod-stream")?;
    let backend = backend()?;
    let cases = cases();
    let start = |case: &Case| Proxy::with(case.kind, &case.template, backend).context(case.name);
    let proxies = cases.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (what, clients, load) in [("1 MB", 8, megabytes as Load), ("echo of 64 B", 32, echoes as Load)] {
        let mut turns = Vec::new();
        for proxy in &proxies {
            turn(proxy, 0, clients, load, Duration::from_millis(500))?;
        }
        for round in 0..rounds {
            // Each proxy comes first, second and last in turn, so that drift falls on all alike.
            for i in 0..proxies.len() {
                let case = (i + round) % proxies.len();
                let turn = turn(&proxies[case], case, clients, load, TURN).context(cases[case].name)?;
                eprintln!("{:16} {what:13} {:8.0}/s  {:7.2} µs CPU each", cases[case].name, turn.rate, turn.cpu_us);
                turns.push(turn);
            }
        }
        report(what, clients, &cases, &turns, rounds)?;
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
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = || -> Result<()> {
            setup::pin_this_thread(setup::LOAD_CORE)?;
            let mut stream = TcpStream::connect(proxy.addr)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut buf = vec![0; 256 << 10];
            while !stop.load(Ordering::Relaxed) {
                ensure!(load(&mut stream, &mut buf)?, "the run is void: a wrong answer");
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        std::thread::sleep(Duration::from_millis(200));
        let (before, from, cpu) = (Instant::now(), done.load(Ordering::Relaxed), cpu_ns(proxy.pid)?);
        std::thread::sleep(time);
        let cpu = cpu_ns(proxy.pid)? - cpu;
        let count = (done.load(Ordering::Relaxed) - from) as f64;
        let rate = count / before.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        ensure!(count > 0.0, "nothing was answered");
        Ok(Turn { case, rate, cpu_us: cpu as f64 / 1e3 / count })
    })
}

fn report(what: &str, clients: usize, cases: &[Case], turns: &[Turn], rounds: usize) -> Result<()> {
    println!("{what}, {clients} connections, pinned by source: medians of {rounds} rounds (least–greatest)");
    println!("{:16} {:>22} {:>26} {:>24}", "", "each second", "CPU µs each", "lb's CPU × it");
    for (case, Case { name, .. }) in cases.iter().enumerate() {
        let spread = |value: fn(&Turn) -> f64| {
            Spread::of(turns.iter().filter(|t| t.case == case).map(value)).context("no round was run")
        };
        let (rate, cpu) = (spread(|t| t.rate)?, spread(|t| t.cpu_us)?);
        // Round by round, because the machine's pace changes from one to the next.
        let ratios = turns.chunks(cases.len()).filter_map(|round| {
            let of = |case| round.iter().find(|t| t.case == case).map(|t| t.cpu_us);
            Some(of(0)? / of(case)?)
        });
        let ratio = Spread::of(ratios).context("no round was run")?;
        let show =
            |s: Spread, digits: usize| format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.least, s.greatest);
        println!("{name:16} {:>22} {:>26} {:>24}", show(rate, 0), show(cpu, 2), show(ratio, 3));
    }
    Ok(())
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
