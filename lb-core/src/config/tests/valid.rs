//! What good files mean.
use super::*;
use crate::server::AdminState;
use crate::stick::KeyExpr;

/// The example of the README.
const SHOP: &str = r#"
[instance]
name = "lb1"                         # default: the host name
workers = 2                          # default: one per core

[admin]
listen = "127.0.0.1:8404"            # dashboard, REST API, /metrics, /healthz, /readyz
socket = "/run/lb/lb1.sock"          # local CLI

[peers]
cluster = "shop"
listen = "10.0.0.1:8405"
join   = ["10.0.0.2:8405", "dns:lb-peers.internal:8405", "LB3:8405"]
tls    = { ca = "ca.pem", cert = "lb1.pem", key = "lb1.key" }

[defaults.timeout]
connect = "5s"
tunnel  = "1h"

[table.sessions]
type = "string"                      # ip, ipv6, integer, string, binary
len = 64
size = 100_000
expire = "30m"

[frontend.web]
listen = [
  { addr = "0.0.0.0:80" },
  { addr = "0.0.0.0:8443" },
]
backend = "app"                      # where no route matches
routes = [ { websocket = true, path_prefix = "/ws", backend = "ws" } ]

[backend.ws]
balance = "leastconn"
sticky = [
  { cookie = "SERVERID", insert = true, indirect = true, nocache = true },
  { match = "header(X-Session-ID)", table = "sessions" },
  { store_response = "header(X-Session-ID)", table = "sessions" },
]
check = { http = "GET /health", expect = 200, interval = "5s", fall = 3, rise = 2 }
server = [
  { name = "node1", addr = "10.0.1.10:8080" },
  { name = "node2", addr = "10.0.1.11:8080", weight = 2 },
]

[backend.app]
server = [{ name = "a", addr = "10.0.1.20:8080" }]
"#;

#[test]
fn the_example_of_the_readme_means_what_it_says() {
    let config = valid(SHOP);
    let peers = config.peers.expect("peers");
    assert_eq!(peers.join[0], PeerAddr::Socket("10.0.0.2:8405".parse().unwrap()));
    assert_eq!(peers.join[1], PeerAddr::Name { host: "lb-peers.internal".into(), port: 8405 });
    assert_eq!(peers.join[2], PeerAddr::Name { host: "lb3".into(), port: 8405 });
    assert_eq!(config.frontends[0].listen.len(), 2);
    assert_eq!(config.frontends[0].routes[0].backend, "ws");
    assert_eq!(config.frontends[0].routes[0].when.to_string(), "path /ws and websocket");
    let ws = &config.backends[0];
    assert_eq!((ws.name.as_str(), &ws.balance), ("ws", &Balance::LeastConn));
    let Sticky::Cookie(cookie) = &ws.sticky[0] else { panic!("{:?}", ws.sticky) };
    assert_eq!(
        (cookie.name.as_str(), cookie.indirect, cookie.nocache, cookie.preserve),
        ("SERVERID", true, true, false)
    );
    assert_eq!(cookie.path, "/");
    let rule = |action| {
        Sticky::Table(TableRule {
            action,
            key: KeyExpr::Header("x-session-id".into()),
            table: "sessions".into(),
            when: Matcher::default(),
        })
    };
    assert_eq!(ws.sticky[1..], [rule(StickAction::Match), rule(StickAction::StoreResponse)]);
    let check = ws.check.as_ref().expect("check");
    assert_eq!((check.interval, check.fall, check.rise), (Duration::from_secs(5), 3, 2));
    assert!(matches!(&check.probe, Probe::Http { method, path, expect, .. }
        if method == "GET" && path == "/health" && *expect == [(200, 200)]));
    assert_eq!(ws.servers[1].weight, 2);
    assert_eq!(ws.servers[1].cookie, "node2");
}

