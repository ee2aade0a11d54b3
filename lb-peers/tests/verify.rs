//! Tables held against each other because somebody asks: what differs is named, what is on its way is not.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::status::{Verified, VerifiedTable};
use lb_core::table::{Merged, Update};
use lb_peers::Settings;
use std::time::{Duration, Instant};
use support::*;

/// A pair that knows each other. Nothing heals within the time of a test.
async fn pair() -> (Node, Node) {
    let rare = |mut settings: Settings| {
        settings.config.anti_entropy = Duration::from_secs(3600);
        settings
    };
    let a = Node::start(rare(settings("a", &[]))).await;
    let b = Node::start(rare(settings("b", &[a.addr()]))).await;
    (a, b)
}

async fn in_sync(a: &Node, b: &Node) {
    let knows = |node: &Node, peer: &str| node.peer(peer).is_some_and(|p| p.in_sync == Some(true));
    eventually("both know that they are in sync", || knows(a, "b") && knows(b, "a")).await;
}

/// A node has a pin that its peers are never told.
fn lose(node: &Node, key: &str, server: &str, left: Duration) {
    let (stamp, server) = (node.settings.clock.stamp(now()), node.names.intern(server));
    let update = Update { key: key.as_bytes().into(), server, stamp, left, holders: Vec::new() };
    assert_ne!(node.table.merge(&update, now()), Merged::Refused);
}

async fn verify(node: &Node) -> Verified {
    node.peers.verifier().verify(None, None, |id| format!("{:08x}", id.0)).await.unwrap()
}

fn only(verified: &Verified) -> &VerifiedTable {
    assert_eq!(verified.comparisons.len(), 1, "{verified:?}");
    &verified.comparisons[0]
}

#[test]
fn equal_tables_are_said_to_be_equal_at_once() {
    on_one_thread(async {
        let (a, b) = pair().await;
        for i in 0..3000 {
            a.pin(&format!("client-{i}"), "app1");
        }
        in_sync(&a, &b).await;
        eventually("b has all", || b.table.stats().entries == 3000).await;
        let begun = Instant::now();
        let verified = verify(&b).await;
        assert!(verified.equal && begun.elapsed() < Duration::from_secs(1), "{verified:?}");
        assert_eq!((verified.node.as_str(), verified.entries), ("b", 3000));
        assert_eq!((verified.tables, only(&verify(&a).await).peer.as_str()), (vec!["sessions".to_owned()], "b"));
    });
}

#[test]
fn keys_that_differ_are_named_with_both_sides_and_nothing_is_changed() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        for i in 0..200 {
            a.pin(&format!("client-{i}"), "app1");
        }
        b.has("client-199", "app1").await;
        let life = Duration::from_secs(600);
        lose(&a, "only-a", "app7", life);
        lose(&b, "only-b", "app8", life);
        lose(&b, "client-5", "app9", life);
        // Touched on one side: a difference in life only. And an entry that the other may have dropped already.
        lose(&a, "dying", "app1", life / 9);
        let verified = verify(&a).await;
        assert!(!verified.equal);
        let found = only(&verified);
        let server = |held: &Option<lb_core::status::HeldStatus>| held.as_ref().and_then(|h| h.server.clone());
        let keys: Vec<_> = found.keys.iter().map(|k| (k.key.as_str(), server(&k.here), server(&k.there))).collect();
        let (app1, app7, app8, app9) = ("app1".to_owned(), "app7".to_owned(), "app8".to_owned(), "app9".to_owned());
        assert_eq!(found.differing, 3);
        let expected =
            [("client-5", Some(app1), Some(app9)), ("only-a", Some(app7), None), ("only-b", None, Some(app8))];
        assert_eq!(keys, expected);
        assert_eq!(b.server_of("only-a"), None, "looking changes nothing");
        let there = found.keys[0].there.as_ref().unwrap();
        assert!(there.expires > 500.0 && there.written > 0);
    });
}

