//! OCSP stapling: OpenSSL answers for the CA, and curl and OpenSSL read what they are told in the handshake.
use crate::servers;
use crate::tls::openssl;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, eventually};
use std::process::Command;

const SERIAL: u8 = 0x4b;

/// A CA, its certificate for `shop.example` in `site.pem`, and a server behind.
struct Shop {
    pki: Pki,
    origin: Origin,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { pki: Pki::new(), origin: Origin::named("a") };
        shop.issue(SERIAL);
        shop
    }

    /// The certificate, with the CA's behind it.
    fn issue(&self, serial: u8) {
        self.pki.issue_with("own.pem", &["shop.example"], |c| c.serial_number = Some(vec![serial].into()));
        let read = |file| std::fs::read_to_string(self.pki.path(file)).expect("a file");
        self.pki.write("site.pem", &(read("own.pem") + &read("ca.pem")));
    }

    fn config(&self) -> String {
        format!(
            "[frontend.web]\nlisten = [{{ addr = LISTEN, tls = {{ cert = {:?} }} }}]\nbackend = \"app\"\n[backend.app]\n{}\n",
            self.pki.text("site.pem"),
            servers(&[&self.origin])
        )
    }

    /// Has the CA say of the certificate with this number: `V` good, `R` revoked; `before` goes before the command.
    fn told(&self, before: &[&str], word: &str, serial: u8) {
        let revoked = if word == "R" { "260101000000Z" } else { "" };
        let index = format!("{word}\t991231235959Z\t{revoked}\t{serial:02X}\tunknown\t/CN=shop.example\n");
        self.pki.write("index.txt", &index);
        self.pki.write("ca.key", &self.pki.key());
        let text = |file| self.pki.text(file);
        let number = format!("0x{serial:02X}");
        let ask = ["openssl", "ocsp", "-issuer", &text("ca.pem"), "-serial", &number, "-no_nonce"];
        run(&[&ask[..], &["-reqout", &text("question")]].concat());
        let own = ["-rsigner", &text("ca.pem"), "-rkey", &text("ca.key"), "-CA", &text("ca.pem")];
        let of = ["openssl", "ocsp", "-index", &text("index.txt"), "-reqin", &text("question"), "-ndays", "1"];
        run(&[before, &of, &own, &["-respout", &text("answer")]].concat());
    }

    /// Puts what the CA said beside the certificate.
    fn put(&self) {
        std::fs::rename(self.pki.path("answer"), self.pki.path("site.pem.ocsp")).expect("renamed");
    }

    /// Whether curl takes the certificate, if its CA has to have said that it is good, and what curl says.
    fn proven(&self, lb: &Instance) -> (bool, String) {
        let port = lb.addr.port();
        let resolve = format!("shop.example:{port}:127.0.0.1");
        self.pki.curl(&["--cert-status", "--resolve", &resolve, &format!("https://shop.example:{port}/")])
    }
}

fn run(args: &[&str]) {
    let output = Command::new(args[0]).args(&args[1..]).output().expect("installed by tests/run");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn clients_are_told_what_the_ca_says_of_the_certificate_as_soon_as_it_is_there() {
    let shop = Shop::new();
    let lb = Instance::start(&shop.config());
    assert!(openssl(&lb, &["-status"]).contains("OCSP response: no response sent"));
    let (fine, why) = shop.proven(&lb);
    assert!(!fine, "{why}");
    shop.told(&[], "V", SERIAL);
    shop.put();
    eventually("curl is told", || shop.proven(&lb).0);
    for version in ["-tls1_3", "-tls1_2"] {
        let shown = openssl(&lb, &["-status", "-servername", "shop.example", version]);
        assert!(shown.contains("OCSP Response Status: successful"), "{version}: {shown}");
        assert!(shown.contains("Cert Status: good") && shown.contains("Serial Number: 4B"), "{version}: {shown}");
        assert!(shown.contains("HTTP/1.1 200"), "{version}: {shown}");
    }
    let until = lb
        .metric(&format!("lb_tls_ocsp_expiry_seconds{{frontend=\"web\",certificate={:?}}}", shop.pki.text("site.pem")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((now + 80_000.0..now + 86_500.0).contains(&until), "{until}, and now it is {now}");
    let status = lb.json(&["status"]);
    assert_eq!(status["certificates"]["shown"][0]["ocsp_until"].as_f64(), Some(until * 1000.0));
    // Another instance has it from its first handshake on.
    assert!(shop.proven(&Instance::start(&shop.config())).0);
    std::fs::remove_file(shop.pki.path("site.pem.ocsp")).expect("removed");
    eventually("nothing is said any more", || openssl(&lb, &["-status"]).contains("no response sent"));
}

#[test]
fn what_is_wrong_for_the_certificate_changes_nothing_and_starts_nothing() {
    let shop = Shop::new();
    shop.told(&[], "V", SERIAL);
    shop.put();
    let lb = Instance::start(&shop.config());
    assert!(shop.proven(&lb).0);
    shop.pki.write("lb.toml", &shop.config().replace("LISTEN", "\"127.0.0.1:1\""));
    let wrong: [(&dyn Fn(), &str); 3] = [
        (&|| shop.pki.write("answer", "rubbish"), "it is no OCSP response: what is wanted is DER"),
        (&|| shop.told(&[], "V", 0x4c), "it names serial number 4c, this one has 4b"),
        (&|| shop.told(&[], "R", SERIAL), "the certificate was revoked at 2026-01-01T00:00:00Z"),
    ];
    for (times, (make, reason)) in wrong.into_iter().enumerate() {
        make();
        shop.put();
        eventually("it is noticed", || lb.metric("lb_tls_certificate_reload_errors_total") as usize == times + 1);
        let status = lb.text(&["status"]);
        assert!(status.contains("site.pem.ocsp cannot be used") && status.contains(reason), "{status}");
        assert!(shop.proven(&lb).0, "{reason}: what was good stays");
        let refused = lb.cli(&["reload"]);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && why.contains(reason), "{why}");
        for command in ["check", "run"] {
            let output = Command::new(lb_tests::lb())
                .args([command, "-c", &shop.pki.text("lb.toml")])
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.code() == Some(1) && said.contains(reason), "{command}: {said}");
            assert!(said.contains("lb.toml:2:50"), "{command}: {said}");
        }
    }
    shop.issue(0x4c);
    shop.told(&[], "V", 0x4c);
    shop.put();
    eventually("the new pair is shown", || {
        openssl(&lb, &["-status"]).contains("Serial Number: 4C") && shop.proven(&lb).0
    });
}

#[test]
fn what_the_ca_said_until_yesterday_is_told_to_the_operator_and_not_to_clients() {
    let shop = Shop::new();
    shop.told(&["faketime", "3 days ago"], "V", SERIAL);
    shop.put();
    let lb = Instance::start(&shop.config());
    assert!(openssl(&lb, &["-status"]).contains("OCSP response: no response sent"));
    assert!(lb.log().contains("site.pem.ocsp is not shown: it is for "), "{}", lb.log());
    shop.pki.write("lb.toml", &shop.config().replace("LISTEN", "\"127.0.0.1:1\""));
    let output =
        Command::new(lb_tests::lb()).args(["check", "-c", &shop.pki.text("lb.toml")]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("site.pem.ocsp is not shown"), "{said}");
    shop.told(&[], "V", SERIAL);
    shop.put();
    eventually("the new one is shown", || shop.proven(&lb).0);
}
