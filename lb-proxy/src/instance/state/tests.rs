use super::*;
use crate::fixture;
use lb_core::config::KeyKind;
use lb_core::decisions::Decision;
use lb_core::id::Names;
use lb_core::server::AdminState;
use lb_core::table::{StickKey, Update};
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

/// A store of an instance with the table `sessions`.
fn store_of(dir: &Path, kind: KeyKind) -> Store {
    let mut config = fixture::config();
    config.instance.state = Some(dir.to_owned());
    config.tables = vec![Arc::new(lb_core::config::Table { kind, ..fixture::table("sessions") })];
    let shared = super::super::shared(Arc::new(config), 1, 1);
    Store::new(shared, Arc::default(), Arc::default())
}

fn store(dir: &TempDir) -> Store {
    store_of(dir.path(), KeyKind::String)
}

fn table(store: &Store) -> Arc<StickTable> {
    store.shared.snapshot.load().tables["sessions"].clone()
}

fn key(i: usize) -> StickKey {
    StickKey::from_value(KeyKind::String, 64, format!("k{i}").as_bytes()).unwrap()
}

fn pin(store: &Store, keys: std::ops::Range<usize>) {
    for i in keys {
        let server = store.shared.base.names.intern(["node1", "node2"][i % 2]);
        table(store).store(&key(i), server, now());
    }
}

fn server(store: &Store, i: usize) -> Option<String> {
    let pin = table(store).peek(&key(i), now())?;
    Some(store.shared.base.names.name(pin.server).to_string())
}

fn status(store: &Store) -> StateStatus {
    store.status(&store.shared.snapshot.load()).unwrap()
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("instance-lb1/table-sessions")
}

/// Opens the store that took the place of another.
fn reopened(dir: &TempDir, former: Store) -> Store {
    drop(former);
    let store = store(dir);
    store.load();
    store
}

fn decision(store: &Store, server: &str) -> Decision {
    Decision {
        server: ("app".into(), server.into()),
        state: Some(AdminState::Drain),
        weight: Some(3),
        closing: None,
        stamp: store.shared.base.clock.stamp(now()),
        node: "lb1".into(),
        author: "ann".into(),
        reason: "upgrade".into(),
        at: 7,
    }
}

#[test]
fn what_was_saved_comes_back_with_its_stamps_and_no_longer_lives() {
    let dir = TempDir::new().unwrap();
    let first = store(&dir);
    pin(&first, 0..2000);
    assert!(table(&first).clear(&key(5), now()));
    let (here, there) = (decision(&first, "node1"), decision(&first, "node2"));
    first.local.merge(here.clone(), now());
    first.decisions.merge(there.clone(), now());
    first.save();
    let before: Vec<_> = (0..2000).map(|i| table(&first).peek(&key(i), now())).collect();
    let digest = table(&first).digest();
    let second = reopened(&dir, first);
    assert_eq!(table(&second).digest(), digest, "tombstones and stamps, too");
    for (i, before) in before.iter().enumerate() {
        let after = table(&second).peek(&key(i), now());
        assert_eq!(after.map(|p| p.stamp), before.map(|p| p.stamp));
        assert!(after.map(|p| p.left) <= before.map(|p| p.left));
        assert_eq!(server(&second, i).is_some(), i != 5);
    }
    assert_eq!((second.local.all(now()), second.decisions.all(now())), (vec![here], vec![there]));
    let newest = before.iter().flatten().map(|p| p.stamp).max().unwrap();
    assert!(second.shared.base.clock.stamp(lb_core::time::Timestamp(0)) > newest, "no stamp is used again");
    let loaded = second.table(&second.shared.snapshot.load(), "sessions").unwrap();
    assert_eq!(loaded, TableState { loaded: 2000, notice: None });
}

#[test]
fn a_newer_pin_that_is_here_already_stays() {
    let dir = TempDir::new().unwrap();
    let first = store(&dir);
    pin(&first, 0..1);
    first.save();
    drop(first);
    let second = store(&dir);
    table(&second).store(&key(0), second.shared.base.names.intern("node9"), now().plus(Duration::from_secs(1)));
    second.load();
    assert_eq!(server(&second, 0).as_deref(), Some("node9"));
}

