//! Other people's clients and servers of HTTP/2: curl, Python's gRPC, httpx and hypercorn, Node, nghttp2, HAProxy.
use crate::app_h2;
use crate::foreign::{Server, node, python, server};
use lb_tests::{Instance, Origin, eventually, instance::free_port};
use std::process::{Child, Command, Stdio};

/// One frontend for HTTP/2, one backend of these ports.
fn to(ports: &[u16], lines: &str) -> String {
    let list: Vec<_> = ports.iter().map(|p| format!("{{ name = \"n{p}\", addr = \"127.0.0.1:{p}\" }}")).collect();
    format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}]\nbackend = \"app\"\n[backend.app]\nserver = [{}]\n{lines}\n",
        list.join(", ")
    )
}

fn passes(command: &mut Command) -> String {
    let output = command.output().expect("installed by tests/run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    out.into_owned()
}

fn curl(lb: &Instance, path: &str, args: &[&str]) -> String {
    let url = format!("http://{}{path}", lb.addr);
    passes(Command::new("curl").args(["-sS", "--max-time", "20", "--http2-prior-knowledge"]).args(args).arg(url))
}

/// A program that is killed with the test.
struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn curl_gets_posts_and_asks_for_heads() {
    let a = Origin::named("from a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    assert_eq!(curl(&lb, "/x", &["-w", " %{http_version} %{http_code}"]), "from a 2 200");
    assert_eq!(curl(&lb, "/x", &["-d", "a=b", "-b", "c=d; e=f"]), "from a");
    let head = curl(&lb, "/x", &["-I"]);
    assert!(head.starts_with("HTTP/2 200"), "{head}");
    let seen = &a.seen()[1];
    assert_eq!((seen.body.as_slice(), seen.value("cookie")), (&b"a=b"[..], Some("c=d; e=f")));
}

#[test]
fn curl_reads_the_answer_to_a_body_that_nobody_wants() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], "[[frontend.web.request]]\ndeny = 403\n"));
    let dir = tempfile::tempdir().expect("a directory");
    for size in [1, 100, 10_000, 60_000] {
        let file = dir.path().join("body");
        std::fs::write(&file, vec![b'x'; size]).expect("written");
        for _ in 0..10 {
            let body = format!("@{}", file.display());
            let answer = curl(&lb, "/", &["-w", " %{http_code}", "--data-binary", &body]);
            assert!(answer.ends_with(" 403"), "{size}: {answer}");
        }
    }
}

#[test]
fn grpc_passes_in_every_way_that_there_is() {
    let one = server(python("grpc_server.py"), "one");
    let lb = Instance::start(&to(&[one.port], "proto = \"h2\"\ncheck = { tcp = true }"));
    assert_eq!(passes(python("grpc_client.py").arg(lb.addr.port().to_string())).trim(), "ok");
    let metrics = lb.admin_text("/metrics");
    let connects = metrics.lines().find(|l| l.starts_with("lb_server_connects_total")).expect("a metric");
    let connects: u32 = connects.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(connects <= 8, "requests share connections: {connects}");
    eventually("nothing is left at the server", || {
        lb.admin_text("/metrics").contains("lb_server_connections_active{backend=\"app\",server=\"n")
            && lb
                .admin_text("/metrics")
                .lines()
                .filter(|l| l.starts_with("lb_server_connections_active"))
                .all(|l| l.ends_with(" 0"))
    });
}

#[test]
fn a_grpc_client_goes_on_when_its_server_dies_and_another_is_there() {
    let servers: Vec<Server> = (0..2).map(|_| server(python("grpc_server.py"), "x")).collect();
    let ports: Vec<_> = servers.iter().map(|s| s.port).collect();
    let lb = Instance::start(&to(&ports, "proto = \"h2\"\ncheck = { tcp = true, interval = \"200ms\" }"));
    let call = || passes(python("grpc_client.py").arg(lb.addr.port().to_string()));
    assert_eq!(call().trim(), "ok");
    let mut servers = servers.into_iter();
    drop(servers.next());
    eventually("the dead one is known", || {
        lb.admin_text("/metrics").lines().any(|l| l.starts_with("lb_server_up") && l.ends_with(" 0"))
    });
    assert_eq!(call().trim(), "ok");
}

