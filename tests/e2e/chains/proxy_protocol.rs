//! The PROXY protocol between lb and its neighbours, both versions, both ways.
use super::{ask, at, server};
use crate::servers;
use crate::tcp::from;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, Origin, eventually};
use std::io::Read;

/// Believes HAProxy and nginx about their clients.
fn trusting(origin: &Origin, frontend: &str) -> Instance {
    Instance::start(&format!(
        "[frontend.web]\nlisten = {{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }}\nbackend = \"app\"\n{frontend}\n\
         [backend.app]\n{}\n",
        servers(&[origin])
    ))
}

#[test]
fn haproxy_and_nginx_tell_lb_who_the_client_is() {
    let origin = Origin::named("a");
    let lb = trusting(&origin, "");
    let [v1, v2, tcp, stream] = [(); 4].map(|()| free_port());
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen v1\n bind 127.0.0.1:{v1}\n server lb {0} send-proxy\n\
             listen v2\n bind 127.0.0.1:{v2}\n server lb {0} send-proxy-v2 proxy-v2-options crc32c,unique-id\n\
             listen tcp\n mode tcp\n bind 127.0.0.1:{tcp}\n server lb {0} send-proxy-v2\n",
            lb.addr
        ),
        &[v1, v2, tcp],
    );
    let _nginx = Neighbour::nginx_stream(
        &format!("server {{ listen 127.0.0.1:{stream}; proxy_pass {}; proxy_protocol on; }}", lb.addr),
        &[stream],
    );
    // Clients alternate: HAProxy keeps connections, and must not give one the other's.
    for (i, port) in [v1, v2, tcp, stream, v1, v2].into_iter().enumerate() {
        let ip = [127, 0, 0, 10 + i as u8];
        assert_eq!(ask(ip, port, "/", "X-Forwarded-For: 192.0.2.66\r\n").text(), "a");
        let seen = origin.seen().pop().expect("a request");
        let said = format!("127.0.0.{}", 10 + i);
        assert_eq!(seen.value("x-forwarded-for"), Some(said.as_str()), "port {i}: {}", seen.head);
        assert_eq!(seen.value("x-forwarded-proto"), Some("http"));
    }
}

#[test]
fn where_tls_ends_at_haproxy_lb_knows_what_it_agreed_on_and_who_the_client_was() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    pki.issue("alice.pem", &["alice"]);
    let lb = trusting(
        &origin,
        "request = [{ if = { tls = false }, deny = 403 }, { if = { client_name = \"alice\", sni = \"shop.example\" }, \
         set_header = { X-Client = \"%{client_name}\", X-Name = \"%{sni}\" } }]",
    );
    let [secure, two, bare, plain] = [(); 4].map(|()| free_port());
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen secure\n mode tcp\n bind 127.0.0.1:{secure} ssl crt {site} ca-file {ca} verify optional alpn http/1.1\n \
             server lb {0} send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,authority,crc32c\n\
             listen two\n mode tcp\n bind 127.0.0.1:{two} ssl crt {site} alpn h2,http/1.1\n server lb {0} send-proxy-v2-ssl\n\
             listen bare\n mode tcp\n bind 127.0.0.1:{bare} ssl crt {site}\n server lb {0} send-proxy-v2\n\
             listen plain\n mode tcp\n bind 127.0.0.1:{plain}\n server lb {0} send-proxy-v2-ssl-cn\n",
            lb.addr
        ),
        &[secure, two, bare, plain],
    );
    let curl = |port: u16, more: &[&str]| {
        let resolve = format!("shop.example:{port}:127.0.0.1");
        let url = format!("https://shop.example:{port}/");
        pki.curl(&[&["--interface", "127.0.0.9", "--resolve", &resolve, &url], more].concat()).1
    };
    let with = curl(secure, &["--cert", &pki.text("alice.pem")]);
    assert!(with.starts_with("HTTP/1.1 200"), "{with}");
    let without = curl(secure, &[]);
    assert!(without.starts_with("HTTP/1.1 200"), "{without}");
    let seen = origin.seen();
    for seen in &seen {
        assert_eq!(seen.value("x-forwarded-for"), Some("127.0.0.9"));
        assert_eq!(seen.value("x-forwarded-proto"), Some("https"));
    }
    assert_eq!((seen[0].value("x-client"), seen[0].value("x-name")), (Some("alice"), Some("shop.example")));
    assert_eq!((seen[1].value("x-client"), seen[1].value("x-name")), (None, None));
    eventually("the log tells, too", || lb.access().contains("\"tls\":\"TLSv1.3\""));
    // What it agreed on with the client is what comes next.
    for (version, said) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let answer = curl(two, &[version]);
        assert!(answer.starts_with(said), "{answer}");
    }
    // What HAProxy does not tell is not known; and plain is plain.
    assert!(curl(bare, &[]).starts_with("HTTP/1.1 403"));
    assert_eq!(ask([127, 0, 0, 9], plain, "/", "").status, 403);
}

