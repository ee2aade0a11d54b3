//! Real nodes over real TCP: pins travel, restarted nodes pull, questions are answered, decisions spread.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::decisions::Decision;
use lb_core::server::AdminState;
use lb_peers::Peers;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn a_pin_made_on_one_node_is_on_the_other() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        a.pin("client-1", "app1");
        b.has("client-1", "app1").await;
        // And back: what was learnt and is changed here is told again.
        b.pin("client-1", "app2");
        a.has("client-1", "app2").await;
        let told = a.peer("b").unwrap();
        assert_eq!((told.sent, told.received), (1, 1));
        eventually("the update is acknowledged", || a.peer("b").is_some_and(|p| p.acked == 1 && p.backlog == 0)).await;
    });
}

#[test]
fn a_node_that_stands_alone_is_ready_at_once() {
    on_one_thread(async {
        let alone = Node::start(settings("a", &[])).await;
        assert!(*alone.peers.pulled().borrow());
    });
}

#[test]
fn the_first_node_does_not_wait_for_peers_that_are_not_there() {
    on_one_thread(async {
        let nobody = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
        let begun = Instant::now();
        let first = Node::start(settings("a", &[nobody])).await;
        first.pulled().await;
        assert!(begun.elapsed() < first.settings.config.join_timeout / 2);
    });
}

#[test]
fn two_new_nodes_that_join_each_other_do_not_wait_for_each_other() {
    on_one_thread(async {
        let (at_a, at_b) = (kept_port(), kept_port());
        let (mut for_a, mut for_b) = (settings("a", &[at_a, at_b]), settings("b", &[at_a, at_b]));
        (for_a.config.listen, for_b.config.listen) = (at_a, at_b);
        let begun = Instant::now();
        let (a, b) = (Node::start(for_a).await, Node::start(for_b).await);
        a.pulled().await;
        b.pulled().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        a.sees("b").await;
        b.sees("a").await;
        a.pin("k", "app1");
        b.has("k", "app1").await;
        // One link, not two; and none to itself.
        assert_eq!(a.peers.status().peers.len(), 1);
    });
}

#[test]
fn a_restarted_node_pulls_what_it_lost() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        for i in 0..5000 {
            b.pin(&format!("client-{i}"), &format!("app{}", i % 7));
        }
        eventually("a has all", || a.table.stats().entries == 5000).await;
        drop(b);
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        assert_eq!(b.table.stats().entries, 5000);
        assert_eq!(b.server_of("client-4999").as_deref(), Some("app1"));
        assert_eq!(b.peer("a").unwrap().pulled.map(|(entries, _)| entries), Some(5000));
        assert_eq!(a.table.digest(), b.table.digest());
        // It pins again with stamps that are news to the other.
        b.pin("client-1", "app9");
        a.has("client-1", "app9").await;
    });
}

#[test]
fn three_nodes_form_a_mesh_and_know_a_stop_from_a_death() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        let c = Node::joining("c", &[&a, &b]).await;
        c.pulled().await;
        b.pulled().await;
        for (node, peer) in [(&a, "b"), (&a, "c"), (&b, "c"), (&b, "a"), (&c, "a"), (&c, "b")] {
            node.sees(peer).await;
        }
        c.pin("from-c", "app3");
        a.has("from-c", "app3").await;
        b.has("from-c", "app3").await;
        c.peers.shutdown(Duration::from_secs(5)).await;
        eventually("a notices", || !a.is_up("c")).await;
        assert_eq!(a.peer("c").unwrap().error.as_deref(), Some("it was stopped"));
    });
}

#[test]
fn what_a_peer_told_only_one_of_two_before_it_died_reaches_the_other() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        // c knows a only, and its listener is not known to b.
        let c = Node::joining("c", &[&a]).await;
        c.pulled().await;
        a.sees("c").await;
        c.pin("last-words", "app1");
        a.has("last-words", "app1").await;
        assert_eq!(b.server_of("last-words"), None);
        drop(c);
        b.has("last-words", "app1").await;
    });
}

