//! TLS with clients: certificates, versions, sessions, as curl, OpenSSL and Python see them.
use crate::servers;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, eventually, lb};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A frontend with TLS on these terms, and a backend.
fn config(origin: &Origin, tls: &str) -> String {
    format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, tls = {{ {tls} }} }}]\nbackend = \"app\"\n[backend.app]\n{}\n",
        servers(&[origin])
    )
}

fn start(pki: &Pki, origin: &Origin, tls: &str) -> Instance {
    Instance::start(&config(origin, &format!("cert = {:?}, {tls}", pki.text("site.pem"))))
}

/// curl's answer for this host and path.
fn curl(pki: &Pki, lb: &Instance, host: &str, args: &[&str]) -> (bool, String) {
    let port = lb.addr.port();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let url = format!("https://{host}:{port}/");
    pki.curl(&[&["--resolve", &resolve, &url], args].concat())
}

/// What `openssl s_client` says to these arguments, when it has sent a request and read the answer.
pub(crate) fn openssl(lb: &Instance, args: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &lb.addr.to_string(), "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl, installed by tests/run");
    let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    // A refused client has gone already.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("piped"), request);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn metric(lb: &Instance, series: &str) -> f64 {
    let text = lb.admin_text("/metrics");
    let line = text.lines().find(|l| l.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {series}"))
}

#[test]
fn a_request_over_tls_reaches_the_server_as_https_and_the_log_says_which_version() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let lb = start(&pki, &origin, "");
    let (fine, answer) = curl(&pki, &lb, "shop.example", &[]);
    assert!(fine && answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.seen()[0].value("x-forwarded-proto"), Some("https"));
    eventually("the request is logged", || lb.access().contains("\"tls\":\"TLSv1.3\""));
    let (fine, _) = curl(&pki, &lb, "shop.example", &["--tls-max", "1.2"]);
    assert!(fine);
    eventually("the request is logged", || lb.access().contains("\"tls\":\"TLSv1.2\""));
    assert_eq!(metric(&lb, "lb_tls_handshakes_total{frontend=\"web\",kind=\"full\"}"), 2.0);
    // Somebody else's CA.
    assert!(!Pki::new().curl(&[&format!("https://{}/", lb.addr)]).0);
    eventually("it is counted", || {
        metric(&lb, "lb_tls_handshake_failures_total{frontend=\"web\",reason=\"alert\"}") == 1.0
    });
}

#[test]
fn each_name_has_its_certificate_and_strangers_the_first_or_none() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["first.example"]);
    pki.issue("more/wild.pem", &["*.shop.example"]);
    pki.issue("more/www.pem", &["www.shop.example"]);
    let more = |strict| format!("cert = [{:?}, {:?}], strict_sni = {strict}", pki.text("site.pem"), pki.text("more"));
    let lb = Instance::start(&config(&origin, &more(false)));
    for name in ["first.example", "www.shop.example", "api.shop.example"] {
        let (fine, answer) = curl(&pki, &lb, name, &[]);
        assert!(fine, "{name}: {answer}");
    }
    let subject = |lb: &Instance, name| openssl(lb, &["-servername", name]);
    assert!(subject(&lb, "www.shop.example").contains("subject=CN = www.shop.example"));
    assert!(subject(&lb, "api.shop.example").contains("subject=CN = *.shop.example"));
    assert!(subject(&lb, "other.example").contains("subject=CN = first.example"));
    assert!(openssl(&lb, &["-noservername"]).contains("subject=CN = first.example"));
    let strict = Instance::start(&config(&origin, &more(true)));
    assert!(curl(&pki, &strict, "first.example", &[]).0);
    assert!(subject(&strict, "other.example").contains("no peer certificate available"));
    let refused = "lb_tls_handshake_failures_total{frontend=\"web\",reason=\"no-certificate\"}";
    assert_eq!(metric(&strict, refused), 1.0);
}

