//! What former releases said, byte for byte, means today what it meant then; and they understand what today's says.
#![allow(clippy::unwrap_used)]

mod bench;
mod examples;
mod record;

use bench::Node;
use examples::examples;
use lb_core::server::AdminState;
use lb_peers::replicator::Input;
use lb_peers::wire::{Frame, Hello, MIN_PROTOCOL, PROTOCOL};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The protocols on record.
const RECORDED: std::ops::RangeInclusive<u32> = 1..=1;

fn dir(protocol: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/v{protocol}"))
}

#[test]
fn a_release_that_is_told_to_is_recorded() {
    if std::env::var_os("LB_RECORD").is_some() {
        record::record(&dir(PROTOCOL));
    }
}

#[test]
fn the_oldest_protocol_spoken_is_on_record() {
    assert!(RECORDED.contains(&MIN_PROTOCOL));
}

#[test]
fn every_recorded_frame_means_what_it_meant() {
    for protocol in RECORDED {
        let examples = examples(protocol);
        let mut files = 0;
        for file in std::fs::read_dir(dir(protocol)).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "bin") {
                let name = file.file_stem().unwrap().to_str().unwrap();
                let (_, meant) = examples.iter().find(|(n, _)| *n == name).expect("an example");
                assert_eq!(Frame::from_bytes(&std::fs::read(&file).unwrap()).as_ref(), Ok(meant), "v{protocol} {name}");
                files += 1;
            }
        }
        assert!(files >= 18, "{files} frames of v{protocol}");
    }
}

fn session(protocol: u32) -> Vec<Frame> {
    let bytes = std::fs::read(dir(protocol).join("session")).unwrap();
    let (mut rest, mut frames) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(Frame::from_bytes(frame).unwrap());
        rest = after;
    }
    frames
}

/// Plays what a former release said to a node of today; what that one says.
fn played(to: &mut Node, session: Vec<Frame>) -> Vec<Frame> {
    to.opened("old");
    let mut said = to.says();
    for frame in session {
        match &frame {
            // It was told something of ours before, and was asked.
            Frame::Ack { number, .. } => to.pin(&format!("ours {number}"), "app2"),
            Frame::Answer { id, .. } => {
                to.handle(Input::Ask { id: *id, table: "sessions".into(), key: b"mine".to_vec() });
            }
            Frame::Goodbye(_) => assert!(to.is_up(), "the link is there to the end"),
            _ => {}
        }
        to.receive(frame);
        said.extend(to.says());
        to.at += std::time::Duration::from_millis(10);
        to.handle(Input::Tick);
    }
    said
}

#[test]
fn a_recorded_session_links_merges_and_is_answered() {
    for protocol in RECORDED {
        let (mut today, session) = (Node::new("recent", &[]), session(protocol));
        today.heard("heard there", "app4");
        let kinds: BTreeSet<u32> = session.iter().cloned().map(number).collect();
        // All but a refusal.
        assert_eq!(kinds, [1, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].into(), "v{protocol}");
        let is = |what: fn(&Frame) -> bool| session.iter().filter(|f| what(f)).count();
        let hello = session.iter().find_map(|f| if let Frame::Hello(hello) = f { Some(hello.protocol) } else { None });
        assert_eq!(hello, Some(protocol));
        let (batches, pulls, pings, asks) = (
            is(|f| matches!(f, Frame::Batch { .. })),
            is(|f| matches!(f, Frame::PullRequest { .. })),
            is(|f| matches!(f, Frame::Ping { .. })),
            is(|f| matches!(f, Frame::Ask { .. })),
        );
        assert!(batches > 1 && pulls > 1 && pings > 1 && asks > 0, "{batches} {pulls} {pings} {asks}");
        assert!(
            is(|f| matches!(f, Frame::PullRequest { parts, .. } if parts.iter().any(|p| !p.buckets.is_empty()))) > 0
        );

        let said = played(&mut today, session.clone());
        // It was heard: pins by batches and by pulls, the tombstone, the decision.
        for (key, server) in [("mine", "app1"), ("late", "app3"), ("heard here", "app4")] {
            assert_eq!(today.server_of(key).as_deref(), Some(server), "v{protocol} {key}");
        }
        assert_eq!(today.server_of("cleared"), None);
        assert_eq!(
            today.settings.decisions.get("web", "app1", lb_core::time::Timestamp(0)).unwrap().state,
            Some(AdminState::Drain)
        );
        // It was answered, as often as it asked.
        let count = |what: fn(&Frame) -> bool| said.iter().filter(|f| what(f)).count();
        assert_eq!(count(|f| matches!(f, Frame::Ack { refused: 0, .. })), batches);
        assert_eq!(count(|f| matches!(f, Frame::PullDone { .. })), pulls);
        assert_eq!(count(|f| matches!(f, Frame::Pong { .. })), pings);
        assert_eq!(count(|f| matches!(f, Frame::Answer { .. })), asks);
        assert!(count(|f| matches!(f, Frame::Batch { .. })) > 0 && count(|f| matches!(f, Frame::PullBatch { .. })) > 0);
        assert_eq!(count(|f| matches!(f, Frame::Refuse(_))), 0);
        // And was told nothing that it cannot know.
        assert!(said.iter().all(|f| *f != Frame::Unknown));
        let numbers: Vec<u32> = said.into_iter().map(number).collect();
        assert!(numbers.iter().all(|n| (1..20).contains(n)), "v{protocol} {numbers:?}");
    }
}

#[test]
fn one_who_says_the_same_and_speaks_todays_protocol_is_told_more() {
    let today = |frame| match frame {
        Frame::Hello(hello) => Frame::Hello(Hello { protocol: PROTOCOL, ..hello }),
        other => other,
    };
    let said = played(&mut Node::new("recent", &[]), session(1).into_iter().map(today).collect());
    assert!(said.into_iter().map(number).any(|n| n >= 20), "else the test above would prove nothing");
}

/// The number of a frame's kind in `peers.proto`.
fn number(frame: Frame) -> u32 {
    let bytes = frame.to_bytes();
    let tag = bytes.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
    let tag = bytes[..tag].iter().rev().fold(0, |tag, byte| tag << 7 | u32::from(byte & 0x7f));
    tag >> 3
}
