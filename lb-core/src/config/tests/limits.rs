//! Counters of tables and rules on them: what they mean, and each mistake.
use super::mistakes::{all, each};
use super::*;

#[test]
fn limits_are_read_with_their_counters_and_defaults() {
    let rules = [
        ("", "track"),
        ("when = \"http_req_rate > 100\", then = \"deny\"", "when http_req_rate(10s) > 100 then deny 403"),
        (
            "when = \"bytes_in_rate>=10M and conn_cur<3\", then = \"deny 429\"",
            "when bytes_in_rate(1m) >= 10000000 and conn_cur < 3 then deny 429",
        ),
        ("when = \"gpc_rate(0) == 1\", then = \"tarpit\"", "when gpc_rate(0,10s) == 1 then tarpit 10s 429"),
        ("then = \"tarpit 403\"", "then tarpit 10s 403"),
        ("then = \"tarpit 5s 503\"", "then tarpit 5s 503"),
        ("then = \"inc gpc(0)\"", "then inc gpc(0)"),
        ("then = \"set gpt(1) 7\"", "then set gpt(1) 7"),
    ];
    for (rule, shown) in rules {
        let comma = if rule.is_empty() { "" } else { ", " };
        let config = valid(&format!(
            "[table.clients]\ntype = \"ip\"\nstore = [\"http_req_rate(10s)\", \"bytes_in_rate(1m)\", \"conn_cur\", \
             \"gpc_rate(0,10s)\", \"gpt(1)\"]\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n\
             limit = [{{ key = \"src\", table = \"clients\"{comma}{rule} }}]\n\
             [backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n"
        ));
        let read: Vec<_> = config.frontends[0].limit.iter().map(ToString::to_string).collect();
        assert!(read.len() == 1 && read[0].ends_with(shown) && read[0].starts_with("src in clients "), "{read:?}");
    }
}

/// Lists of `store`.
fn with_store(store: &str) -> String {
    format!("[table.clients]\ntype = \"ip\"\nstore = [{store}]\n")
}

#[test]
fn counters_are_named_as_tables_know_them() {
    all(
        with_store,
        &[
            ("¦\"http_req_rat(10s)\"", "no counter \"http_req_rat\"", "did you mean \"http_req_rate(10s)\"?"),
            ("¦\"gpc0\"", "no counter \"gpc0\"", "did you mean \"gpc(0)\"?"),
            ("¦\"gpc0_rate(10s)\"", "no counter \"gpc0_rate\"", "did you mean \"gpc_rate(0,10s)\"?"),
            ("¦\"requests\"", "no counter \"requests\"", "write one of \"conn_cur\""),
            ("¦\"http_req_rate\"", "is not how this counter is written", "write \"http_req_rate(10s)\""),
            ("¦\"http_req_rate(0s)\"", "is not how this counter is written", "longer than nothing"),
            ("¦\"conn_cnt(10s)\"", "is not how this counter is written", "write \"conn_cnt\""),
            ("¦\"gpc(16)\"", "\"gpc(16)\" is out of range", "`gpc` go from 0 to 15"),
            ("¦\"gpt(300)\"", "\"gpt(300)\" is out of range", "`gpt` go from 0 to 15"),
            ("¦\"gpc_rate(16,10s)\"", "is out of range", "`gpc_rate` go from 0 to 15"),
            ("\"conn_cur\", ¦\"conn_cur\"", "`conn_cur` is stored twice", "remove one"),
            ("\"http_req_rate(1m)\", ¦\"http_req_rate(60s)\"", "`http_req_rate(1m)` is stored twice", "remove one"),
            ("¦1", "must be a text", "store = ["),
        ],
    );
    each(&[("[table.t]\ntype = \"ip\"\nstore = ¦\"conn_cur\"", "must be a list in brackets", "store = [")]);
}

/// Rules of a frontend, with a table that counts and one that does not.
fn with_limit(rule: &str) -> String {
    format!(
        "[table.clients]\ntype = \"ip\"\nstore = [\"http_req_rate(10s)\", \"http_req_rate(1m)\", \"conn_cur\", \
         \"bytes_in_rate(1m)\", \"gpc_rate(0,10s)\", \"gpt(1)\"]\n[table.plain]\ntype = \"string\"\n\
         [frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\nlimit = [{rule}]\n"
    )
}

#[test]
fn limits_name_a_key_and_a_table_that_counts() {
    all(
        with_limit,
        &[
            ("¦{ table = \"clients\" }", "`frontend.web.limit[0]` has no `key`", "add `key = \"src\"`"),
            ("¦{ key = \"src\" }", "has no `table`", "add `table = \"clients\"`"),
            ("{ key = ¦\"scr\", table = \"clients\" }", "is no key expression", "header(NAME)"),
            ("{ key = ¦\"path\", table = \"clients\" }", "never a key of table \"clients\"", "\"string\""),
            ("{ key = \"src\", table = ¦\"client\" }", "there is no table \"client\"", "did you mean \"clients\"?"),
            ("{ key = \"src\", table = ¦\"plain\" }", "table \"plain\" counts nothing", "to `[table.plain]`"),
            ("{ ¦on = \"src\", table = \"clients\" }", "unknown key `on`", "did you mean `key`?"),
            ("¦\"src\"", "must be a section, not a text", "limit = ["),
        ],
    );
    each(&[("[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n¦limits = []", "unknown key", "`limit`?")]);
}

