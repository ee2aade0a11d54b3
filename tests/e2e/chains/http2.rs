//! HTTP/2 and gRPC between lb and its neighbours, with TLS and without.
use super::{at, passes, server};
use crate::foreign::{python, server as run};
use crate::{app_h2, servers};
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, Origin, eventually};
use std::process::Command;

/// GET, HEAD and a body by curl, and many at a time by h2load, which asks for no name.
fn works(origin: &Origin, load: &str, url: &str, more: &[&str]) {
    let curl = |args: &[&str]| passes(Command::new("curl").args(["-sS", "--max-time", "20"]).args(more).args(args));
    let before = origin.seen().len();
    assert_eq!(curl(&[url, "-w", " %{http_version} %{http_code}"]), "from a 2 200");
    assert!(curl(&["-I", url]).starts_with("HTTP/2 200"));
    let body = "0123456789".repeat(30_000);
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("body"), &body).expect("a file");
    let data = format!("@{}", dir.path().join("body").display());
    assert_eq!(curl(&["--data-binary", &data, "-H", "Expect:", url]), "from a");
    assert_eq!(origin.seen().last().expect("a request").body, body.as_bytes());
    assert_eq!(origin.seen().len(), before + 3);
    // curl's own way to ask for many at a time fails with prior knowledge.
    let many = passes(Command::new("h2load").args(["-n", "200", "-c", "4", "-m", "20", load]));
    assert!(many.contains("200 succeeded, 0 failed, 0 errored, 0 timeout"), "{many}");
    assert_eq!(origin.seen().len(), before + 203);
}

#[test]
fn curl_speaks_http_2_to_haproxy_that_speaks_it_to_lb_with_tls_and_without() {
    let (pki, origin) = (Pki::new(), Origin::named("from a"));
    pki.issue("site.pem", &["shop.example"]);
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let [plain, secure, over_tls] = [(); 3].map(|()| free_port());
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}, {{ addr = \"127.0.0.1:{over_tls}\", tls = {{ cert = {site:?} }} }}]\n\
         backend = \"app\"\n[backend.app]\n{}\n",
        servers(&[&origin])
    ));
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen plain\n bind 127.0.0.1:{plain} proto h2\n server lb {} proto h2\n\
             listen secure\n bind 127.0.0.1:{secure} ssl crt {site} alpn h2\n \
             server lb 127.0.0.1:{over_tls} ssl verify required ca-file {ca} sni str(shop.example) alpn h2\n",
            lb.addr
        ),
        &[plain, secure],
    );
    let url = format!("http://127.0.0.1:{plain}/x");
    works(&origin, &url, &url, &["--http2-prior-knowledge"]);
    let resolve = format!("shop.example:{secure}:127.0.0.1");
    let by_name = format!("https://shop.example:{secure}/x");
    works(&origin, &format!("https://127.0.0.1:{secure}/x"), &by_name, &["--cacert", &ca, "--resolve", &resolve]);
    eventually("all of it was HTTP/2", || lb.access().matches("\"protocol\":\"h2\"").count() == origin.seen().len());
}

#[test]
fn lb_speaks_http_2_to_nginx_and_haproxy_with_tls_and_without() {
    let (pki, origin) = (Pki::new(), Origin::named("from a"));
    pki.issue("inner.pem", &["inner.example"]);
    let (site, ca) = (pki.text("inner.pem"), pki.text("ca.pem"));
    let ports @ [haproxy, haproxy_tls, nginx, nginx_tls] = [(); 4].map(|()| free_port());
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen plain\n bind 127.0.0.1:{haproxy} proto h2\n http-request set-header X-Version %[req.ver]\n server origin {0}\n\
             listen secure\n bind 127.0.0.1:{haproxy_tls} ssl crt {site} alpn h2\n http-request set-header X-Version %[req.ver]\n \
             server origin {0}\n",
            origin.addr
        ),
        &[haproxy, haproxy_tls],
    );
    let location = format!(
        "client_max_body_size 0; location / {{ proxy_pass http://{}; proxy_set_header X-Version $server_protocol; }}",
        origin.addr
    );
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx} http2; {location} }}\n\
             server {{ listen 127.0.0.1:{nginx_tls} ssl http2; ssl_certificate {site}; ssl_certificate_key {site}; {location} }}"
        ),
        &[nginx, nginx_tls],
    );
    for port in ports {
        let secure = [haproxy_tls, nginx_tls].contains(&port);
        let tls = if secure { format!(", tls = {{ ca = {ca:?}, sni = \"inner.example\" }}") } else { String::new() };
        let to = format!("proto = \"h2\"\n{}", server("inner", at(port), &tls));
        let lb = Instance::start(&app_h2(&[], "").replace("server = []", &to));
        let url = format!("http://{}/x", lb.addr);
        works(&origin, &url, &url, &["--http2-prior-knowledge"]);
        let seen = origin.seen().pop().expect("a request");
        assert!(seen.value("x-version").is_some_and(|version| version.contains("2.0")), "{}", seen.head);
    }
}

#[test]
fn grpc_passes_haproxy_and_nginx_on_either_side() {
    let one = run(python("grpc_server.py"), "one");
    let ports @ [haproxy, nginx, behind_haproxy, behind_nginx] = [(); 4].map(|()| free_port());
    let lb = |port: u16| {
        let to = format!("proto = \"h2\"\n{}", server("one", at(port), ""));
        Instance::start(&app_h2(&[], "").replace("server = []", &to))
    };
    let (direct, to_haproxy, to_nginx) = (lb(one.port), lb(behind_haproxy), lb(behind_nginx));
    let both = |front: u16, to: u16| {
        format!("listen p{front}\n bind 127.0.0.1:{front} proto h2\n server s 127.0.0.1:{to} proto h2\n")
    };
    let _haproxy = Neighbour::haproxy(
        &(both(haproxy, direct.addr.port()) + &both(behind_haproxy, one.port)),
        &[ports[0], ports[2]],
    );
    let pass = |front: u16, to: u16| {
        format!(
            "server {{ listen 127.0.0.1:{front} http2; client_max_body_size 0; location / {{ grpc_pass grpc://127.0.0.1:{to}; }} }}\n"
        )
    };
    let _nginx =
        Neighbour::nginx(&(pass(nginx, direct.addr.port()) + &pass(behind_nginx, one.port)), &[ports[1], ports[3]]);
    for port in [haproxy, nginx, to_haproxy.addr.port(), to_nginx.addr.port()] {
        assert_eq!(passes(python("grpc_client.py").arg(port.to_string())).trim(), "ok");
    }
}
