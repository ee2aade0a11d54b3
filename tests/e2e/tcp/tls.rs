//! TLS that is passed on as it is: routed by what its hello asks for, kept on its server by its session.
use super::{greeter, is_reset, open, read, tcp};
use lb_tests::instance::free_port;
use lb_tests::{Instance, Origin, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An `openssl s_server` with a certificate of its own.
struct Server {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Server {
    fn start(name: &str, options: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = |name: &str| -> PathBuf { dir.path().join(name) };
        let made = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split(' '))
            .arg(format!("/CN={name}"))
            .args(["-keyout".as_ref(), file("key.pem").as_path(), "-out".as_ref(), file("cert.pem").as_path()]
                as [&Path; 4])
            .output();
        assert!(made.expect("openssl runs").status.success());
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        // Each line comes back turned round.
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-rev", "-accept", &addr.to_string(), "-cert"])
            .arg(file("cert.pem"))
            .arg("-key")
            .arg(file("key.pem"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        eventually("it listens", || TcpStream::connect(addr).is_ok());
        Self { child, addr, _dir: dir }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `openssl s_client`, which says "drow" and waits for the answer; what it printed.
fn client(to: SocketAddr, options: &[&str]) -> String {
    let output: Output = {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &to.to_string(), "-ign_eof"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        // "CLOSE" ends a server that turns lines round.
        child.stdin.take().expect("piped").write_all(b"drow\nCLOSE\n").expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn clients_reach_the_server_whose_name_they_ask_for_and_see_its_own_certificate() {
    let (a, b, rest) = (Server::start("a.example", &[]), Server::start("b.example", &[]), greeter("no name"));
    let at = |addr: SocketAddr| format!("server = [{{ name = \"node1\", addr = \"{addr}\" }}]");
    let routes = "routes = [{ sni = \"a.example\", backend = \"a\" }, { sni = [\"*.b.example\", \"b.example\"], backend = \"b\" }, \
                  { alpn = \"imap\", backend = \"b\" }]\ninspect_delay = \"300ms\"";
    let lb = Instance::start(&format!(
        "{}[backend.a]\n{}\n[backend.b]\n{}\n",
        tcp(&[&rest], routes, ""),
        at(a.addr),
        at(b.addr)
    ));
    for (options, subject) in [
        (&["-servername", "a.example", "-tls1_3"][..], "CN = a.example"),
        (&["-servername", "A.EXAMPLE", "-tls1_2"], "CN = a.example"),
        (&["-servername", "x.y.b.example"], "CN = b.example"),
        (&["-servername", "other", "-alpn", "h2,imap"], "CN = b.example"),
    ] {
        let said = client(lb.addr, options);
        assert!(said.contains(&format!("subject={subject}")), "{options:?}: {said}");
        assert!(said.contains("word"), "{options:?}: {said}");
    }
    // The others: another name, no TLS at all, silence.
    let mut plain = open(lb.addr);
    plain.write_all(b"HELO\r\n").expect("it is open");
    assert_eq!(read(&mut plain, 13), "no nameHELO\r\n");
    let started = Instant::now();
    assert_eq!(read(&mut open(lb.addr), 7), "no name", "it may be the server that speaks first");
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    eventually("the access log has the names", || {
        let log = lb.access();
        log.contains("\"backend\":\"a\"") && log.contains("\"host\":\"x.y.b.example\"")
    });
}

/// The hello of openssl for a.example, whole.
fn hello() -> Vec<u8> {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = server.local_addr().expect("bound").to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &addr, "-servername", "a.example"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let (mut stream, _) = server.accept().expect("it connects");
    let mut hello = vec![0; 5];
    stream.read_exact(&mut hello).expect("a record");
    hello.resize(5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])), 0);
    stream.read_exact(&mut hello[5..]).expect("a record");
    drop(child.kill());
    drop(child.wait());
    hello
}

#[test]
fn a_hello_may_come_byte_by_byte_but_neither_broken_nor_late() {
    let a = Origin::raw(super::echo);
    let routes = "routes = [{ sni = \"a.example\", backend = \"app\" }]\ninspect_delay = \"1s\"";
    let lb = Instance::start(&tcp(&[&a], routes, "").replace("\nbackend = \"app\"\nroutes", "\nroutes"));
    let hello = hello();
    let mut slow = open(lb.addr);
    slow.set_nodelay(true).expect("a socket");
    for byte in &hello {
        slow.write_all(&[*byte]).expect("it is open");
    }
    let mut back = vec![0; hello.len()];
    slow.read_exact(&mut back).expect("it is passed on");
    assert_eq!(back, hello, "as it came");
    let mut late = open(lb.addr);
    late.write_all(&hello[..100]).expect("it is open");
    assert!(is_reset(&mut late));
    eventually("the log says why", || lb.access().contains("\"end\":\"hello-timeout\""));
    let mut broken = hello.clone();
    broken[43] = 200; // a session id longer than any
    let mut client = open(lb.addr);
    client.write_all(&broken).expect("it is open");
    assert!(is_reset(&mut client));
    eventually("the log says why", || lb.access().contains("\"end\":\"bad-hello\""));
    let mut short = open(lb.addr);
    short.write_all(&hello[..100]).expect("it is open");
    short.shutdown(Shutdown::Write).expect("it is open");
    assert!(is_reset(&mut short));
    // Nobody takes the others.
    let mut plain = open(lb.addr);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is open");
    assert!(is_reset(&mut plain));
    eventually("the log says why", || lb.access().contains("\"end\":\"no-route\""));
}

#[test]
fn names_and_sessions_keep_their_server_over_two_instances() {
    let servers = ["a", "b"].map(|name| Server::start(name, &["-tls1_2", "-no_ticket"]));
    let list: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(i, s)| format!("{{ name = \"node{}\", addr = \"{}\" }}", i + 1, s.addr))
        .collect();
    let config = format!(
        "[table.sessions]\ntype = \"binary\"\nlen = 32\n[table.names]\ntype = \"string\"\n\
         [frontend.web]\nmode = \"tcp\"\nlisten = [LISTEN]\nbackend = \"by_session\"\nroutes = [{{ sni = \"*.named\", backend = \"by_name\" }}]\n\
         [backend.by_session]\nsticky = [{{ match = \"tls_session_id\", table = \"sessions\" }}, {{ store_response = \"tls_session_id\", table = \"sessions\" }}]\nserver = [{0}]\n\
         [backend.by_name]\nsticky = [{{ on = \"sni\", table = \"names\" }}]\nserver = [{0}]\n",
        list.join(", ")
    );
    let cluster = Instance::cluster(2, &config);
    let dir = TempDir::new().expect("a directory");
    let session = |i: usize| dir.path().join(format!("{i}")).display().to_string();
    // Each session is known to the server that made it, and to no other.
    for i in 0..6 {
        let said = client(cluster[0].addr, &["-tls1_2", "-sess_out", &session(i)]);
        assert!(said.contains("New, TLSv1.2"), "{said}");
    }
    eventually("every session is pinned on both", || cluster.iter().all(|lb| lb.pins("sessions").len() == 6));
    for i in 0..6 {
        let said = client(cluster[i % 2].addr, &["-tls1_2", "-sess_in", &session(i)]);
        assert!(said.contains("Reused, TLSv1.2"), "session {i}: {said}");
    }
    let subject = |said: &str| said.lines().find(|l| l.starts_with("subject=")).map(str::to_owned);
    for name in ["x.named", "y.named", "z.named"] {
        let first = subject(&client(cluster[0].addr, &["-servername", name]));
        assert!(first.is_some());
        eventually("the other knows", || cluster[1].pin("names", name).is_some());
        assert_eq!(subject(&client(cluster[1].addr, &["-servername", name])), first);
    }
}
