//! Cookies that name a server: who sets them, what they say, how keys rotate.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Answer, Instance, Origin};
use std::collections::HashSet;

const KEY: &str = "a key of the whole cluster";

/// `name=value` of the first cookie that an answer sets.
fn cookie_of(answer: &Answer) -> Option<String> {
    answer.value("Set-Cookie").and_then(|c| c.split(';').next()).map(str::to_owned)
}

fn with(cookie: &str) -> String {
    format!("Cookie: {cookie}\r\n")
}

/// A server that sets `SID` itself for clients that have none, and tells what it was sent.
fn setting(name: &'static str, value: &'static str) -> Origin {
    Origin::answering(move |seen| match seen.value("Cookie") {
        None => Reply::With(format!("Set-Cookie: SID={value}; Path=/; HttpOnly\r\n"), name.into()),
        Some(cookie) => Reply::Body(format!("{name} {cookie}")),
    })
}

fn sticky(rule: &str) -> String {
    format!("sticky = [{{ {rule} }}]")
}

#[test]
fn a_rewritten_cookie_says_the_server_instead_of_what_the_application_said() {
    let (a, b) = (setting("a", "whatever"), setting("b", "whatever"));
    let lb = Instance::start(&app(&[&a, &b], &sticky("cookie = \"SID\", rewrite = true, nocache = true")));
    for _ in 0..4 {
        let first = lb.client().get("/", "");
        let node = if first.text() == "a" { "node1" } else { "node2" };
        assert_eq!(first.value("Set-Cookie"), Some(format!("SID={node}; Path=/; HttpOnly").as_str()));
        assert_eq!(first.value("Cache-Control"), Some("private"));
        for _ in 0..3 {
            let again = lb.client().get("/", &with(&format!("x=1; SID={node}")));
            assert_eq!(again.text(), format!("{} x=1; SID={node}", first.text()));
            assert_eq!(again.value("Set-Cookie"), None, "lb sets none of its own");
        }
    }
}

#[test]
fn a_prefixed_cookie_carries_the_server_before_the_applications_value() {
    let (a, b) = (setting("a", "abc~def"), setting("b", "abc~def"));
    for value in ["", ", value = \"sealed\", keys = \"a key of the whole cluster\""] {
        let lb = Instance::start(&app(&[&a, &b], &sticky(&format!("cookie = \"SID\", prefix = true{value}"))));
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let first = lb.client().get("/", "");
            let cookie = cookie_of(&first).expect("the application's cookie");
            assert!(cookie.ends_with("~abc~def"), "{cookie}");
            assert!(value.is_empty() || !cookie.contains("node"), "{cookie}");
            for _ in 0..3 {
                let again = lb.client().get("/", &with(&format!("{cookie}; x=1")));
                assert_eq!(again.text(), format!("{} SID=abc~def; x=1", first.text()), "without the prefix");
            }
            seen.insert(first.text());
        }
        assert_eq!(seen.len(), 2, "new clients are spread");
        let foreign = lb.client().get("/", &with("SID=plain"));
        assert!(foreign.text().ends_with("SID=plain"), "one from before is passed on as it is: {}", foreign.text());
    }
}

#[test]
fn a_passive_cookie_is_only_looked_at() {
    let (a, b) = (setting("a", "n1"), setting("b", "n2"));
    let config = app(&[&a, &b], &sticky("cookie = \"SID\", passive = true"))
        .replace("name = \"node1\",", "name = \"node1\", cookie = \"n1\",")
        .replace("name = \"node2\",", "name = \"node2\", cookie = \"n2\",");
    let lb = Instance::start(&config);
    for _ in 0..4 {
        let first = lb.client().get("/", "");
        let cookie = cookie_of(&first).expect("the application's cookie");
        assert!(["SID=n1", "SID=n2"].contains(&cookie.as_str()), "{cookie}");
        assert_eq!(lb.client().get("/", &with(&cookie)).text(), format!("{} {cookie}", first.text()));
    }
    let unknown = lb.client().get("/", &with("SID=n9"));
    assert_eq!((unknown.status, unknown.value("Set-Cookie")), (200, None));
}

#[test]
fn a_dynamic_cookie_outlives_the_names_of_servers_and_is_the_same_on_every_instance() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule =
        sticky(&format!("cookie = \"S\", insert = true, indirect = true, value = \"dynamic\", keys = \"{KEY}\""));
    let config = app(&[&a, &b], &rule);
    // As discovery would have it a moment later: other names, another order.
    let renamed = app(&[&b, &a], &rule).replace("node", "pod");
    let (one, two) = (Instance::start(&config), Instance::start(&renamed));
    for _ in 0..4 {
        let first = one.client().get("/", "");
        let cookie = cookie_of(&first).expect("a cookie");
        assert!(!cookie.contains("node") && cookie.len() == "S=".len() + 16, "{cookie}");
        for lb in [&one, &two] {
            let again = lb.client().get("/", &with(&cookie));
            assert_eq!((again.text(), again.value("Set-Cookie")), (first.text(), None));
        }
    }
}

