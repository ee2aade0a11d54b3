use super::passive::Passive;
use super::schedule::FIRST_WITHIN;
use super::*;
use crate::fixture;
use lb_core::config::{self, Backend, Check, Probe};
use lb_core::server::AdminState;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpListener;

const TCP: Probe = Probe::Tcp { steps: Vec::new() };
const TICK: Duration = Duration::from_millis(10);

fn check(probe: Probe) -> Check {
    Check { interval: TICK, fast_interval: TICK, down_interval: TICK, ..Check::new(probe) }
}

fn backend(addr: SocketAddr, check: Option<Check>) -> Backend {
    let mut backend = fixture::backend("app", &[("node1", addr)]);
    backend.check = check.map(Arc::new);
    backend.servers = vec![Arc::new(config::Server { check: backend.check.clone(), ..fixture::server("node1", addr) })];
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
    let (snapshot, server) = snapshot(backend(addr, Some(check(TCP))));
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
    let mut slow = check(TCP);
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
    let (snapshot, server) = snapshot(backend(addr, Some(check(TCP))));
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
    let with = backend(listener.local_addr().unwrap(), Some(check(TCP)));
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
    let mut slow = check(TCP);
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

#[tokio::test]
async fn checks_come_faster_while_in_transition_and_slower_while_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // The port of a check is its own: nobody listens at the server's.
    let hour = Duration::from_secs(3600);
    let check = Check { interval: hour, fast_interval: TICK, port: Some(addr.port()), ..check(TCP) };
    let (snapshot, server) = snapshot(backend(([127, 0, 0, 1], 1).into(), Some(check)));
    let checks = Checks::default();
    checks.apply(&snapshot);
    listener.accept().await.unwrap();
    drop(listener);
    // One failure was asked for; the rest come by themselves, though the interval is an hour.
    tokio::time::sleep(TICK).await;
    checks.nudge(server.uid);
    until(&server, Health::Down).await;
    assert_eq!(server.control.checks_failed.get(), 3);
}

/// An agent that says these lines, one a connection, the last again and again.
async fn agent(lines: &'static [&'static str]) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        for line in lines.iter().chain(std::iter::repeat(&lines[lines.len() - 1])) {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(line.as_bytes()).await.ok();
        }
    });
    (addr, task)
}

fn asked(addr: SocketAddr, agent: SocketAddr) -> Backend {
    let mut config = backend(addr, None);
    let agent = config::Agent { port: agent.port(), addr: None, send: b"hello\n".to_vec(), interval: TICK };
    let agent = Some(Arc::new(agent));
    config.servers = vec![Arc::new(config::Server { weight: 10, agent, ..fixture::server("node1", addr) })];
    config
}

async fn eventually(what: &str, is: impl Fn() -> bool) {
    let reached = tokio::time::timeout(Duration::from_secs(20), async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    reached.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn an_agent_sets_weight_state_and_health_and_an_operator_overrules_it() {
    let (addr, _agent) = agent(&["50% drain\n", "down # disk full\n", "up ready 30%\n", "drain maxconn:7\n"]).await;
    let (snapshot, server) = snapshot(asked(([127, 0, 0, 1], 1).into(), addr));
    let weight = || snapshot.server("app", "node1").unwrap().weight();
    let checks = Checks::default();
    checks.apply(&snapshot);
    eventually("drain", || server.admin() == AdminState::Drain).await;
    eventually("down", || server.health() == Health::Down && !server.takes_pinned()).await;
    eventually("a third", || weight() == 3).await;
    eventually("a bound", || server.bounds().agent == Some(7) && server.admin() == AdminState::Drain).await;
    assert!(server.health() == Health::Up && server.is_bounded());
    server.decide(Some(AdminState::Ready), AdminState::Ready, Some(9));
    let heard = || checks.heard(&server).expect("it was heard");
    eventually("it says so again", || heard().said == "drain maxconn:7").await;
    assert_eq!((server.admin(), weight()), (AdminState::Ready, 9), "the operator's word holds");
    server.decide(None, AdminState::Ready, None);
    assert_eq!((server.admin(), weight()), (AdminState::Drain, 3), "taken back");
    // A configuration without an agent: nothing it said holds.
    let mut config = (*snapshot.config).clone();
    config.backends = vec![Arc::new(backend(([127, 0, 0, 1], 1).into(), None))];
    checks.apply(&Snapshot::build(Arc::new(config), &fixture::base(), Some(&snapshot)));
    assert_eq!((server.admin(), weight(), server.is_bounded()), (AdminState::Ready, 10, false));
}

#[tokio::test]
async fn an_agent_that_falls_silent_changes_nothing_and_is_shown() {
    let (addr, task) = agent(&["drain\n"]).await;
    let (snapshot, server) = snapshot(asked(([127, 0, 0, 1], 1).into(), addr));
    let checks = Checks::default();
    checks.apply(&snapshot);
    eventually("drain", || server.admin() == AdminState::Drain).await;
    task.abort();
    let heard = || checks.heard(&server).expect("it was heard");
    eventually("silence", || heard().error.is_some()).await;
    assert_eq!((heard().said.as_str(), server.admin()), ("drain", AdminState::Drain));
    assert!(server.control.agent_errors.get() > 0);
}
