//! WebSocket messages there and back: CPU a message, at two sizes, 64 sockets that each have one on its way.
use crate::measure::{Spread, cpu_ns};
use crate::proxy::{Kind, Proxy};
use crate::{backend, idle, setup};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOCKETS: usize = 64;
const TURN: Duration = Duration::from_secs(3);
const SIZES: [usize; 2] = [64, 4096];
const KINDS: [Kind; 3] = [Kind::Lb, Kind::Haproxy, Kind::Nginx];

/// Without persistence, as in the other benchmarks; upgrades have to be said.
const NGINX: &str = r#"
daemon off;
master_process off;
worker_processes 1;
pid DIR/nginx.pid;
error_log /dev/null;
events { worker_connections 8000; }
http {
  access_log off;
  client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;
  upstream app { server BACKEND; keepalive 256; }
  server {
    listen OWN;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }
  }
}
"#;

/// So many interleaved rounds; medians and ratios.
pub(crate) fn run(rounds: usize) -> Result<()> {
    setup::install(&[("haproxy", "haproxy"), ("nginx", "nginx-light"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    let start = |kind: &Kind| match kind {
        Kind::Nginx => Proxy::with(*kind, NGINX, backend),
        kind => Proxy::start(*kind, backend),
    };
    let proxies = KINDS.iter().map(start).collect::<Result<Vec<_>>>()?;
    setup::pin_this_thread(setup::LOAD_CORE)?;
    let mut sockets = proxies.iter().map(|p| idle::open(p.addr, SOCKETS)).collect::<Result<Vec<_>>>()?;
    for size in SIZES {
        let mut rows: Vec<[f64; 3]> = Vec::new();
        for round in 0..=rounds {
            let mut row = [0.0; 3];
            for i in 0..KINDS.len() {
                let at = (i + round) % KINDS.len();
                let name = KINDS[at].name();
                row[at] = turn(&proxies[at], &mut sockets[at], size).with_context(|| format!("through {name}"))?;
            }
            // The first round warms up.
            rows.extend((round > 0).then_some(row));
        }
        report(size, &rows)?;
    }
    Ok(())
}

/// Messages for a while; CPU µs of the proxy for each, there and back.
fn turn(proxy: &Proxy, sockets: &mut [TcpStream], size: usize) -> Result<f64> {
    let frame = frame(size);
    let mut echo = vec![0; frame.len()];
    let (before, began, mut messages) = (cpu_ns(proxy.pid)?, Instant::now(), 0_u64);
    while began.elapsed() < TURN {
        for socket in sockets.iter_mut() {
            socket.write_all(&frame)?;
        }
        for socket in sockets.iter_mut() {
            socket.read_exact(&mut echo).context("a socket was lost")?;
            ensure!(echo == frame, "a message was changed");
            messages += 1;
        }
    }
    Ok((cpu_ns(proxy.pid)? - before) as f64 / 1000.0 / messages as f64)
}

/// A client's binary message; the backend sends it back as it is.
fn frame(size: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    match u8::try_from(size) {
        Ok(n) if n < 126 => frame.push(0x80 | n),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.resize(frame.len() + size, 7);
    frame
}

fn report(size: usize, rows: &[[f64; 3]]) -> Result<()> {
    println!(
        "WebSocket messages of {size} B, {SOCKETS} sockets: CPU µs there and back, medians of {} rounds",
        rows.len()
    );
    let show = |s: Spread| format!("{:.2} ({:.2}–{:.2})", s.median, s.least, s.greatest);
    for (at, kind) in KINDS.iter().enumerate() {
        let spread = Spread::of(rows.iter().map(|row| row[at])).context("no round was run")?;
        println!("{:8} {:>24}", kind.name(), show(spread));
    }
    let ratio = Spread::of(rows.iter().map(|row| row[0] / row[1].min(row[2]))).context("no round was run")?;
    println!("lb against the better of the two in each round: × {}", show(ratio));
    Ok(())
}
