use super::*;
use proptest::prelude::*;

/// Tokens made by another implementation (PyJWT), by algorithm.
fn token(name: &str) -> String {
    let all = include_str!("data/tokens.txt");
    let found = all.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == name);
    format!("Bearer {}", found.unwrap_or_else(|| panic!("no token {name}")).1)
}

fn keys(texts: &[&str]) -> Keys {
    Keys::new(texts.iter().map(|t| Secret::new((*t).to_owned())).collect()).expect("keys")
}

fn said(keys: &Keys, authorization: &str, name: &str) -> Option<String> {
    claim(keys, authorization.as_bytes(), name).map(|bytes| String::from_utf8(bytes).expect("text"))
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA: &str = include_str!("data/rsa.pub");
const EC: &str = include_str!("data/ec.pub");
const ED: &str = include_str!("data/ed.pub");

#[test]
fn a_token_is_believed_that_the_right_key_signed() {
    for (name, key) in [("HS256", SECRET), ("RS256", RSA), ("PS256", RSA), ("ES256", EC), ("EdDSA", ED)] {
        let sub = |key: &[&str]| said(&keys(key), &token(name), "sub");
        assert_eq!(sub(&[key]).as_deref(), Some("user-7"), "{name}");
        assert_eq!(sub(&["some other shared secret", key]).as_deref(), Some("user-7"), "{name}: any of the keys");
        let others: Vec<_> = [SECRET, RSA, EC, ED].into_iter().filter(|k| *k != key).collect();
        assert_eq!(sub(&others), None, "{name}: none of the others");
    }
}

#[test]
fn claims_are_text_and_a_structure_is_no_key() {
    let (keys, token) = (keys(&[SECRET]), token("HS256"));
    assert_eq!(said(&keys, &token, "tid").as_deref(), Some("42"));
    assert_eq!(said(&keys, &token, "https://example.org/room").as_deref(), Some("r1"));
    assert_eq!(said(&keys, &token, "roles"), None);
    assert_eq!(said(&keys, &token, "absent"), None);
    assert_eq!(said(&keys, &token.replace("Bearer", "bearer"), "tid").as_deref(), Some("42"));
    assert_eq!(said(&keys, &token.replace("Bearer", "Basic"), "tid"), None);
}

#[test]
fn a_forged_token_is_not_believed() {
    let (all, good) = (keys(&[SECRET, RSA, EC, ED]), token("HS256"));
    assert_eq!(said(&all, &token("none"), "sub"), None, "no signature");
    assert_eq!(said(&all, &token("confused"), "sub"), None, "signed with the public key as a shared secret");
    let parts: Vec<_> = good.split('.').collect();
    let other = token("EdDSA");
    let forged = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap_or_default(), &parts[2][1..]);
    assert_eq!(said(&all, &forged, "sub"), None);
    assert_eq!(said(&all, &format!("Bearer {}", "x".repeat(LONGEST + 1)), "sub"), None);
}

#[test]
fn without_keys_every_claim_is_believed() {
    for name in ["HS256", "none", "confused"] {
        assert_eq!(said(&Keys::unverified(), &token(name), "sub").as_deref(), Some("user-7"));
    }
}

#[test]
fn what_is_no_key_says_so() {
    let bad = |text: &str| Keys::new(vec![Secret::new(text.to_owned())]).err().map(|(_, why)| why);
    assert_eq!(bad("short"), Some(BadKey::Short));
    assert_eq!(bad("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), Some(BadKey::Private));
    assert_eq!(bad("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), Some(BadKey::Unknown));
    assert_eq!(bad("-----BEGIN NONSENSE"), Some(BadKey::Unknown));
}

proptest! {
    #[test]
    fn no_token_makes_the_reader_fail(token: Vec<u8>, parts in "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,20}") {
        for keys in [keys(&[SECRET, RSA]), Keys::unverified()] {
            let _ = claim(&keys, &token, "sub");
            let _ = claim(&keys, format!("Bearer {parts}").as_bytes(), "sub");
        }
    }
}
