//! Affinity with conditions, the way back to a first server, pins with an end, and where keys come from.
use crate::{app, servers};
use lb_tests::{Answer, Instance, Origin, eventually};
use std::collections::HashSet;

const TABLE: &str = "[table.sessions]\ntype = \"string\"\n";

fn cookie_of(answer: &Answer) -> Option<String> {
    answer.value("Set-Cookie").and_then(|c| c.split(';').next()).map(str::to_owned)
}

/// How many requests went to their server for this reason.
fn affinity(lb: &Instance, result: &str) -> u64 {
    let start = format!("lb_affinity_total{{backend=\"app\",result=\"{result}\"}} ");
    let text = lb.admin_text("/metrics");
    text.lines()
        .find_map(|line| line.strip_prefix(&start)?.parse().ok())
        .unwrap_or_else(|| panic!("{result} in {text}"))
}

#[test]
fn a_sticky_rule_holds_for_the_requests_that_it_names() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "sticky = [\
        { on = \"header(X-Key)\", table = \"sessions\", if = { path_prefix = \"/app\" } },\
        { cookie = \"S\", insert = true, if = { not = { header = \"X-Key\" } } }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    let first = lb.client().get("/app/x", "X-Key: k\r\n");
    assert_eq!(first.value("Set-Cookie"), None, "the cookie is for others");
    assert!(lb.pin("sessions", "k").is_some());
    for _ in 0..4 {
        assert_eq!(lb.client().get("/app", "X-Key: k\r\n").text(), first.text());
    }
    let elsewhere: HashSet<_> = (0..4).map(|_| lb.client().get("/", "X-Key: k\r\n").text()).collect();
    assert_eq!(elsewhere.len(), 2, "off the rule's path there is no affinity");
    assert!(lb.client().get("/app", "").value("Set-Cookie").is_some());
}

#[test]
fn requests_that_ignore_persistence_leave_no_trace() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "ignore_persist = [{ path_prefix = \"/static\" }, { method = \"OPTIONS\" }]\nsticky = [\
        { on = \"header(X-Key)\", table = \"sessions\" }, { cookie = \"S\", insert = true }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    let mut seen = HashSet::new();
    for _ in 0..4 {
        let answer = lb.client().get("/static/x.css", "X-Key: k\r\nCookie: S=node1\r\n");
        assert_eq!(answer.value("Set-Cookie"), None);
        seen.insert(answer.text());
    }
    assert_eq!((seen.len(), lb.pin("sessions", "k")), (2, None));
    assert_eq!(lb.client().get("/page", "X-Key: k\r\nCookie: S=node1\r\n").text(), "a");
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node1"));
}

#[test]
fn a_tester_reaches_the_server_that_is_in_maintenance() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "force_persist = { header = { X-Test = \"yes\" } }\n\
                 sticky = [{ cookie = \"S\", insert = true }, { match = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    lb.json(&["server", "maint", "app/node1"]);
    for _ in 0..3 {
        assert_eq!(lb.client().get("/", "Cookie: S=node1\r\n").text(), "b");
        assert_eq!(lb.client().get("/", "X-Test: yes\r\nCookie: S=node1\r\n").text(), "a");
        assert_eq!(lb.client().get("/", "X-Test: yes\r\nX-Key: k\r\n").text(), "a");
        assert_eq!(lb.client().get("/", "X-Test: yes\r\n").text(), "b", "a new client is no pinned client");
    }
    a.die();
    assert_eq!(lb.client().get("/", "X-Test: yes\r\nCookie: S=node1\r\n").text(), "b", "dead is dead");
}

#[test]
fn a_moved_client_stays_where_it_is_by_default() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], rules)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    lb.json(&["server", "maint", "app/node1"]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "b");
    lb.json(&["server", "ready", "app/node1"]);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "b");
    assert_eq!(lb.pin("sessions", "k").as_deref(), Some("node2"));
}

