//! What this release says, written down for those that come after it: see proto/README.md.
use crate::bench::Node;
use crate::examples::examples;
use lb_core::decisions::Decision;
use lb_core::hlc::Stamp;
use lb_core::server::AdminState;
use lb_peers::replicator::Input;
use lb_peers::wire::{Frame, PROTOCOL};
use std::path::Path;
use std::time::Duration;

/// Every frame on its own, and a link from its beginning to its end.
pub(crate) fn record(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, frame) in examples(PROTOCOL) {
        std::fs::write(dir.join(name).with_extension("bin"), frame.to_bytes()).unwrap();
    }
    let mut session = Vec::new();
    for frame in session_of("old", "recent") {
        let bytes = frame.to_bytes();
        session.extend((bytes.len() as u32).to_be_bytes());
        session.extend(bytes);
    }
    std::fs::write(dir.join("session"), session).unwrap();
}

/// What one of two says: a new one that has been pinning on its own, meets one that is whole, and stops in the end.
fn session_of(speaker: &str, other: &str) -> Vec<Frame> {
    let (mut a, mut b) = (Node::new(speaker, &[other]), Node::new(other, &[]));
    a.pin("mine", "app1");
    a.pin("cleared", "app1");
    a.clear("cleared");
    a.settings.decisions.merge(decision(&a), lb_core::time::Timestamp(0));
    b.pin("yours", "app2");
    b.pin("cleared too", "app2");
    b.clear("cleared too");
    a.handle(Input::Ask { id: 6, table: "sessions".into(), key: b"yours".to_vec() });
    a.opened(other);
    b.opened(speaker);
    let mut said = Vec::new();
    for step in 0..500 {
        match step {
            100 => a.pin("late", "app3"),
            105 => b.handle(Input::Ask { id: 5, table: "sessions".into(), key: b"mine".to_vec() }),
            110 => b.pin("late too", "app3"),
            120 => a.gets_a_table("more"),
            400 => a.handle(Input::Stop { within: Duration::from_secs(1) }),
            _ => {}
        }
        for frame in a.says() {
            said.push(frame.clone());
            b.receive(frame);
        }
        for frame in b.says() {
            if matches!(frame, Frame::PullDone { .. }) && a.server_of("heard here").is_none() {
                // What each of them has not from the other, only the digests can find.
                a.heard("heard here", "app4");
                b.heard("heard there", "app4");
            }
            a.receive(frame);
        }
        for node in [&mut a, &mut b] {
            node.at += Duration::from_millis(10);
            node.handle(Input::Tick);
        }
    }
    said
}

fn decision(node: &Node) -> Decision {
    Decision {
        server: ("web".into(), "app1".into()),
        state: Some(AdminState::Drain),
        weight: None,
        closing: None,
        stamp: Stamp::new(1_790_000_000_000 << 16, node.settings.clock.node()),
        node: node.settings.node.clone(),
        author: "ann".into(),
        reason: "a new disk".into(),
        at: 1_790_000_000_000,
    }
}