#[test]
fn the_smallest_file_gets_every_default() {
    let config = valid(SMALL);
    assert_eq!(
        config.instance,
        Instance {
            name: "host1".into(),
            workers: None,
            drain: Duration::from_secs(30),
            maxconn: 100_000,
            state: None,
            state_interval: Duration::from_secs(60),
            close_pace: "50/s".parse().unwrap(),
        }
    );
    assert_eq!(config.admin.listen, Some("127.0.0.1:8404".parse().unwrap()));
    assert_eq!((config.admin.socket, config.admin.token, config.peers), (None, None, None));
    assert_eq!(config.log, Log { level: "info".into(), format: LogFormat::Auto, access: AccessLog::Off });
    let frontend = &config.frontends[0];
    assert_eq!(frontend.timeout, Timeouts::default());
    assert_eq!((frontend.maxconn, frontend.max_head, frontend.max_headers), (100_000, 16384, 100));
    assert!(frontend.forwarded && frontend.trusted_proxies.is_empty() && frontend.routes.is_empty());
    let backend = &config.backends[0];
    assert_eq!((&backend.balance, &backend.check, backend.retries), (&Balance::RoundRobin, &None, 3));
    assert_eq!((backend.on_down, backend.drain), (OnDown::Redispatch, DrainMode::Stay));
    let server = &backend.servers[0];
    assert_eq!((server.weight, server.maxconn), (1, Maxconn::default()));
    assert_eq!((server.cookie.as_str(), server.state), ("a", AdminState::Ready));
}

#[test]
fn a_timeout_comes_from_the_nearest_place_and_the_queue_follows_connect() {
    let config = valid(
        r#"
[defaults]
retries = 7
timeout = { connect = "1s", server = "9s" }
[frontend.web]
listen = "127.0.0.1:8080"
backend = "app"
timeout.client = "3s"
[backend.app]
timeout = { server = "8s" }
server = [{ name = "a", addr = "127.0.0.1:9001" }]
[backend.other]
retries = 0
timeout = { connect = "2s" }
server = [{ name = "a", addr = "127.0.0.1:9001" }]
"#,
    );
    let s = Duration::from_secs;
    assert_eq!((config.frontends[0].timeout.client, config.frontends[0].timeout.http_request), (s(3), s(10)));
    let (app, other) = (&config.backends[0], &config.backends[1]);
    assert_eq!((app.timeout.connect, app.timeout.server, app.timeout.queue, app.retries), (s(1), s(8), s(1), 7));
    assert_eq!(
        (other.timeout.connect, other.timeout.server, other.timeout.queue, other.retries),
        (s(2), s(9), s(2), 0)
    );
}

#[test]
fn sections_keep_the_order_of_the_file() {
    let text = format!(
        "{SMALL}[backend.zebra]\nserver = [{{ name = \"z\", addr = \"127.0.0.1:1\" }}]\n[backend.ant]\nserver = [{{ name = \"z\", addr = \"127.0.0.1:1\" }}]\n[table.z]\ntype = \"ip\"\n[table.a]\ntype = \"ip\"\n"
    );
    let config = valid(&text);
    assert_eq!(config.backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["app", "zebra", "ant"]);
    assert_eq!(config.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
}

#[test]
fn the_environment_fills_texts_and_numbers() {
    let config = valid(
        r#"
[instance]
name = "${LB_NAME:-lb7}"
workers = "${LB_WORKERS}"
[frontend.web]
listen = "127.0.0.1:${LB_PORT}"
backend = "app"
forwarded = "${LB_FORWARDED:-false}"
[backend.app]
server = [{ name = "a", addr = "127.0.0.1:9001", weight = "${W:-5}" }]
"#,
    );
    assert_eq!((config.instance.name.as_str(), config.instance.workers), ("lb7", Some(3)));
    assert_eq!(config.frontends[0].listen[0].addr.tcp().map(|a| a.port()), Some(8080));
    assert!(!config.frontends[0].forwarded);
    assert_eq!(config.backends[0].servers[0].weight, 5);
}

#[test]
fn the_name_comes_from_the_command_line_then_the_file_then_the_host() {
    let named = format!("[instance]\nname = \"file\"\n{SMALL}");
    let name = |text, over| load(text, "host1", over, &env).expect("valid").instance.name;
    assert_eq!(name(&named, Some("line")), "line");
    assert_eq!(name(&named, None), "file");
    assert_eq!(name(SMALL, None), "host1");
}

#[test]
fn values_may_be_written_short_or_long() {
    let config = valid(
        r#"
[admin]
socket = "/tmp/lb.sock"
[log]
access = "./access.log"
level = "lb_peers=debug,warn"
[frontend.web]
listen = ["127.0.0.1:1", { addr = "127.0.0.1:2" }]
maxconn = "10k"
max_head = "32KiB"
trusted_proxies = "10.1.2.3"
routes = [
  { host = "*.Example.com", header = "X-Any", backend = "app" },
  { header = { X-B = "2", X-A = "1" }, backend = "app" },
]
[backend.app]
balance = "query(room)"
check = { http = "HEAD /up?x=1", expect = [204, "300-302"], headers = { Host = "h" } }
server = [{ name = "a", addr = "[::1]:9001", state = "drain", cookie = "c" }]
[backend.other]
balance = "hash"
check = { tcp = true }
server = [{ name = "a", addr = "127.0.0.1:9001" }]
"#,
    );
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.log.access, AccessLog::File("./access.log".into()));
    let web = &config.frontends[0];
    assert_eq!(
        (web.maxconn, web.max_head, web.trusted_proxies[0].to_string().as_str()),
        (10_000, 32768, "10.1.2.3/32")
    );
    assert_eq!(web.routes[0].when.to_string(), "host *.example.com and x-any: any");
    assert_eq!(web.routes[1].when.to_string(), "x-b: \"2\" and x-a: \"1\"");
    let app = &config.backends[0];
    assert_eq!(app.balance, Balance::Hash(KeyExpr::Query("room".into())));
    assert!(matches!(&app.check.as_ref().unwrap().probe, Probe::Http { method, path, expect, headers, .. }
        if method == "HEAD" && path == "/up?x=1" && *expect == [(204, 204), (300, 302)] && headers.len() == 1));
    assert_eq!((app.servers[0].state, app.servers[0].cookie.as_str()), (AdminState::Drain, "c"));
    assert_eq!(config.backends[1].balance, Balance::Hash(KeyExpr::Src));
    assert_eq!(config.backends[1].check.as_ref().unwrap().probe, Probe::Tcp { steps: Vec::new() });
}