#[test]
fn old_versions_and_things_that_are_not_tls_are_refused_and_counted() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let lb = start(&pki, &origin, "min_version = \"1.3\"");
    assert!(!curl(&pki, &lb, "shop.example", &["--tls-max", "1.2"]).0);
    assert!(curl(&pki, &lb, "shop.example", &[]).0);
    lb.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(std::net::TcpStream::connect(lb.addr));
    for reason in ["incompatible", "not-tls", "closed"] {
        let series = format!("lb_tls_handshake_failures_total{{frontend=\"web\",reason=\"{reason}\"}}");
        eventually(reason, || metric(&lb, &series) >= 1.0);
    }
    assert_eq!(metric(&lb, "lb_tls_handshakes_active{frontend=\"web\"}"), 0.0);
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let config = config(&origin, &format!("cert = {:?}", pki.text("site.pem")));
    let lb = Instance::start(&format!("[defaults.timeout]\ntls_handshake = \"300ms\"\n{config}"));
    assert!(lb.client().closed());
    eventually("it is counted", || {
        metric(&lb, "lb_tls_handshake_failures_total{frontend=\"web\",reason=\"timeout\"}") == 1.0
    });
}

#[test]
fn past_its_rate_newcomers_are_reset_and_those_who_are_in_stay() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let config = config(&origin, &format!("cert = {:?}", pki.text("site.pem")));
    let lb = Instance::start(&format!("[tls]\nmax_handshake_rate = 1\n{config}"));
    let outcomes: Vec<_> = (0..12).map(|_| curl(&pki, &lb, "shop.example", &[]).0).collect();
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "{outcomes:?}");
    let shed = metric(&lb, "lb_tls_handshake_failures_total{frontend=\"web\",reason=\"shed\"}");
    assert_eq!(shed, outcomes.iter().filter(|fine| !**fine).count() as f64);
}

#[test]
fn a_session_goes_on_in_any_worker_and_on_any_instance_that_has_the_secret() {
    for version in ["-tls1_3", "-tls1_2"] {
        let (pki, origin) = (Pki::new(), Origin::named("a"));
        pki.issue("site.pem", &["shop.example"]);
        pki.write("new.key", &"n".repeat(48));
        pki.write("old.key", &"o".repeat(48));
        let with = |keys: &[&str]| {
            let keys: Vec<_> = keys.iter().map(|k| pki.text(k)).collect();
            let config = config(&origin, &format!("cert = {:?}", pki.text("site.pem")));
            Instance::start(&format!("[tls]\nticket_keys = {keys:?}\n{config}"))
        };
        let (old, both, strange) = (with(&["old.key"]), with(&["new.key", "old.key"]), with(&["new.key"]));
        let session = pki.text("session");
        let begun = openssl(&old, &[version, "-servername", "shop.example", "-sess_out", &session]);
        assert!(begun.contains("\nNew, TLSv1"), "{begun}");
        let again = |lb| openssl(lb, &[version, "-servername", "shop.example", "-sess_in", &session]);
        // The kernel spreads connections over the workers.
        for _ in 0..8 {
            let answer = again(&old);
            assert!(answer.contains("\nReused, TLSv1") && answer.contains("HTTP/1.1 200"), "{version} {answer}");
        }
        assert!(again(&both).contains("\nReused, TLSv1"), "{version}: another instance");
        assert!(again(&strange).contains("\nNew, TLSv1"), "{version}: without the secret");
        let other = openssl(&both, &[version, "-servername", "other.example", "-sess_in", &session]);
        assert!(other.contains("\nNew, TLSv1"), "{version}: another name");
        assert_eq!(metric(&old, "lb_tls_handshakes_total{frontend=\"web\",kind=\"resumed\"}"), 8.0);
    }
}

#[test]
fn clients_show_certificates_that_hold_and_are_not_revoked() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    pki.issue_with("alice.pem", &["alice"], |c| c.serial_number = Some(7.into()));
    pki.issue_with("mallory.pem", &["mallory"], |c| c.serial_number = Some(8.into()));
    let stranger = Pki::new();
    stranger.issue("eve.pem", &["eve"]);
    pki.revoke("crl.pem", &[8]);
    let terms = format!("client_ca = {:?}, client_crl = {:?}", pki.text("ca.pem"), pki.text("crl.pem"));
    let required = start(&pki, &origin, &terms);
    let optional = start(&pki, &origin, &format!("{terms}, client_cert = \"optional\""));
    let by = |lb, file: &str| curl(&pki, lb, "shop.example", &["--cert", file]).0;
    for lb in [&required, &optional] {
        assert!(by(lb, &pki.text("alice.pem")));
        assert!(!by(lb, &pki.text("mallory.pem")), "revoked");
        assert!(!by(lb, &stranger.text("eve.pem")), "of another CA");
    }
    assert!(!curl(&pki, &required, "shop.example", &[]).0);
    assert!(curl(&pki, &optional, "shop.example", &[]).0);
    assert_eq!(
        metric(&required, "lb_tls_handshake_failures_total{frontend=\"web\",reason=\"client-certificate\"}"),
        3.0
    );
}

