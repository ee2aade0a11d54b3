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

fn check(text: &str) -> Result<(), String> {
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("lb.toml");
    std::fs::write(&path, text).expect("a file");
    let output = Command::new(lb())
        .args(["check", "-c"])
        .arg(&path)
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