#[test]
fn the_time_since_it_was_written_is_taken_off_and_a_clock_set_back_adds_none() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let names = &store.shared.base.names;
    let entry = |name: &str, left| Update {
        key: name.as_bytes().into(),
        server: names.intern("node1"),
        stamp: Stamp::new(now().0 << 16, NodeId(1)),
        left: Duration::from_secs(left),
        holders: Vec::new(),
    };
    let content = Content::Table { name: "sessions".into(), kind: KeyKind::String };
    let file = |written, rows: Vec<Update>| {
        let header = Header { node: "lb1".into(), written, clock: 0, content: content.clone() };
        let mut writer = Writer::begin(Vec::new(), &header).unwrap();
        let count = rows.len();
        let entries = Entries::pack(rows.into_iter().collect(), names);
        writer.frame(Frame::Batch { number: 1, table: 0, entries }, count).unwrap();
        writer.end().unwrap()
    };
    let (an_hour_ago, in_an_hour) = (wall().0 - 3_600_000, wall().0 + 3_600_000);
    let snapshot = store.shared.snapshot.load_full();
    let mut tally = Tally::default();
    let bytes = file(an_hour_ago, vec![entry("k0", 3_599), entry("k1", 4_600)]);
    store.merge(bytes.as_slice(), &snapshot, &content, &mut tally).unwrap();
    store.merge(file(in_an_hour, vec![entry("k2", 100)]).as_slice(), &snapshot, &content, &mut tally).unwrap();
    let left = |i| table(&store).peek(&key(i), now()).map(|p| p.left.as_secs());
    assert_eq!((tally.taken, tally.ended), (2, 1));
    assert_eq!(left(0), None);
    assert!((990..=1000).contains(&left(1).unwrap()), "{:?}", left(1));
    assert!((90..=100).contains(&left(2).unwrap()), "{:?}", left(2));
}

#[test]
fn a_damaged_file_is_set_aside_what_is_whole_before_the_damage_is_used_and_the_next_save_is_whole() {
    let dir = TempDir::new().unwrap();
    let first = store(&dir);
    pin(&first, 0..5000);
    first.save();
    let mut bytes = fs::read(path(&dir)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path(&dir), bytes).unwrap();
    let second = reopened(&dir, first);
    let some = table(&second).stats().entries;
    assert!((1..5000).contains(&some), "{some}");
    assert!((0..5000).all(|i| server(&second, i).is_none_or(|s| s == ["node1", "node2"][i % 2])));
    let told = status(&second).set_aside.join("\n");
    assert!(told.contains("is damaged in chunk") && told.contains("table-sessions.damaged-"), "{told}");
    assert!(!path(&dir).exists());
    second.save();
    let third = reopened(&dir, second);
    assert_eq!((table(&third).stats().entries, status(&third).set_aside), (some, vec![]));
}

#[test]
fn files_that_are_foreign_newer_or_of_another_type_are_set_aside_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let first = store(&dir);
    first.save();
    drop(first);
    let whole = fs::read(path(&dir)).unwrap();
    let mut newer = whole.clone();
    newer[8] = 2;
    let mut longer = whole.clone();
    longer.push(0);
    for (bytes, kind, why) in [
        (b"#!/bin/sh\necho hello".to_vec(), KeyKind::String, "no state file of lb"),
        (Vec::new(), KeyKind::String, "ends in the middle"),
        (newer, KeyKind::String, "a later release wrote it (format 2"),
        (longer, KeyKind::String, "damaged in chunk"),
        (whole, KeyKind::Integer, "it holds table sessions with string keys"),
    ] {
        fs::write(path(&dir), bytes).unwrap();
        let store = store_of(dir.path(), kind);
        store.load();
        let told = status(&store).set_aside;
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
        assert_eq!(store.figures().set_aside, 1);
        assert_eq!(table(&store).stats().entries, 0);
    }
}

