//! The checked-in code of the wire format is what the `.proto` file says. Nobody needs `protoc` to build `lb`.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_generated_code_is_that_of_the_proto_file() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["lb/peers/v1/peers.proto"], [crate_dir.join("../proto")]).expect("the proto compiles");
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().build_transport(false).out_dir(out.path()).compile_fds(files).unwrap();
    let fresh = std::fs::read_to_string(out.path().join("lb.peers.v1.rs")).unwrap();
    let kept = crate_dir.join("src/gen/lb.peers.v1.rs");
    if std::env::var_os("LB_REGENERATE").is_some() {
        std::fs::write(&kept, &fresh).unwrap();
    }
    let same = std::fs::read_to_string(&kept).unwrap_or_default() == fresh;
    assert!(same, "run `LB_REGENERATE=1 cargo test -p lb-peers --test generated` and commit {}", kept.display());
}
