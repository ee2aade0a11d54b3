//! Servers on Unix sockets, and what checks share with requests on their way to a server.
use crate::{servers, tcp};
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Puts an origin behind a Unix socket; removing the file is its death.
fn on_socket(path: &Path, origin: &Origin) {
    let (listener, to) = (UnixListener::bind(path).expect("a socket"), origin.addr);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { continue };
            std::thread::spawn(move || both_ways(&stream, &server));
        }
    });
}

fn both_ways(unix: &UnixStream, tcp: &TcpStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(std::io::copy(&mut &*unix, &mut &*tcp));
            drop(tcp.shutdown(Shutdown::Write));
        });
        drop(std::io::copy(&mut &*tcp, &mut &*unix));
        drop(unix.shutdown(Shutdown::Write));
    });
}

/// HAProxy on a Unix socket, that takes connections on these terms alone and answers with whom it takes for the client.
struct Haproxy(Child);

impl Haproxy {
    fn start(dir: &Path, socket: &Path, terms: &str) -> Self {
        let config = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nfrontend f\n \
             bind unix@{} {terms}\n http-request return status 200 content-type text/plain lf-string \"%[src] %[ssl_fc_sni]\"\n",
            socket.display()
        );
        let path = dir.join("haproxy.cfg");
        std::fs::write(&path, config).expect("written");
        let child = Command::new("haproxy").args(["-db", "-f"]).arg(&path).stdin(Stdio::null()).spawn();
        let haproxy = Self(child.expect("installed by tests/run"));
        eventually("HAProxy listens", || socket.exists());
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn row(lb: &Instance, server: usize) -> serde_json::Value {
    lb.api("/api/servers")[server].clone()
}

fn checks(lb: &Instance, result: &str) -> f64 {
    lb.metric(&format!("lb_server_checks_total{{backend=\"app\",server=\"node1\",result=\"{result}\"}}"))
}

#[test]
fn requests_sockets_cookies_and_checks_reach_a_server_on_a_unix_socket() {
    let (dir, a, b) = (tempfile::tempdir().expect("a directory"), Origin::named("a"), Origin::named("b"));
    let path = dir.path().join("a.sock");
    on_socket(&path, &a);
    let list = servers(&[&a, &b]).replace(&format!("\"{}\"", a.addr), &format!("\"unix:{}\"", path.display()));
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\n{list}\n\
         sticky = [{{ cookie = \"S\", insert = true, value = \"dynamic\", keys = [\"0123456789abcdef0123456789abcdef\"] }}]\n\
         check = {{ http = \"GET /health\", interval = \"50ms\" }}\n"
    ));
    let shown = format!("unix:{}", path.display());
    assert_eq!(row(&lb, 0)["addr"], shown.as_str());
    assert!(lb.text(&["server", "list"]).contains(&shown));
    eventually("it is checked", || checks(&lb, "passed") > 1.0);
    let of_a = || loop {
        let answer = lb.client().get("/", "");
        if answer.text() == "a" {
            return answer.value("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
        }
    };
    let cookie = of_a();
    assert_eq!((cookie.len(), of_a()), (18, cookie.clone()), "S= and a keyed hash of the path");
    let field = format!("Cookie: {cookie}\r\n");
    let mut client = lb.client();
    assert!((0..4).all(|_| client.get("/", &field).text() == "a"));
    let mut socket = lb.client();
    assert_eq!(socket.upgrade("/ws", &field).status, 101);
    assert!(socket.send("hello") && socket.read(5).as_deref() == Some(b"hello"));
    // Idle connections are kept.
    assert!(lb.metric("lb_server_connects_total{backend=\"app\",server=\"node1\"}") < 7.0);
    std::fs::remove_file(&path).expect("removed");
    eventually("it is down", || row(&lb, 0)["health"] == "down");
    assert!(row(&lb, 0)["reason"].as_str().is_some_and(|why| why.contains("cannot connect")), "{}", row(&lb, 0));
    assert_eq!(lb.client().get("/", &field).text(), "b");
    assert!(socket.send("still") && socket.read(5).as_deref() == Some(b"still"));
    on_socket(&path, &a);
    eventually("it is back", || row(&lb, 0)["health"] == "up");
    assert_eq!(lb.client().get("/", &field).text(), "a");
}

#[test]
fn a_tcp_frontend_reaches_a_server_on_a_unix_socket_and_passes_on_much() {
    let (dir, echo) = (tempfile::tempdir().expect("a directory"), Origin::raw(tcp::echo));
    let path = dir.path().join("db.sock");
    on_socket(&path, &echo);
    let config = tcp::tcp(&[&echo], "", "check = { tcp = true, interval = \"50ms\" }");
    let config = config.replace(&format!("\"{}\"", echo.addr), &format!("\"unix:{}\"", path.display()));
    let lb = Instance::start(&config);
    let mut stream = tcp::open(lb.addr);
    let sent: Vec<u8> = (0..4 << 20_u32).map(|n| (n % 251) as u8).collect();
    let mut writing = stream.try_clone().expect("a handle");
    let all = sent.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(&all).expect("written");
        writing.shutdown(Shutdown::Write).expect("an end");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("all of it");
    writer.join().expect("no panic");
    assert!(back == sent);
    eventually("it is checked", || checks(&lb, "passed") > 1.0);
    assert_eq!(checks(&lb, "failed"), 0.0);
}

#[test]
fn requests_and_checks_bring_a_proxy_header_and_a_certificate_to_haproxy_on_a_unix_socket() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().expect("a directory"));
    pki.issue("site.pem", &["inner.example"]);
    pki.issue("lb.pem", &["lb"]);
    pki.write("other-ca.pem", &std::fs::read_to_string(Pki::new().path("ca.pem")).expect("a CA"));
    let socket = dir.path().join("app.sock");
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let terms = format!("accept-proxy ssl crt {site} ca-file {ca} verify required ssl-min-ver TLSv1.3");
    let _haproxy = Haproxy::start(dir.path(), &socket, &terms);
    let config = |check: &str| {
        format!(
            "[frontend.web]\nlisten = [{{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }}]\nbackend = \"app\"\n[backend.app]\n\
             tls = {{ ca = [{:?}, {ca:?}], sni = \"inner.example\", cert = {:?}, min_version = \"1.3\" }}\nsend_proxy = \"v2\"\n\
             check = {{ http = \"GET /\", expect = 200, interval = \"50ms\"{check} }}\n\
             server = [{{ name = \"node1\", addr = \"unix:{}\" }}]\n",
            pki.text("other-ca.pem"),
            pki.text("lb.pem"),
            socket.display()
        )
    };
    let lb = Instance::start(&config(""));
    eventually("checks pass", || checks(&lb, "passed") > 2.0);
    assert_eq!(checks(&lb, "failed"), 0.0, "{}", row(&lb, 0));
    let mut client = lb.client();
    client.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.text()).as_deref(), Some("192.0.2.7 inner.example"));
    let stranger = format!(", tls = {{ ca = {:?} }}", pki.text("other-ca.pem"));
    for wrong in [", send_proxy = false", ", tls = false", ", tls = { sni = \"other.example\" }", &stranger] {
        let lb = Instance::start(&config(wrong));
        eventually("checks fail", || row(&lb, 0)["health"] == "down");
        assert_eq!(checks(&lb, "passed"), 0.0, "{wrong}");
    }
}