#[test]
fn peers_are_named_by_srv_records_and_by_a_dns_server() {
    let text = "[peers]\ncluster = \"c\"\nlisten = \"127.0.0.1:1\"\njoin = \"srv:_LB._tcp.shop.internal\"\n\
                resolver = \"[::1]:5353\"\ninsecure = true\n";
    let peers = valid(&format!("{SMALL}{text}")).peers.expect("peers");
    assert_eq!(peers.join, [PeerAddr::Service("_lb._tcp.shop.internal".into())]);
    assert_eq!(peers.join[0].to_string(), "srv:_lb._tcp.shop.internal");
    assert_eq!(peers.resolver, Some("[::1]:5353".parse().unwrap()));
}

#[test]
fn off_loopback_peers_may_be_insecure_only_if_the_file_says_so() {
    let peers = "[peers]\ncluster = \"c\"\nlisten = \"10.0.0.1:8405\"\ninsecure = true\n";
    assert_eq!(valid(&format!("{SMALL}{peers}")).peers.unwrap().tls, None);
    let local = "[peers]\ncluster = \"c\"\nlisten = \"127.0.0.1:0\"\njoin = [\"localhost:1\", \"[::1]:2\"]\n";
    assert_eq!(valid(&format!("{SMALL}{local}")).peers.unwrap().join.len(), 2);
}

