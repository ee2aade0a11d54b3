//! Whatever comes, nothing leaks: no memory, no descriptor, no secret; and what is not a request's own fails no request.
use crate::{app, servers};
use lb_tests::dice::Dice;
use lb_tests::frames::{self, Frames};
use lb_tests::instance::free_port;
use lb_tests::origin::Reply;
use lb_tests::pki::Pki;
use lb_tests::{Client, Instance, Origin, eventually, lb};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn logs_that_cannot_be_written_fail_no_request_and_are_counted() {
    let origin = Origin::named("a");
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("a full disk"));
    for place in ["a full disk", "a pipe without a reader"] {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (web, admin) = (free_port(), free_port());
        let config = app(&[&origin], "").replace("LISTEN", &format!("\"127.0.0.1:{web}\""));
        let head = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n[log]\nlevel = \"debug\"\naccess = true\n");
        let file = dir.path().join("lb.toml");
        std::fs::write(&file, head + &config).expect("a configuration");
        let (out, err) = if place == "a full disk" { (full(), full()) } else { (Stdio::piped(), Stdio::piped()) };
        let mut command = Command::new(lb());
        command.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(out).stderr(err);
        let mut lb = Running(command.spawn().expect("lb starts"));
        drop((lb.0.stdout.take(), lb.0.stderr.take()));
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        let asked = |path: &str| Client::try_connect(admin).map(|mut client| client.get(path, ""));
        eventually("it is ready", || asked("/readyz").is_some_and(|answer| answer.status == 200));
        let mut client = Client::connect(([127, 0, 0, 1], web).into());
        for _ in 0..100 {
            assert_eq!(client.get("/", "").text(), "a", "{place}");
        }
        eventually("what was lost is counted", || {
            let metrics = asked("/metrics").expect("it answers").text();
            let lost = metrics.lines().find_map(|line| line.strip_prefix("lb_access_log_dropped_total "));
            lost.and_then(|lost| lost.parse::<f64>().ok()) == Some(100.0)
        });
        assert!(lb.0.try_wait().expect("a process").is_none(), "{place}: it has ended");
    }
}

#[test]
fn a_server_whose_certificate_has_expired_gets_no_request_and_the_log_says_why() {
    let pki = Pki::new();
    let port = free_port();
    let serve = |certificate: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &port.to_string(), "-cert", &pki.text(certificate)]);
        command.args(["-key", &pki.text(certificate)]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running(command.spawn().expect("openssl, installed by tests/run"));
        eventually("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    };
    pki.issue_with("old.pem", &["app.internal"], |c| {
        (c.not_before, c.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 1, 1));
    });
    pki.issue("new.pem", &["app.internal"]);
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\nretries = 0\n\
         tls = {{ ca = {:?}, sni = \"app.internal\" }}\nserver = [{{ name = \"a\", addr = \"127.0.0.1:{port}\" }}]\n",
        pki.text("ca.pem")
    ));
    let server = serve("old.pem");
    let answer = lb.client().get("/", "");
    assert_eq!((answer.status, answer.text().contains("connect-failed")), (503, true), "{}", answer.text());
    assert!(lb.log().contains("expired"), "{}", lb.log());
    drop(server);
    let _server = serve("new.pem");
    eventually("the renewed one is served from", || lb.client().get("/", "").status == 200);
}

#[test]
fn no_secret_is_in_what_an_instance_says() {
    const SECRETS: [&str; 6] = [
        "cookie-key-Zx81-cookie-key-Zx81",
        "jwt-key-Qw52-jwt-key-Qw52-jwt-key",
        "token-Er33",
        "word-Ty94",
        "Bearer-Ui75",
        "jar-Op16",
    ];
    let [cookie, jwt, token, _, bearer, jar] = SECRETS;
    let origin = Origin::named("a");
    let sticky = format!("sticky = [{{ cookie = \"S\", insert = true, value = \"sealed\", keys = [\"{cookie}\"] }}]");
    let rule = "request = [{ if = { path_prefix = \"/staff\" }, auth = \"staff\" }]\nbackend = \"app\"";
    let config = app(&[&origin], &sticky).replacen("backend = \"app\"", rule, 1);
    let users = "{ ann = \"$2b$04$HPRXZ3GdBOunRC.gz6bbluw5MSsXUGyPc2AXRuZN4X.72cw3GAf9i\" }";
    let mut lb = Instance::start(&format!("[jwt]\nkeys = [\"{jwt}\"]\n[auth.staff]\nusers = {users}\n{config}"));
    lb.edit(|text| text.replacen("socket = ", &format!("token = \"{token}\"\nsocket = "), 1));
    lb.kill();
    lb.restart();
    lb.wait_ready();
    // As the client says `ann` and the word.
    let basic = "YW5uOndvcmQtVHk5NA==";
    assert_eq!(lb.client().get("/staff", &format!("Authorization: Basic {basic}\r\n")).status, 401);
    let fields = format!("Authorization: Bearer {bearer}\r\nCookie: session={jar}\r\n");
    let sealed = lb.client().get("/", &fields);
    assert_eq!(sealed.text(), "a");
    for wrong in [format!("token = \"{token}\"\nno_such_key = 1"), format!("token = \"{token} \"")] {
        lb.edit(|text| text.replacen(&format!("token = \"{token}\""), &wrong, 1));
        lb.cli(&["reload"]);
    }
    // Its word is too short for a key: that is told, and not what it is.
    lb.edit(|text| text.replace(cookie, "short-Zx81"));
    let refused = lb.cli(&["reload"]);
    assert!(!refused.status.success());
    let mut said = lb.log() + &lb.access() + &String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat());
    for path in ["/metrics", "/api/status", "/api/tables", "/"] {
        said += &lb.admin_text(path);
    }
    said += &lb.text(&["status"]);
    assert!(said.contains("\"path\"") || said.contains("/staff"), "the log has the requests");
    for secret in SECRETS.iter().copied().chain(["short-Zx81", basic, "HPRXZ3GdBOunRC"]) {
        assert!(!said.contains(secret), "{secret}: {}", said.lines().find(|line| line.contains(secret)).unwrap_or(""));
    }
}

