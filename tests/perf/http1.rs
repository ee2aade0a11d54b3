//! HTTP/1.1, keep-alive, 1 KB answers, 64 connections, saturated.
use crate::proxies::{self, Proxy};
use std::process::Command;

/// One proxy in one round.
struct Sample {
    per_second: f64,
    /// CPU microseconds of the proxy for each request.
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// Interleaved rounds; medians and ratios.
pub(crate) fn run(rounds: usize) -> Result<(), String> {
    if !proxies::installed("wrk") {
        return Err("wrk makes the load: apt-get install wrk".into());
    }
    let dir = tempfile::TempDir::new().map_err(|e| e.to_string())?;
    let port = proxies::free_port();
    let _backend = proxies::backend(port)?;
    let proxies = proxies::all(dir.path(), port)?;
    let mut samples: Vec<Vec<Sample>> = proxies.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (proxy, samples) in proxies.iter().zip(&mut samples) {
            let sample = measure(proxy)?;
            // The first round warms up.
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    println!("1 KB keep-alive, 64 connections, cookie affinity; medians of {rounds} interleaved rounds of 4 s");
    println!("{:<10}{:>10}{:>16}{:>12}{:>12}", "", "req/s", "CPU us/req", "p50 ms", "p99 ms");
    let median = |samples: &[Sample], of: fn(&Sample) -> f64| middle(samples.iter().map(of).collect());
    for (proxy, samples) in proxies.iter().zip(&samples) {
        println!(
            "{:<10}{:>10.0}{:>16.2}{:>12.2}{:>12.2}",
            proxy.name,
            median(samples, |s| s.per_second),
            median(samples, |s| s.cpu),
            median(samples, |s| s.p50),
            median(samples, |s| s.p99)
        );
    }
    let best =
        (1..proxies.len()).min_by(|a, b| median(&samples[*a], |s| s.cpu).total_cmp(&median(&samples[*b], |s| s.cpu)));
    for rival in 1..proxies.len() {
        let ratios: Vec<f64> = samples[0].iter().zip(&samples[rival]).map(|(lb, other)| lb.cpu / other.cpu).collect();
        let (least, most) = ratios.iter().fold((f64::MAX, 0f64), |(l, m), r| (l.min(*r), m.max(*r)));
        println!(
            "CPU a request, lb / {}: {:.2} ({least:.2} to {most:.2}){}",
            proxies[rival].name,
            middle(ratios),
            if best == Some(rival) { ", the better of the two" } else { "" }
        );
    }
    Ok(())
}

fn measure(proxy: &Proxy) -> Result<Sample, String> {
    let url = format!("http://127.0.0.1:{}/", proxy.port);
    let before = proxy.cpu();
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c64", "-d4s", "--latency", "-H", "Cookie: SERVERID=n1", &url])
        .output()
        .map_err(|e| e.to_string())?;
    let cpu = proxy.cpu() - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("void: {} did not answer everything\n{text}", proxy.name));
    }
    let after = |word: &str| text.lines().find_map(|l| l.trim().strip_prefix(word)).map(str::trim);
    let requests =
        text.lines().find_map(|l| l.trim().split_once(" requests in")).and_then(|(n, _)| n.parse::<f64>().ok());
    let (Some(requests), Some(per_second), Some(p50), Some(p99)) = (
        requests,
        after("Requests/sec:").and_then(|n| n.parse().ok()),
        after("50%").and_then(milliseconds),
        after("99%").and_then(milliseconds),
    ) else {
        return Err(format!("wrk said something unknown:\n{text}"));
    };
    Ok(Sample { per_second, cpu: cpu as f64 / 1000.0 / requests, p50, p99 })
}

/// `1.04ms`, `900.00us`, `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(char::is_alphabetic)?;
    let number: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(number / 1000.0),
        "ms" => Some(number),
        "s" => Some(number * 1000.0),
        _ => None,
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