#[test]
fn every_way_to_check_is_read() {
    let check = |check: &str| {
        let text = format!(
            "[frontend.web]\nlisten = \"127.0.0.1:80\"\nbackend = \"app\"\n[backend.app]\ncheck = {{ {check} }}\n\
             agent = {{ port = 9999, send = \"app\\n\" }}\nserver = [{{ name = \"a\", addr = \"127.0.0.1:1\" }}]\n"
        );
        let config = valid(&text);
        assert_eq!(
            config.backends[0].agent.as_ref().map(|a| (a.port, a.send.clone())),
            Some((9999, b"app\n".to_vec()))
        );
        config.backends[0].check.clone().expect("a check")
    };
    let dialogue =
        check(r#"tcp = [{ send_hex = "50 0d", expect = "+P" }, { expect_regex = "^2" }, { expect_hex = "ff" }]"#);
    let Probe::Tcp { steps } = &dialogue.probe else { panic!("{dialogue:?}") };
    assert_eq!(steps[0], Step { send: vec![0x50, 0x0d], expect: Some(Expected::Bytes(b"+P".to_vec())) });
    assert_eq!(steps[1].expect.as_ref().and_then(|e| e.find(b"1\n220 ready")), None, "`^` is the beginning");
    assert_eq!(steps[1].expect.as_ref().and_then(|e| e.find(b"220 ready")), Some(1));
    assert_eq!(steps[2].expect, Some(Expected::Bytes(vec![0xff])));
    assert_eq!(check("grpc = true, tls = true").tls.as_deref(), Some(&ServerTls::default()));
    assert_eq!(check("grpc = \"shop.Orders\"").probe, Probe::Grpc { service: "shop.Orders".into() });
    let websocket =
        check("websocket = \"/ws\", headers = { Origin = \"https://a\" }, tls = { ca = \"ca.pem\", sni = \"a.b\" }");
    assert!(matches!(&websocket.probe, Probe::WebSocket { path, headers } if path == "/ws" && headers.len() == 1));
    let tls = ServerTls { ca: vec!["ca.pem".into()], sni: Some("a.b".into()), ..ServerTls::default() };
    assert_eq!(websocket.tls.as_deref(), Some(&tls));
    let paced = check("tcp = true, interval = \"4s\", fast_interval = \"1s\", addr = \"::1\", port = 81");
    let s = Duration::from_secs;
    assert_eq!((paced.interval, paced.fast_interval, paced.down_interval), (s(4), s(1), s(4)));
    assert_eq!((paced.addr, paced.port), (Some(std::net::Ipv6Addr::LOCALHOST.into()), Some(81)));
}

/// The servers of a backend with these lines.
fn servers_of(lines: &str) -> Vec<Arc<Server>> {
    let text = format!("[frontend.web]\nlisten = \"127.0.0.1:80\"\nbackend = \"app\"\n[backend.app]\n{lines}\n");
    valid(&text).backends[0].servers.clone()
}

#[test]
fn a_check_goes_as_requests_do_unless_it_says_another_way_or_goes_elsewhere() {
    let checks = |check: &str, servers: &str| -> Vec<Option<Arc<Check>>> {
        let all = servers_of(&format!(
            "tls = {{ ca = [\"a.pem\", \"b.pem\"], cert = \"lb.pem\", min_version = \"1.3\" }}\nsend_proxy = \"v2\"\n\
             check = {{ tcp = true{check} }}\nserver = [{servers}]"
        ));
        all.iter().map(|s| s.check.clone()).collect()
    };
    let (a, b) = ("name = \"a\", addr = \"10.0.0.1:1\"", "name = \"b\", addr = \"10.0.0.2:1\"");
    let both = |own: &str| format!("{{ {a}, tls = {{ sni = \"a.internal\" }} }}, {{ {b}{own} }}");
    let of = |all: &[Option<Arc<Check>>], at: usize| all[at].clone().expect("a check");
    let same = checks("", &both(""));
    let tls = of(&same, 0).tls.clone().expect("TLS");
    assert_eq!(tls.ca, [std::path::PathBuf::from("a.pem"), "b.pem".into()]);
    assert_eq!((tls.sni.as_deref(), tls.min_version), (Some("a.internal"), TlsVersion::V13));
    assert!(tls.own.is_some() && of(&same, 1).tls.as_ref().is_some_and(|tls| tls.sni.is_none()));
    assert_eq!(of(&same, 0).send_proxy, Some(ProxyVersion::V2));
    let off = checks(", send_proxy = false, tls = false", &both(""));
    assert_eq!((of(&off, 0).send_proxy, of(&off, 0).tls.clone()), (None, None));
    let elsewhere = checks(", port = 81", &both(", check = { tls = true, send_proxy = \"v1\" }"));
    assert_eq!((of(&elsewhere, 0).send_proxy, of(&elsewhere, 0).tls.clone()), (None, None));
    let own = of(&elsewhere, 1);
    assert_eq!((own.send_proxy, own.tls.as_ref().map(|tls| tls.ca.len())), (Some(ProxyVersion::V1), Some(2)));
    assert_eq!(own.place(&"10.0.0.2:1".parse::<std::net::SocketAddr>().unwrap().into()).to_string(), "10.0.0.2:81");
    let placed = checks(", fall = 5", &both(", check = { addr = \"10.9.9.9\", port = 9, interval = \"9s\" }"));
    let own = of(&placed, 1);
    assert_eq!((own.fall, own.interval), (5, Duration::from_secs(9)));
    assert_eq!(own.place(&ServerAddr::Unix("/a".into())).to_string(), "10.9.9.9:9");
    assert_eq!(checks("", &both(", check = false"))[1], None);
}

#[test]
fn a_servers_agent_may_be_elsewhere_or_not_at_all() {
    let all = servers_of(
        "agent = { port = 9999, send = \"x\" }\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\", agent = { port = 9998 } }, \
         { name = \"b\", addr = \"10.0.0.2:1\", agent = false }, \
         { name = \"c\", addr = \"unix:/run/c.sock\", agent = { addr = \"10.0.0.3\", send = \"c\" } }]",
    );
    let at = |i: usize| all[i].agent.as_ref().and_then(|agent| agent.place(&all[i].addr)).map(|at| at.to_string());
    assert_eq!((at(0).as_deref(), at(1), at(2).as_deref()), (Some("10.0.0.1:9998"), None, Some("10.0.0.3:9999")));
    let send = |i: usize| all[i].agent.as_ref().map(|agent| agent.send.clone());
    assert_eq!((send(0), send(2)), (Some(b"x".to_vec()), Some(b"c".to_vec())));
}

#[test]
fn what_a_server_says_of_tls_is_over_its_backends_key_by_key() {
    let all = servers_of(
        "tls = { ca = \"a.pem\", sni = \"app.internal\" }\nsend_proxy = \"v1\"\nserver = [\
         { name = \"a\", addr = \"10.0.0.1:1\", tls = { sni = \"a.internal\", alpn = [] }, send_proxy = false }, \
         { name = \"b\", addr = \"app.internal:1\", tls = { ca = \"system\" } }, \
         { name = \"c\", addr = \"unix:/run/c.sock\", tls = { verify = false } }, \
         { name = \"d\", addr = \"10.0.0.1:4\", tls = false }]",
    );
    let tls = |i: usize| all[i].tls.clone();
    let (a, b, c) = (tls(0).unwrap(), tls(1).unwrap(), tls(2).unwrap());
    assert_eq!((a.sni.as_deref(), a.ca.len(), a.alpn.as_deref()), (Some("a.internal"), 1, Some(&[][..])));
    assert_eq!((b.sni.as_deref(), b.ca.len(), all[1].host.as_deref()), (Some("app.internal"), 0, Some("app.internal")));
    assert!(!c.verify && c.ca.is_empty() && tls(3).is_none());
    assert_eq!((all[0].send_proxy, all[1].send_proxy), (None, Some(ProxyVersion::V1)));
    assert_eq!(all[2].addr.to_string(), "unix:/run/c.sock");
}

#[test]
fn what_becomes_of_failures_is_read_and_off_where_it_is_not_said() {
    use crate::config::faults::{FailureKind, Faults, OnMarkedDown, Outlier, QueueFirst, RetryBudget, RetryOn};
    let faults = |lines: &str| {
        let text = format!(
            "[frontend.web]\nlisten = \"127.0.0.1:80\"\nbackend = \"app\"\n[backend.app]\n{lines}\n\
             server = [{{ name = \"a\", addr = \"127.0.0.1:1\" }}]\n"
        );
        valid(&text).backends[0].faults.clone()
    };
    assert_eq!(faults(""), Faults::default());
    let s = Duration::from_secs;
    let read = faults(
        "retry_on = [\"empty-response\", 503, \"520-529\", \"4xx\"]\nretry_budget = \"20%\"\npanic_threshold = \"30%\"\n\
         outlier = { on = \"gateway\", failure_rate = \"40%\" }\non_marked_down = \"close\"\nqueue_first = \"pinned\"",
    );
    let expected = Faults {
        retry_on: RetryOn {
            connect_failure: false,
            empty_response: true,
            statuses: vec![(503, 503), (520, 529), (400, 499)],
            ..RetryOn::default()
        },
        retry_budget: Some(RetryBudget { percent: 20, min: 10 }),
        outlier: Some(Outlier {
            on: FailureKind::Gateway,
            consecutive: 5,
            failure_rate: 40,
            min_requests: 20,
            interval: s(10),
            eject: s(30),
            max_eject: s(300),
            max_ejected: 50,
        }),
        panic_threshold: 30,
        queue_first: QueueFirst::Pinned,
        on_marked_down: OnMarkedDown::Close,
    };
    assert_eq!(read, expected);
}
