//! Start, reload, stop; the admin and the command line beside it.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin, eventually, lb};
use std::process::Command;

#[test]
fn a_reload_takes_on_servers_and_keeps_connections_tables_and_counters() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config =
        format!("[table.s]\ntype = \"string\"\n{}", app(&[&a], "sticky = [{ on = \"header(X-Key)\", table = \"s\" }]"));
    let lb = Instance::start(&config);
    let mut kept = lb.client();
    let mut tunnel = lb.client();
    assert_eq!((kept.get("/", "X-Key: k\r\n").text(), tunnel.upgrade("/ws", "").status), ("a".into(), 101));
    lb.edit(|text| text.replace("server = [", &format!("server = [{{ name = \"extra\", addr = \"{}\" }}, ", b.addr)));
    lb.json(&["reload"]);
    assert_eq!(kept.get("/", "X-Key: k\r\n").text(), "a");
    tunnel.send("still here");
    assert_eq!(tunnel.read(10).as_deref(), Some(&b"still here"[..]));
    eventually("the new server serves", || lb.client().get("/", "").text() == "b");
    assert_eq!(lb.pin("s", "k").as_deref(), Some("node1"));
    assert_eq!(lb.api("/api/status")["generation"], 2);
    // And by signal.
    lb.edit(|text| text.replace("balance", "# balance"));
    lb.signal("-HUP");
    eventually("the signal reloads", || lb.api("/api/status")["generation"] == 3);
}

#[test]
fn a_wrong_file_changes_nothing_and_says_where_and_why() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    lb.edit(|text| text.replace("backend = \"app\"", "backend = \"apq\""));
    let output = lb.cli(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("lb.toml:") && said.contains("\"app\""), "{said}");
    assert_eq!((lb.client().get("/", "").text(), &lb.api("/api/status")["generation"]), ("a".into(), &1.into()));
}

#[test]
fn listeners_come_and_go_with_a_reload() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let port = lb_tests::instance::free_port();
    lb.edit(|text| text.replacen("listen = [\"127", &format!("listen = [\"127.0.0.1:{port}\", \"127"), 1));
    lb.json(&["reload"]);
    let added = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("the new address serves", || std::net::TcpStream::connect(added).is_ok());
    assert_eq!(lb_tests::Client::connect(added).get("/", "").text(), "a");
    lb.edit(|text| text.replacen(&format!("\"127.0.0.1:{port}\", "), "", 1));
    lb.json(&["reload"]);
    eventually("and is gone again", || std::net::TcpStream::connect(added).is_err());
    assert_eq!(lb.client().get("/", "").text(), "a");
}

#[test]
fn signals_that_mean_something_to_other_proxies_end_nothing() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    for signal in ["USR1", "USR2"] {
        lb.signal(&format!("-{signal}"));
        eventually("the log tells", || lb.log().contains(&format!("SIG{signal} means nothing here")));
    }
    assert_eq!(lb.client().get("/", "").text(), "a");
}

#[test]
fn a_stop_is_not_ready_at_once_finishes_what_is_open_and_then_ends() {
    let a = Origin::answering(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Reply::Body("late".into())
    });
    let mut lb = Instance::start(&app(&[&a], ""));
    let mut idle = lb.client();
    assert_eq!(idle.get("/", "").text(), "late");
    let mut busy = lb.client();
    busy.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    eventually("the request is on its way", || lb.api("/api/servers")[0]["active"] == 1);
    lb.signal("-TERM");
    eventually("not ready", || lb.admin_status("/readyz") == Some(503));
    let answer = busy.answer().expect("the open request is answered");
    assert_eq!((answer.text().as_str(), answer.value("Connection")), ("late", Some("close")));
    assert!(idle.closed());
    assert_eq!(lb.wait_end(), Some(0));
}

#[test]
fn an_open_tunnel_holds_a_stop_no_longer_than_its_bound() {
    let a = Origin::named("a");
    let mut lb = Instance::start(&app(&[&a], ""));
    let mut tunnel = lb.client();
    assert_eq!(tunnel.upgrade("/ws", "").status, 101);
    lb.json(&["stop", "--drain", "300ms"]);
    tunnel.send("still open");
    assert_eq!(tunnel.read(10).as_deref(), Some(&b"still open"[..]));
    assert!(tunnel.closed());
    assert_eq!(lb.wait_end(), Some(0));
}

