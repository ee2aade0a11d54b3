//! Other people's clients over TLS: httpx with both versions of HTTP, OpenSSL and what it agrees on.
use super::passes;
use crate::foreign::python;
use crate::servers;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, eventually};

/// Asks for certificates, tells the server whose it was, and shares sessions with others of the same secret.
fn config(pki: &Pki, origin: &Origin, tls: &str, listen: &str) -> String {
    pki.issue("site.pem", &["shop.example", "127.0.0.1"]);
    pki.write("ticket.key", &"t".repeat(48));
    format!(
        "[tls]\nticket_keys = [{:?}]\n[frontend.web]\nlisten = {{ addr = LISTEN, tls = {{ cert = {:?}, client_ca = {:?}, {tls} }}{listen} }}\n\
         backend = \"app\"\nrequest = [{{ set_header = {{ X-Client = \"%{{client_name}}\" }} }}]\n[backend.app]\n{}\n",
        pki.text("ticket.key"),
        pki.text("site.pem"),
        pki.text("ca.pem"),
        servers(&[origin])
    )
}

/// What `openssl s_client` prints that asks for the shop.
fn openssl(lb: &Instance, args: &[&str]) -> String {
    crate::tls::openssl(lb, &[&["-servername", "shop.example"], args].concat())
}

#[test]
fn httpx_speaks_http_1_and_http_2_and_shows_its_certificate() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("alice.pem", &["alice"]);
    let lb = Instance::start(&config(&pki, &origin, "", ""));
    let mut client = python("tls_client.py");
    client.arg(lb.addr.port().to_string()).args([pki.text("ca.pem"), pki.text("alice.pem")]);
    assert_eq!(passes(&mut client).trim(), "ok");
    let seen = origin.seen();
    assert_eq!(seen.len(), 102);
    assert!(seen.iter().all(|s| s.value("x-client") == Some("alice") && s.value("x-forwarded-proto") == Some("https")));
    eventually("both were refused once", || {
        lb.metric("lb_tls_handshake_failures_total{frontend=\"web\",reason=\"client-certificate\"}") == 2.0
    });
}

#[test]
fn openssl_agrees_on_what_is_offered_and_on_nothing_else() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    let start = |tls: &str, listen: &str| {
        Instance::start(&config(&pki, &origin, &format!("client_cert = \"optional\"{tls}"), listen))
    };
    let both = start("", "");
    // Ours to choose: the first of our list that the client knows.
    for (offered, agreed) in
        [("h2", "h2"), ("http/1.1,h2", "h2"), ("http/1.1", "http/1.1"), ("imap,http/1.1", "http/1.1")]
    {
        let said = openssl(&both, &["-alpn", offered]);
        assert!(said.contains(&format!("ALPN protocol: {agreed}")), "{offered}: {said}");
    }
    assert!(openssl(&both, &[]).contains("No ALPN negotiated"));
    assert!(openssl(&both, &["-alpn", "imap"]).contains("no application protocol"));
    let old = start("", ", alpn = \"http/1.1\"");
    let said = openssl(&old, &["-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: http/1.1") && said.contains("HTTP/1.1 200"), "{said}");
    // Versions: 1.2 and up, or 1.3 alone.
    let strict = start(", min_version = \"1.3\"", "");
    for (lb, version, fine) in [
        (&both, "-tls1_1", false),
        (&both, "-tls1_2", true),
        (&both, "-tls1_3", true),
        (&strict, "-tls1_2", false),
        (&strict, "-tls1_3", true),
    ] {
        let said = openssl(lb, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert_eq!(said.contains("HTTP/1.1 200"), fine, "{version}: {said}");
    }
    assert!(openssl(&both, &[]).contains("Acceptable client certificate CA names"));
}

#[test]
fn a_session_of_a_client_with_a_certificate_goes_on_at_the_other_instance_as_the_same_client() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    pki.issue("alice.pem", &["alice"]);
    let [first, second] = [(); 2].map(|()| Instance::start(&config(&pki, &origin, "", "")));
    for version in ["-tls1_3", "-tls1_2"] {
        let (alice, session) = (pki.text("alice.pem"), pki.text("session"));
        let begun = openssl(&first, &[version, "-cert", &alice, "-key", &alice, "-sess_out", &session]);
        assert!(begun.contains("\nNew, TLSv1") && begun.contains("HTTP/1.1 200"), "{begun}");
        // The certificate is not shown again: the session knows it.
        let again = openssl(&second, &[version, "-sess_in", &session]);
        assert!(again.contains("\nReused, TLSv1") && again.contains("HTTP/1.1 200"), "{version}: {again}");
        assert_eq!(origin.seen().pop().expect("a request").value("x-client"), Some("alice"), "{version}");
    }
    assert_eq!(origin.seen().len(), 4);
}
