//! How clients are spread: what is read, what is refused, what a reload shows.
use super::mistakes::all;
use super::*;
use std::num::NonZeroU32;

fn with(more: &str) -> String {
    format!(
        "[backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}, \
         {{ name = \"b\", addr = \"127.0.0.1:9002\" }}]\n{more}\n"
    )
}

fn with_server(more: &str) -> String {
    format!("[backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\", {more} }}]\n")
}

fn backend(text: &str) -> Arc<Backend> {
    let frontend = "\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n";
    valid(&format!("{text}{frontend}")).backends[0].clone()
}

#[test]
fn algorithms_are_read_by_the_names_that_people_know() {
    for (text, expected) in [
        ("random", Balance::Random(2)),
        ("random(3)", Balance::Random(3)),
        ("first", Balance::First),
        ("uri", Balance::Hash(KeyExpr::Path)),
        ("cookie(sid)", Balance::Hash(KeyExpr::Cookie("sid".into()))),
    ] {
        assert_eq!(backend(&with(&format!("balance = \"{text}\""))).balance, expected, "{text}");
    }
}

#[test]
fn a_slow_start_is_the_backends_unless_a_server_has_its_own() {
    let text =
        with("slow_start = { time = \"30s\", pace = \"50/s\" }").replace(":9002\"", ":9002\", slow_start = \"0s\"");
    let servers = backend(&text).servers.clone();
    let slow = SlowStart { time: Duration::from_secs(30), pace: NonZeroU32::new(50) };
    assert_eq!((servers[0].slow_start, servers[1].slow_start), (Some(slow), None));
    let servers = backend(&with_server("slow_start = \"5s\"")).servers.clone();
    assert_eq!(servers[0].slow_start, Some(SlowStart { time: Duration::from_secs(5), pace: None }));
}

#[test]
fn what_cannot_be_spread_so_says_why() {
    all(
        with,
        &[
            ("balance = ¦\"p2c\"", "is no balancing algorithm", "did you mean \"random(2)\"?"),
            ("balance = ¦\"random(0)\"", "does not say how many", "write \"random(2)\""),
            ("balance = ¦\"frist\"", "is no balancing algorithm", "did you mean \"first\"?"),
            ("¦load_bound = 150", "is for hashing", "balance = \\\"source\\\"".replace('\\', "").as_str()),
            ("balance = \"source\"\nload_bound = ¦100", "must be a whole number from 101", "150"),
            ("¦hash_balance_factor = 150", "unknown key", "did you mean `load_bound`?"),
            ("¦all_backups = true", "without a backup", "backup = true"),
            ("slow_start = ¦\"0s\"", "is zero", "leave it out"),
            ("slow_start = ¦{ pace = \"5/s\" }", "has no `time`", "add `time = "),
            ("slow_start = { time = \"5s\", pace = ¦\"0/s\" }", "is no pace", "write a number of clients a second"),
            ("slow_start = { time = \"5s\", pace = ¦\"fast\" }", "is no pace", "\"50/s\""),
        ],
    );
    all(
        with_server,
        &[
            ("slow_start = ¦5", "must be a duration", "slow_start"),
            ("¦slowstart = \"5s\"", "unknown key", "did you mean `slow_start`?"),
        ],
    );
    let all_backups = "[backend.¦app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\", backup = true }]";
    super::mistakes::each(&[(all_backups, "every server of `backend.app` is a backup", "leave `backup` out")]);
}

#[test]
fn a_reload_shows_how_they_are_spread_now() {
    let load = |text: &str| valid(&format!("{text}\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n"));
    let new = with("balance = \"source\"\nload_bound = 150\nslow_start = \"9s\"")
        .replace(":9002\"", ":9002\", backup = true");
    let changes = diff::diff(&load(&with("balance = \"random\"")), &load(&new));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "backend app: balance random(2) -> hash(src)",
            "backend app: load_bound none -> 150",
            "server app/a: slow_start none -> 9s",
            "server app/b: backup false -> true",
            "server app/b: slow_start none -> 9s"
        ]
    );
}
