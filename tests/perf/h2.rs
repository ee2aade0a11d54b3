//! HTTP/2 to clients, HTTP/1.1 to servers: one kilobyte, a few connections with many requests at a time each, saturated.
use crate::cases::{self, Case, Turn};
use crate::measure::cpu_ns;
use crate::proxy::{Kind, Proxy};
use crate::{backend, setup};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;
const SECONDS: usize = 4;
const COOKIE: &str = "cookie: SERVERID=n1";

/// So many interleaved rounds; medians and ratios.
pub(crate) fn run(rounds: usize) -> Result<()> {
    setup::install(&[
        ("h2load", "nghttp2-client"),
        ("curl", "curl"),
        ("haproxy", "haproxy"),
        ("nginx", "nginx-light"),
        ("taskset", "util-linux"),
    ])?;
    let backend = backend::start(setup::LOAD_CORE)?;
    // The same configurations as for HTTP/1.1, but for what the listener speaks.
    let case =
        |name, kind: Kind, from: &str, to: &str| Case { name, kind, template: kind.template().replace(from, to) };
    let cases = [
        case("lb", Kind::Lb, "listen = [\"OWN\"]", "listen = [{ addr = \"OWN\", h2c = true }]"),
        case("haproxy", Kind::Haproxy, "bind OWN backlog 4096", "bind OWN backlog 4096 proto h2"),
        case("nginx", Kind::Nginx, "listen OWN backlog=4096;", "listen OWN backlog=4096 http2;"),
    ];
    let proxies = cases.iter().map(|c| Proxy::with(c.kind, &c.template, backend)).collect::<Result<Vec<_>>>()?;
    for proxy in &proxies {
        check(proxy).with_context(|| format!("through {}", proxy.kind.name()))?;
        turn(0, proxy, 1)?;
    }
    let turns = cases::rounds("h2", &cases, rounds, |case| turn(case, &proxies[case], SECONDS))?;
    for proxy in &proxies {
        check(proxy).with_context(|| format!("through {} at the end", proxy.kind.name()))?;
    }
    let what = format!("1 KB over HTTP/2, {CONNECTIONS} connections of {STREAMS} requests at a time, cookie affinity");
    cases::report(&what, &cases, &turns, rounds)
}

/// One request, looked at closely.
fn check(proxy: &Proxy) -> Result<()> {
    let curl = setup::binary("CURL", "curl")?;
    let output = std::process::Command::new(curl)
        .args(["-sS", "-i", "--max-time", "5", "--http2-prior-knowledge", "-H", COOKIE])
        .arg(format!("http://{}/", proxy.addr))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/2 200"), "{head}");
    ensure!(!head.contains("set-cookie"), "the client's cookie was not taken: {head}");
    ensure!(body.len() == backend::BODY && body.bytes().all(|b| b == b'x'), "a wrong body of {} bytes", body.len());
    Ok(())
}

fn turn(case: usize, proxy: &Proxy, seconds: usize) -> Result<Turn> {
    let h2load = setup::binary("H2LOAD", "h2load")?;
    let before = cpu_ns(proxy.pid)?;
    let output = setup::pinned(setup::LOAD_CORE, &h2load)
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-m{STREAMS}"), &format!("-D{seconds}"), "-H", COOKIE])
        .arg(format!("http://{}/", proxy.addr))
        .output()
        .context("h2load runs")?;
    let after = cpu_ns(proxy.pid)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load failed: {}", String::from_utf8_lossy(&output.stderr));
    let requests = parse(&text).with_context(|| format!("h2load said:\n{text}"))?;
    Ok(Turn {
        case,
        rate: requests / seconds as f64,
        cpu_us: Duration::from_nanos(after - before).as_secs_f64() * 1e6 / requests,
    })
}

/// How many requests were answered, all of them rightly.
fn parse(text: &str) -> Result<f64> {
    let line = |mark: &str| text.lines().find_map(|l| l.strip_prefix(mark)).with_context(|| format!("no \"{mark}\""));
    let requests = line("requests: ")?;
    let number = |word: &str| -> Result<u64> {
        let part = requests.split(", ").find_map(|p| p.strip_suffix(word)).with_context(|| format!("no{word}"))?;
        Ok(part.trim().parse()?)
    };
    // The last of each connection are cut off by the clock; those count as neither.
    ensure!(number(" errored")? == 0 && number(" timeout")? == 0, "the run is void: {requests}");
    let bodies = line("status codes: ")?;
    ensure!(bodies.contains(" 0 3xx, 0 4xx, 0 5xx"), "the run is void: {bodies}");
    let done = number(" succeeded")?;
    ensure!(done > 0, "no request was answered");
    Ok(done as f64)
}
