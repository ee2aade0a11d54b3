//! Servers that are found by name.
use lb_tests::instance::free_port;
use lb_tests::origin::Reply;
use lb_tests::pki::Pki;
use lb_tests::{Dns, Instance, Origin, Record, eventually};
use std::net::Ipv4Addr;

const SERVICE: &str = "_http._tcp.app.test";
const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";

fn config(dns: &Dns, lines: &str) -> String {
    format!(
        "{TABLE}[defaults]\nresolver = \"{}\"\n[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\n\
         sticky = [{{ on = \"header(X-Key)\", table = \"sessions\" }}]\n{lines}\n",
        dns.addr
    )
}

fn template(dns: &Dns, rest: &str) -> String {
    config(dns, &format!("server_template = {{ name = \"node\", addr = \"srv:{SERVICE}\"{rest} }}"))
}

/// A record for each of these, all on one host.
fn srv(origins: &[&Origin]) -> Vec<Record> {
    let host = Record::A("host.app.test", Ipv4Addr::LOCALHOST);
    origins.iter().map(|o| Record::Srv(SERVICE, o.addr.port(), "host.app.test")).chain([host]).collect()
}

fn name(origin: &Origin) -> String {
    format!("node-{}", origin.addr)
}

fn servers(lb: &Instance) -> Vec<String> {
    let all = lb.api("/api/servers");
    let mut names: Vec<_> =
        all.as_array().into_iter().flatten().filter_map(|s| s["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

fn sorted(origins: &[&Origin]) -> Vec<String> {
    let mut names: Vec<_> = origins.iter().map(|o| name(o)).collect();
    names.sort();
    names
}

#[test]
fn servers_come_and_go_with_the_answers_and_pins_stay_on_every_instance() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let dns = Dns::start(srv(&[&a, &b]));
    let cluster = Instance::cluster(2, &template(&dns, ""));
    assert!(cluster.iter().all(|lb| servers(lb) == sorted(&[&a, &b])), "they are there when it is ready");
    let key = |i: usize| format!("X-Key: k{i}\r\n");
    let first: Vec<_> = (0..6).map(|i| cluster[i % 2].client().get("/", &key(i)).text()).collect();
    assert!(first.contains(&"a".to_owned()) && first.contains(&"b".to_owned()));
    for lb in &cluster {
        eventually("all pins are everywhere", || lb.api("/api/tables")[0]["entries"] == 6);
    }
    // Another order, and one more.
    dns.set(srv(&[&c, &b, &a]));
    for lb in &cluster {
        eventually("the third is found", || servers(lb) == sorted(&[&a, &b, &c]));
        let now: Vec<_> = (0..6).map(|i| lb.client().get("/", &key(i)).text()).collect();
        assert_eq!(now, first);
    }
    eventually("new clients go there", || cluster[0].client().get("/", "").text() == "c");
    assert_eq!(cluster[0].api("/api/status")["generation"], 1, "it was no reload");
}

#[test]
fn a_server_that_vanishes_keeps_what_is_open_and_takes_nobody() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dns = Dns::start(srv(&[&a, &b]));
    let lb = Instance::start(&template(&dns, ""));
    lb.json(&["table", "set", "sessions", "k", &name(&b)]);
    let mut socket = lb.client();
    assert_eq!(socket.upgrade("/ws", "X-Key: k\r\n").status, 101);
    dns.set(srv(&[&a]));
    let row = |lb: &Instance| {
        let all = lb.api("/api/servers");
        all.as_array().into_iter().flatten().find(|s| s["name"] == name(&b)).cloned()
    };
    eventually("it is gone", || row(&lb).is_some_and(|s| s["gone"] == true));
    assert!(lb.text(&["server", "list"]).contains("found by its name no more"));
    assert!(socket.send("hello") && socket.read(5).as_deref() == Some(b"hello"), "the socket lives");
    assert!((0..6).all(|_| lb.client().get("/", "").text() == "a"));
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a", "its pinned clients go elsewhere, too");
    drop(socket);
    eventually("nothing is open there: it is forgotten", || row(&lb).is_none());
    dns.set(srv(&[&a, &b]));
    eventually("it is back under its name", || row(&lb).is_some_and(|s| s["gone"] == false));
}

#[test]
fn a_name_that_cannot_be_looked_up_takes_nobody_away_and_is_told() {
    let a = Origin::named("a");
    let dns = Dns::start(srv(&[&a]));
    let mut lb = Instance::start(&template(&dns, ""));
    let labels = format!("{{backend=\"app\",name=\"srv:{SERVICE}\"}}");
    assert_eq!(lb.metric(&format!("lb_dns_up{labels}")), 1.0);
    dns.set(Vec::new());
    eventually("it is told", || lb.api("/api/status")["names"][0]["found"] == false);
    let error = lb.api("/api/status")["names"][0]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("no such name"), "{error}");
    eventually("and counted", || lb.metric(&format!("lb_dns_errors_total{labels}")) >= 2.0);
    assert_eq!(lb.metric(&format!("lb_dns_up{labels}")), 0.0);
    assert_eq!(lb.metric(&format!("lb_dns_servers{labels}")), 1.0);
    assert_eq!(lb.client().get("/", "").text(), "a");
    let status = lb.text(&["status"]);
    assert!(status.contains("Names") && status.contains("no such name"), "{status}");
    assert_eq!(lb.log().matches("those it had stay").count(), 1, "said once");
    // A restart has nothing to go by, starts all the same, and finds the servers when they can be found.
    lb.kill();
    lb.restart();
    lb.wait_ready();
    assert_eq!(lb.client().get("/", "").status, 503);
    dns.set(srv(&[&a]));
    eventually("it serves", || lb.client().get("/", "").text() == "a");
}