#[test]
fn servers_are_told_what_a_clients_certificate_says_in_the_words_of_openssl() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    pki.issue_with("alice.pem", &["alice"], |c| {
        c.serial_number = Some(0x0abc.into());
        c.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        c.distinguished_name.push(rcgen::DnType::OrganizationName, "Shop, Inc");
    });
    let terms =
        format!("cert = {:?}, client_ca = {:?}, client_cert = \"optional\"", pki.text("site.pem"), pki.text("ca.pem"));
    let facts = "request = [{ set_header = { X-Version = \"%{tls_version} %{tls_cipher}\", X-Name = \"%{client_name}\", \
                 X-Subject = \"%{client_subject}\", X-Issuer = \"%{client_issuer}\", X-Serial = \"%{client_serial}\", \
                 X-Fingerprint = \"%{client_fingerprint}\", Client-Cert = \":%{client_cert}:\" } }]\n[backend.app]";
    let lb = Instance::start(&config(&origin, &terms).replace("[backend.app]", facts));
    let openssl = |what: &[&str]| {
        let output =
            Command::new("openssl").args(["x509", "-noout", "-in", &pki.text("alice.pem")]).args(what).output();
        let text = String::from_utf8(output.expect("openssl").stdout).expect("text");
        text.trim_end().split_once('=').expect("name=value").1.to_owned()
    };
    assert!(curl(&pki, &lb, "shop.example", &["--cert", &pki.text("alice.pem")]).0);
    let seen = origin.seen().pop().expect("a request");
    let said = |name: &str| seen.value(name).unwrap_or_default().to_owned();
    assert_eq!(said("X-Name"), "alice");
    assert_eq!(said("X-Version"), "TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert_eq!(said("X-Subject"), openssl(&["-subject", "-nameopt", "RFC2253"]));
    assert_eq!(said("X-Issuer"), openssl(&["-issuer", "-nameopt", "RFC2253"]));
    assert_eq!(said("X-Serial").to_uppercase(), openssl(&["-serial"]));
    assert_eq!(said("X-Fingerprint").to_uppercase(), openssl(&["-fingerprint", "-sha256"]).replace(':', ""));
    let pem = std::fs::read_to_string(pki.path("alice.pem")).expect("a file");
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1).and_then(|rest| rest.split("-----END").next());
    let body: String = body.expect("a certificate").split_whitespace().collect();
    assert_eq!(said("Client-Cert"), format!(":{body}:"));
    // Who shows none is nobody, whatever the request says.
    assert!(curl(&pki, &lb, "shop.example", &["-H", "X-Subject: CN=alice"]).0);
    let seen = origin.seen().pop().expect("a request");
    assert_eq!((seen.value("X-Subject"), seen.value("Client-Cert")), (Some(""), Some("::")));
}

