//! Mutual TLS between instances, from the first command to the last refusal.
use crate::app;
use lb_tests::instance::free_port;
use lb_tests::{Instance, Origin, eventually, lb};
use rcgen::{CertificateParams, Issuer, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(lb()).arg("cert").args(args).current_dir(dir).output().expect("lb runs")
}

/// What `lb cert` printed.
fn cert(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it complained of.
fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line to paste into the configuration.
fn tls_line(printed: &str) -> String {
    printed.lines().find(|l| l.starts_with("tls = ")).expect("a line to paste").to_owned()
}

fn config(origin: &Origin) -> String {
    let rule = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    format!("[table.sessions]\ntype = \"string\"\n{}", app(&[origin], rule))
}

fn spawn(name: &str, join: &[u16], tls: &str, config: &str) -> Instance {
    let (port, join) = (free_port(), join.iter().map(|p| format!("\"127.0.0.1:{p}\"")).collect::<Vec<_>>().join(", "));
    let peers = format!(
        "[peers]\ncluster = \"shop\"\nlisten = \"127.0.0.1:{port}\"\njoin = [{join}]\njoin_timeout = \"1s\"\n{tls}\n{config}"
    );
    Instance::spawn(name, port, &peers)
}

/// The errors of refused peers, as `lb peers` prints them.
fn refused(lb: &Instance) -> String {
    let text = String::from_utf8_lossy(&lb.cli(&["peers"]).stdout).into_owned();
    if text.contains("refused") { text } else { String::new() }
}

/// A CA and two instances that it vouches for, linked.
struct Cluster {
    dir: tempfile::TempDir,
    config: String,
    instances: Vec<Instance>,
    _origin: Origin,
}

impl Cluster {
    fn start() -> Self {
        let (dir, origin) = (tempfile::TempDir::new().expect("a directory"), Origin::named("a"));
        let config = config(&origin);
        let absolute = dir.path().join("certs");
        let absolute = absolute.to_str().expect("a path");
        cert(dir.path(), &["init", "--dir", absolute, "--cluster", "shop"]);
        let line = |node: &str| tls_line(&cert(dir.path(), &["issue", node, "--dir", absolute]));
        let first = spawn("lb1", &[], &line("lb1"), &config);
        let second = spawn("lb2", &[first.peers.port()], &line("lb2"), &config);
        for lb in [&first, &second] {
            lb.wait_ready();
            eventually("they are linked", || lb.peers_up() == 1);
        }
        Self { dir, config, instances: vec![first, second], _origin: origin }
    }

    fn join(&self, name: &str, tls: &str) -> Instance {
        spawn(name, &[self.instances[0].peers.port()], tls, &self.config)
    }
}

#[test]
fn two_commands_make_a_cluster_with_mutual_tls() {
    let cluster = Cluster::start();
    let [first, second] = &cluster.instances[..] else { panic!("two") };
    first.client().get("/", "X-Key: k\r\n");
    eventually("a pin arrives", || second.pin("sessions", "k").is_some());
    let mode = |file: &str| {
        let path = cluster.dir.path().join("certs").join(file);
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!(["ca.key", "lb1.key", "ca.pem", "lb1.pem"].map(mode), [0o600, 0o600, 0o644, 0o644]);
}

#[test]
fn a_certificate_of_a_foreign_ca_is_refused_and_both_sides_say_why() {
    let cluster = Cluster::start();
    let elsewhere = tempfile::TempDir::new().expect("a directory");
    let dir = elsewhere.path().join("certs");
    cert(elsewhere.path(), &["init"]);
    cert(elsewhere.path(), &["issue", "lb3"]);
    let tls = format!("tls = {{ ca = \"{0}/ca.pem\", cert = \"{0}/lb3.pem\", key = \"{0}/lb3.key\" }}", dir.display());
    let third = cluster.join("lb3", &tls);
    third.wait_ready();
    for lb in [&third, &cluster.instances[0]] {
        eventually("it is refused", || refused(lb).contains("peers.tls.ca must be the same on all instances"));
    }
    assert_eq!(cluster.instances[0].peers_up(), 1);
}

#[test]
fn an_expired_certificate_is_refused_and_both_sides_say_why() {
    let cluster = Cluster::start();
    let file = |name: &str| cluster.dir.path().join("certs").join(name);
    let read = |name: &str| std::fs::read_to_string(file(name)).expect("a file");
    let ca_key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).expect("a CA");
    let mut params = CertificateParams::new(vec!["lb3".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 1, 1));
    let key = KeyPair::generate().expect("a key");
    let pem = params.signed_by(&key, &issuer).expect("a certificate").pem();
    std::fs::write(file("lb3.pem"), pem).expect("written");
    std::fs::write(file("lb3.key"), key.serialize_pem()).expect("written");
    let dir = cluster.dir.path().join("certs");
    let tls = format!("tls = {{ ca = \"{0}/ca.pem\", cert = \"{0}/lb3.pem\", key = \"{0}/lb3.key\" }}", dir.display());
    let third = cluster.join("lb3", &tls);
    third.wait_ready();
    for lb in [&third, &cluster.instances[0]] {
        eventually("it is refused", || refused(lb).contains("certificate has expired"));
    }
    let shown = run(&dir, &["show", "lb3.pem"]);
    assert_eq!(shown.status.code(), Some(1), "the answer is no");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("expired"));
}

