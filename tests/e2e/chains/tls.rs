//! TLS between lb and its neighbours: both sides verify each other, by name and by certificate.
use super::{ask, at, server};
use crate::servers;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, Origin, eventually};

/// A configuration of one plain frontend and these servers.
fn plain(backend: &str) -> String {
    format!("[frontend.web]\nlisten = LISTEN\nbackend = \"app\"\n[backend.app]\nretries = 0\n{backend}\n")
}

/// HAProxy and nginx, who let in whoever has a certificate; their ports.
fn behind(pki: &Pki, origin: &Origin) -> ([Neighbour; 2], [u16; 2]) {
    let [haproxy, nginx] = [(); 2].map(|()| free_port());
    let (site, ca) = (pki.text("inner.pem"), pki.text("ca.pem"));
    let first = Neighbour::haproxy(
        &format!(
            "listen in\n bind 127.0.0.1:{haproxy} ssl crt {site} ca-file {ca} verify required strict-sni\n \
             http-request set-header X-Client %[ssl_c_s_dn(cn)]\n http-request set-header X-Name %[ssl_fc_sni]\n \
             server origin {}\n",
            origin.addr
        ),
        &[haproxy],
    );
    let second = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx} ssl; ssl_certificate {site}; ssl_certificate_key {site}; \
             ssl_client_certificate {ca}; ssl_verify_client on; location / {{ proxy_pass http://{}; \
             proxy_set_header X-Client $ssl_client_s_dn; proxy_set_header X-Name $ssl_server_name; }} }}",
            origin.addr
        ),
        &[nginx],
    );
    ([first, second], [haproxy, nginx])
}

#[test]
fn lb_and_the_proxies_behind_it_verify_each_other() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("inner.pem", &["inner.example"]);
    pki.issue("lb.pem", &["lb1"]);
    let (_neighbours, ports) = behind(&pki, &origin);
    let (ca, cert) = (pki.text("ca.pem"), pki.text("lb.pem"));
    for port in ports {
        let lb = |tls: &str| Instance::start(&plain(&server("inner", at(port), &format!(", tls = {{ {tls} }}"))));
        let good = lb(&format!("ca = {ca:?}, sni = \"inner.example\", cert = {cert:?}"));
        let mut client = good.client();
        for _ in 0..3 {
            assert_eq!(client.get("/", "").text(), "a");
        }
        let seen = origin.seen().pop().expect("a request");
        assert!(seen.value("x-client").is_some_and(|name| name.ends_with("lb1")), "{}", seen.head);
        assert_eq!(seen.value("x-name"), Some("inner.example"));
        let before = origin.seen().len();
        let wrong = lb(&format!("ca = {ca:?}, sni = \"other.example\", cert = {cert:?}"));
        assert_eq!(wrong.client().get("/", "").status, 503);
        // They hear of us only when they ask, which in TLS 1.3 is after we may speak.
        let nobody = lb(&format!("ca = {ca:?}, sni = \"inner.example\""));
        let status = nobody.client().get("/", "").status;
        assert!(matches!(status, 400 | 502 | 503), "{status}");
        let stranger = Pki::new();
        let theirs = lb(&format!("ca = {:?}, sni = \"inner.example\", cert = {cert:?}", stranger.text("ca.pem")));
        assert_eq!(theirs.client().get("/", "").status, 503);
        assert!(theirs.log().contains("its certificate is not signed by") || theirs.log().contains("certificate"));
        assert_eq!(origin.seen().len(), before, "nothing came through");
    }
}

