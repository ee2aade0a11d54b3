//! What these stories prove: without replication the same clients lose their server.
use crate::{CLIENTS, Servers};
use lb_tests::crowd::{moved, newcomers};
use lb_tests::{Crowd, Instance, eventually};

#[test]
fn without_peers_the_same_clients_lose_their_server() {
    let servers = Servers::new();
    let alone: Vec<_> = (0..2).map(|_| Instance::start(&servers.config())).collect();
    let pins = newcomers(&alone[0], "old", CLIENTS);
    let crowd = Crowd::of(&pins, &[&alone[0], &alone[1]]);
    eventually("each has come a few times", || crowd.visits() > 4 * CLIENTS as u64);
    assert!(crowd.complaints().len() > CLIENTS / 4);
    assert!(moved(&alone[1], &pins).len() > CLIENTS / 4);
}
