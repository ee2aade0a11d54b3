//! How clients stay: what is read, what is refused, what a reload shows.
use super::mistakes::{all, each};
use super::*;
use crate::jwt;

const KEY: &str = "0123456789abcdef";

/// `[backend.app]` with something more, a table beside it.
fn with(more: &str) -> String {
    format!(
        "[table.texts]\ntype = \"string\"\n\
         [backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n{more}\n"
    )
}

fn sticky(rule: &str) -> String {
    with(&format!("sticky = [{{ {rule} }}]"))
}

fn backend(text: &str) -> Arc<Backend> {
    whole(text).backends[0].clone()
}

fn whole(text: &str) -> Config {
    valid(&format!("{text}\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n"))
}

fn cookie(rule: &str) -> Cookie {
    match &backend(&sticky(rule)).sticky[0] {
        Sticky::Cookie(cookie) => cookie.clone(),
        rule => panic!("{rule:?}"),
    }
}

#[test]
fn a_cookie_is_set_in_one_of_four_ways() {
    for (flag, mode) in [
        ("insert", CookieMode::Insert),
        ("rewrite", CookieMode::Rewrite),
        ("prefix", CookieMode::Prefix),
        ("passive", CookieMode::Passive),
    ] {
        let read = cookie(&format!("cookie = \"S\", {flag} = true"));
        assert_eq!((read.mode, read.value, read.keys.len()), (mode, CookieValue::Name, 0));
    }
    let sealed = cookie(&format!("cookie = \"S\", insert = true, value = \"sealed\", keys = [\"{KEY}\", \"{KEY}2\"]"));
    assert_eq!((sealed.value, sealed.keys.len()), (CookieValue::Sealed, 2));
    assert!(!format!("{sealed:?}").contains(KEY), "a secret is not printed");
}

#[test]
fn a_cookie_that_cannot_be_says_why() {
    all(
        sticky,
        &[
            ("cookie = ¦\"S\"", "does not say who sets it", "`prefix = true`"),
            ("cookie = ¦\"S\", insert = true, prefix = true", "`insert`, `prefix` can hold", "keep one"),
            ("cookie = \"S\", prefix = true, ¦indirect = true", "`indirect` has no meaning with `prefix`", "remove it"),
            ("cookie = \"S\", rewrite = true, ¦maxidle = \"1m\"", "`maxidle` has no meaning", "insert = true"),
            ("cookie = \"S\", passive = true, ¦nocache = true", "`nocache` has no meaning", "remove it"),
            ("cookie = \"S\", passive = true, ¦value = \"name\"", "`value` has no meaning", "remove it"),
            ("cookie = \"S\", insert = true, value = ¦\"sealed\"", "`value = \"sealed\"` needs a key", "keys = ["),
            ("cookie = \"S\", insert = true, ¦keys = \"0123456789abcdef\"", "has no use for keys", "\"sealed\""),
            (
                "cookie = \"S\", insert = true, value = \"dynamic\", keys = [¦\"hunter2\"]",
                "a key of 7 characters can be guessed",
                "openssl rand",
            ),
            ("cookie = \"S\", insert = true, value = \"sealed\", keys = ¦[]", "no key in this list", "keys = ["),
            ("cookie = \"S\", insert = true, value = ¦\"seald\"", "no value of", "did you mean \"sealed\"?"),
            ("cookie = \"S\", insert = true, attr = [¦\"a;b\"]", "is no attribute", "Partitioned"),
            ("cookie = \"S\", insert = true, attr = ¦\"Secure\"", "has a key of its own", "write `secure = …`"),
            ("on = \"src\", table = \"texts\", ¦keys = \"0123456789abcdef\"", "this is for a cookie", "remove it"),
            ("on = \"src\", table = \"texts\", if = { ¦pth = \"/\" }", "unknown key `pth`", "did you mean `path`?"),
            ("on = \"src\", table = \"texts\", if = ¦{}", "asks nothing", "leave it out"),
        ],
    );
    let server = "[backend.app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:1\", cookie = ¦\"a~b\" }]\n\
                  sticky = [{ cookie = \"S\", prefix = true }]";
    each(&[(server, "cannot be the prefix of a cookie", "without `~`")]);
}

