//! Mistakes of those who know the word, but not the place.
use super::mistakes::{all, each};
use super::*;

fn backend(lines: &str) -> String {
    format!("[backend.app]\n{lines}\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n")
}

fn frontend(lines: &str) -> String {
    format!("[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n{lines}\n")
}

#[test]
fn a_key_that_belongs_elsewhere_is_told_where() {
    all(
        backend,
        &[
            ("¦trusted_proxies = \"10.0.0.0/8\"", "unknown key", "`trusted_proxies` belongs under `frontend.NAME`"),
            ("¦expect_body = \"ok\"", "unknown key", "`expect_body` belongs under `check`"),
            ("¦connect = \"1s\"", "unknown key", "`connect` belongs under `timeout`"),
            ("check = { tcp = true, ¦eject = \"1s\" }", "unknown key", "belongs under `backend.NAME.outlier`"),
        ],
    );
    all(
        frontend,
        &[
            ("¦compression = true", "unknown key", "`compression` belongs under `backend.NAME`"),
            ("routes = [{ ¦path = \"/x\", backend = \"app\" }]", "unknown key `path`", "write `if = { path ="),
            ("routes = [{ ¦method = \"GET\", backend = \"app\" }]", "unknown key `method`", "write `if = { method ="),
            ("request = [{ ¦path_prefix = \"/x\", deny = 403 }]", "unknown key", "write `if = { path_prefix ="),
        ],
    );
    each(&[(
        "[backend.app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:1\", ¦on_down = \"fail\" }]",
        "unknown key",
        "`on_down` belongs under `backend.NAME`",
    )]);
}

#[test]
fn words_of_others_lead_to_ours() {
    all(
        backend,
        &[
            ("¦stick_table = \"t\"", "unknown key", "did you mean `sticky`?"),
            ("¦app_cookie = \"JSESSIONID\"", "unknown key", "did you mean `sticky`?"),
            ("¦option_redispatch = true", "unknown key", "did you mean `on_down`?"),
            (
                "sticky = [{ cookie = \"A\", insert = true, ¦max_age = \"1h\" }]",
                "unknown key",
                "did you mean `maxlife`?",
            ),
        ],
    );
    all(
        frontend,
        &[
            ("¦use_backend = \"app\"", "unknown key", "did you mean `routes`?"),
            ("routes = [{ if = { ¦hdr = \"A\" }, backend = \"app\" }]", "unknown key", "did you mean `header`?"),
        ],
    );
    each(&[("[table.t]\ntype = ¦\"int\"", "no value", "did you mean \"integer\"?")]);
}

#[test]
fn what_is_unknown_is_not_missing_as_well() {
    all(
        frontend,
        &[
            ("request = [{ ¦tarpit = true }]", "unknown key `tarpit`", "`deny`"),
            ("request = [{ redirect = { ¦location = \"/x\" } }]", "unknown key `location`", "`path`"),
            ("request = [{ rewrite = { ¦from = \"/a\", to = \"/b\" } }]", "unknown key `from`", "`prefix`"),
            ("request = [{ set_header = ¦\"X: 1\" }]", "must be a table", "write `set_header"),
            ("routes = [{ ¦banana = 1, backend = \"app\" }]", "unknown key `banana`", "`path_prefix`"),
        ],
    );
    all(
        backend,
        &[
            ("check = { ¦redis = true }", "unknown key `redis`", "`tcp`"),
            ("sticky = [{ ¦learn = \"cookie(A)\", table = \"t\" }]", "unknown key `learn`", "`store_response`"),
        ],
    );
}

#[test]
fn a_timeout_stands_on_its_own_side() {
    all(
        frontend,
        &[
            ("timeout = { ¦connect = \"1s\" }", "`connect` is a timeout of servers", "`backend.NAME.timeout`"),
            ("timeout = { client = \"1s\", ¦tunnel = \"1h\" }", "would do nothing here", "`defaults.timeout`"),
        ],
    );
    all(backend, &[("timeout = { ¦http_request = \"1s\" }", "is a timeout of clients", "`frontend.NAME.timeout`")]);
}

#[test]
fn an_access_log_says_where() {
    each(&[("[log]\naccess = ¦\"yes\"", "\"yes\" does not say where", "`access = true`")]);
}

#[test]
fn a_path_is_compared_in_one_spelling() {
    let rule = |path: &str| {
        let text = frontend(&format!("request = [{{ if = {{ path_prefix = \"{path}\" }}, deny = 403 }}]"));
        valid(&format!("{text}{}", backend(""))).frontends[0].rules.request[0].when.to_string()
    };
    assert_eq!(
        (rule("/%61dmin//x"), rule("/käse"), rule("/a%20b")),
        ("path /admin/x".into(), "path /k%C3%A4se".into(), "path /a%20b".into())
    );
}