#[test]
fn a_sealed_cookie_is_read_by_every_instance_and_by_nobody_else() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rule =
        sticky(&format!("cookie = \"S\", insert = true, value = \"sealed\", keys = \"{KEY}\", attr = \"Partitioned\""));
    let (one, two) = (Instance::start(&app(&[&a, &b], &rule)), Instance::start(&app(&[&a, &b], &rule)));
    let mut seen = HashSet::new();
    for _ in 0..4 {
        let first = one.client().get("/", "");
        assert!(first.value("Set-Cookie").is_some_and(|c| c.ends_with("; Partitioned")), "{}", first.head);
        let cookie = cookie_of(&first).expect("a cookie");
        assert!(!cookie.contains("node"), "{cookie}");
        for _ in 0..3 {
            assert_eq!(two.client().get("/", &with(&cookie)).text(), first.text());
        }
        let mut forged = cookie.clone();
        forged.pop();
        assert!(two.client().get("/", &with(&forged)).value("Set-Cookie").is_some(), "taken for a new client");
        seen.insert(cookie);
    }
    assert_eq!(seen.len(), 4, "clients of one server cannot tell that they are");
    assert!(two.client().get("/", &with("S=node1")).value("Set-Cookie").is_some(), "a name is no sealed value");
}

#[test]
fn the_key_of_sealed_cookies_rotates_and_no_client_is_moved() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = |keys: &str| {
        app(&[&a, &b], &sticky(&format!("cookie = \"S\", insert = true, value = \"sealed\", keys = [{keys}]")))
    };
    let lb = Instance::start(&config("\"the old key of all\""));
    let firsts: Vec<_> = (0..6).map(|_| lb.client().get("/", "")).collect();
    let mut held: Vec<_> = firsts.iter().map(|f| (f.text(), cookie_of(f).expect("a cookie"))).collect();
    for keys in [
        "\"the old key of all\", \"the new key of all\"",
        "\"the new key of all\", \"the old key of all\"",
        "\"the new key of all\"",
    ] {
        lb.edit(|text| {
            let from = text.find("keys = [").expect("the keys");
            let to = from + text[from..].find(']').expect("their end");
            format!("{}keys = [{keys}{}", &text[..from], &text[to..])
        });
        lb.json(&["reload"]);
        for (server, cookie) in &mut held {
            let again = lb.client().get("/", &with(cookie));
            assert_eq!(again.text(), *server, "{keys}");
            if let Some(renewed) = cookie_of(&again) {
                *cookie = renewed;
            }
        }
    }
    assert!(lb.client().get("/", &with(&cookie_of(&firsts[0]).expect("a cookie"))).value("Set-Cookie").is_some());
}

#[test]
fn keys_in_files_are_read_anew_by_a_reload_and_one_that_is_gone_changes_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("cookie.key");
    std::fs::write(&file, "the old key of all\n").expect("written");
    let config = |key: &str| {
        app(&[&a, &b], &sticky(&format!("cookie = \"S\", insert = true, value = \"sealed\", keys = [\"{key}\"]")))
    };
    let lb = Instance::start(&config(&format!("file:{}", file.display())));
    let believed = |lb: &Instance, cookie: &str| lb.client().get("/", &with(cookie)).value("Set-Cookie").is_none();
    let old = cookie_of(&lb.client().get("/", "")).expect("a cookie");
    assert!(believed(&Instance::start(&config("the old key of all")), &old), "it is the key that the file has");
    std::fs::write(&file, "the new key of all\n").expect("written");
    assert!(believed(&lb, &old), "nothing is read before a reload");
    lb.json(&["reload"]);
    assert!(!believed(&lb, &old), "a key that is gone opens nothing");
    let new = cookie_of(&lb.client().get("/", "")).expect("a cookie");
    std::fs::remove_file(&file).expect("removed");
    let refused = lb.cli(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("cookie.key\" cannot be read") && said.contains("lb.toml:"), "{said}");
    assert!(believed(&lb, &new), "what ran runs on");
}

#[test]
fn a_new_server_at_an_old_address_does_not_get_the_old_ones_clients() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for value in ["sealed", "dynamic"] {
        let rule = sticky(&format!("cookie = \"S\", insert = true, value = \"{value}\", keys = \"{KEY}\""));
        let lb = Instance::start(&app(&[&a, &b], &rule));
        let first = lb.client().get("/", "");
        let cookie = with(&cookie_of(&first).expect("a cookie"));
        assert_eq!(lb.client().get("/", &cookie).value("Set-Cookie"), None);
        lb.edit(|text| text.replace("name = \"node", "generation = 1, name = \"node"));
        lb.json(&["reload"]);
        assert!(lb.client().get("/", &cookie).value("Set-Cookie").is_some(), "{value}: it is a new client");
    }
}

#[test]
fn times_are_inside_a_sealed_cookie_and_still_hold() {
    let a = Origin::named("a");
    let rule = sticky(&format!(
        "cookie = \"S\", insert = true, value = \"sealed\", keys = \"{KEY}\", maxidle = \"1s\", maxlife = \"1h\""
    ));
    let lb = Instance::start(&app(&[&a], &rule));
    let fresh = || with(&cookie_of(&lb.client().get("/", "")).expect("a cookie"));
    let why = |cookie: &str| {
        let before = lb.access().lines().count();
        lb.client().get("/", cookie);
        lb_tests::eventually("the log has the request", || lb.access().lines().count() > before);
        lb.access().lines().last().unwrap_or_default().to_owned()
    };
    // On a busy machine a second may pass before the cookie is back: then with another.
    lb_tests::eventually("a fresh cookie is believed", || why(&fresh()).contains("\"why\":\"cookie\""));
    let old = fresh();
    lb_tests::eventually("an idle one is not", || why(&old).contains("\"why\":\"new\""));
}
