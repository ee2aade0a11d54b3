use super::*;
use lb_core::id::{NameId, Names};
use lb_core::table::{Holder, Update, Updates};
use proptest::prelude::*;
use std::time::Duration;

/// None, one or two, by chance.
fn holders(clock: u64) -> Vec<Holder> {
    let one = |n| Holder { node: NodeId(n), seq: clock ^ 77, left: Duration::from_millis(clock >> 40) };
    (0..(clock % 3) as u32).map(one).collect()
}

fn update(key: &[u8], server: NameId, clock: u64, node: u32, left: u64) -> Update {
    let stamp = Stamp::new(clock, NodeId(node));
    Update { key: key.into(), server, stamp, left: Duration::from_millis(left), holders: holders(clock) }
}

prop_compose! {
    fn any_row()(
        key in proptest::collection::vec(any::<u8>(), 1..40),
        server in 0u32..4,
        clock in any::<u64>(),
        node in 0u32..3,
        left in any::<u64>(),
    ) -> (Vec<u8>, u32, u64, u32, u64) {
        (key, server, clock, node, left)
    }
}

proptest! {
    #[test]
    fn entries_come_out_as_they_went_in(rows in proptest::collection::vec(any_row(), 0..50)) {
        let (ours, theirs) = (Names::default(), Names::default());
        // The peer numbers its names in another order.
        for name in ["3", "2", "1"] {
            theirs.intern(name);
        }
        let on = |names: &Names, server: u32| match server {
            0 => NameId::NONE,
            n => names.intern(&n.to_string()),
        };
        let updates = |names: &Names| -> Updates {
            rows.iter().map(|(k, s, c, n, l)| update(k, on(names, *s), *c, *n, *l)).collect()
        };
        let frame = Frame::Batch { number: 1, table: 2, entries: Entries::pack(updates(&ours), &ours) };
        let Frame::Batch { entries, .. } = Frame::from_bytes(&frame.to_bytes()).unwrap() else { panic!("no batch") };
        prop_assert_eq!(entries.unpack(&theirs), (updates(&theirs), 0));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Frame::from_bytes(&bytes);
    }

    #[test]
    fn no_change_of_a_real_frame_makes_the_decoder_panic(at in 0usize..200, to in any::<u8>(), cut in 0usize..200) {
        let names = Names::default();
        let entries: Updates = (0u8..9).map(|i| update(&[i; 9], names.intern("app1"), i.into(), 1, 9)).collect();
        let mut bytes = Frame::Batch { number: 1, table: 1, entries: Entries::pack(entries, &names) }.to_bytes();
        let place = at % bytes.len();
        bytes[place] = to;
        bytes.truncate(bytes.len().saturating_sub(cut % 7));
        if let Ok(Frame::Batch { entries, .. }) = Frame::from_bytes(&bytes) {
            prop_assert!(entries.unpack(&names).0.len() < 1000);
        }
    }
}

#[test]
fn a_pin_whose_server_cannot_be_remembered_is_no_tombstone() {
    let names = Names::default();
    let long = "x".repeat(Names::MAX_LEN + 1);
    let update = update(b"k", names.intern("app1"), 1, 1, 1);
    let mut columns = pb::Entries::from(Entries::pack([update].into_iter().collect(), &names));
    columns.servers = vec![long];
    let (updates, lost) = Entries::try_from(columns).unwrap().unpack(&names);
    assert!(updates.is_empty());
    assert_eq!(lost, 1);
}

#[test]
fn a_frame_of_a_later_release_is_passed_over() {
    // Field 50, a length-delimited body of two bytes.
    assert_eq!(Frame::from_bytes(&[0x92, 0x03, 2, 8, 1]), Ok(Frame::Unknown));
}

#[test]
fn a_hello_with_control_characters_is_garbage() {
    let hello = Hello {
        protocol: 1,
        min_protocol: 1,
        cluster: "shop".into(),
        node: "lb1\n[admin] all is well".into(),
        incarnation: 1,
        listen: String::new(),
        wall_ms: 0,
        pulled: true,
        tables: Vec::new(),
        release: String::new(),
    };
    assert!(Frame::from_bytes(&Frame::Hello(hello).to_bytes()).is_err());
}
