use super::*;
use crate::config::{CookieMode, Maxconn};
use crate::secret::Secret;
use crate::server::AdminState;
use proptest::prelude::*;

fn server(name: &str, port: u16, generation: u64) -> Arc<config::Server> {
    Arc::new(config::Server {
        name: name.into(),
        addr: config::ServerAddr::Tcp(([10, 0, 0, 1], port).into()),
        origin: config::Origin::Written,
        host: None,
        weight: 1,
        maxconn: Maxconn::default(),
        backup: false,
        slow_start: None,
        cookie: name.into(),
        generation,
        tls: None,
        send_proxy: None,
        check: None,
        agent: None,
        state: AdminState::Ready,
    })
}

fn servers() -> Vec<Arc<config::Server>> {
    vec![server("node1", 1, 0), server("node2", 2, 0)]
}

fn cookie() -> Cookie {
    Cookie { name: "SERVERID".into(), path: "/".into(), ..Cookie::default() }
}

fn keys(of: &[&str]) -> Vec<Secret> {
    of.iter().map(|key| Secret::new((*key).to_owned())).collect()
}

/// A rule for each kind of value.
fn each(cookie: &Cookie) -> [Rule; 3] {
    [CookieValue::Name, CookieValue::Dynamic, CookieValue::Sealed]
        .map(|value| Rule::new(Cookie { value, keys: keys(&["0123456789abcdef"]), ..cookie.clone() }, &servers()))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn value(rule: &Rule, server: usize, home: Option<usize>, first: u64, now: u64) -> String {
    rule.value(server, home, first, at(now), || Some([7; NONCE])).expect("a value")
}

fn read(rule: &Rule, value: &str, now: u64) -> Option<Found> {
    rule.read(value.as_bytes(), at(now))
}

#[test]
fn every_kind_of_value_names_its_server_again() {
    for rule in each(&cookie()) {
        let value = value(&rule, 1, None, 0, 1000);
        let found = Found { server: 1, home: None, first: 0, last: 0, renew: false };
        assert_eq!(read(&rule, &value, 999_999), Some(found), "{value}");
        assert_eq!(read(&rule, "node9", 1), None);
        assert_eq!(read(&rule, "", 1), None);
    }
}

#[test]
fn a_cookie_past_its_idle_or_life_bound_is_not_believed_whatever_its_value_is() {
    let bounds =
        Cookie { max_idle: Some(Duration::from_secs(60)), max_life: Some(Duration::from_secs(600)), ..cookie() };
    for rule in each(&bounds) {
        let fresh = value(&rule, 0, None, 0, 1000);
        let found = Found { server: 0, home: None, first: 1000, last: 1000, renew: false };
        assert_eq!(read(&rule, &fresh, 1005), Some(found));
        assert!(read(&rule, &fresh, 1030).expect("not idle yet").renew);
        assert_eq!(read(&rule, &fresh, 1061), None, "idle");
        let renewed = value(&rule, 0, None, 1000, 1590);
        assert_eq!(read(&rule, &renewed, 1595).map(|f| f.first), Some(1000));
        assert_eq!(read(&rule, &renewed, 1601), None, "past its life");
    }
    let named = Rule::new(bounds, &servers());
    assert_eq!(value(&named, 0, None, 0, 1000), "node1|1000|1000");
    let old = Found { server: 0, home: None, first: 5, last: 5, renew: true };
    assert_eq!(read(&named, "node1", 5), Some(old), "from before the rule had bounds");
}

#[test]
fn the_first_server_travels_along_in_every_kind() {
    for rule in each(&cookie()) {
        let value = value(&rule, 1, Some(0), 0, 1000);
        assert_eq!(read(&rule, &value, 1000).map(|f| (f.server, f.home)), Some((1, Some(0))), "{value}");
    }
}

#[test]
fn a_dynamic_value_follows_the_address_and_not_the_name() {
    let rule = |servers: &[Arc<config::Server>], keys: Vec<Secret>| {
        Rule::new(Cookie { value: CookieValue::Dynamic, keys, ..cookie() }, servers)
    };
    let key = keys(&["0123456789abcdef"]);
    let old = rule(&servers(), key.clone());
    let text = value(&old, 1, None, 0, 0);
    assert_eq!(text, "a159f1780fb92150", "every instance and release computes the same");
    let renamed = rule(&[server("pod-x", 9, 0), server("pod-y", 2, 0)], key.clone());
    assert_eq!(read(&renamed, &text, 0).map(|f| f.server), Some(1));
    let reused = rule(&[server("pod-x", 9, 0), server("pod-y", 2, 1)], key);
    assert_eq!(read(&reused, &text, 0), None, "the same address, another generation");
    assert_eq!(read(&rule(&servers(), keys(&["another key of its own"])), &text, 0), None);
    let rotated = rule(&servers(), keys(&["another key of its own", "0123456789abcdef"]));
    assert_eq!(read(&rotated, &text, 0).map(|f| (f.server, f.renew)), Some((1, true)), "known, and written anew");
}

#[test]
fn a_sealed_value_shows_nothing_and_cannot_be_forged() {
    let [named, _, sealed] = each(&cookie());
    let text = value(&sealed, 1, None, 0, 1000);
    assert!(!text.contains("node") && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
    assert_eq!(read(&sealed, &value(&named, 1, None, 0, 0), 0), None, "a name alone is not taken");
    for i in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
        assert_eq!(sealed.read(&forged, at(0)), None, "byte {i}");
    }
    let other = Rule::new(Cookie { name: "OTHER".into(), ..sealed.config.clone() }, &servers());
    assert_eq!(read(&other, &text, 0), None, "it is bound to its cookie");
    let again = sealed.value(1, None, 0, at(1000), || Some([8; NONCE])).expect("a value");
    assert_ne!(again, text, "two clients of one server cannot tell");
    assert_eq!(sealed.value(1, None, 0, at(0), || None), None, "without a nonce nothing is sealed");
}

#[test]
fn a_reused_address_or_name_is_not_taken_for_the_old_server() {
    let rule = |servers: &[Arc<config::Server>]| {
        Rule::new(Cookie { value: CookieValue::Sealed, keys: keys(&["0123456789abcdef"]), ..cookie() }, servers)
    };
    let text = value(&rule(&[server("10.0.0.1", 1, 4), server("b", 2, 0)]), 0, Some(0), 0, 0);
    assert_eq!(read(&rule(&[server("10.0.0.1", 1, 4)]), &text, 0).map(|f| f.server), Some(0));
    assert_eq!(read(&rule(&[server("10.0.0.1", 1, 5)]), &text, 0), None);
}

#[test]
fn keys_rotate_without_a_client_lost() {
    let rule = |of: &[&str]| Rule::new(Cookie { value: CookieValue::Sealed, keys: keys(of), ..cookie() }, &servers());
    let (old, both, new) = (
        rule(&["the old key of all"]),
        rule(&["the new key of all", "the old key of all"]),
        rule(&["the new key of all"]),
    );
    // First every instance learns to read the new key, then it writes it, then the old one goes.
    let text = value(&old, 1, None, 0, 0);
    assert_eq!(read(&both, &text, 0).map(|f| (f.server, f.renew)), Some((1, true)));
    let renewed = value(&both, 1, None, 0, 0);
    assert_eq!(read(&both, &renewed, 0).map(|f| f.renew), Some(false));
    assert_eq!(read(&new, &renewed, 0).map(|f| f.server), Some(1));
    assert_eq!(read(&new, &text, 0), None);
}

#[test]
fn a_prefixed_value_ends_before_the_applications_own() {
    for rule in each(&Cookie { mode: CookieMode::Prefix, ..cookie() }) {
        let text = format!("{}~the application's~own", value(&rule, 1, None, 0, 0));
        assert_eq!(read(&rule, &text, 0).map(|f| f.server), Some(1));
        assert_eq!(read(&rule, "node1", 0), None, "not ours: without a prefix");
    }
}

#[test]
fn attributes_are_written_as_configured() {
    let rule = Cookie {
        httponly: true,
        secure: true,
        samesite: Some(SameSite::Lax),
        domain: Some("example.org".into()),
        attr: vec!["Partitioned".into(), "Max-Age=60".into()],
        ..cookie()
    };
    let mut text = String::new();
    Rule::new(rule, &servers()).write("n1", &mut text);
    let expected = "SERVERID=n1; Path=/; Domain=example.org; HttpOnly; Secure; SameSite=Lax; Partitioned; Max-Age=60";
    assert_eq!(text, expected);
}

proptest! {
    #[test]
    fn no_value_makes_the_reader_fail(value: Vec<u8>, prefix: bool) {
        let mode = if prefix { CookieMode::Prefix } else { CookieMode::Insert };
        let bounds = Cookie { max_idle: Some(Duration::from_secs(1)), mode, ..cookie() };
        for rule in each(&bounds) {
            let _ = rule.read(&value, Timestamp(5));
        }
    }
}

#[test]
fn the_dynamic_value_of_a_unix_socket_is_of_its_path_and_that_of_an_address_what_it_always_was() {
    let key = Secret::new("0123456789abcdef0123456789abcdef".into());
    let of = |path: &str| crate::cookie::seal::dynamic(&key, &config::ServerAddr::Unix(path.into()), 0);
    assert_eq!(of("/run/a.sock"), of("/run/a.sock"));
    assert_ne!(of("/run/a.sock"), of("/run/b.sock"));
    assert_eq!(of("/run/a.sock").len(), 16);
}
