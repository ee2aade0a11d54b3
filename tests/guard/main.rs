//! What must stay true of the tree.
#![forbid(unsafe_code)]

use lb_tests::lb;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

/// The files that examples name.
fn certificates(dir: &Path) {
    let pki = lb_tests::pki::Pki::new();
    pki.issue("site.pem", &["shop.example"]);
    pki.issue("lb1.pem", &["lb1"]);
    pki.revoke("clients.crl", &[]);
    let copy = |from: &str, to: &str| std::fs::copy(pki.path(from), dir.join(to)).expect("copied");
    std::fs::create_dir(dir.join("certs")).expect("a directory");
    for (from, to) in [("site.pem", "site.pem"), ("site.pem", "site.key"), ("site.pem", "certs/a.pem")] {
        copy(from, to);
    }
    ["lb1.pem", "lb1.key"].iter().for_each(|file| _ = copy("lb1.pem", file));
    copy("ca.pem", "clients-ca.pem");
    copy("ca.pem", "ca.pem");
    copy("clients.crl", "clients.crl");
    ["ticket.key", "ticket-old.key"].iter().for_each(|file| _ = copy("site.pem", file));
    std::fs::create_dir(dir.join("pages")).expect("a directory");
    for file in ["admins.htpasswd", "pages/503.html"] {
        std::fs::copy(root().join("deploy").join(file), dir.join(file)).expect("copied");
    }
}

fn check(text: &str) -> Result<(), String> {
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("lb.toml");
    std::fs::write(&path, text).expect("a file");
    certificates(dir.path());
    let output = Command::new(lb())
        .args(["check", "-c"])
        .arg(&path)
        .current_dir(dir.path())
        .envs([("LB_PORT", "8080"), ("LB_ADMIN_PORT", "8404"), ("LB_PEER_PORT", "8405"), ("LB_ADMIN_TOKEN", "t")])
        .output()
        .expect("lb runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn every_configuration_in_the_readme_and_in_deploy_is_valid() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let blocks: Vec<_> = readme.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_eq!(check(block), Ok(()), "{block}");
    }
    let mut examples = Vec::new();
    files(&root().join("deploy"), ".toml", &mut examples);
    for path in examples {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(check(&text), Ok(()), "{}", path.display());
    }
}

#[test]
fn the_data_plane_does_not_know_the_peers() {
    let mut sources = Vec::new();
    files(&root().join("lb-proxy/src"), ".rs", &mut sources);
    let allowed = ["instance", "admin", "reload", "handover"];
    for path in sources {
        let relative = path.strip_prefix(root().join("lb-proxy/src")).expect("below").to_string_lossy().into_owned();
        if allowed.iter().any(|a| relative.starts_with(a)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("lb_peers::"), "{relative} names lb_peers");
    }
}

#[test]
fn only_the_command_line_prints() {
    let mut sources = Vec::new();
    for library in ["lb-core", "lb-peers", "lb-proxy"] {
        files(&root().join(library).join("src"), ".rs", &mut sources);
    }
    assert!(sources.len() > 50);
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a file");
        for word in ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("] {
            assert!(!text.contains(word), "{}: a library logs, it does not print ({word})", path.display());
        }
    }
}

#[test]
fn no_file_speaks_of_the_machine_it_was_written_on() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    // A source archive has no git, and nothing that git has not seen.
    let Ok(listed) = listed else { return };
    let home = std::env::var("HOME").unwrap_or_default();
    for path in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|p| !p.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        for (i, line) in text.lines().enumerate() {
            let at_home = home.len() > 5 && line.contains(&format!("{home}/"));
            assert!(!at_home, "{path}:{}: a path of this machine: {line}", i + 1);
        }
    }
}
