//! Those who must not speak to each other are told so, in words, on both sides; and garbage hurts nobody.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::config::{KeyKind, PeerAddr};
use lb_core::id::NodeId;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Waits until both nodes show the refusal; both show the same text, and this reason.
async fn refused_on_both(a: &Node, b: &Node, reason: &str) -> String {
    eventually("both refuse", || a.refusal().is_some() && b.refusal().is_some()).await;
    let (on_a, on_b) = (a.refusal().unwrap(), b.refusal().unwrap());
    assert_eq!(on_a, on_b);
    assert_eq!((a.reason().as_deref(), b.reason().as_deref()), (Some(reason), Some(reason)));
    on_a
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let mut other = settings("b", &[a.addr()]);
        other.config.cluster = "blog".into();
        let b = Node::start(other).await;
        let text = refused_on_both(&a, &b, "cluster").await;
        assert!(text.contains("\"shop\"") && text.contains("\"blog\"") && text.contains("peers.cluster"), "{text}");
    });
}

#[test]
fn two_nodes_of_one_name_refuse_each_other() {
    on_one_thread(async {
        let a = Node::start(settings("lb1", &[])).await;
        let b = Node::start(settings("lb1", &[a.addr()])).await;
        let text = refused_on_both(&a, &b, "name").await;
        assert!(text.contains("called \"lb1\"") && text.contains("instance.name"), "{text}");
        assert!(text.contains(&a.addr().to_string()) && text.contains(&b.addr().to_string()), "{text}");
    });
}

#[test]
fn two_nodes_whose_names_share_a_short_hash_refuse_each_other() {
    on_one_thread(async {
        let first = NodeId::new("lb0", 0);
        let twin = (1..1u64 << 28).map(|i| format!("n{i:x}")).find(|n| NodeId::new(n, 0).same_name(first)).unwrap();
        let a = Node::start(settings("lb0", &[])).await;
        let b = Node::start(settings(&twin, &[a.addr()])).await;
        let text = refused_on_both(&a, &b, "name").await;
        assert!(text.contains("\"lb0\"") && text.contains(&twin) && text.contains("instance.name"), "{text}");
    });
}

#[test]
fn a_table_of_one_name_and_two_types_is_refused() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::with_table(settings("b", &[a.addr()]), spec("sessions", KeyKind::Integer, 8)).await;
        let text = refused_on_both(&a, &b, "table").await;
        for part in ["table \"sessions\"", "a has type string of len 64", "b has type integer", "table.sessions"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let c = Node::with_table(settings("c", &[a.addr()]), spec("sessions", KeyKind::String, 32)).await;
        eventually("c is refused", || c.refusal().is_some()).await;
        assert!(c.refusal().unwrap().contains("of len 32"));
    });
}

#[test]
fn garbage_on_the_port_is_reported_and_hurts_nobody() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        a.sees("b").await;
        let mut stranger = TcpStream::connect(a.addr()).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        // It is closed, one way or the other.
        let _ = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut rest)).await.expect("is closed");
        eventually("the stranger is shown", || a.refusal().is_some()).await;
        let text = a.refusal().unwrap();
        assert!(text.contains("does not speak lb's peer protocol") && text.contains("GET / HTTP/1.1"), "{text}");
        assert_eq!(a.reason().as_deref(), Some("malformed"));
        a.pin("k", "app1");
        b.has("k", "app1").await;
    });
}

#[test]
fn a_well_formed_beginning_with_garbage_after_it_costs_that_connection_only() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        a.sees("b").await;
        let mut stranger = TcpStream::connect(a.addr()).await.unwrap();
        stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stranger.write_all(&[0xff; 4096]).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut rest)).await.expect("is closed");
        a.pin("k", "app1");
        b.has("k", "app1").await;
        assert!(a.is_up("b"));
    });
}

#[test]
fn strangers_that_say_nothing_or_no_more_than_hello_do_not_keep_peers_out_for_long() {
    on_one_thread(async {
        // Nothing; or the preface, and settings that change nothing.
        for says in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
            let a = Node::start(settings("a", &[])).await;
            let mut strangers = Vec::new();
            for _ in 0..300 {
                let mut stranger = TcpStream::connect(a.addr()).await.unwrap();
                let _ = stranger.write_all(says).await;
                strangers.push(stranger);
            }
            let begun = std::time::Instant::now();
            let b = Node::joining("b", &[&a]).await;
            b.sees("a").await;
            assert!(begun.elapsed() < Duration::from_secs(12));
        }
    });
}

#[test]
fn an_address_where_something_else_listens_is_reported() {
    on_one_thread(async {
        let web = TcpListener::bind(any_port()).await.unwrap();
        let addr = web.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = web.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        let a = Node::start(settings("a", &[addr])).await;
        eventually("it is refused", || a.refusal().is_some()).await;
        let text = a.refusal().unwrap();
        assert!(text.contains("does not speak lb's peer protocol") && text.contains("HTTP/1.1 400"), "{text}");
        assert_eq!(a.reason().as_deref(), Some("malformed"));
    });
}

#[test]
fn a_name_that_cannot_be_looked_up_is_an_error_in_the_status_and_stops_nothing() {
    on_one_thread(async {
        let mut settings = settings("a", &[]);
        settings.config.join = vec![PeerAddr::Name { host: "no-such-host.invalid".into(), port: 1 }];
        settings.config.join_timeout = Duration::from_millis(300);
        let a = Node::start(settings).await;
        a.pulled().await;
        eventually("the error is shown", || {
            let peers = a.peers.status().peers;
            peers.iter().any(|p| {
                let dns = p.reason.as_deref() == Some("dns");
                p.name == "no-such-host.invalid:1" && dns && p.error.as_ref().is_some_and(|e| e.contains("looked up"))
            })
        })
        .await;
    });
}

#[test]
fn a_peer_is_found_by_its_dns_name() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let mut settings = settings("b", &[]);
        settings.config.join = vec![PeerAddr::Name { host: "localhost".into(), port: a.addr().port() }];
        let b = Node::start(settings).await;
        b.sees("a").await;
    });
}
