//! Connections by the thousand that say nothing. In a program of its own, because its memory is measured.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::*;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 10_000;

/// Room for them: both ends are in this process.
fn room() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * CONNECTIONS as u64 + 1000;
    if limit.current.is_some_and(|n| n < wanted) {
        let maximum = limit.maximum.map(|n| n.max(wanted));
        // Only root may raise the greatest; whoever may not says so below, with too many open files.
        let more = Rlimit { current: Some(wanted), maximum };
        let _ = setrlimit(Resource::Nofile, more);
    }
}

/// Anonymous memory of this process in KiB.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn ten_thousand_silent_connections_keep_nobody_out_and_cost_no_memory() {
    room();
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        let before = memory();
        let mut strangers = Vec::with_capacity(CONNECTIONS);
        for i in 0..CONNECTIONS {
            strangers.push(TcpStream::connect(a.addr()).await.unwrap());
            if i % 1000 == 0 {
                a.pin(&format!("k{i}"), "app1");
                b.has(&format!("k{i}"), "app1").await;
            }
        }
        a.pin("last", "app1");
        b.has("last", "app1").await;
        assert!(a.is_up("b") && b.is_up("a"));
        // Tokio keeps what it has once made for sockets of ours; a node that kept something for each would need more.
        let grown = memory().saturating_sub(before);
        assert!(grown < 40 << 10, "{grown} KiB for {CONNECTIONS} connections");
        // Those beyond the bound were sent away at once, the others after a while: a good peer gets in.
        let c = Node::joining("c", &[&a]).await;
        c.sees("a").await;
        c.has("last", "app1").await;
        drop(strangers);
    });
}
