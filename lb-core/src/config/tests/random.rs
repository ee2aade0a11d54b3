//! Whatever the text: no panic, and no mistake lost.
use super::*;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../../deploy/lb.toml");

/// Pieces that make something between TOML and noise.
fn noise() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            "\n",
            "\"",
            "'",
            "\"\"\"",
            "#",
            ".",
            " ",
            "\\",
            "${",
            "}",
            "é",
            "\r\n",
            "instance",
            "frontend",
            "backend",
            "table",
            "server",
            "listen",
            "sticky",
            "check",
            "name",
            "addr",
            "web",
            "app",
            "true",
            "1",
            "-1",
            "1e9",
            "0x",
            "\"127.0.0.1:80\"",
            "\"5s\"",
            "\"${A:-b}\"",
            "[frontend.web]\n",
            "[backend.app]\n",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Mistakes that do not touch each other: what to replace in the file, and by what.
const MISTAKES: [(&str, &str); 14] = [
    ("workers = 2 ", "workers = 0 "),
    ("drain = \"30s\"", "drain = \"30\""),
    ("listen = \"127.0.0.1:8404\"", "listen = \"127.0.0.1\""),
    ("cluster = \"shop\"", "cluster = 7"),
    ("format = \"auto\"", "format = \"autoo\""),
    ("connect = \"5s\"", "conect = \"5s\""),
    ("len = 64", "len = \"x\""),
    ("when_full = \"evict\"", "when_full = evict"),
    ("max_headers = 100", "max_headers = 0"),
    ("balance = \"leastconn\"", "balance = \"most\""),
    ("samesite = \"lax\"", "samesite = \"lux\""),
    ("on_down = \"redispatch\"", "on_down = 1"),
    ("weight = 1 ", "weight = 999 "),
    ("balance = \"hash(header(X-Tenant))\"", "balance = \"hash(X)\""),
];

proptest! {
    #[test]
    fn no_text_panics_the_reader(text in noise()) {
        if let Err(found) = read(&text) {
            prop_assert!(!found.is_empty());
            for d in &found {
                prop_assert!(text.get(d.span.clone()).is_some(), "{d:?}");
                prop_assert!(d.line >= 1 && d.column >= 1 && !d.message.is_empty() && !d.help.is_empty(), "{d:?}");
            }
        }
    }

    #[test]
    fn no_damage_to_a_good_file_panics_the_reader(at in 0..EXAMPLE.len(), cut in 0usize..40, insert in noise()) {
        let border = |at: usize| (0..=at.min(EXAMPLE.len())).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap();
        let text = format!("{}{insert}{}", &EXAMPLE[..border(at)], &EXAMPLE[border(at + cut).max(border(at))..]);
        if let Err(found) = read(&text) {
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|d| text.get(d.span.clone()).is_some()));
        }
    }

    #[test]
    fn each_independent_mistake_is_reported(chosen in prop::sample::subsequence(MISTAKES.to_vec(), 0..=14)) {
        let mut text = EXAMPLE.to_owned();
        for (from, to) in &chosen {
            prop_assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let found = read(&text).err().unwrap_or_default();
        prop_assert_eq!(found.len(), chosen.len(), "{}", lines(&found));
    }
}
