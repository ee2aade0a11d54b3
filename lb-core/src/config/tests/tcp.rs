//! `mode = "tcp"`: what it reads, and what it refuses.
use super::mistakes::each;
use super::*;
use crate::tcp::{Mode, Route};
use std::time::Duration;

const FILE: &str = r#"
[table.clients]
type = "ip"
store = ["conn_rate(10s)"]
[table.tls]
type = "binary"
len = 32
[frontend.tls]
mode = "tcp"
listen = "127.0.0.1:8443"
backend = "mail"
routes = [{ sni = ["A.example.", "*.b.example"], alpn = "h2", src = ["10.0.0.0/8", "192.0.2.7"], backend = "shop" }]
inspect_delay = "2s"
limit = [{ key = "src", table = "clients", when = "conn_rate > 10", then = "deny" }]
[frontend.web]
listen = "127.0.0.1:8080"
backend = "app"
[backend.mail]
sticky = [{ match = "tls_session_id", table = "tls" }, { store_response = "tls_session_id", table = "tls" }]
server = [{ name = "a", addr = "127.0.0.1:9001" }]
[backend.shop]
mode = "tcp"
balance = "hash(sni)"
check = { http = "GET /", expect = 200 }
server = [{ name = "a", addr = "127.0.0.1:9002" }]
[backend.app]
server = [{ name = "a", addr = "127.0.0.1:9003" }]
"#;

#[test]
fn a_tcp_frontend_has_routes_of_its_own_and_gives_its_backends_their_mode() {
    let config = valid(FILE);
    let tcp = config.frontends[0].tcp.clone().expect("mode tcp");
    assert_eq!(tcp.inspect_delay, Duration::from_secs(2));
    let src = ["10.0.0.0/8", "192.0.2.7/32"].map(|net| net.parse().expect("a network")).to_vec();
    let sni = vec!["a.example".into(), "*.b.example".into()];
    assert_eq!(tcp.routes, [Route { sni, alpn: vec!["h2".into()], src, backend: "shop".into() }]);
    assert_eq!(config.frontends[1].tcp, None);
    let modes: Vec<_> = config.backends.iter().map(|b| b.mode).collect();
    assert_eq!(modes, [Mode::Tcp, Mode::Tcp, Mode::Http]);
}

#[test]
fn a_reload_shows_what_changed_of_it() {
    let changes = |from: &str, to: &str| {
        let found = diff::diff(&valid(FILE), &valid(&FILE.replacen(from, to, 1)));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changes("\"2s\"", "\"3s\""), ["frontend tls: inspect_delay 2s -> 3s"]);
    assert_eq!(
        changes(", alpn = \"h2\", src = [\"10.0.0.0/8\", \"192.0.2.7\"]", ""),
        ["frontend tls: routes [sni a.example|*.b.example and alpn h2 and src 10.0.0.0/8|192.0.2.7/32 to shop] -> \
             [sni a.example|*.b.example to shop]"]
    );
    let whole = changes("[frontend.web]\n", "[frontend.web]\nmode = \"tcp\"\n");
    assert_eq!(whole[0], "frontend web: mode http -> tcp");
    assert_eq!(whole[2], "backend app: mode http -> tcp");
}

/// A frontend `tls` with mode tcp and this line more, a backend `app` with that line more, three tables.
fn file(frontend: &str, backend: &str) -> String {
    format!(
        "[table.ips]\ntype = \"ip\"\nstore = [\"conn_rate(10s)\"]\n[table.texts]\ntype = \"string\"\nstore = [\"conn_cur\"]\n\
         [table.bytes]\ntype = \"binary\"\nstore = [\"conn_cur\"]\n\
         [frontend.tls]\nmode = \"tcp\"\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n{frontend}\n\
         [backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n{backend}\n"
    )
}

#[test]
fn what_only_http_has_is_refused_in_a_tcp_frontend() {
    for (line, message, help) in [
        ("¦forwarded = true", "`forwarded` is of HTTP", "`mode = \"http\"`"),
        ("¦trusted_proxies = \"10.0.0.0/8\"", "`trusted_proxies` is of HTTP", "remove it"),
        ("¦http2 = {}", "`http2` is of HTTP", "remove it"),
        ("timeout = { client = \"1s\", ¦http_request = \"1s\" }", "`http_request` is a time of HTTP", "remove it"),
        ("¦max_head = 2000", "`max_head` is of HTTP", "remove it"),
        ("routes = [{ ¦host = \"a.example\", backend = \"app\" }]", "`host` is of HTTP", "`sni`, `alpn` and `src`"),
        ("routes = [{ src = \"::/0\", ¦websocket = true, backend = \"app\" }]", "`websocket` is of HTTP", "`sni`"),
        ("routes = [¦{ backend = \"app\" }]", "this route has no condition", "add `sni`, `alpn` or `src`"),
        ("routes = [{ sni = ¦\"10.0.0.1\", backend = \"app\" }]", "TLS clients ask for names", "sni"),
        ("routes = [{ sni = ¦\"https://a.example/\", backend = \"app\" }]", "no host name", "\"a.example\""),
        ("routes = [{ alpn = ¦\"h 2\", backend = \"app\" }]", "no protocol of ALPN", "\"h2\""),
        ("limit = [{ key = \"src\", table = \"ips\", then = ¦\"deny 403\" }]", "answers with a status", "\"deny\""),
        ("limit = [{ key = \"src\", table = \"ips\", then = ¦\"tarpit 5s 429\" }]", "answers with a status", "tarpit"),
        ("inspect_delay = ¦\"0s\"", "is zero", "leave it out"),
    ] {
        each(&[(&file(line, ""), message, help)]);
    }
    let h2c = file("", "").replace("\"127.0.0.1:1\"", "{ addr = \"127.0.0.1:1\", ¦h2c = true }");
    each(&[(&h2c, "`h2c` is of HTTP", "remove it")]);
    let tls = "{ addr = \"127.0.0.1:1\", tls = { cert = \"a.pem\", ¦check_host = true } }";
    let check_host = file("", "").replace("\"127.0.0.1:1\"", tls);
    each(&[(&check_host, "`check_host` looks at requests", "remove it")]);
    let nowhere = file("", "").replace("[frontend.tls]", "[frontend.¦tls]").replacen("backend = \"app\"\n", "", 1);
    each(&[(&nowhere, "leads to no backend", "{ sni = ")]);
}

