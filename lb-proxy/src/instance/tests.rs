use super::*;
use crate::fixture;
use lb_core::config::AccessLog;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(20);

/// A server that answers every request head on a connection alike, until the client closes.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buf = [0; 4096];
                while stream.read(&mut buf).await.is_ok_and(|n| n > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.ok();
                }
            });
        }
    });
    addr
}

/// An instance with one frontend to one server.
async fn config() -> Config {
    let mut config = fixture::config();
    let mut frontend = fixture::frontend("web", &[([127, 0, 0, 1], 0).into()]);
    frontend.backend = Some("app".into());
    config.frontends = vec![Arc::new(frontend)];
    config.backends = vec![Arc::new(fixture::backend("app", &[("node1", origin().await)]))];
    config
}

async fn start(config: Config) -> Instance {
    Instance::start(config, ConfigSource::default()).await.unwrap()
}

fn addr(control: &Control) -> SocketAddr {
    control.listening()[0].real.tcp().unwrap()
}

/// One request on an open connection; the answer's head and body.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nhi") {
        let mut buf = [0; 4096];
        let n = tokio::time::timeout(SOON, stream.read(&mut buf)).await.unwrap().unwrap();
        assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buf[..n]);
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn an_instance_serves_counts_and_stops() {
    let instance = start(config().await).await;
    let control = instance.control().clone();
    assert_eq!(control.phase(), Phase::Ready);
    let mut client = TcpStream::connect(addr(&control)).await.unwrap();
    assert!(ask(&mut client).await.starts_with("HTTP/1.1 200"));
    assert!(control.scrape().contains("lb_server_requests_total{backend=\"app\",server=\"node1\"} 1"));
    drop(client);
    control.stop(None);
    tokio::time::timeout(SOON, instance.run()).await.unwrap().unwrap();
    assert_eq!(control.phase(), Phase::Stopped);
    assert!(TcpStream::connect(addr(&control)).await.is_err());
}

#[tokio::test]
async fn a_drain_waits_for_a_request_under_way_and_then_ends() {
    let instance = start(config().await).await;
    let control = instance.control().clone();
    let mut client = TcpStream::connect(addr(&control)).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // The connection counts as soon as a worker has accepted it.
    while control.status().frontends[0].open == 0 {
        tokio::task::yield_now().await;
    }
    control.stop(Some(SOON));
    let running = tokio::spawn(instance.run());
    client.write_all(b"Host: lb\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"), "{answer}");
    tokio::time::timeout(SOON, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_bound_and_a_shorter_bound_can_be_set_meanwhile() {
    let instance = start(config().await).await;
    let control = instance.control().clone();
    let mut client = TcpStream::connect(addr(&control)).await.unwrap();
    client.write_all(b"GET / HT").await.unwrap();
    while control.status().frontends[0].open == 0 {
        tokio::task::yield_now().await;
    }
    control.stop(Some(Duration::from_secs(3600)));
    let running = tokio::spawn(instance.run());
    control.stop_now();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn an_address_in_use_starts_nothing() {
    let first = start(config().await).await;
    let mut second = config().await;
    second.frontends = vec![Arc::new(fixture::frontend("web", &[addr(first.control())]))];
    let error = Instance::start(second, ConfigSource::default()).await.err().unwrap();
    assert!(matches!(error, StartError::Bind(_)), "{error}");
}

#[tokio::test]
async fn the_access_log_holds_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let mut config = config().await;
    config.log.access = AccessLog::File(path.clone());
    let instance = start(config).await;
    let control = instance.control().clone();
    let mut client = TcpStream::connect(addr(&control)).await.unwrap();
    ask(&mut client).await;
    ask(&mut client).await;
    drop(client);
    control.stop(None);
    instance.run().await.unwrap();
    let log = std::fs::read_to_string(&path).unwrap();
    assert_eq!(log.lines().filter(|l| l.contains("web app/node1") && l.contains(" 200 ")).count(), 2, "{log}");
}

#[test]
fn the_layout_names_what_listens_and_where_it_goes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (text, addr) = runtime.block_on(async {
        let mut config = config().await;
        config.tables = vec![Arc::new(fixture::table("sessions"))];
        let instance = Instance::without_workers(config, ConfigSource::default()).await.unwrap();
        (layout::layout(&instance.control().status(), Some("/run/lb1.sock".as_ref())), addr(instance.control()))
    });
    for part in
        [&addr.to_string(), "any → app", "app/node1", "ready, up, weight 1", "sessions", "expire 30m", "/run/lb1.sock"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_worker_that_ends_by_itself_ends_the_instance_with_an_error() {
    let instance = start(config().await).await;
    let control = instance.control().clone();
    control.abort_workers(SOON).await;
    let ended = tokio::time::timeout(SOON, instance.run()).await.unwrap();
    assert!(matches!(ended, Err(StartError::WorkerEnded)));
    assert_eq!(control.phase(), Phase::Stopped);
}