#[test]
fn a_session_without_a_certificate_is_not_resumed_where_one_is_asked_for() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let (cert, ca, port) = (pki.text("site.pem"), pki.text("ca.pem"), free_port());
    let listen = format!(
        "listen = [{{ addr = LISTEN, tls = {{ cert = {cert:?} }} }}, \
         {{ addr = \"127.0.0.1:{port}\", tls = {{ cert = {cert:?}, client_ca = {ca:?} }} }}]"
    );
    let mut lb = Instance::start(&format!(
        "[frontend.web]\n{listen}\nbackend = \"app\"\n[backend.app]\n{}\n",
        servers(&[&origin])
    ));
    let session = pki.text("session");
    openssl(&lb, &["-servername", "shop.example", "-sess_out", &session]);
    assert!(openssl(&lb, &["-servername", "shop.example", "-sess_in", &session]).contains("\nReused"));
    lb.addr.set_port(port);
    let answer = openssl(&lb, &["-servername", "shop.example", "-sess_in", &session]);
    assert!(!answer.contains("\nReused") && !answer.contains("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_sent_away() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example", "*.shop.example"]);
    pki.issue("bank.pem", &["bank.example"]);
    let certs = format!("cert = [{:?}, {:?}]", pki.text("site.pem"), pki.text("bank.pem"));
    let lb = Instance::start(&config(&origin, &format!("{certs}, check_host = true")));
    let status = |host: &str| curl(&pki, &lb, "shop.example", &["-H", &format!("Host: {host}")]).1;
    assert!(status("shop.example").starts_with("HTTP/1.1 200"));
    assert!(status("www.shop.example:443").starts_with("HTTP/1.1 200"), "the same certificate");
    assert!(status("bank.example").starts_with("HTTP/1.1 421"));
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn new_certificates_are_shown_at_once_and_bad_ones_never() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["old.example"]);
    let lb = start(&pki, &origin, "");
    assert!(curl(&pki, &lb, "old.example", &[]).0);
    pki.issue("site.pem", &["new.example"]);
    eventually("the new one is shown", || curl(&pki, &lb, "new.example", &[]).0);
    pki.write("site.pem", "rubbish");
    let errors = "lb_tls_certificate_reload_errors_total";
    eventually("it is noticed", || metric(&lb, errors) == 1.0);
    assert!(curl(&pki, &lb, "new.example", &[]).0);
    let status = String::from_utf8_lossy(&lb.cli(&["status"]).stdout).into_owned();
    assert!(status.contains("site.pem holds no PEM certificate") && status.contains("new.example"), "{status}");
    let refused = lb.cli(&["reload"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("site.pem holds no PEM certificate"), "{why}");
    pki.issue("site.pem", &["newest.example"]);
    assert!(lb.cli(&["reload"]).status.success());
    assert!(curl(&pki, &lb, "newest.example", &[]).0);
    let end = metric(
        &lb,
        &format!("lb_tls_certificate_expiry_seconds{{frontend=\"web\",certificate={:?}}}", pki.text("site.pem")),
    );
    assert!(end > 1_800_000_000.0, "{end}");
}

#[test]
fn check_tells_of_files_that_no_instance_would_start_with() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    let check = |cert: &str| {
        let text = config(&origin, &format!("cert = {:?}", pki.text(cert))).replace("LISTEN", "\"127.0.0.1:1\"");
        pki.write("lb.toml", &text);
        let run = |what: &str| Command::new(lb()).args([what, "-c", &pki.text("lb.toml")]).output().expect("lb runs");
        let output = run("check");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let started = run("run");
            assert_eq!(started.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&started.stderr).contains(cert));
        }
        (output.status.code(), text)
    };
    let (code, text) = check("gone.pem");
    assert_eq!(code, Some(1));
    assert!(
        text.contains("frontend \"web\", 127.0.0.1:1: cert:") && text.contains("gone.pem cannot be read"),
        "{text}"
    );
    pki.issue_with("expired.pem", &["shop.example"], |c| {
        (c.not_before, c.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 1, 1));
    });
    let (code, text) = check("expired.pem");
    assert!(code == Some(0) && text.contains("expired.pem does not hold now"), "{text}");
}

#[test]
fn the_name_that_tls_asked_for_is_a_key_of_tables_and_limits() {
    let (pki, a, b) = (Pki::new(), Origin::named("a"), Origin::named("b"));
    pki.issue("site.pem", &["one.example", "two.example"]);
    let rules = "sticky = [{ on = \"sni\", table = \"names\" }]";
    let text = config(&a, &format!("cert = {:?}", pki.text("site.pem")))
        .replace(&servers(&[&a]), &format!("{}\n{rules}", servers(&[&a, &b])))
        .replace("[backend.app]", "limit = [{ key = \"sni\", table = \"names\", when = \"http_req_cnt > 4\", then = \"deny 429\" }]\n[backend.app]");
    let lb = Instance::start(&format!("[table.names]\ntype = \"string\"\nstore = [\"http_req_cnt\"]\n{text}"));
    let server = |host: &str, args: &[&str]| {
        let (fine, answer) = curl(&pki, &lb, host, args);
        assert!(fine, "{answer}");
        answer.lines().last().unwrap_or_default().to_owned()
    };
    for host in ["one.example", "two.example"] {
        let first = server(host, &[]);
        assert!(["a", "b"].contains(&first.as_str()), "{first}");
        // Names have no case, and HTTP/2 has the same.
        let others = [server(host, &["--http2"]), server(&host.to_uppercase(), &[]), server(host, &[])];
        assert!(others.iter().all(|other| *other == first), "{first}: {others:?}");
        assert!(curl(&pki, &lb, host, &[]).1.contains(" 429 "), "the fifth is one too many");
    }
    let keys: Vec<_> = lb.pins("names").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["one.example", "two.example"]);
}