#[test]
fn conditions_say_whose_affinity_is_forced_or_ignored() {
    let text = with(
        "sticky = [{ on = \"src\", table = \"texts\", if = { method = \"POST\" } }]\nfail_back = \"idle\"\n\
         force_persist = { src = \"10.0.0.0/8\" }\nignore_persist = [{ path_prefix = \"/a\" }, { path_prefix = \"/b\" }]",
    );
    let persist = &backend(&text).persist;
    assert_eq!((persist.force.len(), persist.ignore.len(), persist.fail_back), (1, 2, FailBack::Idle));
    let before = with("sticky = [{ on = \"src\", table = \"texts\" }]");
    let changes = diff::diff(&whole(&before), &whole(&text));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "backend app: sticky [on src in texts] -> [on src in texts if method POST]",
            "backend app: fail_back never -> idle",
            "backend app: force_persist [] -> [src 10.0.0.0/8]",
            "backend app: ignore_persist [] -> [path /a, path /b]",
        ]
    );
}

#[test]
fn a_way_back_needs_somebody_who_remembers() {
    all(
        with,
        &[
            ("fail_back = ¦\"now\"", "without `sticky` no client has a first server", "insert = true"),
            (
                "sticky = [{ cookie = \"S\", passive = true }]\nfail_back = ¦\"now\"",
                "nobody remembers the first server",
                "insert = true",
            ),
            (
                "sticky = [{ cookie = \"S\", insert = true }]\nfail_back = ¦\"idle\"",
                "does not say when its client was last here",
                "maxidle",
            ),
            ("fail_back = ¦\"always\"", "no value of", "\"never\", \"idle\", \"now\""),
            ("¦force-persist = { src = \"10.0.0.0/8\" }", "unknown key", "did you mean `force_persist`?"),
        ],
    );
}

#[test]
fn a_change_of_keys_is_shown_and_the_keys_are_not() {
    let rule = |key: &str| sticky(&format!("cookie = \"S\", insert = true, value = \"sealed\", keys = \"{key}\""));
    let changes = diff::diff(&whole(&rule("one key of the cluster")), &whole(&rule("two key of the cluster")));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["backend app: sticky.keys (secret) -> (secret)"]
    );
    let jwt = |lines: &str| format!("[jwt]\n{lines}\n{}", with("balance = \"jwt(sub)\""));
    let changes = diff::diff(&whole(&jwt("unverified = true")), &whole(&jwt("keys = \"0123456789abcdef\"")));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["jwt: unverified true -> false", "jwt: keys none -> (secret)"]
    );
}

#[test]
fn claims_are_keys_where_it_is_said_whose_tokens_are_believed() {
    let read = backend(&format!("[jwt]\nkeys = [\"{KEY}\"]\n{}", sticky("on = \"jwt(sub)\", table = \"texts\"")));
    let Sticky::Table(rule) = &read.sticky[0] else { panic!("{:?}", read.sticky) };
    let KeyExpr::Jwt(claim) = &rule.key else { panic!("{:?}", rule.key) };
    assert!(claim.name == "sub" && claim.keys.as_ref().is_some_and(|keys| keys.verifies()));
    let read = backend(&format!("[jwt]\nunverified = true\n{}", with("balance = \"hash(jwt(tid))\"")));
    let Balance::Hash(KeyExpr::Jwt(claim)) = &read.balance else { panic!("{:?}", read.balance) };
    assert!(claim.name == "tid" && claim.keys.as_ref().is_some_and(|keys: &Arc<jwt::Keys>| !keys.verifies()));
    let private = "[jwt]\nkeys = ¦\"\"\"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\"\"\"";
    each(&[
        ("¦[jwt]", "does not say whose tokens", "unverified = true"),
        ("[jwt]\nunverified = true\n¦keys = \"0123456789abcdef\"", "believes every token", "remove one"),
        ("[jwt]\nkeys = ¦\"short\"", "can be guessed", "16 characters"),
        ("¦[jwt]\nkeys = []", "`jwt.keys` is empty", "add a key"),
        (private, "this is a private key", "openssl pkey"),
        (&sticky("on = ¦\"jwt(sub)\", table = \"texts\""), "whose tokens `jwt(sub)` believes", "add `[jwt]`"),
        (&with("balance = ¦\"jwt(sub)\""), "whose tokens `jwt(sub)` believes", "add `[jwt]`"),
        (&sticky("on = ¦\"jwt\", table = \"texts\""), "needs an argument", "jwt(CLAIM)"),
        (&sticky("on = ¦\"path(0)\", table = \"texts\""), "names no part of a path", "path(N)"),
        (&sticky("store_response = ¦\"path(1)\", table = \"texts\""), "is of the request", "store_request"),
    ]);
}
