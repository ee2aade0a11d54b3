use crate::fixture;
use crate::instance::{ConfigSource, Control, Instance, Phase};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use lb_core::config::Config;
use lb_core::server::AdminState;
use lb_core::status::{Done, EntryStatus, Problem, ServerStatus, Status};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An instance with an admin on both sockets.
struct Here {
    control: Arc<Control>,
    instance: Instance,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

async fn here(change: impl FnOnce(&mut Config)) -> Here {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("lb1.sock");
    let mut config = fixture::config();
    config.admin.listen = Some(([127, 0, 0, 1], 0).into());
    config.admin.socket = Some(socket.clone());
    config.admin.token = Some("secret".into());
    config.tables = vec![Arc::new(fixture::table("sessions"))];
    let servers = [("node1", ([127, 0, 0, 1], 1).into()), ("node2", ([127, 0, 0, 1], 2).into())];
    config.backends = vec![Arc::new(fixture::backend("app", &servers))];
    change(&mut config);
    let instance = Instance::without_workers(config, ConfigSource::default()).await.unwrap();
    Here { control: instance.control().clone(), instance, socket, _dir: dir }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<&'static [u8]>>,
) -> (u16, String) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str, token: Option<&str>, body: &Value) -> Request<Full<&'static [u8]>> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let mut request = Request::builder().method(method).uri(path).header("host", "lb");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::new(&*body.leak())).unwrap()
}

impl Here {
    async fn tcp(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, String) {
        let stream = TcpStream::connect(self.control.admin_addr().unwrap()).await.unwrap();
        exchange(stream, request(method, path, token, &body)).await
    }

    async fn unix(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        exchange(stream, request(method, path, None, &body)).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.tcp("GET", path, None, Value::Null).await
    }
}

fn problem((status, body): (u16, String)) -> (u16, String) {
    (status, serde_json::from_str::<Problem>(&body).unwrap_or_else(|e| panic!("{e}: {body}")).error)
}