#[test]
fn each_server_is_checked_where_it_says_and_one_that_says_so_is_not() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let sick = Origin::answering(|_| lb_tests::origin::Reply::Raw(b"HTTP/1.1 500 Sick\r\n\r\n".into()));
    let agent = Origin::raw(|mut stream| drop(stream.write_all(b"drain\n")));
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\n\
         check = {{ http = \"GET /health\", expect = 200, interval = \"50ms\", port = {} }}\n\
         agent = {{ port = {}, interval = \"50ms\" }}\n\
         server = [\n{{ name = \"node1\", addr = \"{}\", check = {{ port = {} }}, agent = false }},\n\
         {{ name = \"node2\", addr = \"{}\", check = false, agent = false }},\n\
         {{ name = \"node3\", addr = \"{}\", check = {{ addr = \"127.0.0.1\", port = {} }}, agent = {{ port = {} }} }},\n]\n",
        sick.addr.port(),
        lb_tests::instance::free_port(),
        a.addr,
        a.addr.port(),
        b.addr,
        c.addr,
        sick.addr.port(),
        agent.addr.port()
    ));
    eventually("the third is down, by its own check", || row(&lb, 2)["health"] == "down");
    assert_eq!(row(&lb, 2)["reason"], "answered 500, expected 200");
    eventually("and drained, by its own agent", || row(&lb, 2)["state"] == "drain");
    eventually("the first passes", || checks(&lb, "passed") > 1.0);
    let passed = |server: &str| {
        lb.metric(&format!("lb_server_checks_total{{backend=\"app\",server=\"{server}\",result=\"passed\"}}"))
    };
    let failed = |server: &str| {
        lb.metric(&format!("lb_server_checks_total{{backend=\"app\",server=\"{server}\",result=\"failed\"}}"))
    };
    assert_eq!((passed("node2"), failed("node2")), (0.0, 0.0));
    assert_eq!((row(&lb, 0)["health"].as_str(), row(&lb, 1)["health"].as_str()), (Some("up"), Some("up")));
    assert!(row(&lb, 0)["agent"].is_null() && row(&lb, 1)["agent"].is_null());
    // Without a check a server goes by its connects.
    b.die();
    eventually("the second is down", || {
        lb.client().get("/", "");
        row(&lb, 1)["health"] == "down"
    });
    assert!(row(&lb, 1)["reason"].as_str().is_some_and(|why| why.contains("connects in a row failed")));
}