#[test]
fn weights_priorities_and_names_of_srv_records_count() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let host = |name: &'static str| Record::A(name, Ipv4Addr::LOCALHOST);
    let records = |b_port: u16| {
        vec![
            Record::Weighted(SERVICE, a.addr.port(), "a.app.test", (1, 10)),
            Record::Weighted(SERVICE, b_port, "b.app.test", (1, 30)),
            Record::Weighted(SERVICE, c.addr.port(), "c.app.test", (2, 30)),
            host("a.app.test"),
            host("b.app.test"),
            host("c.app.test"),
        ]
    };
    let dns = Dns::start(records(b.addr.port()));
    let lb = Instance::start(&template(&dns, ", identity = \"name\", slots = 3"));
    let b_name = format!("node-b.app.test:{}", b.addr.port());
    assert!(servers(&lb).contains(&b_name), "{:?}", servers(&lb));
    let answers: Vec<_> = (0..40).map(|_| lb.client().get("/", "").text()).collect();
    let of = |name: &str| answers.iter().filter(|a| *a == name).count();
    assert!(of("b") > 2 * of("a") && of("a") > 0, "{answers:?}");
    assert_eq!(of("c"), 0, "it waits until no other is left");
    lb.json(&["server", "maint", &format!("app/{b_name}")]);
    lb.json(&["server", "maint", &format!("app/node-a.app.test:{}", a.addr.port())]);
    assert_eq!(lb.client().get("/", "").text(), "c");
}

#[test]
fn a_host_name_is_followed_to_its_addresses_and_one_that_is_none_is_told_before_anything_changes() {
    let port = free_port();
    let at = |last: u8, name| Origin::at((Ipv4Addr::new(127, 0, 0, last), port).into(), name);
    let (one, two) = (at(1, "one"), at(2, "two"));
    let of = |last: u8| vec![Record::A("app.test", Ipv4Addr::new(127, 0, 0, last))];
    let dns = Dns::start(of(1));
    let server = format!("server = [{{ name = \"n\", addr = \"app.test:{port}\" }}]");
    let lb = Instance::start(&config(&dns, &server));
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "one");
    dns.set(of(2));
    eventually("it has moved", || lb.client().get("/", "X-Key: k\r\n").text() == "two");
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("n"), "the pin is the server's, not the address's");
    let row = lb.api("/api/servers")[0].clone();
    assert_eq!(
        (row["host"].as_str(), row["addr"].as_str()),
        (Some(&*format!("app.test:{port}")), Some(&*two.addr.to_string()))
    );
    assert!(!one.seen().is_empty());
    // A reload that names somebody unknown changes nothing.
    lb.edit(|text| text.replace("addr = \"app.test:", "addr = \"nobody.test:"));
    let refused = lb.cli(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains("server app/n: nobody.test:"), "{said}");
    assert_eq!(lb.client().get("/", "").text(), "two");
    let other = Instance::spawn("lb2", free_port(), &config(&dns, &server.replace("app.test", "nobody.test")));
    eventually("a start says so, too", || {
        other.log().contains("nobody.test") && other.log().contains("has no address")
    });
}

