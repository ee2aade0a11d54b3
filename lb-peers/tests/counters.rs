//! Counters over real TCP: what each node counts adds up on all of them.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::counters::{Counter, Event};
use lb_core::table::Counted;
use std::time::{Duration, Instant};
use support::*;

const STORE: [&str; 4] = ["http_req_cnt", "http_req_rate(10s)", "conn_cur", "gpt(0)"];

async fn node(name: &str, others: &[&Node]) -> Node {
    let join: Vec<_> = others.iter().map(|n| n.addr()).collect();
    Node::with_table(settings(name, &join), counting(&STORE)).await
}

fn count(node: &Node, key: &str, events: &[Event]) {
    node.table.count(&node.key(key), events, now());
}

fn requests(node: &Node, key: &str, n: usize) {
    (0..n).for_each(|_| count(node, key, &[Event::Request]));
}

fn open(node: &Node, key: &str) -> Counted {
    node.table.open(&node.key(key), now()).unwrap()
}

fn read(node: &Node, key: &str, counter: &str) -> u64 {
    node.table.counter(&node.key(key), counter.parse::<Counter>().unwrap(), now())
}

async fn reads(node: &Node, key: &str, counter: &str, sum: u64) {
    let what = format!("{} reads {sum} for {counter} of {key}", node.settings.node);
    eventually(&what, || read(node, key, counter) == sum).await;
}

#[test]
fn what_two_nodes_count_adds_up_on_both_within_a_second() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        let begun = Instant::now();
        requests(&a, "client", 70);
        requests(&b, "client", 50);
        for node in [&a, &b] {
            reads(node, "client", "http_req_cnt", 120).await;
            reads(node, "client", "http_req_rate(10s)", 120).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        count(&a, "client", &[Event::Tag(0, 7)]);
        reads(&b, "client", "gpt(0)", 7).await;
        count(&b, "client", &[Event::Tag(0, 3)]);
        reads(&a, "client", "gpt(0)", 3).await;
    });
}

#[test]
fn a_node_that_was_killed_and_comes_again_reads_what_was_counted_in_its_former_life() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        let c = node("c", &[&a, &b]).await;
        for n in [&b, &c] {
            n.pulled().await;
        }
        for (node, peer) in [(&a, "b"), (&a, "c"), (&b, "c"), (&c, "b")] {
            node.sees(peer).await;
        }
        requests(&a, "client", 10);
        requests(&b, "client", 20);
        requests(&c, "client", 30);
        let open_at_c = open(&c, "client");
        for n in [&a, &b, &c] {
            reads(n, "client", "http_req_cnt", 60).await;
            reads(n, "client", "conn_cur", 1).await;
        }
        drop(c);
        drop(b);
        // From a alone it gets the slots of c and of its own former life.
        let b = node("b", &[&a]).await;
        b.pulled().await;
        assert_eq!(read(&b, "client", "http_req_cnt"), 60);
        requests(&b, "client", 5);
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 65).await;
        }
        // A new life of c: what was open in the former is not.
        let c = node("c", &[&a, &b]).await;
        c.pulled().await;
        assert_eq!(read(&c, "client", "conn_cur"), 0);
        requests(&c, "client", 1);
        for n in [&a, &b, &c] {
            reads(n, "client", "http_req_cnt", 66).await;
            reads(n, "client", "conn_cur", 0).await;
        }
        drop(open_at_c);
    });
}

#[test]
fn what_was_counted_or_cleared_where_there_is_no_link_comes_by_way_of_a_third_node() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        b.pulled().await;
        // c knows a only, and its listener is not known to b.
        let c = node("c", &[&a]).await;
        c.pulled().await;
        requests(&c, "client", 7);
        requests(&b, "client", 1);
        for n in [&a, &b, &c] {
            reads(n, "client", "http_req_cnt", 8).await;
        }
        assert!(c.table.clear(&c.key("client"), now()));
        requests(&b, "other", 2);
        for n in [&a, &b, &c] {
            reads(n, "client", "http_req_cnt", 0).await;
            reads(n, "other", "http_req_cnt", 2).await;
        }
        // The last words of a node that only a hears.
        requests(&c, "client", 3);
        reads(&a, "client", "http_req_cnt", 3).await;
        drop(c);
        reads(&b, "client", "http_req_cnt", 3).await;
    });
}

#[test]
fn open_connections_add_up_and_go() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        let (at_a, at_b) = (open(&a, "client"), [open(&b, "client"), open(&b, "client")]);
        for n in [&a, &b] {
            reads(n, "client", "conn_cur", 3).await;
        }
        drop(at_b);
        reads(&a, "client", "conn_cur", 1).await;
        drop(at_a);
        reads(&b, "client", "conn_cur", 0).await;
    });
}

#[test]
fn clearing_on_one_node_starts_from_zero_on_all() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        requests(&a, "client", 10);
        requests(&b, "client", 20);
        let open_at_b = open(&b, "client");
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 30).await;
        }
        assert!(a.table.clear(&a.key("client"), now()));
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 0).await;
            reads(n, "client", "conn_cur", 1).await;
        }
        requests(&b, "client", 2);
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 2).await;
        }
        drop(open_at_b);
    });
}

#[test]
fn a_hot_key_costs_a_few_messages_not_one_for_each_request() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let b = node("b", &[&a]).await;
        b.pulled().await;
        a.sees("b").await;
        let begun = Instant::now();
        let mut sums = std::collections::BTreeSet::new();
        let mut counted = 0;
        while begun.elapsed() < Duration::from_millis(1050) {
            requests(&a, "client", 10);
            counted += 10;
            sums.insert(read(&b, "client", "http_req_cnt"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reads(&b, "client", "http_req_cnt", counted).await;
        assert!((3..=12).contains(&sums.len()), "{sums:?}");
    });
}

#[test]
fn nodes_that_count_different_things_add_up_what_both_count() {
    on_one_thread(async {
        let a = node("a", &[]).await;
        let for_b = counting(&["gpc(0)", "http_req_cnt"]);
        let b = Node::with_table(settings("b", &[a.addr()]), for_b).await;
        b.pulled().await;
        a.sees("b").await;
        requests(&a, "client", 10);
        requests(&b, "client", 20);
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 30).await;
        }
        // A reload gives b the others, too.
        b.table.reconfigure(counting(&STORE));
        requests(&b, "client", 1);
        for n in [&a, &b] {
            reads(n, "client", "http_req_cnt", 31).await;
        }
        reads(&b, "client", "conn_cur", 0).await;
    });
}