#[test]
fn the_proxies_before_lb_verify_it_and_show_who_they_are() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("lb.pem", &["lb.example"]);
    pki.issue("front.pem", &["front"]);
    let (ca, cert, front) = (pki.text("ca.pem"), pki.text("lb.pem"), pki.text("front.pem"));
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = {{ addr = LISTEN, tls = {{ cert = {cert:?}, client_ca = {ca:?}, min_version = \"1.3\" }} }}\n\
         backend = \"app\"\nrequest = [{{ set_header = {{ X-Client = \"%{{client_name}}\", X-Name = \"%{{sni}}\" }} }}]\n\
         [backend.app]\n{}\n",
        servers(&[&origin])
    ));
    let [haproxy, nameless, nginx, misled] = [(); 4].map(|()| free_port());
    let to_lb = format!("server lb {} ssl verify required ca-file {ca} sni str(lb.example)", lb.addr);
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen good\n bind 127.0.0.1:{haproxy}\n {to_lb} verifyhost lb.example crt {front}\n\
             listen nameless\n bind 127.0.0.1:{nameless}\n retries 0\n {to_lb}\n",
        ),
        &[haproxy, nameless],
    );
    let terms = |name: &str| {
        format!(
            "proxy_pass https://{}; proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name {name}; \
             proxy_ssl_server_name on; proxy_ssl_certificate {front}; proxy_ssl_certificate_key {front}; \
             proxy_ssl_protocols TLSv1.3;",
            lb.addr
        )
    };
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx}; location / {{ {} }} }}\n\
             server {{ listen 127.0.0.1:{misled}; location / {{ {} }} }}",
            terms("lb.example"),
            terms("other.example")
        ),
        &[nginx, misled],
    );
    for port in [haproxy, nginx] {
        for _ in 0..3 {
            assert_eq!(ask([127, 0, 0, 1], port, "/", "").text(), "a");
        }
        let seen = origin.seen().pop().expect("a request");
        assert_eq!((seen.value("x-client"), seen.value("x-name")), (Some("front"), Some("lb.example")));
    }
    assert_eq!(origin.seen().len(), 6);
    assert!(matches!(ask([127, 0, 0, 1], nameless, "/", "").status, 502 | 503), "HAProxy shows no certificate");
    assert_eq!(ask([127, 0, 0, 1], misled, "/", "").status, 502, "nginx asks for another name");
    assert_eq!(origin.seen().len(), 6, "nothing came through");
    // nginx opens a connection for each request, and goes on with its session.
    eventually("sessions are resumed", || {
        lb.metric("lb_tls_handshakes_total{frontend=\"web\",kind=\"resumed\"}") >= 2.0
    });
    assert!(lb.metric("lb_tls_handshake_failures_total{frontend=\"web\",reason=\"client-certificate\"}") >= 1.0);
}

#[test]
fn lb_speaks_tls_1_2_and_1_3_with_servers_that_take_only_one() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("inner.pem", &["inner.example"]);
    let [old, new, none] = [(); 3].map(|()| free_port());
    let site = pki.text("inner.pem");
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen old\n bind 127.0.0.1:{old} ssl crt {site} ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2\n \
             http-request set-header X-Version %[ssl_fc_protocol]\n server origin {0}\n\
             listen new\n bind 127.0.0.1:{new} ssl crt {site} ssl-min-ver TLSv1.3\n \
             http-request set-header X-Version %[ssl_fc_protocol]\n server origin {0}\n",
            origin.addr
        ),
        &[old, new],
    );
    let ca = pki.text("ca.pem");
    let start = |port, more| {
        let tls = format!(", tls = {{ ca = {ca:?}, sni = \"inner.example\"{more} }}");
        Instance::start(&plain(&server("inner", at(port), &tls)))
    };
    for (port, version) in [(old, "TLSv1.2"), (new, "TLSv1.3")] {
        assert_eq!(start(port, "").client().get("/", "").text(), "a", "{version}");
        assert_eq!(origin.seen().pop().expect("a request").value("x-version"), Some(version));
    }
    assert_eq!(start(old, ", min_version = \"1.3\"").client().get("/", "").status, 503);
    // Nobody there at all is another thing than somebody who speaks no TLS; neither is an answer.
    assert_eq!(start(none, "").client().get("/", "").status, 503);
    assert_eq!(start(origin.addr.port(), "").client().get("/", "").status, 503);
}