#[test]
fn a_stop_that_waits_comes_back_when_every_port_is_free() {
    let a = Origin::named("a");
    let mut lb = Instance::start(&app(&[&a], ""));
    let mut tunnel = lb.client();
    assert_eq!(tunnel.upgrade("/ws", "").status, 101);
    let started = std::time::Instant::now();
    assert!(lb.cli(&["stop", "--drain", "300ms", "--wait"]).status.success());
    assert!(started.elapsed() >= std::time::Duration::from_millis(300));
    for addr in [lb.addr, lb.admin] {
        std::net::TcpListener::bind(addr).expect("nobody is there");
    }
    assert_eq!(lb.wait_end(), Some(0));
}

#[test]
fn a_second_instance_on_the_same_port_does_not_start_and_says_why() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let config = app(&[&a], "").replace("LISTEN", &format!("\"{}\"", lb.addr));
    let mut second = Instance::spawn("lb2", 1, &config);
    assert_eq!(second.wait_end(), Some(1));
    assert!(second.log().contains(&lb.addr.to_string()) && second.log().contains("in use"), "{}", second.log());
}

#[test]
fn metrics_hold_the_promised_names_and_parse() {
    let a = Origin::named("a");
    let config =
        format!("[table.s]\ntype = \"string\"\n{}", app(&[&a], "sticky = [{ on = \"header(X-Key)\", table = \"s\" }]"));
    let lb = Instance::start(&config);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").status, 200);
    eventually("the request is counted", || {
        lb.admin_text("/metrics").contains("lb_http_requests_total{frontend=\"web\",code=\"2xx\"} 1")
    });
    let text = lb.admin_text("/metrics");
    for name in [
        "lb_server_connections_active{backend=\"app\",server=\"node1\"} 0",
        "lb_websocket_connections_active{",
        "lb_http_request_duration_seconds_bucket{",
        "lb_server_up{backend=\"app\",server=\"node1\"} 1",
        "lb_affinity_total{backend=\"app\",result=\"new\"} 1",
        "lb_table_entries{table=\"s\"} 1",
        "lb_table_evictions_total{table=\"s\"} 0",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("name and value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert_eq!(lb.admin_status("/healthz"), Some(200));
}

#[test]
fn over_tcp_the_admin_only_reads_unless_a_token_is_given() {
    let a = Origin::named("a");
    let change = |lb: &Instance, fields: &str| {
        let body = "{\"state\":\"drain\"}";
        let mut client = lb_tests::Client::connect(lb.admin);
        client.send(format!(
            "POST /api/servers/app/node1 HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        ));
        client.answer().map(|a| a.status)
    };
    let closed = Instance::start(&app(&[&a], ""));
    assert_eq!(change(&closed, ""), Some(403));
    assert_eq!(closed.api("/api/servers")[0]["state"], "ready");
    let open = Instance::start(&app(&[&a], ""));
    open.edit(|text| text.replace("[admin]\n", "[admin]\ntoken = \"s3cret\"\n"));
    open.json(&["reload"]);
    assert!(matches!(change(&open, "Authorization: Bearer wrong\r\n"), Some(401 | 403)));
    assert_eq!(change(&open, "Authorization: Bearer s3cret\r\n"), Some(200));
    assert_eq!(open.api("/api/servers")[0]["state"], "drain");
}

#[test]
fn the_command_line_shows_what_the_instance_knows() {
    let a = Origin::named("a");
    let config =
        format!("[table.s]\ntype = \"string\"\n{}", app(&[&a], "sticky = [{ on = \"header(X-Key)\", table = \"s\" }]"));
    let lb = Instance::start(&config);
    assert_eq!(lb.client().get("/", "X-Key: k1\r\n").status, 200);
    assert_eq!(lb.json(&["status"])["name"], "lb1");
    assert_eq!(lb.json(&["table", "show", "s"])[0]["key"], "k1");
    assert_eq!(lb.json(&["table", "get", "s", "k1"])["server"], "node1");
    assert_eq!(lb.json(&["server", "list"])[0]["name"], "node1");
    let missing = lb.cli(&["table", "get", "s", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    let text = String::from_utf8_lossy(&lb.cli(&["status"]).stdout).into_owned();
    assert!(text.contains("app/node1") && !text.contains('\x1b'), "plain when piped: {text}");
    let dump = lb.cli(&["table", "dump", "s"]).stdout;
    assert_eq!(String::from_utf8_lossy(&dump).lines().count(), 1);
    assert_eq!(lb.json(&["table", "clear", "s", "--all"])["changed"], 1);
    assert_eq!(lb.pin("s", "k1"), None);
}

#[test]
fn misuse_is_2_and_an_instance_that_is_not_there_is_1_with_a_hint() {
    let run = |args: &[&str]| Command::new(lb()).args(args).output().expect("lb runs");
    assert_eq!(run(&["table", "clear", "s"]).status.code(), Some(2));
    let gone = run(&["status", "--socket", "/nonexistent/lb.sock"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("lb run"));
}