#[test]
fn httpx_speaks_to_hypercorn_over_http_1_and_over_http_2() {
    let app = server(python("h2_app.py"), "app");
    for (lines, version) in [("", "1.1"), ("proto = \"h2\"", "2")] {
        let lb = Instance::start(&to(&[app.port], lines));
        let told = passes(python("h2_client.py").args([&lb.addr.port().to_string(), version]));
        assert_eq!(told.trim(), "ok");
    }
}

#[test]
fn a_websocket_of_nodes_http_2_reaches_nodes_ws_and_pythons_websockets() {
    for other in [server(node("server.js"), "other"), server(python("server.py"), "other")] {
        let a = Origin::named("a");
        let config = format!(
            "{}[backend.ws]\nserver = [{{ name = \"w\", addr = \"127.0.0.1:{}\" }}]\n",
            app_h2(&[&a], "").replace(
                "backend = \"app\"\n",
                "backend = \"app\"\nroutes = [{ websocket = true, backend = \"ws\" }]\n"
            ),
            other.port
        );
        let lb = Instance::start(&config);
        let told = passes(node("h2_client.js").arg(lb.addr.port().to_string()));
        assert_eq!(told.trim(), "other h2 1");
    }
}

#[test]
fn a_load_of_h2load_is_answered_by_nghttpd_without_an_error() {
    let (port, dir) = (free_port(), tempfile_dir());
    std::fs::write(dir.path().join("x.txt"), "hello").expect("a file");
    let nghttpd = Command::new("nghttpd")
        .args(["--no-tls", "-d"])
        .arg(dir.path())
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _nghttpd = Neighbour(nghttpd.expect("installed by tests/run"));
    eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let lb = Instance::start(&to(&[port], "proto = \"h2\""));
    let url = format!("http://{}/x.txt", lb.addr);
    let told = passes(Command::new("h2load").args(["-n", "5000", "-c", "8", "-m", "50"]).arg(&url));
    assert!(told.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
    // More at a time than the server takes on a connection.
    let told = passes(Command::new("h2load").args(["-n", "3000", "-c", "30", "-m", "100"]).arg(&url));
    assert!(told.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
}

#[test]
fn haproxy_stands_before_and_behind() {
    let (a, dir) = (Origin::named("from a"), tempfile_dir());
    let (front, back) = (free_port(), free_port());
    let lb = Instance::start(&format!(
        "{}[backend.h2]\nproto = \"h2\"\nserver = [{{ name = \"h\", addr = \"127.0.0.1:{back}\" }}]\n",
        app_h2(&[&a], "").replace(
            "backend = \"app\"\n",
            "backend = \"app\"\nroutes = [{ path_prefix = \"/h2\", backend = \"h2\" }]\n"
        )
    ));
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n\
         frontend before\n bind 127.0.0.1:{front}\n default_backend lb\nbackend lb\n server lb {} proto h2\n\
         frontend behind\n bind 127.0.0.1:{back} proto h2\n default_backend a\nbackend a\n server a {}\n",
        lb.addr, a.addr
    );
    let path = dir.path().join("haproxy.cfg");
    std::fs::write(&path, text).expect("a file");
    let haproxy = Command::new("haproxy").args(["-db", "-f"]).arg(&path).stderr(Stdio::null()).spawn();
    let _haproxy = Neighbour(haproxy.expect("installed by tests/run"));
    eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", front)).is_ok());
    for path in ["/x", "/h2/x"] {
        let url = format!("http://127.0.0.1:{front}{path}");
        let told = passes(Command::new("curl").args(["-sS", "--max-time", "20", "-d", "hello", &url]));
        assert_eq!(told, "from a");
    }
    assert!(a.seen().iter().all(|seen| seen.body == b"hello"), "{:?}", a.seen());
}

fn tempfile_dir() -> tempfile::TempDir {
    tempfile::TempDir::new().expect("a directory")
}
