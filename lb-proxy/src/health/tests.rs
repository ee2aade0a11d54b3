use super::passive::Passive;
use super::*;
use crate::fixture;
use lb_core::config::{Backend, Check, Probe};
use std::time::Instant;
use tokio::net::TcpListener;

const TICK: Duration = Duration::from_millis(10);

fn check(probe: Probe) -> Check {
    Check { probe, interval: TICK, fall: 3, rise: 2 }
}

fn backend(addr: SocketAddr, check: Option<Check>) -> Backend {
    let mut backend = fixture::backend("app", &[("node1", addr)]);
    backend.check = check;
    backend.timeout.check = Duration::from_millis(200);
    backend.retry_after = Duration::from_secs(5);
    backend
}

fn snapshot(backend: Backend) -> (Snapshot, Arc<ServerState>) {
    let mut config = fixture::config();
    config.backends = vec![Arc::new(backend)];
    let snapshot = fixture::snapshot(config);
    let server = snapshot.server("app", "node1").unwrap().state.clone();
    (snapshot, server)
}

/// Waits for a state; the tests' only clock is its bound.
async fn until(server: &ServerState, health: Health) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while server.health() != health {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("server did not become {health:?}"));
}

#[tokio::test]
async fn a_server_that_dies_goes_down_with_a_reason_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (snapshot, server) = snapshot(backend(addr, Some(check(Probe::Tcp))));
    let checks = Checks::default();
    checks.apply(&snapshot);
    listener.accept().await.unwrap();
    assert_eq!(server.health(), Health::Up);
    assert_eq!(checks.reason(&server), None);

    drop(listener);
    until(&server, Health::Down).await;
    let reason = checks.reason(&server).expect("a reason");
    assert!(reason.contains("cannot connect"), "{reason}");

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    let _listener = socket.listen(16).unwrap();
    until(&server, Health::Up).await;
    assert_eq!(checks.reason(&server), None);
}

#[tokio::test]
async fn a_new_server_that_fails_its_first_check_is_out_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut slow = check(Probe::Tcp);
    slow.interval = Duration::from_secs(3600);
    let (snapshot, server) = snapshot(backend(addr, Some(slow)));
    let checks = Checks::default();
    checks.apply(&snapshot);
    until(&server, Health::Down).await;
}

#[tokio::test]
async fn a_server_in_maintenance_is_not_checked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (snapshot, server) = snapshot(backend(addr, Some(check(Probe::Tcp))));
    server.set_admin(AdminState::Maint);
    let checks = Checks::default();
    checks.apply(&snapshot);
    let quiet = tokio::time::timeout(FIRST_WITHIN * 2, listener.accept()).await;
    assert!(quiet.is_err(), "it was checked");
    server.set_admin(AdminState::Ready);
    checks.nudge(server.uid);
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn an_unchanged_check_goes_on_and_a_removed_one_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let with = backend(listener.local_addr().unwrap(), Some(check(Probe::Tcp)));
    let (snapshot, server) = snapshot(with);
    let checks = Checks::default();
    checks.apply(&snapshot);
    let nudge = checks.running.lock()[&server.uid].nudge.clone();
    checks.apply(&snapshot);
    assert!(Arc::ptr_eq(&nudge, &checks.running.lock()[&server.uid].nudge));

    let mut config = (*snapshot.config).clone();
    config.backends = vec![Arc::new(backend(listener.local_addr().unwrap(), None))];
    checks.apply(&fixture::snapshot(config));
    assert!(checks.running.lock().is_empty());
}

#[test]
fn without_a_check_three_failed_connects_take_a_server_out_until_retry_after() {
    let (snapshot, server) = snapshot(backend(([127, 0, 0, 1], 1).into(), None));
    let (checks, mut passive, start) = (Checks::default(), Passive::default(), Instant::now());
    server.connect_failed();
    server.connect_failed();
    passive.poll(&snapshot, &checks, start);
    assert_eq!(server.health(), Health::Up);
    server.connect_failed();
    passive.poll(&snapshot, &checks, start);
    assert_eq!(server.health(), Health::Down);
    assert_eq!(checks.reason(&server).as_deref(), Some("3 connects in a row failed"));

    passive.poll(&snapshot, &checks, start + Duration::from_secs(4));
    assert_eq!(server.health(), Health::Down);
    passive.poll(&snapshot, &checks, start + Duration::from_secs(6));
    assert_eq!(server.health(), Health::Up);
}

#[test]
fn on_trial_one_failure_is_enough_and_one_success_ends_the_trial() {
    let (snapshot, server) = snapshot(backend(([127, 0, 0, 1], 1).into(), None));
    let (checks, mut passive, start) = (Checks::default(), Passive::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let fail = |times: u32| (0..times).for_each(|_| _ = server.connect_failed());
    fail(3);
    passive.poll(&snapshot, &checks, at(0));
    passive.poll(&snapshot, &checks, at(5));
    fail(1);
    passive.poll(&snapshot, &checks, at(6));
    assert_eq!(server.health(), Health::Down, "one failure on trial");

    passive.poll(&snapshot, &checks, at(11));
    server.counters[0].connects.bump();
    server.connected();
    passive.poll(&snapshot, &checks, at(12));
    fail(1);
    passive.poll(&snapshot, &checks, at(13));
    assert_eq!(server.health(), Health::Up, "the trial was over");
}

#[tokio::test]
async fn with_a_check_failed_connects_bring_the_check_forward() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = check(Probe::Tcp);
    slow.interval = Duration::from_secs(3600);
    let (snapshot, server) = snapshot(backend(listener.local_addr().unwrap(), Some(slow)));
    let (checks, mut passive) = (Checks::default(), Passive::default());
    checks.apply(&snapshot);
    listener.accept().await.unwrap();
    (0..3).for_each(|_| _ = server.connect_failed());
    passive.poll(&snapshot, &checks, Instant::now());
    tokio::time::timeout(Duration::from_secs(20), listener.accept()).await.expect("checked early").unwrap();
    assert_eq!(server.health(), Health::Up, "the check decides");
}
