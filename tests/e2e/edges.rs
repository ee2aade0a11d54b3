//! Where connections begin and end: Unix sockets, sockets that the service manager passes on, the PROXY protocol, TLS to
//! servers.
use crate::servers;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

fn config(listen: &str, backend: &str) -> String {
    format!("[frontend.web]\nlisten = [{listen}]\nbackend = \"app\"\n[backend.app]\n{backend}\n")
}

/// All that comes back.
fn say(lb: &Instance, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(lb.addr).expect("connected");
    stream.write_all(bytes).expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn curl_speaks_over_a_unix_socket_that_a_reload_replaces() {
    let (dir, origin) = (tempfile::tempdir().expect("a directory"), Origin::named("a"));
    let path = dir.path().join("web.sock").display().to_string();
    let listen = format!("LISTEN, {{ addr = \"unix:{path}\", mode = \"0600\" }}");
    let lb = Instance::start(&config(&listen, &servers(&[&origin])));
    let curl = || {
        let output = Command::new("curl").args(["-sS", "-i", "--unix-socket", &path, "http://shop/"]).output();
        String::from_utf8_lossy(&output.expect("curl, installed by tests/run").stdout).into_owned()
    };
    assert!(curl().starts_with("HTTP/1.1 200"));
    assert_eq!(origin.seen()[0].value("x-forwarded-for"), Some("127.0.0.1"));
    lb.edit(|text| text.replace("0600", "0660"));
    assert!(lb.cli(&["reload"]).status.success());
    assert!(curl().starts_with("HTTP/1.1 200"));
}

/// Opens sockets as systemd does, and becomes `lb`: names of sockets, then the command line.
const ACTIVATE: &str = "
import os, socket, sys
names, command = sys.argv[1], sys.argv[2:]
for fd in range(3, 3 + len(names.split(':'))):
    s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True)
    os.dup2(s.fileno(), 100 + fd)
for fd in range(3, 3 + len(names.split(':'))):
    os.dup2(100 + fd, fd, inheritable=True); os.close(100 + fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names.split(':'))), LISTEN_FDNAMES=names)
os.execv(command[0], command)
";

#[test]
fn sockets_that_systemd_opened_are_served_by_name_or_number_and_forgotten_ones_are_told() {
    let (dir, origin) = (tempfile::tempdir().expect("a directory"), Origin::named("a"));
    let file = dir.path().join("lb.toml").display().to_string();
    let log = dir.path().join("log");
    let run = |names: &str, listen: &str| {
        let admin = format!("[admin]\nsocket = \"{}/lb.sock\"\n", dir.path().display());
        std::fs::write(&file, admin + &config(listen, &servers(&[&origin]))).expect("a file");
        let lb = lb_tests::lb().display().to_string();
        let child = Command::new("python3")
            .args(["-c", ACTIVATE, names, &lb, "run", "-c", &file])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn();
        child.expect("python3, installed by tests/run")
    };
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut lb = run("web:spare:other", "\"fd@web\", \"fd@4\"");
    let ports: Vec<u16> = BufReader::new(lb.stdout.take().expect("piped"))
        .lines()
        .take(3)
        .map(|line| line.expect("a line").parse().expect("a port"))
        .collect();
    for port in &ports[..2] {
        // It waits in the socket while lb starts.
        let mut client = lb_tests::Client::connect(([127, 0, 0, 1], *port).into());
        assert_eq!(client.get("/", "").text(), "a");
    }
    assert!(said().contains("fd@other (fd@5) was passed"), "{}", said());
    lb.kill().and_then(|()| lb.wait()).expect("it ends");
    for (names, why) in
        [("web:web", "2 sockets have that name: fd@3, fd@4"), ("a:b", "2 sockets were passed, from fd@3 on: a, b")]
    {
        let mut lb = run(names, "\"fd@web\"");
        assert_eq!(lb.wait().expect("it ends").code(), Some(1));
        assert!(said().contains(why), "{}", said());
    }
}

