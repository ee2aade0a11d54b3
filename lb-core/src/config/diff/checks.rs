//! Checks and agents for people. Equal texts must mean equal values: structs are taken apart without `..`.
use super::super::check::shown;
use super::super::{Agent, Check, Probe, Step};
use super::fields::{edge::server_tls, list, time, word};

pub(super) fn check(of: &Check) -> String {
    let Check { probe, tls, send_proxy, addr, port, interval, fast_interval, down_interval, fall, rise } = of;
    let mut words = vec![self::probe(probe)];
    words.extend(tls.as_ref().map(|tls| format!("over TLS {}", server_tls(tls))));
    words.extend(send_proxy.as_ref().map(|version| format!("send_proxy {}", word(version))));
    match (addr, port) {
        (None, None) => {}
        (Some(addr), None) => words.push(format!("at {addr}")),
        (None, Some(port)) => words.push(format!("at port {port}")),
        (Some(addr), Some(port)) => words.push(format!("at {addr} port {port}")),
    }
    words.push(format!("every {}", time(interval)));
    words.extend((fast_interval != interval).then(|| format!("fast {}", time(fast_interval))));
    words.extend((down_interval != interval).then(|| format!("down {}", time(down_interval))));
    words.push(format!("fall {fall} rise {rise}"));
    words.join(" ")
}

fn probe(of: &Probe) -> String {
    let fields = |headers: &[(String, String)]| -> String {
        headers.iter().map(|(name, value)| format!(" {name}: {value:?}")).collect()
    };
    match of {
        Probe::Tcp { steps } if steps.is_empty() => "tcp".into(),
        Probe::Tcp { steps } => format!("tcp {}", list(steps, step)),
        Probe::Http { method, path, headers, expect, expect_body } => {
            let body = expect_body.as_ref().map_or(String::new(), |text| format!(" with {text:?}"));
            let expect = list(expect, |(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
            format!("{method} {path}{} expects {expect}{body}", fields(headers))
        }
        Probe::WebSocket { path, headers } => format!("websocket {path}{}", fields(headers)),
        Probe::Grpc { service } => format!("grpc {service:?}"),
    }
}

fn step(of: &Step) -> String {
    let Step { send, expect } = of;
    let send = (!send.is_empty()).then(|| format!("send {}", shown(send)));
    let expect = expect.as_ref().map(|expected| format!("expect {expected}"));
    send.into_iter().chain(expect).collect::<Vec<_>>().join(" ")
}

pub(super) fn agent(of: &Agent) -> String {
    let Agent { port, addr, send, interval } = of;
    let addr = addr.map_or(String::new(), |addr| format!("{addr} "));
    let send = if send.is_empty() { String::new() } else { format!(" sends {}", shown(send)) };
    format!("{addr}port {port} every {}{send}", time(interval))
}
