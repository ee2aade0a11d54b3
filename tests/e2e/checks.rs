//! Health checks against servers of other people's making: gRPC from Python, WebSockets from Python and Node, TLS from
//! OpenSSL; and agents.
use crate::foreign::{here, node, python, server};
use lb_tests::{Instance, Origin, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// One server at this port, checked so.
fn config(port: u16, check: &str) -> String {
    format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\n{check}\n\
         server = [{{ name = \"node1\", addr = \"127.0.0.1:{port}\", weight = 10 }}]\n"
    )
}

fn row(lb: &Instance) -> serde_json::Value {
    lb.api("/api/servers")[0].clone()
}

/// Waits until a check has passed, and nothing has failed.
fn passes(lb: &Instance) {
    eventually("a check passes", || {
        lb.metric("lb_server_checks_total{backend=\"app\",server=\"node1\",result=\"passed\"}") > 1.0
    });
    assert_eq!(row(lb)["health"], "up", "{}", row(lb));
    assert_eq!(lb.metric("lb_server_checks_total{backend=\"app\",server=\"node1\",result=\"failed\"}"), 0.0);
}

/// Waits until the server is down; why.
fn fails(lb: &Instance) -> String {
    eventually("the server is down", || row(lb)["health"] == "down");
    row(lb)["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn websocket_servers_of_python_and_node_pass_and_a_plain_http_server_does_not() {
    for command in [python("server.py"), node("server.js")] {
        let server = server(command, "x");
        let lb = Instance::start(&config(server.port, "check = { websocket = \"/\", interval = \"50ms\" }"));
        passes(&lb);
        drop(server);
        assert!(fails(&lb).contains("cannot connect"), "{}", row(&lb));
    }
    let plain = Origin::answering(|_| {
        lb_tests::origin::Reply::Keep(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n".into())
    });
    let lb = Instance::start(&config(plain.addr.port(), "check = { websocket = \"/\", interval = \"50ms\" }"));
    assert_eq!(fails(&lb), "answered 426, expected 101");
}

#[test]
fn a_grpc_server_of_python_is_up_while_it_says_serving() {
    let mut health = server(python("health.py"), "x");
    let lb = Instance::start(&config(health.port, "check = { grpc = \"shop.Orders\", interval = \"50ms\" }"));
    passes(&lb);
    health.say("NOT_SERVING");
    assert_eq!(fails(&lb), "it says NOT_SERVING");
    health.say("SERVING");
    eventually("it is up again", || row(&lb)["health"] == "up");
    let lb = Instance::start(&config(health.port, "check = { grpc = \"shop.Unknown\", interval = \"50ms\" }"));
    assert_eq!(fails(&lb), "it knows no gRPC service \"shop.Unknown\"");
}

#[test]
fn over_tls_a_grpc_server_and_openssl_are_verified_by_the_authority_that_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(vec!["shop.internal".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let tls = |sni: &str| format!("tls = {{ ca = \"{}\", sni = \"{sni}\" }}, interval = \"50ms\"", cert.display());

    let mut command = python("health.py");
    command.arg("x").arg(&cert);
    let health = server(command, key.to_str().expect("a path"));
    passes(&Instance::start(&config(health.port, &format!("check = {{ grpc = true, {} }}", tls("shop.internal")))));
    let lb = Instance::start(&config(health.port, &format!("check = {{ grpc = true, {} }}", tls("other.internal"))));
    assert!(fails(&lb).starts_with("no TLS: its certificate is not for \"other.internal\""), "{}", row(&lb));

    let port = lb_tests::instance::free_port();
    let mut openssl = Command::new("openssl");
    openssl
        .args(["s_server", "-quiet", "-www", "-accept", &port.to_string(), "-cert"])
        .arg(&cert)
        .arg("-key")
        .arg(&key);
    let child =
        openssl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl is installed");
    let _openssl = crate::foreign::Server { child, port };
    eventually("openssl listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let http = format!("check = {{ http = \"GET /\", expect = 200, {} }}", tls("shop.internal"));
    passes(&Instance::start(&config(port, &http)));
    passes(&Instance::start(&config(port, "check = { tcp = true, tls = { verify = false }, interval = \"50ms\" }")));
    // Files that are not there are told before anything is served.
    let text = config(port, "check = { tcp = true, tls = { ca = \"/no/such/ca.pem\" } }");
    let lb = Instance::spawn("lb1", lb_tests::instance::free_port(), &text);
    eventually("it says what is missing", || lb.log().contains("/no/such/ca.pem") || lb.log().contains("check.tls.ca"));
    assert!(here("foreign").exists());
}

#[test]
fn a_tcp_dialogue_looks_at_the_answers() {
    let word = Arc::new(Mutex::new("+PONG\r\n"));
    let says = word.clone();
    let redis = Origin::raw(move |mut stream| {
        let mut buf = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buf) {
            let answer = if &buf[..n] == b"PING\r\n" { *says.lock().expect("a word") } else { "-ERR\r\n" };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let check = "check = { tcp = [{ send = \"PING\\r\\n\", expect = \"+PONG\" }], interval = \"50ms\" }\ntimeout = { check = \"300ms\" }";
    let lb = Instance::start(&config(redis.addr.port(), check));
    passes(&lb);
    *word.lock().expect("a word") = "-LOADING\r\n";
    assert_eq!(fails(&lb), "no answer within 300ms");
}

#[test]
fn an_agent_drains_a_server_for_new_clients_and_the_operator_overrules_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let word = Arc::new(Mutex::new("up 50%\n".to_owned()));
    let says = word.clone();
    // The agent of both servers is at one address: only the first is asked about here.
    let agent = Origin::raw(move |mut stream| drop(stream.write_all(says.lock().expect("a word").as_bytes())));
    let quiet = lb_tests::instance::free_port();
    let text = format!(
        "[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\nroutes = [{{ path_prefix = \"/b\", backend = \"other\" }}]\n\
         [backend.app]\nagent = {{ port = {}, interval = \"30ms\" }}\nserver = [{{ name = \"node1\", addr = \"{}\", weight = 10 }}]\n\
         [backend.other]\nagent = {{ port = {quiet}, interval = \"30ms\" }}\nserver = [{{ name = \"node2\", addr = \"{}\" }}]\n",
        agent.addr.port(),
        a.addr,
        b.addr
    );
    let lb = Instance::start(&text);
    eventually("half the weight", || row(&lb)["weight"] == 5);
    assert_eq!(row(&lb)["agent"]["said"], "up 50%");
    let say = |text: &str| *word.lock().expect("a word") = text.to_owned();
    say("drain\n");
    eventually("drain", || row(&lb)["state"] == "drain");
    assert_eq!(lb.client().get("/", "").status, 503, "nobody else takes new clients");
    lb.json(&["server", "ready", "app/node1"]);
    eventually("the operator's word holds", || row(&lb)["state"] == "ready");
    assert_eq!(lb.client().get("/", "").text(), "a");
    say("down # disk full\n");
    eventually("down", || row(&lb)["health"] == "down");
    let shown = lb.text(&["server", "list"]);
    assert!(shown.contains("its agent says \"down # disk full\""), "{shown}");
    // A silent agent is told, and changes nothing.
    eventually("silence is told", || lb.api("/api/servers")[1]["agent"]["error"].is_string());
    assert!(lb.metric("lb_server_agent_errors_total{backend=\"other\",server=\"node2\"}") > 0.0);
    assert_eq!(lb.client().get("/b", "").text(), "b");
}
