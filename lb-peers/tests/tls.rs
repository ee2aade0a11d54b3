//! Mutual TLS between nodes.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::config::PeerTls;
use lb_peers::{Peers, Settings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::net::SocketAddr;
use std::path::Path;
use support::*;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Files of a node in `dir`; it trusts this CA.
    fn files(&self, dir: &Path, node: &str, expired: bool) -> PeerTls {
        self.files_until(dir, node, if expired { 2020 } else { 4096 })
    }

    /// As [`Self::files`], with the year in which the certificate ends.
    fn files_until(&self, dir: &Path, node: &str, year: i32) -> PeerTls {
        let mut params = CertificateParams::new(vec![node.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        let file = |what: &str, text: &str| {
            let path = dir.join(format!("{node}.{what}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        PeerTls { ca: file("ca", &self.pem), cert: file("cert", &cert), key: file("key", &key.serialize_pem()) }
    }
}

fn with_tls(name: &str, join: &[SocketAddr], tls: PeerTls) -> Settings {
    let mut settings = settings(name, join);
    settings.config.tls = Some(tls);
    settings
}

/// The error of the one peer there is.
fn trouble(node: &Node) -> Option<String> {
    node.peers.status().peers.into_iter().find_map(|p| p.error)
}

#[test]
fn nodes_with_certificates_of_one_ca_replicate() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], ca.files(dir.path(), "a", false))).await;
        let b = Node::start(with_tls("b", &[a.addr()], ca.files(dir.path(), "b", false))).await;
        b.pulled().await;
        a.sees("b").await;
        a.pin("k", "app1");
        b.has("k", "app1").await;
    });
}

#[test]
fn a_certificate_of_a_foreign_ca_is_refused_by_both_sides() {
    on_one_thread(async {
        let dir = tempfile::tempdir().unwrap();
        let a = Node::start(with_tls("a", &[], Ca::new().files(dir.path(), "a", false))).await;
        let b = Node::start(with_tls("b", &[a.addr()], Ca::new().files(dir.path(), "b", false))).await;
        eventually("both say so", || a.refusal().is_some() && b.refusal().is_some()).await;
        for text in [a.refusal().unwrap(), b.refusal().unwrap()] {
            assert!(text.contains("not signed by") && text.contains("peers.tls.ca"), "{text}");
        }
        let certificate = Some("certificate".to_owned());
        assert_eq!((a.reason(), b.reason()), (certificate.clone(), certificate));
    });
}

#[test]
fn a_dialler_whose_certificate_the_other_does_not_trust_is_told_so() {
    on_one_thread(async {
        let (ours, foreign, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], ours.files(dir.path(), "a", false))).await;
        // It trusts us, and shows a certificate of another CA.
        let mut tls = foreign.files(dir.path(), "b", false);
        tls.ca = dir.path().join("a.ca.pem");
        let b = Node::start(with_tls("b", &[a.addr()], tls)).await;
        eventually("both say so", || a.refusal().is_some() && b.refusal().is_some()).await;
        assert!(a.refusal().unwrap().starts_with("its certificate is not signed by our CA"), "{:?}", a.refusal());
        assert!(b.refusal().unwrap().starts_with("our certificate is not signed by its CA"), "{:?}", b.refusal());
    });
}

#[test]
fn an_expired_certificate_is_called_expired_on_both_sides() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], ca.files(dir.path(), "a", false))).await;
        let b = Node::start(with_tls("b", &[a.addr()], ca.files(dir.path(), "b", true))).await;
        eventually("both say so", || a.refusal().is_some() && b.refusal().is_some()).await;
        for text in [a.refusal().unwrap(), b.refusal().unwrap()] {
            assert!(text.contains("expired"), "{text}");
        }
        let certificate = Some("certificate".to_owned());
        assert_eq!((a.reason(), b.reason()), (certificate.clone(), certificate));
    });
}

#[test]
fn a_node_cannot_call_itself_otherwise_than_its_certificate_does() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let error = Peers::start(with_tls("b", &[], ca.files(dir.path(), "x", false)), Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("is for \"x\", this instance is \"b\""), "{error}");
    });
}