#[test]
fn a_moved_client_goes_back_at_once_whichever_instance_it_meets() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let rules = "fail_back = \"now\"\nsticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let cluster = Instance::cluster(2, &format!("{TABLE}{}", app(&[&a, &b, &c], rules)));
    let (one, two) = (&cluster[0], &cluster[1]);
    one.json(&["table", "set", "sessions", "k", "node1"]);
    one.json(&["server", "maint", "app/node1"]);
    eventually("both know of the decision", || two.client().get("/", "X-Key: x\r\n").text() != "a");
    let moved = one.client().get("/", "X-Key: k\r\n").text();
    assert_ne!(moved, "a");
    eventually("the other instance has the pin", || two.pin("sessions", "k").is_some_and(|p| p.ends_with("<node1")));
    let pin = two.pin("sessions", "k").unwrap_or_default();
    assert!(["node2<node1", "node3<node1"].contains(&pin.as_str()), "{pin}");
    for lb in [one, two, one] {
        assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), moved, "meanwhile it stays at the second");
    }
    // The second goes, too: the first is still remembered.
    let second = if moved == "b" { "app/node2" } else { "app/node3" };
    two.json(&["server", "maint", second]);
    eventually("it is moved again", || {
        ![moved.as_str(), "a"].contains(&one.client().get("/", "X-Key: k\r\n").text().as_str())
    });
    two.json(&["server", "ready", "app/node1"]);
    eventually("both know that it is back", || one.client().get("/", "X-Key: k\r\n").text() == "a");
    assert_eq!(one.pin("sessions", "k").as_deref(), Some("node1"));
    eventually("the other instance has that pin", || two.pin("sessions", "k").as_deref() == Some("node1"));
    assert_eq!(two.client().get("/", "X-Key: k\r\n").text(), "a");
    assert_eq!(affinity(one, "returned") + affinity(two, "returned"), 1);
}

#[test]
fn a_client_with_a_cookie_goes_back_at_once_and_its_cookie_with_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for value in ["name", "sealed", "dynamic"] {
        let keys = if value == "name" { "" } else { ", keys = \"a key of the whole cluster\"" };
        let rules =
            format!("fail_back = \"now\"\nsticky = [{{ cookie = \"S\", insert = true, value = \"{value}\"{keys} }}]");
        let lb = Instance::start(&app(&[&a, &b], &rules));
        lb.json(&["server", "maint", "app/node2"]);
        let first = cookie_of(&lb.client().get("/", "")).expect("a cookie");
        lb.json(&["server", "ready", "app/node2"]);
        lb.json(&["server", "maint", "app/node1"]);
        let moved = lb.client().get("/", &format!("Cookie: {first}\r\n"));
        let second = cookie_of(&moved).expect("another cookie");
        assert_eq!(moved.text(), "b");
        assert!(value != "name" || second == "S=node2|0|0|node1", "{second}");
        let stays = lb.client().get("/", &format!("Cookie: {second}\r\n"));
        assert_eq!((stays.text().as_str(), stays.value("Set-Cookie")), ("b", None));
        lb.json(&["server", "ready", "app/node1"]);
        let back = lb.client().get("/", &format!("Cookie: {second}\r\n"));
        assert_eq!(back.text(), "a", "{value}");
        let third = cookie_of(&back).expect("its cookie again");
        assert_eq!(lb.client().get("/", &format!("Cookie: {third}\r\n")).value("Set-Cookie"), None);
    }
}

#[test]
fn a_busy_client_goes_back_once_it_is_idle() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "fail_back = \"idle\"\nsticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}expire = \"4s\"\n{}", app(&[&a, &b], rules)));
    for key in ["k", "ws"] {
        lb.json(&["table", "set", "sessions", key, "node1"]);
    }
    lb.json(&["server", "maint", "app/node1"]);
    let mut socket = lb.client();
    assert_eq!(socket.upgrade("/", "X-Key: ws\r\n").status, 101);
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "b");
    lb.json(&["server", "ready", "app/node1"]);
    // A quarter of the expiry is a second; until then it is busy, again and again.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(1500) {
        assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "b");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(lb.client().get("/", "X-Key: k\r\n").text(), "a", "it was idle for a quarter of its life");
    assert_eq!(lb.client().get("/", "X-Key: ws\r\n").text(), "b", "a client with an open socket is not idle");
    drop(socket);
}

