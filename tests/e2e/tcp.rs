//! Connections that are passed on as they are: `mode = "tcp"`.
use crate::servers;
use lb_tests::{Instance, Origin, eventually};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

mod affinity;
mod bulk;
mod tls;

/// A configuration of one TCP frontend and one backend, `app`, with these lines more.
pub(crate) fn tcp(origins: &[&Origin], frontend: &str, backend: &str) -> String {
    format!(
        "[frontend.web]\nmode = \"tcp\"\nlisten = [LISTEN]\nbackend = \"app\"\n{frontend}\n[backend.app]\n{}\n{backend}\n",
        servers(origins)
    )
}

/// A connection from this address of the loopback network.
pub(crate) fn from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&fd, &SocketAddr::from((Ipv4Addr::from(ip), 0))).expect("an address of this machine");
    connect(&fd, &to).expect("somebody listens");
    patient(TcpStream::from(fd))
}

pub(crate) fn open(to: SocketAddr) -> TcpStream {
    from([127, 0, 0, 1], to)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(lb_tests::PATIENCE)).expect("a socket");
    stream
}

/// Says its name first, then sends everything back, and ends when the client does.
pub(crate) fn greeter(name: &'static str) -> Origin {
    Origin::raw(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
        echo(stream);
    })
}

/// Sends everything back, and ends when the client does.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buf = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buf) {
        if stream.write_all(&buf[..n]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// The next bytes, so many.
pub(crate) fn read(stream: &mut TcpStream, n: usize) -> String {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("what the server says");
    String::from_utf8(bytes).expect("text")
}

/// Whether the connection ends with a reset, and without another byte.
pub(crate) fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Err(e) if e.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_server_that_speaks_first_is_heard_and_one_side_can_end_before_the_other() {
    let a = greeter("220 ready\r\n");
    let lb = Instance::start(&tcp(&[&a], "", ""));
    let mut client = open(lb.addr);
    assert_eq!(read(&mut client, 11), "220 ready\r\n");
    client.write_all(b"EHLO me\r\n").expect("it is open");
    assert_eq!(read(&mut client, 9), "EHLO me\r\n");
    client.write_all(b"last words").expect("it is open");
    client.shutdown(Shutdown::Write).expect("it is open");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("an end in order");
    assert_eq!(rest, "last words");
    eventually("the access log tells", || {
        let log = lb.access();
        [
            "\"method\":\"TCP\"",
            "\"host\":\"\"",
            "\"protocol\":\"tcp\"",
            "\"end\":\"client-closed\"",
            "\"bytes_in\":19",
            "\"bytes_out\":30",
            "\"server\":\"node1\"",
        ]
        .iter()
        .all(|word| log.contains(word))
    });
    let metrics = lb.admin_text("/metrics");
    for line in [
        "lb_tcp_connections_total{frontend=\"web\",result=\"passed\"} 1",
        "lb_server_bytes_total{backend=\"app\",server=\"node1\",direction=\"out\"} 30",
        "lb_affinity_total{backend=\"app\",result=\"new\"} 1",
        "lb_websocket_connections_active{backend=\"app\",server=\"node1\"} 0",
        "lb_server_connections_active{backend=\"app\",server=\"node1\"} 0",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    assert_eq!(lb.json(&["status"])["frontends"][0]["mode"], "tcp");
}

#[test]
fn a_reset_of_the_server_reaches_the_client_as_one() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = tcp(&[], "", "").replace(
        "server = []",
        &format!("server = [{{ name = \"node1\", addr = \"{}\" }}]", server.local_addr().expect("bound")),
    );
    let lb = Instance::start(&config);
    let mut client = open(lb.addr);
    let (mut stream, _) = server.accept().expect("lb connects");
    stream.write_all(b"half of ").expect("it is open");
    assert_eq!(read(&mut client, 8), "half of ");
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    drop(stream);
    assert!(is_reset(&mut client), "an end would make it look whole");
    eventually("the access log tells", || lb.access().contains("\"end\":\"reset\""));
}

#[test]
fn a_silent_connection_ends_and_so_does_a_client_whose_server_has_closed() {
    let silent = Origin::raw(std::mem::forget);
    let lb = Instance::start(&tcp(&[&silent], "", "timeout = { tunnel = \"300ms\" }"));
    let mut client = open(lb.addr);
    assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
    eventually("the access log tells", || lb.access().contains("\"end\":\"tunnel-timeout\""));
    let closes = Origin::raw(|stream| {
        let _ = stream.shutdown(Shutdown::Write);
        std::mem::forget(stream);
    });
    let lb = Instance::start(&tcp(&[&closes], "timeout = { client = \"300ms\" }", ""));
    let mut client = open(lb.addr);
    assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
    // The client itself never ends.
    eventually("it is over", || lb.access().contains("\"end\":\"tunnel-timeout\""));
}

#[test]
fn a_server_that_refuses_is_passed_over_and_none_left_is_a_reset() {
    let (a, b) = (greeter("a"), greeter("b"));
    let lb = Instance::start(&tcp(&[&a, &b], "", ""));
    a.die();
    for _ in 0..4 {
        assert_eq!(read(&mut open(lb.addr), 1), "b");
    }
    b.die();
    assert!(is_reset(&mut open(lb.addr)));
    eventually("the access log names the reason", || lb.access().contains("\"end\":\"connect-failed\""));
    assert!(lb.admin_text("/metrics").contains("lb_tcp_connections_total{frontend=\"web\",result=\"failed\"} 1"));
}

#[test]
fn maxconn_of_a_server_holds_over_connections_and_the_rest_waits() {
    let a = greeter("a");
    let config = tcp(&[&a], "", "timeout = { queue = \"10s\" }").replace("\" }]", "\", maxconn = 1 }]");
    let lb = Instance::start(&config);
    let mut first = open(lb.addr);
    assert_eq!(read(&mut first, 1), "a");
    let mut second = open(lb.addr);
    eventually("it waits", || lb.admin_text("/metrics").contains("lb_backend_queued_total{backend=\"app\"} 1"));
    drop(first);
    assert_eq!(read(&mut second, 1), "a");
}

#[test]
fn a_frontend_that_is_full_resets_who_comes_and_says_nothing_of_http() {
    let a = greeter("a");
    let lb = Instance::start(&tcp(&[&a], "maxconn = 1", ""));
    let mut first = open(lb.addr);
    assert_eq!(read(&mut first, 1), "a");
    let mut said = Vec::new();
    let end = open(lb.addr).read_to_end(&mut said);
    assert!(said.is_empty(), "{end:?} {said:?}");
}

#[test]
fn limits_count_connections_and_deny_with_a_reset() {
    let a = greeter("a");
    let table = "[table.clients]\ntype = \"ip\"\nstore = [\"conn_cur\", \"conn_rate(1m)\", \"bytes_in_cnt\", \"http_req_cnt\"]\n";
    let limit = "limit = [{ key = \"src\", table = \"clients\", when = \"conn_cur > 2\", then = \"deny\" }, \
                 { key = \"src\", table = \"clients\", when = \"conn_rate > 5\", then = \"tarpit 100ms\" }]";
    let lb = Instance::start(&format!("{table}{}", tcp(&[&a], limit, "")));
    let client = || from([127, 0, 0, 9], lb.addr);
    let (mut first, mut second) = (client(), client());
    assert_eq!((read(&mut first, 1), read(&mut second, 1)), ("a".into(), "a".into()));
    assert!(is_reset(&mut client()), "the third at a time");
    assert_eq!(read(&mut open(lb.addr), 1), "a", "others come in");
    first.write_all(b"12345").expect("it is open");
    assert_eq!(read(&mut first, 5), "12345");
    drop((first, second));
    eventually("they are counted as closed", || lb.counter("clients", "127.0.0.9", "conn_cur") == 0);
    assert_eq!(lb.counter("clients", "127.0.0.9", "bytes_in_cnt"), 5);
    assert_eq!(lb.counter("clients", "127.0.0.9", "http_req_cnt"), 0, "a connection is no request");
    for _ in 0..2 {
        assert_eq!(read(&mut client(), 1), "a");
        eventually("it is counted as closed", || lb.counter("clients", "127.0.0.9", "conn_cur") == 0);
    }
    assert!(is_reset(&mut client()), "the sixth within a minute, after a while");
    let metrics = lb.admin_text("/metrics");
    assert!(metrics.contains("lb_limit_total{frontend=\"web\",rule=\"0\",action=\"deny\"} 1"), "{metrics}");
    assert!(metrics.contains("lb_tcp_connections_total{frontend=\"web\",result=\"denied\"} 2"), "{metrics}");
    eventually("the access log names the rule", || lb.access().contains("\"why\":\"limit[0]\""));
}

#[test]
fn a_reload_changes_the_mode_and_open_connections_stay() {
    let a = greeter("a");
    let b = Origin::named("b");
    let lb = Instance::start(&tcp(&[&a], "", ""));
    let mut client = open(lb.addr);
    assert_eq!(read(&mut client, 1), "a");
    lb.edit(|text| text.replace("mode = \"tcp\"\n", "").replace(&a.addr.to_string(), &b.addr.to_string()));
    assert!(lb.cli(&["reload"]).status.success());
    assert_eq!(lb.client().get("/", "").text(), "b");
    client.write_all(b"still").expect("it is open");
    assert_eq!(read(&mut client, 5), "still");
}

#[test]
fn connections_on_a_server_that_goes_down_are_reset_where_that_is_wanted_and_stay_where_it_is_not() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let sick = std::sync::Arc::<AtomicBool>::default();
    let state = sick.clone();
    let health = Origin::raw(move |mut stream| {
        let _ = stream.write_all(if state.load(SeqCst) { b"-BAD\r\n" } else { b"+OK\r\n" });
    });
    let (ended, end) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let a = Origin::raw(move |mut stream| {
        let _ = stream.write_all(b"hello");
        let mut buf = [0; 64];
        let how = loop {
            match stream.read(&mut buf) {
                Ok(0) => break "end",
                Ok(_) => {}
                Err(_) => break "reset",
            }
        };
        let _ = ended.lock().expect("no panic").send(how);
    });
    let check = format!(
        "check = {{ tcp = [{{ expect = \"+OK\" }}], interval = \"50ms\", port = {} }}\ntimeout = {{ check = \"300ms\" }}\n",
        health.addr.port()
    );
    let down = |lb: &Instance| eventually("it is down", || lb.api("/api/servers")[0]["health"] == "down");
    let closing = Instance::start(&tcp(&[&a], "", &format!("{check}on_marked_down = \"close\"")));
    let staying = Instance::start(&tcp(&[&a], "", &check));
    let (mut closed, mut kept) = (open(closing.addr), open(staying.addr));
    assert_eq!((read(&mut closed, 5), read(&mut kept, 5)), ("hello".into(), "hello".into()));
    sick.store(true, SeqCst);
    down(&closing);
    down(&staying);
    assert!(is_reset(&mut closed), "what came so far must not be taken for all");
    assert_eq!(end.recv_timeout(lb_tests::PATIENCE), Ok("reset"), "the server sees it, too");
    eventually("it is logged", || closing.access().contains("\"end\":\"server-down\""));
    assert!(is_reset(&mut open(closing.addr)), "nobody is left for new ones");
    kept.write_all(b"still here").expect("it is open");
    assert!(end.try_recv().is_err());
}