#[test]
fn the_pins_of_a_server_that_vanishes_move_to_one_that_is_there_on_every_instance_whatever_on_down_says() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dns = Dns::start(srv(&[&a, &b]));
    let cluster = Instance::cluster(2, &template(&dns, "").replace("sticky =", "on_down = \"fail\"\nsticky ="));
    cluster[0].json(&["table", "set", "sessions", "k", &name(&b)]);
    let held = |lb: &Instance| lb.pin("sessions", "k");
    let gone = |lb: &Instance| {
        let all = lb.api("/api/servers");
        all.as_array().into_iter().flatten().find(|s| s["name"] == name(&b)).map(|s| s["gone"] == true)
    };
    // What is open there keeps it known after it has vanished.
    let mut sockets: Vec<_> = cluster.iter().map(Instance::client).collect();
    for (lb, socket) in cluster.iter().zip(&mut sockets) {
        eventually("the pin is everywhere", || held(lb) == Some(name(&b)));
        assert_eq!(socket.upgrade("/ws", "X-Key: k\r\n").status, 101);
    }
    // One that drains keeps its clients.
    let server = format!("app/{}", name(&b));
    cluster[0].json(&["server", "drain", &server]);
    assert_eq!(cluster[0].client().get("/", "X-Key: k\r\n").text(), "b");
    cluster[0].json(&["server", "ready", &server]);
    dns.set(srv(&[&a]));
    for lb in &cluster {
        eventually("it is gone", || gone(lb) == Some(true));
        assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a", "its clients go elsewhere");
        eventually("and so does the pin", || held(lb) == Some(name(&a)));
    }
    dns.set(srv(&[&a, &b]));
    for lb in &cluster {
        eventually("it is back", || gone(lb) == Some(false));
        assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a", "who was moved stays where its state is now");
    }
}

#[test]
fn servers_that_are_found_by_name_are_verified_by_that_name() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["host.app.test", "app.test"]);
    pki.issue("other.pem", &["other.test"]);
    let inner = |file: &str| {
        Instance::start(&format!(
            "[frontend.web]\nlisten = [{{ addr = LISTEN, tls = {{ cert = {:?}, strict_sni = true }} }}]\nbackend = \"app\"\n\
             [backend.app]\nserver = [{{ name = \"a\", addr = \"{}\" }}]\n",
            pki.text(file),
            origin.addr
        ))
    };
    let (good, bad) = (inner("site.pem"), inner("other.pem"));
    let records = |lb: &Instance| {
        let at = Ipv4Addr::LOCALHOST;
        vec![
            Record::Srv(SERVICE, lb.addr.port(), "host.app.test"),
            Record::A("host.app.test", at),
            Record::A("app.test", at),
        ]
    };
    let tls =
        format!("tls = {{ ca = {:?} }}\ncheck = {{ http = \"GET /\", interval = \"50ms\" }}\n", pki.text("ca.pem"));
    let by = |lb: &Instance| {
        let port = lb.addr.port();
        [
            format!("server_template = {{ name = \"n\", addr = \"srv:{SERVICE}\" }}"),
            format!("server_template = {{ name = \"n\", addr = \"dns:app.test:{port}\" }}"),
            format!("server = [{{ name = \"n\", addr = \"app.test:{port}\" }}]"),
        ]
    };
    let health = |lb: &Instance| lb.api("/api/servers")[0]["health"].as_str().map(str::to_owned);
    for line in by(&good) {
        let dns = Dns::start(records(&good));
        let lb = Instance::start(&config(&dns, &format!("{tls}{line}")));
        assert_eq!(lb.client().get("/", "").text(), "a", "{line}");
        eventually("checks pass", || {
            lb.admin_text("/metrics").lines().any(|l| {
                l.starts_with("lb_server_checks_total") && l.contains("result=\"passed\"") && !l.ends_with(" 0")
            })
        });
        assert_eq!(health(&lb).as_deref(), Some("up"), "{line}");
    }
    for line in by(&bad) {
        let dns = Dns::start(records(&bad));
        let lb = Instance::start(&config(&dns, &format!("{tls}{line}")));
        eventually("another certificate is none", || health(&lb).as_deref() == Some("down"));
        assert_eq!(lb.client().get("/", "").status, 503, "{line}");
    }
}