#[test]
fn a_pin_has_a_longest_life_however_much_it_is_used() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rules = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!("{TABLE}max_life = \"2s\"\n{}", app(&[&a, &b], rules)));
    let begun = std::time::Instant::now();
    let first = lb.client().get("/", "X-Key: k\r\n").text();
    let new = || affinity(&lb, "new");
    eventually("the pin ends while it is used", || {
        lb.client().get("/", "X-Key: k\r\n");
        new() > 1
    });
    let took = begun.elapsed().as_secs_f64();
    assert!((1.9..6.0).contains(&took), "after {took} s, at {first}");
    assert!(lb.pin("sessions", "k").is_some(), "and is made anew");
}

#[test]
fn a_table_may_serve_several_backends_which_share_servers_by_name() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";
    let lb = Instance::start(&format!(
        "{TABLE}[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\nroutes = [{{ path_prefix = \"/api\", backend = \"api\" }}]\n\
         [backend.app]\n{}\n{rule}\n[backend.api]\n{}\n{rule}\n",
        servers(&[&a, &b]),
        servers(&[&a, &b])
    ));
    for i in 0..6 {
        let field = format!("X-Key: k{i}\r\n");
        let page = lb.client().get("/", &field).text();
        assert_eq!(lb.client().get("/api", &field).text(), page, "one client, one server, in both backends");
    }
}

#[test]
fn parts_of_a_path_and_a_url_are_keys() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (key, targets, pin) in [
        ("path(2)", ["/t/blue/x", "/other/blue?y=1"], "blue"),
        ("path_prefix(2)", ["/t/blue/x", "/t/blue?y=1"], "/t/blue"),
        ("url", ["/t?room=1", "/t?room=1"], "/t?room=1"),
    ] {
        let rule = format!("sticky = [{{ on = \"{key}\", table = \"sessions\" }}]");
        let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], &rule)));
        let first = lb.client().get(targets[0], "").text();
        for target in targets {
            assert_eq!(lb.client().get(target, "").text(), first, "{key}");
        }
        let pins = lb.pins("sessions");
        assert_eq!(pins.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [pin], "{key}");
    }
}

/// Tokens of one user, by algorithm; made by PyJWT.
fn token(name: &str) -> String {
    let all = include_str!("../../lb-core/src/jwt/data/tokens.txt");
    let found = all.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == name);
    format!("Authorization: Bearer {}\r\n", found.unwrap_or_else(|| panic!("no token {name}")).1)
}

