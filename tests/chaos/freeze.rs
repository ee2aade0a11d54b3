//! Processes that stand still.
use crate::{CLIENTS, Servers, agree, nobody_moved};
use lb_tests::crowd::newcomers;
use lb_tests::{Crowd, Instance, eventually};
use std::time::Duration;

#[test]
fn while_an_instance_is_frozen_the_others_go_on_and_after_the_thaw_all_are_equal() {
    let frozen_for = Duration::from_secs(if std::env::var_os("LB_CHAOS_LONG").is_some() { 30 } else { 5 });
    let servers = Servers::new();
    let cluster = Instance::cluster(3, &servers.config());
    let old = newcomers(&cluster[0], "old", CLIENTS);
    agree(&cluster, CLIENTS);
    let crowd = Crowd::of(&old, &[&cluster[0], &cluster[1], &cluster[2]]);
    eventually("clients come", || crowd.visits() > 100);

    crowd.only(&[&cluster[0], &cluster[1]]);
    cluster[2].signal("-STOP");
    for lb in &cluster[..2] {
        eventually(&format!("{} notices", lb.name), || lb.peers_up() == 1);
    }
    let new = [newcomers(&cluster[0], "new0-", CLIENTS / 2), newcomers(&cluster[1], "new1-", CLIENTS / 2)].concat();
    agree(&cluster[..2], 2 * CLIENTS);
    let before = crowd.visits();
    std::thread::sleep(frozen_for);
    assert!(crowd.visits() > before + 100, "the others go on");

    cluster[2].signal("-CONT");
    agree(&cluster, 2 * CLIENTS);
    crowd.only(&[&cluster[0], &cluster[1], &cluster[2]]);
    nobody_moved(&cluster, &[old, new].concat());
    assert_eq!(crowd.complaints(), [""; 0]);
    for lb in &cluster {
        eventually("all are linked again", || lb.peers_up() == 2);
    }
}