/// The server of that name, as the API tells it.
fn row(lb: &Instance, name: &str) -> serde_json::Value {
    let all = lb.api("/api/servers");
    all.as_array().into_iter().flatten().find(|s| s["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn servers_that_are_found_have_checks_and_agents_of_their_own() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let health = Origin::answering(|seen| match seen.head.starts_with("GET /health ") {
        true => Reply::Body("fine".into()),
        false => Reply::Keep(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
    });
    let agent = Origin::raw(|mut stream| drop(std::io::Write::write_all(&mut stream, b"50%\n")));
    let nothing = free_port();
    // The backend's check asks where nobody listens, and its agent is nowhere: each template says its own.
    let dns = Dns::start([srv(&[&a]), addresses("b.test"), addresses("c.test")].concat());
    let text = config(
        &dns,
        &format!(
            "check = {{ http = \"GET /health\", port = {nothing}, interval = \"50ms\", fall = 1 }}\n\
             agent = {{ port = {nothing}, interval = \"50ms\" }}\n\
             server_template = [\n\
             {{ name = \"node\", addr = \"srv:{SERVICE}\", check = {{ port = {} }}, agent = {{ port = {} }} }},\n\
             {{ name = \"bare\", addr = \"dns:b.test:{}\", check = false, agent = false, backup = true }},\n\
             {{ name = \"down\", addr = \"dns:c.test:{}\" }},\n]",
            health.addr.port(),
            agent.addr.port(),
            b.addr.port(),
            c.addr.port(),
        ),
    );
    let lb = Instance::start(&text);
    let (bare, down) = (format!("bare-{}", b.addr), format!("down-{}", c.addr));
    eventually("the one that is asked where its template says is up, at half its weight", || {
        let row = row(&lb, &name(&a));
        row["health"] == "up" && row["agent"]["said"] == "50%"
    });
    eventually("the one that has the backend's check is down", || row(&lb, &down)["health"] == "down");
    let row = row(&lb, &bare);
    assert_eq!((row["health"].as_str(), row["agent"].is_null()), (Some("up"), true), "{row}");
    assert!((0..6).all(|_| lb.client().get("/", "").text() == "a"), "a backup waits");
    // A template that is told another check by a reload asks at once.
    lb.edit(|text| text.replace(&format!("check = {{ port = {} }}", health.addr.port()), "slow_start = \"0s\""));
    assert!(lb.cli(&["reload"]).status.success());
    eventually("it is down, and the backup serves", || lb.client().get("/", "").text() == "b");
}

#[test]
fn servers_that_are_found_are_reached_as_their_template_says() {
    let a = Origin::answering(|seen| Reply::Body(seen.head.lines().next().unwrap_or("").to_owned()));
    let b = Origin::raw(|mut stream| {
        let mut buf = [0; 16];
        let read = std::io::Read::read(&mut stream, &mut buf).unwrap_or(0);
        let body = String::from_utf8_lossy(&buf[..read.min(6)]).into_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        drop(std::io::Write::write_all(&mut stream, answer.as_bytes()));
    });
    let dns = Dns::start([addresses("a.test"), addresses("b.test")].concat());
    let text = config(
        &dns,
        &format!(
            "send_proxy = \"v1\"\nbalance = \"first\"\nserver_template = [\n\
             {{ name = \"plain\", addr = \"dns:a.test:{}\", send_proxy = false }},\n\
             {{ name = \"told\", addr = \"dns:b.test:{}\" }},\n]",
            a.addr.port(),
            b.addr.port(),
        ),
    );
    let lb = Instance::start(&text);
    assert_eq!(lb.client().get("/", "").text(), "GET / HTTP/1.1");
    lb.json(&["table", "set", "sessions", "k", &format!("told-{}", b.addr)]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "PROXY ");
}

/// This machine under a name.
fn addresses(name: &'static str) -> Vec<Record> {
    vec![Record::A(name, Ipv4Addr::LOCALHOST)]
}