#[test]
fn plain_and_tls_do_not_mix_and_both_say_so() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let plain = Node::start(settings("a", &[])).await;
        let tls = Node::start(with_tls("b", &[plain.addr()], ca.files(dir.path(), "b", false))).await;
        eventually("both say so", || trouble(&plain).is_some() && trouble(&tls).is_some()).await;
        assert!(trouble(&plain).unwrap().contains("it speaks TLS, and we do not"), "{:?}", trouble(&plain));
        assert!(trouble(&tls).unwrap().contains("peers.tls"), "{:?}", trouble(&tls));
        let dialler = Node::start(settings("c", &[tls.addr()])).await;
        eventually("the plain one says so", || trouble(&dialler).is_some()).await;
        assert!(trouble(&dialler).unwrap().contains("set peers.tls on both"), "{:?}", dialler.peers.status());
    });
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let mut files = ca.files(dir.path(), "a", false);
        files.cert = dir.path().join("nowhere.pem");
        let error = Peers::start(with_tls("a", &[], files), Vec::new()).await.unwrap_err().to_string();
        assert!(error.starts_with("peers.tls: cert: ") && error.contains("nowhere.pem"), "{error}");
    });
}

#[test]
fn a_reload_reads_the_certificates_anew() {
    on_one_thread(async {
        let (old, new, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], old.files(dir.path(), "a", false))).await;
        let b = Node::start(with_tls("b", &[a.addr()], new.files(dir.path(), "b", false))).await;
        let of_b = (b.settings.config.clone(), vec![b.table.clone()]);
        eventually("they do not know each other", || a.refusal().is_some() && b.refusal().is_some()).await;
        let mut config = a.settings.config.clone();
        config.tls = Some(new.files(dir.path(), "a", false));
        a.peers.reconfigure(config, vec![a.table.clone()]);
        // A reload dials at once, too.
        b.peers.reconfigure(of_b.0, of_b.1);
        b.sees("a").await;
    });
}

/// The year in which the certificate in use ends, and why newer files are not.
fn in_use(node: &Node) -> (u64, Option<String>) {
    let tls = node.peers.status().tls.unwrap();
    (1970 + tls.not_after / 1000 / 31_556_952, tls.error)
}

#[test]
fn certificates_whose_files_change_are_used_for_new_links() {
    on_one_thread(async {
        let (old, new, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], old.files(dir.path(), "a", false))).await;
        let b = Node::start(with_tls("b", &[a.addr()], new.files(dir.path(), "b", false))).await;
        eventually("they do not know each other", || a.refusal().is_some() && b.refusal().is_some()).await;
        new.files(dir.path(), "a", false);
        b.sees("a").await;
    });
}

#[test]
fn a_link_outlives_the_certificate_it_came_up_with() {
    on_one_thread(async {
        let (old, new, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
        let a = Node::start(with_tls("a", &[], old.files_until(dir.path(), "a", 2100))).await;
        let b = Node::start(with_tls("b", &[a.addr()], old.files(dir.path(), "b", false))).await;
        b.sees("a").await;
        new.files_until(dir.path(), "a", 2200);
        eventually("the new one is in use", || in_use(&a) == (2200, None)).await;
        a.pin("k", "app1");
        b.has("k", "app1").await;
    });
}

#[test]
fn files_behind_a_symbolic_link_that_is_swapped_are_noticed() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        let version = |name: &str, year| {
            std::fs::create_dir(at(name)).unwrap();
            ca.files_until(&at(name), "a", year)
        };
        version("v1", 2100);
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        let [ca_file, cert, key] = ["ca", "cert", "key"].map(|f| at("data").join(format!("a.{f}.pem")));
        let a = Node::start(with_tls("a", &[], PeerTls { ca: ca_file, cert, key })).await;
        assert_eq!(in_use(&a), (2100, None));
        version("v2", 2200);
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        std::fs::rename(at("next"), at("data")).unwrap();
        eventually("the new ones are in use", || in_use(&a) == (2200, None)).await;
    });
}

#[test]
fn new_files_that_cannot_be_used_leave_the_old_ones_in_use_and_say_so() {
    on_one_thread(async {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let files = ca.files_until(dir.path(), "a", 2100);
        let a = Node::start(with_tls("a", &[], files.clone())).await;
        let kept = |word: &str| in_use(&a).0 == 2100 && in_use(&a).1.is_some_and(|e| e.contains(word));
        std::fs::write(&files.key, "nonsense").unwrap();
        eventually("the broken key is told of", || kept("a.key.pem cannot be used")).await;
        ca.files(dir.path(), "a", true);
        eventually("so is an expired certificate", || kept("does not hold now: ")).await;
        let b = Node::start(with_tls("b", &[a.addr()], ca.files(dir.path(), "b", false))).await;
        b.sees("a").await;
        std::fs::remove_file(&files.cert).unwrap();
        eventually("so is one that is gone", || kept("a.cert.pem cannot be used")).await;
        ca.files_until(dir.path(), "a", 2200);
        eventually("good ones are taken", || in_use(&a) == (2200, None)).await;
    });
}