#[test]
fn what_only_http_has_is_refused_in_a_tcp_backend() {
    for (line, message, help) in [
        ("¦real_ip = true", "`real_ip` is of HTTP", "remove it"),
        ("timeout = { connect = \"1s\", ¦server = \"1m\" }", "`server` is a time of HTTP", "write `tunnel`"),
        ("¦retry_on = 503", "`retry_on` is of HTTP", "remove it"),
        ("¦proto = \"h2\"", "`proto` is of HTTP", "remove it"),
        ("¦max_body = \"1MiB\"", "`max_body` is of HTTP", "remove it"),
        ("¦websocket = { ping = \"1s\" }", "`websocket` is of HTTP", "remove it"),
        ("sticky = [{ ¦cookie = \"S\", insert = true }]", "cookies are of HTTP", "`on = \"src\"`"),
        ("sticky = [{ on = ¦\"header(X-A)\", table = \"texts\" }]", "`header(x-a)` is of HTTP", "write `src`, `sni`"),
        (
            "sticky = [{ store_response = ¦\"cookie(A)\", table = \"texts\" }]",
            "`cookie(A)` is of HTTP",
            "`tls_session_id`",
        ),
        ("sticky = [{ store_response = ¦\"sni\", table = \"texts\" }]", "an answer has none", "store_request"),
        ("sticky = [{ on = ¦\"sni\", table = \"ips\" }]", "never a key of table \"ips\"", "\"string\""),
        ("sticky = [{ on = ¦\"tls_session_id\", table = \"texts\" }]", "never a key", "\"binary\""),
        ("balance = ¦\"uri\"", "`path` is of HTTP", "`sni`"),
    ] {
        each(&[(&file("", line), message, help)]);
    }
}

#[test]
fn what_only_tcp_has_is_refused_in_http() {
    let http = |frontend: &str, backend: &str| file(frontend, backend).replace("mode = \"tcp\"\n", "");
    for (frontend, backend, message, help) in [
        ("¦inspect_delay = \"1s\"", "", "for `mode = \"tcp\"`", "add `mode = \"tcp\"`"),
        ("routes = [{ host = \"a\", ¦sni = \"a\", backend = \"app\" }]", "", "`sni` is for routes", "`host`"),
        ("", "sticky = [{ on = ¦\"tls_session_id\", table = \"bytes\" }]", "here it ends", "`header(Host)`"),
        ("", "balance = ¦\"hash(tls_session_id)\"", "here it ends", "write `sni`"),
        ("limit = [{ key = ¦\"tls_session_id\", table = \"bytes\" }]", "", "here it ends", "write `sni`"),
        ("¦mode = \"udp\"".replace("¦mode = ", "mode = ¦").as_str(), "", "\"udp\" is no value", "\"http\", \"tcp\""),
    ] {
        each(&[(&http(frontend, backend), message, help)]);
    }
}

#[test]
fn the_name_that_tls_asked_for_is_a_key_in_both_modes() {
    let http = file(
        "limit = [{ key = \"sni\", table = \"texts\" }]",
        "balance = \"hash(sni)\"\nsticky = [{ on = \"sni\", table = \"texts\" }]",
    );
    for text in [http.replace("mode = \"tcp\"\n", ""), http] {
        let config = valid(&text);
        assert_eq!(config.backends[0].balance, Balance::Hash(KeyExpr::Sni));
        assert!(matches!(&config.backends[0].sticky[..], [Sticky::Table(rule)] if rule.key == KeyExpr::Sni));
        assert_eq!(config.frontends[0].limit[0].key, KeyExpr::Sni);
    }
}

#[test]
fn a_backend_has_one_mode() {
    let web = "\n[frontend.web]\nlisten = \"127.0.0.1:2\"\nbackend = ¦\"app\"\n";
    each(&[
        (
            &(file("", "") + web),
            "backend \"app\" has mode \"tcp\" by `frontend.tls` in line 10, this frontend has \"http\"",
            "lead this one to a backend of its own",
        ),
        (
            &file("", "mode = \"http\"").replace("backend = \"app\"", "backend = ¦\"app\""),
            "has mode \"http\" by `backend.app` itself, this frontend has \"tcp\"",
            "a backend has one mode",
        ),
    ]);
}