/// What one rule looks at.
fn with_when(when: &str) -> String {
    with_limit(&format!("{{ key = \"src\", table = \"clients\", then = \"deny\", when = {when} }}"))
}

#[test]
fn conditions_compare_a_counter_of_the_table_with_a_number() {
    all(
        with_when,
        &[
            ("¦\"conn_cur\"", "\"conn_cur\" compares nothing", "as \"http_req_rate > 100\""),
            ("¦\"conn_cur > 1 and \"", "\"\" compares nothing", "joined by \" and \""),
            ("¦\"conn_cur = 5\"", "\"=\" is no comparison", "write `==`"),
            ("¦\"conn_cur => 5\"", "\"=>\" is no comparison", "write `>=`"),
            ("¦\"conn_cur != 5\"", "\"!=\" is no comparison", "write `>`, `>=`"),
            ("¦\"conn_cur > lots\"", "\"lots\" is no number", "as 100, or 10M"),
            ("¦\"conn_cur > 5 && gpt(1) == 1\"", "\"5 && gpt(1) == 1\" is no number", "joined by \" and \""),
            ("¦\"conn_cur > -1\"", "\"-1\" is no number", "whole number"),
            ("¦\"http_req_rate > 5\"", "could be any of several", "\"http_req_rate(10s)\" or \"http_req_rate(1m)\""),
            ("¦\"http_req_rate(1h) > 5\"", "does not store `http_req_rate(1h)`", "which has \"http_req_rate(10s)\""),
            ("¦\"conn_cnt > 5\"", "table \"clients\" does not store `conn_cnt`", "`store` of `[table.clients]`"),
            ("¦\"gpt(0) == 1\"", "does not store `gpt(0)`", "`store` of"),
            ("¦\"con_cur > 5\"", "there is no counter \"con_cur\"", "did you mean `conn_cur`?"),
            ("¦\"load > 5\"", "there is no counter \"load\"", "which has \"http_req_rate(10s)\""),
        ],
    );
}

/// What one rule does.
fn with_then(then: &str) -> String {
    with_limit(&format!("{{ key = \"src\", table = \"clients\", when = \"conn_cur > 1\", then = {then} }}"))
}

#[test]
fn rules_do_one_of_a_few_things() {
    all(
        with_then,
        &[
            ("¦\"reject\"", "\"reject\" is nothing that a rule does", "did you mean \"deny\"?"),
            ("¦\"dney 429\"", "\"dney 429\" is nothing", "did you mean \"deny\"?"),
            ("¦\"redirect\"", "is nothing that a rule does", "write \"deny 429\""),
            ("¦\"deny 200\"", "\"200\" is no status that denies", "from 400 to 599"),
            ("¦\"deny x\"", "\"x\" is no status", "deny 429"),
            ("¦\"deny 429 please\"", "is nothing that a rule does", "\"deny 429\""),
            ("¦\"tarpit 0s\"", "more than nothing", "write \"tarpit 10s\""),
            ("¦\"tarpit 1h\"", "at most 10 minutes, not 1h", "write \"tarpit 10s\""),
            ("¦\"tarpit 5 429\"", "one status too many", "\"tarpit 10s 429\""),
            ("¦\"tarpit 5sec\"", "\"5sec\" is not a duration", "tarpit 10s"),
            ("¦\"inc gpc(1)\"", "does not store `gpc(1)`", "add it to the `store`"),
            ("¦\"inc gpc(16)\"", "out of range", "from 0 to 15"),
            ("¦\"inc conn_cur\"", "\"conn_cur\" is nothing that a rule writes", "write \"inc gpc(0)\""),
            ("¦\"set gpt(0) 1\"", "does not store `gpt(0)`", "add it to the `store`"),
            ("¦\"set gpt(1) x\"", "\"x\" is no number", "\"set gpt(1) 1\""),
            ("¦\"set gpt(1)\"", "is nothing that a rule does", "\"set gpt(0) 1\""),
        ],
    );
    each(&[(
        &with_limit("{ key = \"src\", table = \"clients\", when = ¦\"conn_cur > 1\" }"),
        "nothing is done when this holds",
        "add `then = \"deny 429\"`",
    )]);
}

#[test]
fn what_clients_may_hold_has_defaults_and_is_read() {
    let file = |table: &str, frontend: &str| {
        format!(
            "[table.t]\ntype = \"string\"\n{table}\n[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n{frontend}\n\
             [backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n"
        )
    };
    let held = |config: &Config| {
        let (table, web) = (&config.tables[0], &config.frontends[0]);
        (table.max_new_keys, web.maxconn_per_address, web.min_rate)
    };
    assert_eq!(held(&valid(&file("", ""))), (None, 0, 240));
    let given = file("max_new_keys = \"20/s\"", "maxconn_per_address = 100\nmin_rate = \"10k\"");
    assert_eq!(held(&valid(&given)), ("20/s".parse().ok(), 100, 10_000));
    each(&[
        (&file("max_new_keys = ¦\"20\"", ""), "\"20\" is no pace", "\"50/s\""),
        (&file("", "min_rate = ¦-1"), "from 0 to 1_000_000_000", "240"),
        (&file("", "¦conn_per_ip = 10"), "conn_per_ip", "maxconn_per_address"),
        (&file("", "mode = \"tcp\"\n¦min_rate = 10"), "`min_rate` is of HTTP", "remove it"),
    ]);
    valid(&file("", "mode = \"tcp\"\nmaxconn_per_address = 10"));
}
