use super::*;

const OLD: &str = r#"
[instance]
name = "lb1"
[admin]
listen = "127.0.0.1:1"
token = "old secret"
[peers]
cluster = "shop"
listen = "127.0.0.1:2"
[table.sessions]
type = "string"
[table.gone]
type = "ip"
[frontend.web]
listen = ["127.0.0.1:80", "127.0.0.1:81"]
backend = "app"
[backend.app]
sticky = [{ cookie = "S", insert = true }, { on = "src", table = "sessions" }]
check = { http = "GET /", expect = 200 }
server = [{ name = "a", addr = "127.0.0.1:9001" }, { name = "b", addr = "127.0.0.1:9002" }]
"#;

fn config(text: &str) -> Config {
    crate::config::load(text, "host", None, &|_| None).unwrap_or_else(|found| panic!("{found:?}"))
}

/// The differences that replacing texts in the file makes.
fn changes(replace: &[(&str, &str)]) -> Vec<String> {
    let new = replace.iter().fold(OLD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    diff(&config(OLD), &config(&new)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_against_itself_changes_nothing() {
    assert_eq!(changes(&[]), [""; 0]);
}

#[test]
fn a_changed_value_is_shown_old_and_new() {
    assert_eq!(
        changes(&[
            ("127.0.0.1:9002\" }", "127.0.0.1:9002\", weight = 2 }"),
            ("expect = 200", "expect = [200, \"204-206\"]")
        ]),
        [
            "backend app: check GET / expects [200] every 2s fall 3 rise 2 -> \
             GET / expects [200, 204-206] every 2s fall 3 rise 2",
            "server app/b: weight 1 -> 2"
        ]
    );
}

#[test]
fn what_comes_and_goes_is_named() {
    assert_eq!(
        changes(&[
            ("[table.gone]", "[table.new]"),
            (", \"127.0.0.1:81\"", ", \"127.0.0.1:82\""),
            ("name = \"b\"", "name = \"c\""),
        ]),
        [
            "added table new",
            "removed table gone",
            "added listener 127.0.0.1:82 of frontend web",
            "removed listener 127.0.0.1:81 of frontend web",
            "added server app/c",
            "removed server app/b (its clients go to others)",
        ]
    );
}

#[test]
fn what_a_reload_cannot_do_says_so() {
    let needs = |from, to| {
        let found = changes(&[(from, to)]);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].ends_with("(needs a restart)")
    };
    assert!(needs("name = \"lb1\"", "name = \"lb2\""));
    assert!(needs("name = \"lb1\"", "name = \"lb1\"\nworkers = 3"));
    assert!(needs("\"127.0.0.1:1\"", "\"127.0.0.1:3\""));
    assert!(needs("\"shop\"", "\"shop2\""));
    assert!(needs("listen = \"127.0.0.1:2\"", "listen = \"127.0.0.1:4\""));
    assert!(needs("[peers]\ncluster = \"shop\"\nlisten = \"127.0.0.1:2\"\n", ""));
    assert!(!needs("[peers]\n", "[peers]\njoin = \"127.0.0.1:5\"\n"));
    assert!(!needs("name = \"lb1\"", "name = \"lb1\"\ndrain = \"1s\""));
}

#[test]
fn a_table_that_must_start_empty_says_so() {
    let found = changes(&[("type = \"string\"", "type = \"string\"\nlen = 32")]);
    assert_eq!(found, ["table sessions: len 64 -> 32 (the table starts empty)"]);
    let found = changes(&[("type = \"string\"", "type = \"string\"\nexpire = \"1h\"")]);
    assert_eq!(found, ["table sessions: expire 30m -> 1h"]);
}

#[test]
fn a_secret_is_not_shown() {
    assert_eq!(changes(&[("old secret", "new secret")]), ["admin: token (secret) -> (secret)"]);
    assert_eq!(changes(&[("token = \"old secret\"\n", "")]), ["admin: token (secret) -> none"]);
}
