//! WebSockets through lb and its neighbours: how one ends is told to the client, whoever stands between.
use super::{at, passes, server};
use crate::foreign::{Server, node, python, server as run};
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, eventually};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn config(listen: &str, port: u16) -> String {
    format!("[frontend.web]\nlisten = {listen}\nbackend = \"app\"\n[backend.app]\n{}\n", server("node1", at(port), ""))
}

/// nginx before a WebSocket server, as its manual has it.
fn nginx(port: u16, to: u16) -> Neighbour {
    Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{to}; proxy_http_version 1.1; \
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrading; }} }}"
        ),
        &[port],
    )
}

/// Runs a client that talks without a pause through this port while the server is drained: it reads 1012 and loses nothing.
fn is_told(mut client: Command, port: u16, lb: &Instance) {
    let count = 4;
    let mut child = client
        .args([port.to_string(), count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("installed by tests/run");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("open"));
    eventually("all are open", || lb.api("/api/servers")[0]["tunnels"] == count);
    lb.json(&["server", "drain", "app/node1", "--deadline", "200ms", "--pace", "50/s", "--wait"]);
    assert_eq!(lines.next().as_deref(), Some("closed"));
    assert!(child.wait().expect("it ends").success());
    let row = format!("lb_websocket_closes_total{{backend=\"app\",code=\"1012\",by=\"lb\"}} {count}");
    assert!(lb.admin_text("/metrics").contains(&row), "{}", lb.admin_text("/metrics"));
}

#[test]
fn a_drain_reaches_clients_through_haproxy_before_lb() {
    for (echo, client) in
        [(run(node("echo.js"), "x"), python("drained.py")), (run(python("echo.py"), "x"), node("drained.js"))]
    {
        let lb = Instance::start(&config("LISTEN", echo.port));
        let front = free_port();
        let _haproxy =
            Neighbour::haproxy(&format!("listen in\n bind 127.0.0.1:{front}\n server lb {}\n", lb.addr), &[front]);
        is_told(client, front, &lb);
    }
}

#[test]
fn a_drain_reaches_clients_and_servers_through_nginx_on_both_sides_of_lb() {
    for (echo, client) in
        [(run(python("echo.py"), "x"), python("drained.py")), (run(node("echo.js"), "x"), node("drained.js"))]
    {
        let [front, back] = [(); 2].map(|()| free_port());
        let _behind = nginx(back, echo.port);
        let lb = Instance::start(&config("LISTEN", back));
        let _before = nginx(front, lb.addr.port());
        is_told(client, front, &lb);
    }
}

#[test]
fn a_websocket_passes_haproxys_http_2_and_becomes_an_upgrade_again() {
    let echo = run(node("echo.js"), "x");
    let lb = Instance::start(&config("{ addr = LISTEN, h2c = true }", echo.port));
    let front = free_port();
    let _haproxy =
        Neighbour::haproxy(&format!("listen in\n bind 127.0.0.1:{front}\n server lb {} proto h2\n", lb.addr), &[front]);
    is_told(python("drained.py"), front, &lb);
    eventually("it was one", || lb.access().contains("\"protocol\":\"h2\""));
}

#[test]
fn over_tls_nodes_and_pythons_sockets_keep_their_server_and_read_why_it_ends() {
    let pki = Pki::new();
    pki.issue("site.pem", &["shop.example"]);
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let servers: [Server; 2] = [run(python("server.py"), "py"), run(node("server.js"), "js")];
    let list: Vec<_> =
        servers.iter().map(|s| format!("{{ name = \"n{0}\", addr = \"127.0.0.1:{0}\" }}", s.port)).collect();
    let listen = format!("{{ addr = LISTEN, tls = {{ cert = {site:?} }} }}");
    let cluster = Instance::cluster(
        2,
        &format!(
            "[table.sessions]\ntype = \"string\"\n[frontend.web]\nlisten = {listen}\nbackend = \"app\"\n[backend.app]\n\
             sticky = [{{ on = \"header(X-Session-ID)\", table = \"sessions\" }}]\nserver = [{}]\n",
            list.join(", ")
        ),
    );
    for mut client in [python("client.py"), node("client.js")] {
        client.env("LB_TEST_CA", &ca).args(cluster.iter().map(|lb| lb.addr.port().to_string()));
        assert_eq!(passes(&mut client).trim(), "kept");
    }
    for (echo, mut client) in
        [(run(node("echo.js"), "x"), python("drained.py")), (run(python("echo.py"), "x"), node("drained.js"))]
    {
        let lb = Instance::start(&config(&listen, echo.port));
        client.env("LB_TEST_CA", &ca);
        is_told(client, lb.addr.port(), &lb);
    }
}

#[test]
fn over_pythons_http_2_a_socket_reads_in_its_data_why_it_ends() {
    for (command, lost) in [(python("echo.py"), false), (node("echo.js"), true)] {
        let mut echo = run(command, "x");
        let lb = Instance::start(&config("{ addr = LISTEN, h2c = true }", echo.port));
        let mut child = python("h2_socket.py")
            .arg(lb.addr.port().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("installed by tests/run");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("open"));
        if lost {
            echo.child.kill().expect("it runs");
        } else {
            lb.json(&["server", "drain", "app/node1", "--deadline", "0s", "--wait"]);
        }
        let end = if lost {
            "closed 1011 server lost, then the stream"
        } else {
            "closed 1012 server drained, connect again, then the stream"
        };
        assert_eq!(lines.next().as_deref(), Some(end));
        assert!(child.wait().expect("it ends").success());
    }
}