#[test]
fn lb_tells_haproxy_and_nginx_who_the_client_is() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let [haproxy, nginx, secure] = [(); 3].map(|()| free_port());
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen in\n bind 127.0.0.1:{haproxy} accept-proxy\n http-request set-header X-Src %[src]\n \
             http-request set-header X-Name %[fc_pp_authority]\n server origin {}\n",
            origin.addr
        ),
        &[haproxy],
    );
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx} proxy_protocol; location / {{ proxy_pass http://{}; \
             proxy_set_header X-Src $proxy_protocol_addr; }} }}",
            origin.addr
        ),
        &[nginx],
    );
    for version in ["v1", "v2"] {
        let lb = Instance::start(&format!(
            "[frontend.web]\nlisten = [LISTEN, {{ addr = \"127.0.0.1:{secure}\", tls = {{ cert = {:?} }} }}]\n\
             backend = \"haproxy\"\nroutes = [{{ path_prefix = \"/nginx\", backend = \"nginx\" }}]\n\
             [backend.haproxy]\nsend_proxy = \"{version}\"\n{}\n[backend.nginx]\nsend_proxy = \"{version}\"\n{}\n",
            pki.text("site.pem"),
            server("haproxy", at(haproxy), ""),
            server("nginx", at(nginx), "")
        ));
        for (i, target) in ["/haproxy", "/nginx", "/haproxy", "/nginx"].into_iter().enumerate() {
            assert_eq!(ask([127, 0, 0, 20 + i as u8], lb.addr.port(), target, "").text(), "a", "{version} {target}");
            let seen = origin.seen().pop().expect("a request");
            assert_eq!(seen.value("x-src"), Some(format!("127.0.0.{}", 20 + i).as_str()), "{version}: {}", seen.head);
        }
        let resolve = format!("shop.example:{secure}:127.0.0.1");
        let url = format!("https://shop.example:{secure}/");
        let (_, answer) = pki.curl(&["--resolve", &resolve, &url]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{version} {answer}");
        let seen = origin.seen().pop().expect("a request");
        let name = (version == "v2").then_some("shop.example");
        assert_eq!(seen.value("x-name").filter(|name| !name.is_empty()), name, "{version}: {}", seen.head);
    }
}

#[test]
fn through_haproxy_lb_and_nginx_a_connection_of_tcp_keeps_its_clients_address() {
    let [first, last] = [(); 2].map(|()| free_port());
    let _nginx = Neighbour::nginx_stream(
        &format!("server {{ listen 127.0.0.1:{last} proxy_protocol; return \"$proxy_protocol_addr\"; }}"),
        &[last],
    );
    for (version, said) in [("v1", "v2"), ("v2", "v1")] {
        let lb = Instance::start(&format!(
            "[table.clients]\ntype = \"ip\"\n[frontend.web]\nmode = \"tcp\"\nbackend = \"app\"\n\
             listen = {{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }}\n\
             [backend.app]\nsticky = [{{ on = \"src\", table = \"clients\" }}]\nsend_proxy = \"{version}\"\n{}\n",
            server("nginx", at(last), "")
        ));
        let word = if said == "v1" { "send-proxy" } else { "send-proxy-v2" };
        let _haproxy = Neighbour::haproxy(
            &format!("listen in\n mode tcp\n bind 127.0.0.1:{first}\n server lb {} {word}\n", lb.addr),
            &[first],
        );
        for ip in [31, 32] {
            let mut told = String::new();
            from([127, 0, 0, ip], at(first)).read_to_string(&mut told).expect("an end in order");
            assert_eq!(told, format!("127.0.0.{ip}"), "{said} in, {version} out");
            eventually("the client is pinned, not its proxy", || {
                lb.pin("clients", &format!("127.0.0.{ip}")).as_deref() == Some("nginx")
            });
        }
    }
}

#[test]
fn over_unix_sockets_haproxy_tells_who_the_client_is_and_nginx_does_so_in_a_header() {
    let (dir, origin) = (tempfile::tempdir().expect("a directory"), Origin::named("a"));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let _lb = Instance::start(&format!(
        "[frontend.web]\nlisten = [LISTEN, {{ addr = \"unix:{}\", accept_proxy = true }}, \"unix:{}\"]\nbackend = \"app\"\n\
         trusted_proxies = [\"127.0.0.1\"]\n[backend.app]\nreal_ip = true\n{}\n",
        path("haproxy.sock"),
        path("nginx.sock"),
        servers(&[&origin])
    ));
    let [haproxy, nginx] = [(); 2].map(|()| free_port());
    let _haproxy = Neighbour::haproxy(
        &format!("listen in\n bind 127.0.0.1:{haproxy}\n server lb unix@{} send-proxy-v2\n", path("haproxy.sock")),
        &[haproxy],
    );
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx}; location / {{ proxy_pass http://unix:{}; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}",
            path("nginx.sock")
        ),
        &[nginx],
    );
    for (ip, port) in [(61, haproxy), (62, nginx), (63, haproxy)] {
        assert_eq!(ask([127, 0, 0, ip], port, "/", "").text(), "a");
        let seen = origin.seen().pop().expect("a request");
        assert_eq!(seen.value("x-real-ip"), Some(format!("127.0.0.{ip}").as_str()), "{}", seen.head);
    }
}