#[test]
fn a_cleared_entry_differs_from_a_pin_and_shows_as_cleared() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        a.pin("k", "app1");
        b.has("k", "app1").await;
        lose(&a, "gone", "app1", Duration::from_secs(600));
        lose(&b, "gone", "app1", Duration::from_secs(600));
        let stamp = a.settings.clock.stamp(now());
        let none = lb_core::id::NameId::NONE;
        let cleared = Update {
            key: b"gone"[..].into(),
            server: none,
            stamp,
            left: Duration::from_secs(4000),
            holders: Vec::new(),
        };
        a.table.merge(&cleared, now());
        let verified = verify(&b).await;
        let keys = &only(&verified).keys;
        assert_eq!((keys.len(), keys[0].key.as_str()), (1, "gone"));
        assert_eq!(keys[0].there.as_ref().unwrap().server, None);
        assert_eq!(keys[0].here.as_ref().unwrap().server.as_deref(), Some("app1"));
    });
}

#[test]
fn what_changes_all_the_while_is_no_difference() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        lose(&a, "lost", "app7", Duration::from_secs(600));
        let writing = async {
            for i in 0u32.. {
                let node = if i % 2 == 0 { &a } else { &b };
                node.pin(&format!("client-{}", i % 5000), &format!("app{}", i % 7));
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        let verified = tokio::select! {
            verified = verify(&a) => verified,
            () = writing => unreachable!(),
        };
        let keys: Vec<_> = only(&verified).keys.iter().map(|k| k.key.clone()).collect();
        assert_eq!(keys, ["lost"]);
    });
}

#[test]
fn of_many_keys_the_first_thousand_are_named_and_all_are_counted() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        for i in 0..5000 {
            lose(&b, &format!("lost-{i:04}"), "app7", Duration::from_secs(600));
        }
        let verified = verify(&a).await;
        let found = only(&verified);
        assert_eq!((found.differing, found.keys.len()), (5000, 1000));
        assert!(found.keys.is_sorted_by(|a, b| a.key < b.key));
    });
}

#[test]
fn a_peer_that_is_not_there_is_said_not_to_be_compared() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        drop(b);
        eventually("a notices", || !a.is_up("b")).await;
        let verified = verify(&a).await;
        assert!(!verified.equal);
        let found = only(&verified);
        assert_eq!((found.peer.as_str(), found.equal), ("b", None));
        assert!(found.error.as_ref().unwrap().starts_with("down: "), "{found:?}");
    });
}

#[test]
fn names_that_there_are_not_are_said_so() {
    on_one_thread(async {
        let (a, b) = pair().await;
        in_sync(&a, &b).await;
        let verifier = a.peers.verifier();
        let name = |_| String::new();
        let error = verifier.verify(Some("session"), None, name).await.unwrap_err().to_string();
        assert_eq!(error, "no table \"session\" is replicated; those that are: sessions");
        let error = verifier.verify(None, Some("c"), name).await.unwrap_err().to_string();
        assert_eq!(error, "there is no peer \"c\"; peers: b");
    });
}

#[test]
fn a_lost_update_heals_by_itself_without_a_new_link_and_is_counted() {
    on_one_thread(async {
        let often = |mut settings: Settings| {
            settings.config.anti_entropy = Duration::from_secs(1);
            settings
        };
        let a = Node::start(often(settings("a", &[]))).await;
        let b = Node::start(often(settings("b", &[a.addr()]))).await;
        in_sync(&a, &b).await;
        lose(&a, "lost", "app7", Duration::from_secs(600));
        let up_for = b.peer("a").unwrap().up_for;
        let begun = Instant::now();
        b.has("lost", "app7").await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        in_sync(&a, &b).await;
        assert_eq!(b.peer("a").unwrap().tables[0].repaired, 1);
        assert!(b.peer("a").unwrap().up_for >= up_for);
    });
}