/// Key pairs that Node.js makes now, and a token of each: the public key in PEM, and what signs `user-N`, by algorithm.
const SIGNER: &str = r#"
const crypto = require('crypto');
const text = value => Buffer.from(value).toString('base64url');
const pairs = { RS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }] };
const out = {};
for (const [alg, [kind, how]] of Object.entries(pairs)) {
  const { publicKey, privateKey } = crypto.generateKeyPairSync(kind, how);
  const signed = sub => {
    const said = text(JSON.stringify({ alg, typ: 'JWT' })) + '.' + text(JSON.stringify({ sub, iat: 1 }));
    return said + '.' + crypto.sign('sha256', said, { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url');
  };
  out[alg] = { pem: publicKey.export({ type: 'spki', format: 'pem' }), tokens: [0, 1, 2, 3].map(n => signed(`user-${n}`)) };
}
console.log(JSON.stringify(out));
"#;

#[test]
fn users_keep_their_server_by_tokens_that_a_foreign_issuer_signs_with_rsa_and_elliptic_curves() {
    let output =
        std::process::Command::new("node").args(["-e", SIGNER]).output().expect("node, installed by tests/run");
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("keys and tokens");
    let dir = tempfile::TempDir::new().expect("a directory");
    let mut files = Vec::new();
    for alg in ["RS256", "ES256"] {
        let file = dir.path().join(format!("{alg}.pem"));
        std::fs::write(&file, made[alg]["pem"].as_str().expect("a key")).expect("written");
        files.push(format!("\"file:{}\"", file.display()));
    }
    let bearer = |alg: &str, n: usize| {
        format!("Authorization: Bearer {}\r\n", made[alg]["tokens"][n].as_str().expect("a token"))
    };
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule = "sticky = [{ on = \"jwt(sub)\", table = \"sessions\" }]";
    let config = |keys: &str| format!("[jwt]\nkeys = [{keys}]\n{TABLE}{}", app(&[&a, &b], rule));
    let cluster = Instance::cluster(2, &config(&files.join(", ")));
    let first: Vec<_> = (0..4).map(|n| cluster[0].client().get("/", &bearer("RS256", n)).text()).collect();
    assert!(first.contains(&"a".to_owned()) && first.contains(&"b".to_owned()), "{first:?}");
    eventually("the pins are at the other instance", || cluster[1].pins("sessions").len() == 4);
    // The other instance, the other algorithm: the same users.
    let others: Vec<_> = (0..4).map(|n| cluster[1].client().get("/", &bearer("ES256", n)).text()).collect();
    assert_eq!(others, first);
    // A token whose claims somebody changed, or that is cut, is nobody's.
    let whole = bearer("RS256", 0);
    let (claims, signature) = whole.trim_end().rsplit_once('.').expect("three parts");
    let (_, another) =
        bearer("RS256", 1).trim_end().rsplit_once('.').map(|(c, s)| (c.to_owned(), s.to_owned())).expect("parts");
    let lb = &cluster[0];
    assert_eq!(lb.cli(&["table", "clear", "sessions", "--all"]).status.code(), Some(0));
    for forged in
        [format!("{claims}.{another}\r\n"), format!("{claims}.{}\r\n", &signature[..20]), format!("{claims}.\r\n")]
    {
        assert_eq!(lb.client().get("/", &forged).status, 200);
        assert!(lb.pins("sessions").is_empty(), "{forged}");
    }
    // An issuer that is believed no more.
    let lb = Instance::start(&config(&files[1]));
    lb.client().get("/", &bearer("RS256", 0));
    assert!(lb.pins("sessions").is_empty());
    lb.client().get("/", &bearer("ES256", 0));
    assert_eq!(lb.pins("sessions").len(), 1);
}

#[test]
fn the_claim_of_a_token_pins_if_the_token_is_signed_by_a_known_key() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule = "sticky = [{ on = \"jwt(sub)\", table = \"sessions\" }]";
    let public = include_str!("../../lb-core/src/jwt/data/ec.pub");
    let keys = format!("[jwt]\nkeys = [\"0123456789abcdef0123456789abcdef\", \"\"\"{public}\"\"\"]\n");
    let lb = Instance::start(&format!("{keys}{TABLE}{}", app(&[&a, &b], rule)));
    for forged in ["none", "confused", "RS256"] {
        assert_eq!(lb.client().get("/", &token(forged)).status, 200);
        assert_eq!(lb.pin("sessions", "user-7"), None, "{forged}: no key, so no pin");
    }
    let first = lb.client().get("/", &token("HS256")).text();
    assert!(lb.pin("sessions", "user-7").is_some());
    for name in ["ES256", "HS256", "ES256"] {
        assert_eq!(lb.client().get("/", &token(name)).text(), first, "one user, whoever signed");
    }
    let lb = Instance::start(&format!("[jwt]\nunverified = true\n{TABLE}{}", app(&[&a, &b], rule)));
    lb.client().get("/", &token("none"));
    assert!(lb.pin("sessions", "user-7").is_some(), "by choice every token is believed");
}