fn done((status, body): (u16, String)) -> Done {
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn everybody_reads_on_both_sockets() {
    let here = here(|_| {}).await;
    assert_eq!(here.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(here.get("/readyz").await, (200, "ready\n".into()));
    let (status, body) = here.get("/metrics").await;
    assert!(status == 200 && body.contains("lb_server_up{backend=\"app\",server=\"node1\"} 1"), "{body}");
    let (_, body) = here.unix("GET", "/api/status", Value::Null).await;
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((status.name.as_str(), status.phase.as_str(), status.generation), ("lb1", "ready", 1));
    assert_eq!(status.backends[0].servers.len(), 2);
    assert_eq!(here.get("/").await.0, 200);
}

#[tokio::test]
async fn over_tcp_a_change_needs_the_token() {
    let here = here(|_| {}).await;
    let drain = json!({"state": "drain"});
    let path = "/api/servers/app/node1";
    assert_eq!(problem(here.tcp("POST", path, None, drain.clone()).await).0, 401);
    assert_eq!(problem(here.tcp("POST", path, Some("wrong"), drain.clone()).await).0, 401);
    assert_eq!(here.control.servers()[0].state, AdminState::Ready);
    done(here.tcp("POST", path, Some("secret"), drain).await);
    assert_eq!(here.control.servers()[0].state, AdminState::Drain);
}

#[tokio::test]
async fn without_a_token_tcp_is_read_only_and_the_socket_is_not() {
    let here = here(|config| config.admin.token = None).await;
    let (status, why) = problem(here.tcp("POST", "/api/stop", Some("guess"), Value::Null).await);
    assert!(status == 403 && why.contains("admin.token"), "{why}");
    assert_eq!(here.control.phase(), Phase::Ready);
    done(here.unix("POST", "/api/servers/app/node1", json!({"weight": 3})).await);
    assert_eq!(here.control.servers()[0].weight, 3);
}

#[tokio::test]
async fn a_decision_keeps_what_it_does_not_name_and_null_takes_it_back() {
    let here = here(|_| {}).await;
    let server = || here.control.servers().remove(1);
    let path = "/api/servers/app/node2";
    let why = json!({"state": "maint", "weight": 7, "author": "ann", "reason": "disk"});
    assert!(done(here.unix("POST", path, why).await).message.contains("maint"));
    let ServerStatus { state, weight, decision, .. } = server();
    let decision = decision.unwrap();
    assert_eq!((state, weight, decision.author.as_str(), decision.local), (AdminState::Maint, 7, "ann", false));

    done(here.unix("POST", path, json!({"state": "ready", "local": true})).await);
    let ServerStatus { state, weight, decision, .. } = server();
    assert_eq!((state, weight, decision.unwrap().local), (AdminState::Ready, 7, true));

    done(here.unix("POST", path, json!({"weight": null})).await);
    let ServerStatus { state, weight, decision, .. } = server();
    assert_eq!((state, weight, decision.unwrap().local), (AdminState::Ready, 1, false), "the later decision holds");
}

#[tokio::test]
async fn wrong_changes_change_nothing_and_say_what_to_send() {
    let here = here(|_| {}).await;
    for (path, body, status, why) in [
        ("/api/servers/app/node9", json!({"state": "drain"}), 404, "node1, node2"),
        ("/api/servers/nope/node1", json!({"state": "drain"}), 404, "backends: app"),
        ("/api/servers/app/node1", json!({}), 400, "nothing to change"),
        ("/api/servers/app/node1", json!({"state": "sleepy"}), 400, "drain"),
        ("/api/servers/app/node1", json!({"stat": "drain"}), 400, "unknown field"),
        ("/api/servers/app/node1", json!({"weight": 257}), 400, "0 to 256"),
        ("/api/servers/app/node1", json!({"reason": "x".repeat(257), "weight": 1}), 400, "256 bytes"),
        ("/api/servers/app/node1", json!({"reason": "x".repeat(100_000)}), 413, "limit"),
        ("/api/stop", json!({"drain": "soon"}), 400, "30m"),
    ] {
        let (got, text) = problem(here.unix("POST", path, body).await);
        assert!(got == status && text.contains(why), "{path}: {got} {text}");
    }
    assert_eq!(here.control.phase(), Phase::Ready);
    assert!(here.control.servers().iter().all(|s| s.state == AdminState::Ready && s.decision.is_none()));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let here = here(|_| {}).await;
    assert_eq!(problem(here.get("/api/nothing").await).0, 404);
    assert_eq!(problem(here.unix("DELETE", "/api/status", Value::Null).await).0, 405);
    assert_eq!(problem(here.get("/api/peers").await).0, 404);
    assert_eq!(
        problem(here.get("/api/tables/none/entries").await),
        (404, "there is no table \"none\"; tables: sessions".into())
    );
    assert_eq!(problem(here.get("/api/tables/sessions/entries?limt=3").await).0, 400);
    assert_eq!(problem(here.get("/api/tables/sessions/entry").await).0, 400);
}

#[tokio::test]
async fn entries_are_pinned_read_and_cleared() {
    let here = here(|_| {}).await;
    let path = "/api/tables/sessions/entry";
    let pin = json!({"key": "ann", "server": "node2"});
    assert_eq!(done(here.unix("PUT", path, pin.clone()).await).changed, 1);
    assert_eq!(done(here.unix("PUT", path, pin).await).changed, 0);
    let (status, body) = here.get("/api/tables/sessions/entry?key=ann").await;
    let entry: EntryStatus = serde_json::from_str(&body).unwrap();
    assert_eq!((status, entry.server.as_str(), entry.node.as_str()), (200, "node2", "lb1"));
    assert!(entry.expires > 1790.0 && entry.written > 0, "{body}");

    let unknown = json!({"key": "bob", "server": "node9"});
    assert_eq!(problem(here.unix("PUT", path, unknown).await).0, 400);
    done(here.unix("PUT", path, json!({"key": "bob", "server": "node9", "force": true})).await);

    let clear = |query: &'static str| here.unix("DELETE", query, Value::Null);
    assert_eq!(problem(clear("/api/tables/sessions/entries").await).0, 400);
    assert_eq!(done(clear("/api/tables/sessions/entries?key=ann").await).changed, 1);
    assert_eq!(problem(here.get("/api/tables/sessions/entry?key=ann").await).0, 404);
    assert_eq!(done(clear("/api/tables/sessions/entries?server=node1").await).changed, 0);
    assert_eq!(done(clear("/api/tables/sessions/entries?all=true").await).changed, 1);
    assert_eq!(here.get("/api/tables/sessions/entries").await, (200, "[]".into()));
}

#[tokio::test]
async fn a_long_table_streams_whole_and_a_limit_cuts_it() {
    let here = here(|_| {}).await;
    let snapshot = here.control.snapshot();
    let table = &snapshot.tables["sessions"];
    for i in 0..5000 {
        let key = lb_core::table::StickKey::parse(table.spec().kind, 64, &format!("key-{i}")).unwrap();
        let server = snapshot.names.intern(if i % 5 == 0 { "node1" } else { "node2" });
        table.store(&key, server, crate::shared::now());
    }
    let list = async |query: &str| {
        let path = format!("/api/tables/sessions/entries{query}");
        serde_json::from_str::<Vec<EntryStatus>>(&here.get(&path).await.1).unwrap()
    };
    let mut all: Vec<String> = list("?limit=0").await.into_iter().map(|e| e.key).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5000);
    assert_eq!(list("").await.len(), 100);
    assert_eq!(list("?server=node1&limit=0").await.len(), 1000);
    assert_eq!(list("?server=node1&limit=7").await.len(), 7);
    assert_eq!(list("?server=nobody").await.len(), 0);
    assert_eq!(list("?key=key-5").await[0].server, "node1");
    assert_eq!(list("?key=key-5&server=node2").await.len(), 0);
}

#[tokio::test]
async fn a_stop_is_said_at_once_answered_and_leaves_no_socket() {
    let here = here(|_| {}).await;
    let message = done(here.unix("POST", "/api/stop", json!({"drain": "5s"})).await).message;
    assert!(message.contains("5s"), "{message}");
    let (status, why) = here.get("/readyz").await;
    assert!(status == 503 && why.contains("draining"), "{why}");
    here.instance.run().await.unwrap();
    assert_eq!(here.control.phase(), Phase::Stopped);
    assert!(!here.socket.exists());
    assert!(TcpStream::connect(here.control.admin_addr().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_second_instance_on_the_same_socket_or_address_does_not_start() {
    let here = here(|_| {}).await;
    let mut config = fixture::config();
    config.admin.socket = Some(here.socket.clone());
    let error = Instance::without_workers(config, ConfigSource::default()).await.err().unwrap().to_string();
    assert!(error.contains("a running instance answers there") && error.contains("lb1.sock"), "{error}");
    let mut config = fixture::config();
    config.admin.listen = here.control.admin_addr();
    let error = Instance::without_workers(config, ConfigSource::default()).await.err().unwrap().to_string();
    assert!(error.contains("admin.listen"), "{error}");
}

#[tokio::test]
async fn a_refused_reload_is_told_and_counted() {
    let here = here(|_| {}).await;
    let (status, why) = problem(here.unix("POST", "/api/reload", Value::Null).await);
    assert!(status == 422 && why.contains("cannot read"), "{status} {why}");
    assert!(here.control.scrape().contains("lb_reloads_total{result=\"refused\"} 1"));
}