#[test]
fn a_question_is_answered_before_the_pull_could_be() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.sees("a").await;
        b.pulled().await;
        a.pin("client-1", "app1");
        b.peers.asker().ask("sessions", b"client-1").await;
        assert_eq!(b.server_of("client-1").as_deref(), Some("app1"));
        // Nobody knows it: done as soon as all have said so.
        let begun = Instant::now();
        b.peers.asker().ask("sessions", b"client-2").await;
        b.peers.asker().ask("no such table", b"client-2").await;
        assert!(begun.elapsed() < b.settings.config.ask_timeout);
    });
}

#[test]
fn a_question_can_be_asked_from_another_thread() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.sees("a").await;
        a.pin("client-1", "app1");
        let asker = b.peers.asker();
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(asker.ask("sessions", b"client-1"));
        });
        eventually("the thread is done", || asked.is_finished()).await;
        assert_eq!(b.server_of("client-1").as_deref(), Some("app1"));
    });
}

#[test]
fn an_operators_decision_reaches_every_node_those_too_that_come_later() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.sees("a").await;
        a.sees("b").await;
        let decision = Decision {
            server: ("web".into(), "app1".into()),
            state: Some(AdminState::Drain),
            weight: None,
            closing: None,
            stamp: b.settings.clock.stamp(now()),
            node: "b".into(),
            author: "ann".into(),
            reason: "new disk".into(),
            at: now().0,
        };
        let mut decided = a.peers.decided();
        assert!(b.decisions.merge(decision.clone(), lb_core::time::Timestamp(0)));
        b.peers.decide(decision.clone());
        tokio::time::timeout(PATIENCE, decided.changed()).await.expect("a is told").unwrap();
        assert_eq!(a.decisions.get("web", "app1", lb_core::time::Timestamp(0)).as_ref(), Some(&decision));
        drop(b);
        let c = Node::joining("c", &[&a]).await;
        eventually("c is told", || {
            c.decisions.get("web", "app1", lb_core::time::Timestamp(0)).as_ref() == Some(&decision)
        })
        .await;
    });
}

#[test]
fn dropping_the_peers_frees_the_port_and_ends_the_links() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.sees("a").await;
        let addr = a.addr();
        drop(a);
        let mut again = settings("a", &[]);
        again.config.listen = addr;
        eventually("the port is free", || std::net::TcpListener::bind(addr).is_ok()).await;
        eventually("b notices", || !b.is_up("a")).await;
        let a = Node::start(again).await;
        b.sees("a").await;
        drop(a);
    });
}

#[test]
fn stopping_brings_out_what_was_pinned_at_last() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        b.sees("a").await;
        for i in 0..2000 {
            b.pin(&format!("client-{i}"), "app1");
        }
        let Node { peers, .. } = b;
        peers.shutdown(Duration::from_secs(10)).await;
        assert_eq!(a.table.stats().entries, 2000);
    });
}

#[test]
fn an_address_in_use_is_said_so() {
    on_one_thread(async {
        let taken = std::net::TcpListener::bind(any_port()).unwrap();
        let mut settings = settings("a", &[]);
        settings.config.listen = taken.local_addr().unwrap();
        let error = Peers::start(settings, Vec::new()).await.unwrap_err().to_string();
        assert!(error.starts_with("peers cannot listen on 127.0.0.1:"), "{error}");
    });
}

#[test]
fn a_table_that_comes_with_a_reload_is_replicated_with_what_it_holds() {
    on_one_thread(async {
        let a = Node::start(settings("a", &[])).await;
        let b = Node::joining("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        let second = |node: &Node| {
            let spec = spec("more", lb_core::config::KeyKind::Integer, 8);
            let (names, clock) = (node.names.clone(), node.settings.clock.clone());
            std::sync::Arc::new(lb_core::table::StickTable::new(spec, names, clock, 1))
        };
        let (of_a, of_b) = (second(&a), second(&b));
        let key = lb_core::table::StickKey::parse(of_a.kind(), 8, "42").unwrap();
        of_a.store(&key, a.names.intern("app1"), now());
        a.peers.reconfigure(a.settings.config.clone(), vec![a.table.clone(), of_a.clone()]);
        b.peers.reconfigure(b.settings.config.clone(), vec![of_b.clone(), b.table.clone()]);
        eventually("b has the key", || of_b.peek(&key, now()).is_some()).await;
        b.pin("client-1", "app1");
        a.has("client-1", "app1").await;
    });
}