#[test]
fn a_trusted_proxy_says_who_the_client_is_and_nobody_else() {
    let origin = Origin::named("a");
    let terms = "{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }";
    let lb = Instance::start(&config(terms, &servers(&[&origin])));
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let v1 = [b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n".as_slice(), request].concat();
    assert!(say(&lb, &v1).starts_with("HTTP/1.1 200"));
    let v2 =
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\xc0\x00\x02\x01\x12\x67\x00\x50".as_slice(), request]
            .concat();
    assert!(say(&lb, &v2).starts_with("HTTP/1.1 200"));
    let clients: Vec<_> = origin.seen().iter().filter_map(|s| s.value("x-forwarded-for").map(str::to_owned)).collect();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.8"]);
    assert_eq!(say(&lb, request), "", "no header: closed");
    eventually("it is counted", || {
        lb.admin_text("/metrics").contains("lb_proxy_protocol_errors_total{frontend=\"web\"} 1")
    });
    let distrustful = Instance::start(&config(&terms.replace("127.0.0.1", "192.0.2.0/24"), &servers(&[&origin])));
    assert!(say(&distrustful, request).starts_with("HTTP/1.1 200"));
    assert!(!say(&distrustful, &v1).starts_with("HTTP/1.1 200"), "it is no request");
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn one_instance_tells_the_next_of_the_client_over_verified_tls() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["inner.example"]);
    pki.issue("outer.pem", &["outer"]);
    for version in ["v1", "v2"] {
        let (site, ca, outer) = (pki.text("site.pem"), pki.text("ca.pem"), pki.text("outer.pem"));
        let terms = format!(
            "{{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"], tls = {{ cert = {site:?}, client_ca = {ca:?} }} }}"
        );
        let inner = Instance::start(&config(&terms, &servers(&[&origin])));
        let lb = |sni: &str| {
            let tls = format!("tls = {{ ca = {ca:?}, sni = \"{sni}\", cert = {outer:?} }}\nsend_proxy = \"{version}\"");
            let server = format!("server = [{{ name = \"inner\", addr = \"{}\" }}]\n{tls}", inner.addr);
            Instance::start(&config("{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }", &server))
        };
        let request =
            b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let good = lb("inner.example");
        for _ in 0..3 {
            assert!(say(&good, request).starts_with("HTTP/1.1 200"), "{version}");
        }
        assert!(inner.access().contains("\"client\":\"192.0.2.9:4711\""), "{version}");
        let wrong = lb("other.example");
        assert!(say(&wrong, request).starts_with("HTTP/1.1 503"));
        assert!(wrong.log().contains("its certificate is not for"), "{}", wrong.log());
    }
    assert_eq!(origin.seen().len(), 6);
}

#[test]
fn idle_tls_connections_to_servers_are_used_again() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["inner.example"]);
    let inner = Instance::start(&config(
        &format!("{{ addr = LISTEN, tls = {{ cert = {:?} }} }}", pki.text("site.pem")),
        &servers(&[&origin]),
    ));
    for proto in ["h1", "h2"] {
        let server = format!(
            "proto = \"{proto}\"\nserver = [{{ name = \"inner\", addr = \"{}\", tls = {{ ca = {:?}, sni = \"inner.example\" }} }}]",
            inner.addr,
            pki.text("ca.pem")
        );
        let lb = Instance::start(&config("LISTEN", &server).replace("[instance]\n", ""));
        let mut client = lb.client();
        for _ in 0..5 {
            assert_eq!(client.get("/", "").status, 200);
        }
        let text = lb.admin_text("/metrics");
        assert!(text.contains("lb_server_connects_total{backend=\"app\",server=\"inner\"} 1\n"), "{proto}");
    }
}

#[test]
fn a_port_of_ipv6_alone_leaves_that_of_ipv4_to_others() {
    let origin = Origin::named("a");
    let port = free_port();
    let listen = format!("LISTEN, \"0.0.0.0:{port}\", {{ addr = \"[::]:{port}\", v6only = true }}");
    let _lb = Instance::start(&config(&listen, &servers(&[&origin])));
    for addr in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        TcpStream::connect(&addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
    }
}

#[test]
fn what_is_offered_to_a_server_in_its_handshake_is_what_is_spoken_or_what_is_said() {
    let (pki, echo) = (Pki::new(), Origin::raw(crate::tcp::echo));
    pki.issue("site.pem", &["inner.example"]);
    // An instance that takes `mqtt` alone, and one that knows no protocol.
    let inner = |alpn: &str| {
        Instance::start(&format!(
            "[frontend.web]\nmode = \"tcp\"\nlisten = [{{ addr = LISTEN, tls = {{ cert = {:?} }}{alpn} }}]\n\
             routes = [{{ alpn = \"mqtt\", backend = \"app\" }}]\n[backend.app]\n{}\n",
            pki.text("site.pem"),
            servers(&[&echo])
        ))
    };
    let mqtt = inner(", alpn = [\"mqtt\"]");
    let lb = |alpn: &str| {
        let tls = format!("tls = {{ ca = {:?}, sni = \"inner.example\"{alpn} }}", pki.text("ca.pem"));
        let backend = format!("server = [{{ name = \"inner\", addr = \"{}\" }}]\n{tls}", mqtt.addr);
        Instance::start(&config("LISTEN", &backend).replace("[frontend.web]\n", "[frontend.web]\nmode = \"tcp\"\n"))
    };
    let talks = |lb: &Instance| {
        let mut stream = crate::tcp::open(lb.addr);
        let mut back = [0; 5];
        stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && back == *b"hello"
    };
    assert!(talks(&lb(", alpn = [\"mqtt\"]")));
    assert!(!talks(&lb("")), "in TCP mode nothing is offered by itself, so that no route is found there");
    let refused = lb(", alpn = [\"http/1.1\"]");
    assert!(!talks(&refused));
    eventually("it is told", || refused.log().contains("TLS failed: "));
}
