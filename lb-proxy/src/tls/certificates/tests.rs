use super::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm as Kind};

/// Certificate and key for these names, as PEM.
pub(in super::super) fn pair(names: &[&str], kind: &'static Kind) -> (String, String) {
    let key = KeyPair::generate_for(kind).unwrap();
    let params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Certificate and key in one file.
    fn both(&self, name: &str, names: &[&str]) -> PathBuf {
        let (cert, key) = pair(names, &PKCS_ECDSA_P256_SHA256);
        self.file(name, &(cert + &key))
    }
}

fn chosen(all: &Certificates, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<String> {
    let key = all.choose(name, schemes)?;
    let file = &all.chains.iter().find(|c| Arc::ptr_eq(&c.key, &key)).unwrap().file;
    Some(file.file_name().unwrap().to_str().unwrap().to_owned())
}

const EC: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

#[test]
fn a_client_sees_the_certificate_of_the_name_that_it_asks_for() {
    let dir = Dir::new();
    let files = [
        dir.both("first.pem", &["first.example"]),
        dir.both("wild.pem", &["*.shop.example", "shop.example"]),
        dir.both("exact.pem", &["www.shop.example"]),
    ];
    let all = Certificates::load(&files, &[], false).unwrap();
    let see = |name| chosen(&all, name, EC).unwrap();
    assert_eq!(see(Some("shop.example")), "wild.pem");
    assert_eq!(see(Some("WWW.Shop.Example")), "exact.pem");
    assert_eq!(see(Some("api.shop.example")), "wild.pem");
    assert_eq!(see(Some("a.b.shop.example")), "first.pem", "a wildcard is for one label");
    assert_eq!(see(Some("other.example")), "first.pem");
    assert_eq!(see(None), "first.pem");
    let strict = Certificates::load(&files, &[], true).unwrap();
    assert_eq!(chosen(&strict, None, EC), None);
    assert_eq!(chosen(&strict, Some("other.example"), EC), None);
    assert_eq!(chosen(&strict, Some("first.example"), EC).unwrap(), "first.pem");
}

#[test]
fn of_two_certificates_for_one_name_the_client_gets_the_one_that_it_can_check() {
    let dir = Dir::new();
    let (cert, key) = pair(&["a.example"], &PKCS_ED25519);
    let files = [dir.file("ed.pem", &(cert + &key)), dir.both("ec.pem", &["a.example"])];
    let all = Certificates::load(&files, &[], false).unwrap();
    assert_eq!(chosen(&all, Some("a.example"), EC).unwrap(), "ec.pem");
    assert_eq!(chosen(&all, Some("a.example"), &[SignatureScheme::ED25519]).unwrap(), "ed.pem");
}

#[test]
fn keys_are_found_in_the_file_beside_it_and_in_the_list() {
    let dir = Dir::new();
    dir.both("certs/a.pem", &["a.example"]);
    let (cert, key) = pair(&["b.example"], &PKCS_ECDSA_P256_SHA256);
    dir.file("certs/b.crt", &cert);
    dir.file("certs/b.key", &key);
    let (cert, key) = pair(&["c.example"], &PKCS_ECDSA_P256_SHA256);
    dir.file("certs/c.pem", &cert);
    dir.file("certs/readme.txt", "not looked at");
    let keys = [dir.file("other.key", &pair(&["x"], &PKCS_ECDSA_P256_SHA256).1), dir.file("c.key", &key)];
    let all = Certificates::load(&[dir.0.path().join("certs")], &keys, false).unwrap();
    let names: Vec<_> = all.chains.iter().flat_map(|c| c.names.clone()).collect();
    assert_eq!(names, ["a.example", "b.example", "c.example"]);
}

#[test]
fn what_cannot_be_used_is_told_all_at_once_with_file_and_reason() {
    let dir = Dir::new();
    let (cert, key) = pair(&["a.example"], &PKCS_ECDSA_P256_SHA256);
    let (other, other_key) = pair(&["b.example"], &PKCS_ECDSA_P256_SHA256);
    let files = [
        dir.0.path().join("gone.pem"),
        dir.file("empty.pem", "nothing"),
        dir.file("nokey.pem", &cert),
        dir.file("wrong.pem", &format!("{cert}{other_key}")),
        dir.file("order.pem", &format!("{other}{cert}{key}")),
        dir.file(
            "locked.pem",
            &format!("{cert}-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        ),
    ];
    let found = Certificates::load(&files, &[], false).unwrap_err();
    let expected = [
        ("gone.pem", "cannot be read: No such file"),
        ("empty.pem", "holds no PEM certificate"),
        ("nokey.pem", "it has no private key: put the key"),
        ("wrong.pem", "its private key does not fit it"),
        ("order.pem", "must come first in it"),
        ("locked.pem", "encrypted"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (why, (file, text)) in found.iter().zip(expected) {
        assert!(why.contains(file) && why.contains(text), "{why}");
    }
}

#[test]
fn a_host_belongs_to_a_handshake_if_the_same_certificate_is_for_both() {
    let dir = Dir::new();
    let files = [dir.both("a.pem", &["a.example", "*.a.example"]), dir.both("b.pem", &["b.example"])];
    let all = Certificates::load(&files, &[], false).unwrap();
    assert!(all.belong_together(Some("a.example"), "A.example"));
    assert!(all.belong_together(Some("a.example"), "www.a.example"));
    assert!(!all.belong_together(Some("a.example"), "b.example"));
    assert!(!all.belong_together(None, "b.example"));
    assert!(all.belong_together(None, "a.example"));
    assert!(all.belong_together(Some("b.example"), "b.example"));
}

#[test]
fn a_file_of_a_directory_that_holds_nothing_is_an_error_and_not_a_name_less() {
    let dir = Dir::new();
    dir.both("certs/a.pem", &["a.example"]);
    dir.file("certs/dhparams.pem", "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n");
    let load = || Certificates::load(&[dir.0.path().join("certs")], &[], false);
    assert_eq!(load().unwrap().chains.len(), 1, "what is PEM but no certificate is passed over");
    for (half, word) in
        [("", "no PEM certificate"), ("garbage", "no PEM certificate"), ("-----BEGIN CERTIFICATE-----\nMAA", "middle")]
    {
        dir.file("certs/b.pem", half);
        let errors = load().unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains("b.pem") && errors[0].contains(word), "{half:?}: {errors:?}");
    }
}

#[test]
fn what_the_ca_says_is_shown_as_long_as_it_holds() {
    let dir = Dir::new();
    let mut all = Certificates::load(&[dir.both("a.pem", &["a.example"])], &[], false).unwrap();
    let mut shown = |life| {
        let chain = &mut all.chains[0];
        let key = CertifiedKey { ocsp: Some(b"good".to_vec()), ..CertifiedKey::clone(&chain.key) };
        chain.stapled = Some(Stapled { life, key: Arc::new(key) });
        all.choose(None, EC).unwrap().ocsp.is_some()
    };
    assert!(shown(Life { from: 0, until: i64::MAX }));
    assert!(!shown(Life { from: 0, until: 1_700_000_000 }), "it has ended");
    assert!(!shown(Life { from: i64::MAX, until: i64::MAX }), "it has not begun");
}