#[test]
fn two_instances_of_one_name_are_told_apart_and_the_second_takes_over_when_the_first_has_gone() {
    let dir = TempDir::new().unwrap();
    let (first, second) = (store(&dir), store(&dir));
    pin(&first, 0..10);
    first.save();
    second.load();
    let told = status(&second).error.unwrap();
    let pid = format!("named lb1 (process {})", std::process::id());
    assert!(told.contains(&pid) && told.contains("instance.name"), "{told}");
    assert_eq!(table(&second).stats().entries, 0);
    drop(first);
    second.save();
    assert_eq!(status(&second).error, None);
    assert_eq!(table(&second).stats().entries, 10, "read before it is written over");
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_its_path_and_tried_again() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::write(&state, "a file").unwrap();
    let store = store_of(&state, KeyKind::String);
    store.load();
    store.save();
    let told = status(&store).error.unwrap();
    assert!(told.contains(&state.display().to_string()) && told.contains("must be a directory"), "{told}");
    assert!(check(&state, "lb1").unwrap_err().contains("must be a directory"));
    assert_eq!((store.figures().errors, store.figures().saved), (2, None));
    fs::remove_file(&state).unwrap();
    assert_eq!(check(&state, "lb1"), Ok(()));
    assert!(!state.exists(), "a check leaves nothing behind");
    // In the way of the file that is to become the table's.
    fs::create_dir_all(state.join("instance-lb1/temp")).unwrap();
    store.save();
    assert_eq!(store.figures().errors, 3);
    fs::remove_dir(state.join("instance-lb1/temp")).unwrap();
    store.save();
    assert_eq!(status(&store).error, None);
    assert!(store.figures().saved.is_some());
    assert!(!state.join("instance-lb1/temp").exists());
}

/// Entries of a file, as far as it can be read; and whether it is whole.
fn rows(bytes: &[u8]) -> (Vec<Update>, bool) {
    let (mut rows, names) = (Vec::new(), Names::default());
    let Ok((mut reader, _)) = Reader::begin(bytes) else { return (rows, false) };
    loop {
        match reader.frame() {
            Ok(Some(Frame::Batch { entries, .. })) => {
                rows.extend(entries.unpack(&names).0.iter().map(|u| u.to_owned()))
            }
            Ok(Some(_)) => {}
            Ok(None) => return (rows, true),
            Err(_) => return (rows, false),
        }
    }
}

fn sample() -> Vec<u8> {
    let content = Content::Table { name: "sessions".into(), kind: KeyKind::String };
    let header = Header { node: "lb1".into(), written: 1_700_000_000_000, clock: 9, content };
    let mut writer = Writer::begin(Vec::new(), &header).unwrap();
    for number in 1..=4u64 {
        let names = Names::default();
        let row = |i| Update {
            key: format!("key-{number}-{i}").into_bytes().into(),
            server: names.intern("node1"),
            stamp: Stamp::new(number * 1000 + i, NodeId(7)),
            left: Duration::from_secs(i),
            holders: Vec::new(),
        };
        let entries = Entries::pack((1..=5).map(row).collect(), &names);
        writer.frame(Frame::Batch { number, table: 0, entries }, 5).unwrap();
    }
    writer.end().unwrap()
}

#[test]
fn a_file_cut_anywhere_is_never_whole_and_gives_only_what_was_written() {
    let bytes = sample();
    let (all, whole) = rows(&bytes);
    assert!(whole && all.len() == 20);
    for end in 0..bytes.len() {
        let (some, whole) = rows(&bytes[..end]);
        assert!(!whole && all.starts_with(&some), "cut at {end}");
    }
}

#[test]
fn a_file_with_any_bit_flipped_is_never_whole_and_gives_only_what_was_written() {
    let bytes = sample();
    let (all, _) = rows(&bytes);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (some, whole) = rows(&bytes);
        assert!(!whole && all.starts_with(&some), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader_nor_pass_for_entries(
        splices in proptest::collection::vec((0usize..2000, proptest::collection::vec(any::<u8>(), 0..40)), 1..6),
    ) {
        let whole = sample();
        let (all, _) = rows(&whole);
        let mut bytes = whole.clone();
        for (at, with) in splices {
            let at = at % (bytes.len() + 1);
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
        }
        let (some, is_whole) = rows(&bytes);
        prop_assert!(all.starts_with(&some));
        prop_assert!(!is_whole || bytes == whole);
    }
}