#[test]
fn python_speaks_to_it_too() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let lb = start(&pki, &origin, "");
    let script = "import socket, ssl, sys\n\
        c = ssl.create_default_context(cafile=sys.argv[2]); c.set_alpn_protocols(['http/1.1'])\n\
        s = c.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), server_hostname='shop.example')\n\
        assert s.selected_alpn_protocol() == 'http/1.1', s.selected_alpn_protocol()\n\
        body = b'x' * 1000000\n\
        s.sendall(b'POST / HTTP/1.1\\r\\nHost: shop.example\\r\\nConnection: close\\r\\nContent-Length: 1000000\\r\\n\\r\\n' + body)\n\
        d = b''\n\
        while (p := s.recv(65536)): d += p\n\
        assert d.startswith(b'HTTP/1.1 200'), d\n";
    let output = Command::new("python3")
        .args(["-c", script, &lb.addr.port().to_string(), &pki.text("ca.pem")])
        .output()
        .expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(origin.seen()[0].body.len(), 1_000_000);
}

#[test]
fn the_handshake_agrees_on_http2_or_http1_and_tcp_mode_passes_on_what_was_inside() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let lb = start(&pki, &origin, "");
    let (fine, answer) = curl(&pki, &lb, "shop.example", &["--http2"]);
    assert!(fine && answer.starts_with("HTTP/2 200"), "{answer}");
    assert!(curl(&pki, &lb, "shop.example", &[]).1.starts_with("HTTP/1.1 200"));
    assert_eq!(origin.seen()[0].value("x-forwarded-proto"), Some("https"));
    let tcp = Instance::start(&format!(
        "[frontend.web]\nmode = \"tcp\"\nlisten = [{{ addr = LISTEN, tls = {{ cert = {:?} }} }}]\nbackend = \"app\"\n\
         [backend.app]\n{}\n",
        pki.text("site.pem"),
        servers(&[&origin])
    ));
    let (fine, answer) = curl(&pki, &tcp, "shop.example", &[]);
    assert!(fine && answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.seen()[2].value("x-forwarded-proto"), None);
}

/// The first words of a client.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("shop.example").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}

#[test]
fn in_a_storm_of_handshakes_those_who_are_in_wait_for_few_of_them() {
    const STORM: usize = 2000;
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let port = free_port();
    let listen = format!("[{{ addr = \"127.0.0.1:{port}\", tls = {{ cert = {:?} }} }}, LISTEN]", pki.text("site.pem"));
    let config = config(&origin, "").replace("[{ addr = LISTEN, tls = {  } }]", &listen);
    let lb = Instance::start(
        &config.replace("backend = \"app\"\n", "backend = \"app\"\ntimeout = { tls_handshake = \"60s\" }\n"),
    );
    let mut inside = lb_tests::Client::connect(lb.addr);
    assert_eq!(inside.get("/", "").status, 200);
    let mut storm: Vec<_> = (0..STORM).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected")).collect();
    eventually("all are in", || metric(&lb, "lb_tls_handshakes_active{frontend=\"web\"}") == STORM as f64);
    let hello = hello();
    // All of it is there when it wakes up, the request last.
    lb.signal("-STOP");
    for client in &mut storm {
        client.set_nonblocking(true).expect("a socket");
        client.write_all(&hello).expect("room for a few bytes");
    }
    inside.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    lb.signal("-CONT");
    assert_eq!(inside.answer().map(|a| a.status), Some(200));
    let answered = || storm.iter().filter(|client| client.peek(&mut [0]).is_ok()).count();
    let meanwhile = answered();
    // In the order of their coming nearly all of them would have had their turn first.
    assert!(meanwhile < STORM / 4, "{meanwhile} handshakes before the one request was answered");
    eventually("everybody is answered in the end", || answered() == STORM);
}