#[test]
fn an_instance_does_not_start_with_the_certificate_of_another() {
    let cluster = Cluster::start();
    let dir = cluster.dir.path().join("certs");
    let tls = format!("tls = {{ ca = \"{0}/ca.pem\", cert = \"{0}/lb1.pem\", key = \"{0}/lb1.key\" }}", dir.display());
    let mut third = cluster.join("lb3", &tls);
    assert_eq!(third.wait_end(), Some(1));
    let log = third.log();
    assert!(log.contains("is for \"lb1\", this instance is \"lb3\""), "{log}");
}

#[test]
fn a_renewed_certificate_is_in_use_within_seconds_and_a_broken_one_never() {
    let cluster = Cluster::start();
    let (first, dir) = (&cluster.instances[0], cluster.dir.path().join("certs"));
    let end = || first.api("/api/peers")["tls"]["not_after"].as_u64();
    let shown = || String::from_utf8_lossy(&first.cli(&["peers"]).stdout).into_owned();
    let metric = |name: &str| {
        let text = first.admin_text("/metrics");
        text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    let before = end();
    cert(&dir, &["issue", "lb1", "--dir", ".", "--force", "--days", "700"]);
    eventually("the new one is in use", || end() > before);
    assert!(shown().contains("699 days left"), "{}", shown());
    let seconds = end().map(|ms| ms / 1000);
    eventually("it is measured", || metric("lb_peer_certificate_expiry_seconds") == seconds);
    std::fs::write(dir.join("lb1.key"), "nonsense").expect("written");
    eventually("it is shown", || shown().contains("the files of the certificate cannot be used: peers.tls: key: "));
    assert_eq!(metric("lb_peer_certificate_reload_errors_total"), Some(1));
    assert_eq!(end().map(|ms| ms / 1000), seconds, "the old one stays");
    assert_eq!(first.peers_up(), 1, "so do links");
}

#[test]
fn every_mistake_with_certificates_has_a_clear_answer() {
    let home = tempfile::TempDir::new().expect("a directory");
    let dir = home.path();
    assert!(refusal(dir, &["issue", "lb1"]).contains("there is no certs/ca.pem: make a CA with `lb cert init`"));
    assert!(cert(dir, &["init"]).contains("Next, for each instance: lb cert issue NODE"));
    assert!(refusal(dir, &["init"]).contains("certs/ca.pem is there already"));
    assert!(refusal(dir, &["issue", "a:b"]).contains("\"a:b\" cannot stand in a certificate as a DNS name"));
    assert!(refusal(dir, &["issue", "../x"]).contains("DNS name"));
    assert!(refusal(dir, &["issue", "ca"]).contains("would overwrite the CA"));
    assert!(refusal(dir, &["issue", "lb1", "--also", "a b"]).contains("neither a DNS name nor an IP address"));
    let before = cert(dir, &["issue", "lb1", "--also", "10.0.0.1", "--also", "lb1.internal"]);
    assert_eq!(tls_line(&before), "tls = { ca = \"certs/ca.pem\", cert = \"certs/lb1.pem\", key = \"certs/lb1.key\" }");
    let read = || std::fs::read_to_string(dir.join("certs/lb1.pem")).expect("a file");
    let first = read();
    assert!(refusal(dir, &["issue", "lb1"]).contains("certs/lb1.pem is there already: --force replaces it"));
    assert_eq!(read(), first);
    assert!(cert(dir, &["issue", "lb1", "--force", "--days", "36500"]).contains("when their CA expires, too"));
    assert_ne!(read(), first);
    cert(dir, &["init", "--dir", "other"]);
    std::fs::copy(dir.join("other/ca.key"), dir.join("certs/ca.key")).expect("copied");
    assert!(refusal(dir, &["issue", "lb2"]).contains("certs/ca.key is not the key of certs/ca.pem"));
    assert!(refusal(dir, &["show", "certs/lb1.key"]).contains("holds a private key and no certificate"));
}

#[test]
fn what_a_certificate_says_is_shown_to_people_and_to_scripts() {
    let home = tempfile::TempDir::new().expect("a directory");
    let dir = home.path();
    cert(dir, &["init", "--cluster", "shop"]);
    cert(dir, &["issue", "lb1", "--days", "90", "--also", "10.0.0.1"]);
    let text = cert(dir, &["show", "certs/lb1.pem"]);
    for part in ["CN=lb1", "lb1, 10.0.0.1", "CN=lb peers of shop", "89 days left"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&cert(dir, &["show", "certs/lb1.pem", "--json"])).expect("JSON");
    assert_eq!((&json[0]["names"][1], &json[0]["days_left"]), (&"10.0.0.1".into(), &89.into()), "{json}");
}
