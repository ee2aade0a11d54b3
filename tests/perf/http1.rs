//! One kilobyte over kept connections, 64 clients, saturated: requests a second, CPU a request, latency.
use crate::measure::{Spread, cpu_ns};
use crate::proxy::{Kind, Proxy};
use crate::{backend, setup};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CLIENTS: usize = 64;
const SECONDS: usize = 4;
const COOKIE: &str = "Cookie: SERVERID=n1";
const KINDS: [Kind; 3] = [Kind::Lb, Kind::Haproxy, Kind::Nginx];

/// One turn of one proxy.
#[derive(Clone, Copy, Debug)]
struct Turn {
    kind: Kind,
    rate: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// So many interleaved rounds; medians and ratios.
pub(crate) fn run(rounds: usize) -> Result<()> {
    setup::install(&[("wrk", "wrk"), ("haproxy", "haproxy"), ("nginx", "nginx-light"), ("taskset", "util-linux")])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    let proxies = KINDS.iter().map(|kind| Proxy::start(*kind, backend)).collect::<Result<Vec<_>>>()?;
    for proxy in &proxies {
        check(proxy.addr).with_context(|| format!("through {}", proxy.kind.name()))?;
        turn(proxy, 1)?;
    }
    let mut turns = Vec::new();
    for round in 0..rounds {
        // Each proxy comes first, second and last in turn, so that drift falls on all alike.
        for i in 0..proxies.len() {
            turns.push(turn(&proxies[(i + round) % proxies.len()], SECONDS)?);
        }
    }
    for proxy in &proxies {
        check(proxy.addr).with_context(|| format!("through {} at the end", proxy.kind.name()))?;
    }
    report(&turns, rounds)
}

/// One request, looked at closely.
fn check(addr: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: perf\r\n{COOKIE}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no head")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    ensure!(!head.contains("Set-Cookie"), "the clients' cookie was not taken: {head}");
    let body = &answer[end + 4..];
    ensure!(body.len() == backend::BODY && body.iter().all(|b| *b == b'x'), "a wrong body of {} bytes", body.len());
    Ok(())
}

fn turn(proxy: &Proxy, seconds: usize) -> Result<Turn> {
    let wrk = setup::binary("WRK", "wrk")?;
    let before = cpu_ns(proxy.pid)?;
    let output = setup::pinned(setup::LOAD_CORE, &wrk)
        .args(["-t1", &format!("-c{CLIENTS}"), &format!("-d{seconds}s"), "--latency", "-H", COOKIE])
        .arg(format!("http://{}/", proxy.addr))
        .output()
        .context("wrk runs")?;
    let after = cpu_ns(proxy.pid)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr));
    let parsed = parse(proxy.kind, &text, after - before).with_context(|| format!("wrk said:\n{text}"))?;
    eprintln!("{:8} {:8.0} req/s  {:6.2} µs CPU a request", proxy.kind.name(), parsed.rate, parsed.cpu_us);
    Ok(parsed)
}

fn parse(kind: Kind, text: &str, cpu_ns: u64) -> Result<Turn> {
    for bad in ["Non-2xx", "Socket errors"] {
        if let Some(line) = text.lines().find(|l| l.contains(bad)) {
            bail!("the run is void: {}: {}", kind.name(), line.trim());
        }
    }
    let before = |mark: &str| -> Result<f64> {
        let line = text.lines().find(|l| l.contains(mark)).with_context(|| format!("no \"{mark}\""))?;
        Ok(line.trim().split(' ').next().unwrap_or_default().parse()?)
    };
    let after = |mark: &str| -> Result<&str> {
        text.lines().find_map(|l| l.trim().strip_prefix(mark)).map(str::trim).with_context(|| format!("no \"{mark}\""))
    };
    let requests = before("requests in")?;
    ensure!(requests > 0.0, "no request was answered");
    Ok(Turn {
        kind,
        rate: after("Requests/sec:")?.parse()?,
        cpu_us: Duration::from_nanos(cpu_ns).as_secs_f64() * 1e6 / requests,
        p50_us: micros(after("50%")?)?,
        p99_us: micros(after("99%")?)?,
    })
}

/// wrk's `1.23ms` in microseconds.
fn micros(text: &str) -> Result<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).context("a unit")?;
    let factor = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        other => bail!("{other} is no unit"),
    };
    Ok(text[..split].parse::<f64>()? * factor)
}

fn report(turns: &[Turn], rounds: usize) -> Result<()> {
    let spread = |kind: Kind, value: fn(&Turn) -> f64| {
        Spread::of(turns.iter().filter(|t| t.kind == kind).map(value)).context("no round was run")
    };
    println!(
        "1 KB keep-alive, {CLIENTS} connections, cookie affinity: medians of {rounds} rounds of {SECONDS} s (least–greatest)"
    );
    println!("{:8} {:>26} {:>24} {:>10} {:>10}", "", "req/s", "CPU µs a request", "p50 µs", "p99 µs");
    for kind in KINDS {
        let (rate, cpu) = (spread(kind, |t| t.rate)?, spread(kind, |t| t.cpu_us)?);
        let (p50, p99) = (spread(kind, |t| t.p50_us)?.median, spread(kind, |t| t.p99_us)?.median);
        let rates = format!("{:.0} ({:.0}–{:.0})", rate.median, rate.least, rate.greatest);
        let cpus = format!("{:.2} ({:.2}–{:.2})", cpu.median, cpu.least, cpu.greatest);
        println!("{:8} {rates:>26} {cpus:>24} {p50:>10.0} {p99:>10.0}", kind.name());
    }
    // Round by round, because the machine's pace changes from one to the next.
    let ratio = |value: fn(&Turn) -> f64, better: fn(f64, f64) -> f64| {
        let ratios = turns.chunks(KINDS.len()).filter_map(|round| {
            let of = |kind: Kind| round.iter().find(|t| t.kind == kind).map(value);
            Some(of(Kind::Lb)? / better(of(Kind::Haproxy)?, of(Kind::Nginx)?))
        });
        Spread::of(ratios).context("no round was run")
    };
    let (cpu, rate) = (ratio(|t| t.cpu_us, f64::min)?, ratio(|t| t.rate, f64::max)?);
    let show = |s: Spread| format!("{:.3} ({:.3}–{:.3})", s.median, s.least, s.greatest);
    println!("lb against the better of the two in each round: CPU a request × {}, req/s × {}", show(cpu), show(rate));
    Ok(())
}
