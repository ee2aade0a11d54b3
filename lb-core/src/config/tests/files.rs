//! Secrets in files, and what a file says in vain.
use super::*;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Files as a machine has them.
fn files(path: &Path) -> std::io::Result<Vec<u8>> {
    match path.to_str().unwrap_or_default() {
        "/k/good.key" => Ok(b"0123456789abcdef0123\n".to_vec()),
        "/k/crlf.key" => Ok(b"fedcba9876543210\r\n".to_vec()),
        "/k/short.key" => Ok(b"hunter2\n".to_vec()),
        "/k/empty.key" => Ok(b"\n".to_vec()),
        "/k/bytes.key" => Ok(vec![0xff; 32]),
        "/k/token" => Ok(b"t0ken\n".to_vec()),
        _ => Err(Error::from(ErrorKind::NotFound)),
    }
}

fn read_with(text: &str) -> Result<Config, Vec<Diagnostic>> {
    load_with(text, "host1", None, &env, Some(&files))
}

fn cookie(keys: &str) -> String {
    format!("{SMALL}sticky = [{{ cookie = \"S\", insert = true, value = \"sealed\", keys = {keys} }}]\n")
}

fn keys(config: &Config) -> Vec<Vec<u8>> {
    match &config.backends[0].sticky[0] {
        Sticky::Cookie(cookie) => cookie.keys.iter().map(|key| key.bytes().to_vec()).collect(),
        Sticky::Table(_) => Vec::new(),
    }
}

#[test]
fn a_key_may_be_in_a_file_beside_others_that_are_not() {
    let text = cookie("[\"file:/k/good.key\", \"an inline key of some length\", \"file:/k/crlf.key\"]");
    let config = read_with(&text).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let expected: [&[u8]; 3] = [b"0123456789abcdef0123", b"an inline key of some length", b"fedcba9876543210"];
    assert_eq!(keys(&config), expected);
    // Where files are not looked at, they are no mistake.
    assert_eq!(keys(&valid(&text)).len(), 3);
    let jwt = read_with(&format!("{SMALL}[jwt]\nkeys = \"file:/k/good.key\"\n")).expect("a shared secret");
    assert!(jwt.jwt.is_some_and(|keys| keys.made_of()[0].bytes() == b"0123456789abcdef0123"));
    let admin = "[admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"file:/k/token\"\n";
    assert_eq!(read_with(&format!("{SMALL}{admin}")).expect("a token").admin.token.as_deref(), Some("t0ken"));
}

#[test]
fn a_key_whose_file_is_of_no_use_is_reported_where_it_is_named() {
    for (path, message) in [
        ("/k/none.key", "\"/k/none.key\" cannot be read: "),
        ("/k/short.key", "a key of 7 characters can be guessed"),
        ("/k/empty.key", "\"/k/empty.key\" is empty"),
        ("/k/bytes.key", "\"/k/bytes.key\" is not text"),
        ("", "`file:` names no file"),
    ] {
        let text = cookie(&format!("[\"file:/k/good.key\", \"file:{path}\"]"));
        let found = read_with(&text).expect_err(path);
        let [one] = found.as_slice() else { panic!("{path}: {}", lines(&found)) };
        assert!(one.message.contains(message) && !one.help.is_empty(), "{one}");
        assert_eq!(one.line, 6);
        assert_eq!(&text[one.span.clone()], format!("\"file:{path}\""));
        assert!(!one.message.contains("hunter2"));
    }
}

#[test]
fn sections_that_nothing_names_are_told_with_their_place() {
    let text = format!(
        "{SMALL}[backend.spare]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:1\", cookie = \"c\", generation = 2 }}]\n\
         [table.t]\ntype = \"ip\"\n[table.asked]\ntype = \"ip\"\nstore = [\"gpc(0)\"]\n\
         [auth.a]\nusers = {{ ann = \"$2b$10$HPRXZ3GdBOunRC.gz6bbluw5MSsXUGyPc2AXRuZN4X.72cw3GAf9i\" }}\n"
    );
    let asked = "request = [{ if = { not = { key = \"src\", table = \"asked\", when = \"gpc(0) > 0\" } }, deny = 403 }]\n[backend.app]";
    let text = text.replace("[backend.app]", asked);
    let told: Vec<_> = unused(&valid(&text)).iter().map(|fault| fault.placed(&text)).collect();
    let told: Vec<_> = told.iter().map(|d| (d.path.as_str(), &text[d.span.clone()])).collect();
    assert_eq!(
        told,
        [
            ("table.t", "t"),
            ("auth.a", "a"),
            ("backend.spare", "spare"),
            ("backend.spare.server[0].cookie", "\"c\""),
            ("backend.spare.server[0].generation", "2"),
        ]
    );
    assert_eq!(unused(&valid(SMALL)), []);
}
