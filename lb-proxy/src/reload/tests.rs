use super::*;
use crate::fixture;
use crate::instance::{Change, ConfigSource, Instance};
use lb_core::config::AccessLog;
use lb_core::server::{AdminState, Health};
use std::net::{SocketAddr, TcpListener, TcpStream};

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// An address that nobody listens on now.
fn free() -> SocketAddr {
    TcpListener::bind(any()).unwrap().local_addr().unwrap()
}

fn take_on(control: &Control, config: Config) -> Result<Reloaded, ReloadError> {
    super::take_on(control, config, Edges::default())
}

fn config(listen: &[SocketAddr]) -> Config {
    let mut config = fixture::config();
    let mut frontend = fixture::frontend("web", listen);
    frontend.backend = Some("app".into());
    config.frontends = vec![Arc::new(frontend)];
    let servers = [("node1", ([127, 0, 0, 1], 1).into()), ("node2", ([127, 0, 0, 1], 2).into())];
    config.backends = vec![Arc::new(fixture::backend("app", &servers))];
    config.tables = vec![Arc::new(fixture::table("sessions"))];
    config
}

async fn start(config: Config) -> Instance {
    Instance::start(config, ConfigSource::default()).await.unwrap()
}

/// Waits until nobody accepts there: workers close their sockets a moment after they are told.
async fn closed(addr: SocketAddr) {
    let gone = async {
        while TcpStream::connect(addr).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("still accepts");
}

#[tokio::test]
async fn listeners_that_stay_keep_their_sockets_and_the_others_open_and_close() {
    let (old, new) = (free(), free());
    let instance = start(config(&[any(), old])).await;
    let control = instance.control();
    let kept = control.listening()[0].clone();
    // A connection in the kernel's queue would be lost with its socket.
    let waiting = TcpStream::connect(kept.real.tcp().unwrap()).unwrap();
    let done = take_on(control, config(&[any(), new])).unwrap();
    assert_eq!(done, Reloaded { generation: 2, opened: 1, closed: 1 });
    assert_eq!(control.listening()[0], kept);
    TcpStream::connect(new).unwrap();
    closed(old).await;
    assert!(waiting.peer_addr().is_ok());
}

#[tokio::test]
async fn an_address_can_go_from_one_frontend_to_another() {
    let addr = free();
    let instance = start(config(&[addr])).await;
    let mut other = config(&[]);
    other.frontends = vec![Arc::new(fixture::frontend("site", &[addr]))];
    take_on(instance.control(), other).unwrap();
    let listening = instance.control().listening();
    assert_eq!((listening.len(), listening[0].wanted.frontend.as_str()), (1, "site"));
    TcpStream::connect(addr).unwrap();
}

#[tokio::test]
async fn an_address_in_use_changes_nothing() {
    let instance = start(config(&[any()])).await;
    let control = instance.control();
    let before = (control.snapshot(), control.listening());
    let taken = TcpListener::bind(any()).unwrap();
    let error = take_on(control, config(&[taken.local_addr().unwrap()])).unwrap_err();
    assert!(matches!(error, ReloadError::Bind(_)), "{error}");
    assert!(Arc::ptr_eq(&before.0, &control.snapshot()));
    assert_eq!(before.1, control.listening());
    TcpStream::connect(before.1[0].real.tcp().unwrap()).unwrap();
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name() {
    let instance = start(config(&[any()])).await;
    let mut changed = config(&[any()]);
    changed.instance.workers = Some(7);
    changed.admin.listen = Some(any());
    let error = take_on(instance.control(), changed).unwrap_err().to_string();
    assert!(error.starts_with("instance.workers, admin.listen changed") && error.contains("restart"), "{error}");
    assert_eq!(instance.control().snapshot().generation, 1);
}

#[tokio::test]
async fn tables_health_and_decisions_stay() {
    let instance = start(config(&[any()])).await;
    let control = instance.control();
    let before = control.snapshot();
    before.server("app", "node1").unwrap().state.set_health(Health::Down, 1);
    let drain = Change { state: Some(Some(AdminState::Drain)), ..Change::default() };
    control.decide("app", "node2", drain).unwrap();

    let mut changed = config(&[any()]);
    let servers = [
        ("node1", ([127, 0, 0, 1], 1).into()),
        // A new address is a new server, but the decision is on the name.
        ("node2", ([127, 0, 0, 1], 3).into()),
        ("node3", ([127, 0, 0, 1], 4).into()),
    ];
    changed.backends = vec![Arc::new(fixture::backend("app", &servers))];
    take_on(control, changed).unwrap();
    let after = control.snapshot();
    assert!(Arc::ptr_eq(&before.tables["sessions"], &after.tables["sessions"]));
    let state = |name| after.server("app", name).unwrap().state.clone();
    assert_eq!(state("node1").health(), Health::Down);
    assert_eq!((state("node2").admin(), state("node2").health()), (AdminState::Drain, Health::Up));
    assert_eq!(state("node3").admin(), AdminState::Ready);
}

#[tokio::test]
async fn a_server_that_nobody_decided_about_follows_its_configured_state() {
    let instance = start(config(&[any()])).await;
    let mut changed = config(&[any()]);
    let mut backend = (*changed.backends[0]).clone();
    let mut server = (*backend.servers[0]).clone();
    server.state = AdminState::Maint;
    backend.servers[0] = Arc::new(server);
    changed.backends = vec![Arc::new(backend)];
    take_on(instance.control(), changed).unwrap();
    assert_eq!(instance.control().servers()[0].state, AdminState::Maint);
    take_on(instance.control(), config(&[any()])).unwrap();
    assert_eq!(instance.control().servers()[0].state, AdminState::Ready);
}

#[tokio::test]
async fn an_instance_that_leaves_takes_on_nothing() {
    let instance = start(config(&[any()])).await;
    instance.control().stop(None);
    assert!(matches!(take_on(instance.control(), config(&[any()])), Err(ReloadError::Stopping)));
}

#[tokio::test]
async fn a_rotated_access_log_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let with_log = || {
        let mut config = config(&[any()]);
        config.log.access = AccessLog::File(path.clone());
        config
    };
    let instance = start(with_log()).await;
    std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
    take_on(instance.control(), with_log()).unwrap();
    assert!(path.exists());
}