/// What a client does, and then it is gone.
fn visit(lb: &Instance, tls: SocketAddr, what: usize) {
    let mut client = lb.client();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    match what {
        0 => (0..3).for_each(|_| assert_eq!(client.get("/", "").text(), "fine")),
        1 => drop(client.send("GET / HTTP/1.1\r\nHost: t\r\nX-")),
        2 => drop(
            client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(1000))),
        ),
        3 => drop((client.send(get("/large")), client.read(1000))),
        4 => drop((client.upgrade("/ws", ""), client.send("!"), client.read(1))),
        5 => drop((client.send(get("/gone")), client.answer())),
        6 => drop((client.send(get("/cut")), client.rest())),
        7 => drop((client.send("\0\x01 is no request\r\n\r\n"), client.rest())),
        8 => drop(TcpStream::connect(tls).map(|mut to| to.write_all(b"\x16\x03\x01\x02\x00\x01\x00"))),
        9 => drop(Frames::connect(lb.addr).request(1, &frames::get("/large"))),
        _ => {
            let mut h2 = Frames::connect(lb.addr);
            h2.request(1, &frames::get("/"));
            h2.body(1);
        }
    }
}

/// What two workers keep for later: two idle connections to the server and eight pipes each.
const KEPT: usize = 2 * (2 + 8 * 2);

#[test]
fn rounds_of_all_that_goes_wrong_leave_no_descriptor_no_count_and_no_memory_behind() {
    let pki = Pki::new();
    pki.issue("site.pem", &["shop.example"]);
    let large = "x".repeat(1 << 20);
    let origin = Origin::answering(move |seen| match seen.head.split(' ').nth(1) {
        Some("/large") => Reply::Body(large.clone()),
        Some("/gone") => Reply::Raw(Vec::new()),
        Some("/cut") => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        _ => Reply::Body("fine".into()),
    });
    let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}, {{ addr = \"{tls}\", tls = {{ cert = {:?} }} }}]\n\
         backend = \"app\"\n[backend.app]\nmax_idle = 2\n{}\n",
        pki.text("site.pem"),
        servers(&[&origin])
    ));
    let round = |seed: u64| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lb = &lb;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed * 4 + thread);
                    (0..60).for_each(|_| visit(lb, tls, dice.below(11)));
                });
            }
            lb.signal("-HUP");
        });
        for gauge in [
            "lb_frontend_connections_active{frontend=\"web\"}",
            "lb_http2_connections_active{frontend=\"web\"}",
            "lb_tls_handshakes_active{frontend=\"web\"}",
            "lb_server_connections_active{backend=\"app\",server=\"node1\"}",
            "lb_websocket_connections_active{backend=\"app\",server=\"node1\"}",
        ] {
            eventually(gauge, || lb.metric(gauge) == 0.0);
        }
    };
    let at_rest = lb.descriptors();
    for seed in 0..3 {
        round(seed);
    }
    eventually("all connections are gone", || lb.descriptors() <= at_rest + KEPT);
    let before = lb.memory();
    for seed in 3..9 {
        round(seed);
    }
    eventually("all connections are gone", || lb.descriptors() <= at_rest + KEPT);
    // 1,440 visits: what each of them left behind would show, were it 4 KiB. Memory comes in pages of 2 MiB.
    let after = lb.memory();
    assert!(after < before + (6 << 20), "{before} bytes became {after}");
}
