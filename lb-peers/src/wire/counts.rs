//! Counters of a table as columns. The names of the counters travel as the configuration spells them; a name that is
//! not known here stands for a counter that this release does not have.
use super::{Garbage, pb, text};
use lb_core::counters::Counter;
use lb_core::id::NodeId;
use lb_core::table::{CountBatch, KeyCounts, NodeCounts};
use lb_core::time::millis;
use std::time::Duration;

/// Counters of one table in one frame, at most.
const MAX_STORE: usize = 1024;
/// Numbers of a counter in a slot.
const NUMBERS: usize = 3;

/// Counters of one table, on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What the numbers of a slot are, in order.
    pub store: Vec<String>,
    /// By key.
    pub keys: Vec<KeyCounts>,
}

impl Counts {
    /// Packs what a table gave.
    pub fn pack(batch: CountBatch) -> Self {
        let store = batch.store.iter().flat_map(|store| store.iter()).map(Counter::to_string).collect();
        Self { store, keys: batch.keys }
    }

    /// What a table takes: without the counters that this release does not have.
    pub fn unpack(self) -> CountBatch {
        let named: Vec<Option<Counter>> = self.store.iter().map(|name| name.parse().ok()).collect();
        let mut keys = self.keys;
        if named.iter().any(Option::is_none) {
            for slot in keys.iter_mut().flat_map(|key| &mut key.slots) {
                let mut known = named.iter().map(Option::is_some);
                slot.numbers.retain(|_| known.next().unwrap_or(false));
            }
        }
        CountBatch { store: Some(named.into_iter().flatten().collect()), keys }
    }
}

impl From<Counts> for pb::Counts {
    fn from(counts: Counts) -> Self {
        let mut out = Self { store: counts.store, ..Self::default() };
        let mut last = 0u64;
        for key in counts.keys {
            out.keys.extend_from_slice(&key.key);
            out.key_len.push(key.key.len() as u32);
            out.left_ms.push(millis(key.left));
            out.cleared.push(key.cleared);
            out.kept_ms.push(millis(key.kept));
            out.slots.push(key.slots.len() as u32);
            for slot in key.slots {
                out.node.push(slot.node.0);
                out.seq.push(slot.seq.wrapping_sub(last).cast_signed());
                last = slot.seq;
                out.age_ms.push(millis(slot.age));
                out.numbers.extend(slot.numbers.into_iter().flatten());
            }
        }
        out
    }
}

impl TryFrom<pb::Counts> for Counts {
    type Error = Garbage;

    fn try_from(c: pb::Counts) -> Result<Self, Garbage> {
        let (keys, slots) = (c.key_len.len(), c.node.len());
        let listed = c.slots.iter().fold(0usize, |sum, n| sum.saturating_add(*n as usize));
        let same = [c.left_ms.len(), c.cleared.len(), c.kept_ms.len(), c.slots.len()] == [keys; 4]
            && [c.seq.len(), c.age_ms.len(), listed] == [slots; 3]
            && Some(c.numbers.len()) == slots.checked_mul(c.store.len() * NUMBERS);
        if !same {
            return Err(Garbage("columns of counters differ in length"));
        }
        if c.store.len() > MAX_STORE {
            return Err(Garbage("too many counters"));
        }
        let slots = slots_of(&c);
        let store: Result<_, Garbage> = c.store.into_iter().map(text).collect();
        let (mut slots, mut rest, mut rows) = (slots.into_iter(), c.keys.as_slice(), Vec::with_capacity(keys));
        for i in 0..keys {
            let (key, after) =
                rest.split_at_checked(c.key_len[i] as usize).ok_or(Garbage("keys are shorter than their lengths"))?;
            rest = after;
            rows.push(KeyCounts {
                key: key.into(),
                left: Duration::from_millis(c.left_ms[i]),
                cleared: c.cleared[i],
                kept: Duration::from_millis(c.kept_ms[i]),
                slots: slots.by_ref().take(c.slots[i] as usize).collect(),
            });
        }
        match rest.is_empty() {
            true => Ok(Self { store: store?, keys: rows }),
            false => Err(Garbage("keys are longer than their lengths")),
        }
    }
}

/// The slots, whose columns are known to be of one length.
fn slots_of(c: &pb::Counts) -> Vec<NodeCounts> {
    let width = c.store.len() * NUMBERS;
    let mut seq = 0u64;
    let slot = |i: usize| {
        seq = seq.wrapping_add(c.seq[i].cast_unsigned());
        let (numbers, _) = c.numbers[i * width..(i + 1) * width].as_chunks::<NUMBERS>();
        NodeCounts { node: NodeId(c.node[i]), seq, age: Duration::from_millis(c.age_ms[i]), numbers: numbers.to_vec() }
    };
    (0..c.node.len()).map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Frame;
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_slot()(node: u32, seq: u64, age: u64, numbers: [[u64; NUMBERS]; 2]) -> NodeCounts {
            NodeCounts { node: NodeId(node), seq, age: Duration::from_millis(age), numbers: numbers.to_vec() }
        }
    }

    prop_compose! {
        fn any_key()(
            key in proptest::collection::vec(any::<u8>(), 1..30),
            (left, cleared, kept) in any::<(u64, u64, u64)>(),
            slots in proptest::collection::vec(any_slot(), 0..4),
        ) -> KeyCounts {
            let (left, kept) = (Duration::from_millis(left), Duration::from_millis(kept));
            KeyCounts { key: key.into(), left, cleared, kept, slots }
        }
    }

    fn frame(counts: Counts) -> Frame {
        Frame::Counts { number: 1, pull: 2, table: 3, counts }
    }

    proptest! {
        #[test]
        fn counters_come_out_as_they_went_in(keys in proptest::collection::vec(any_key(), 0..20)) {
            let store = ["http_req_cnt".parse().unwrap(), "conn_rate(10s)".parse().unwrap()];
            let batch = CountBatch { store: Some(store.into()), keys };
            let sent = frame(Counts::pack(batch.clone()));
            let got = Frame::from_bytes(&sent.clone().to_bytes());
            prop_assert_eq!(got.as_ref(), Ok(&sent));
            let Ok(Frame::Counts { counts, .. }) = got else { panic!("no counts") };
            prop_assert_eq!(counts.unpack(), batch);
        }

        #[test]
        fn no_change_of_a_real_frame_makes_the_decoder_panic(keys in proptest::collection::vec(any_key(), 1..4), at: usize, to: u8) {
            let mut bytes = frame(Counts { store: vec!["gpc(0)".into(), "gpc(1)".into()], keys }).to_bytes();
            let place = at % bytes.len();
            bytes[place] = to;
            if let Ok(Frame::Counts { counts, .. }) = Frame::from_bytes(&bytes) {
                counts.unpack();
            }
        }
    }

    #[test]
    fn a_counter_of_a_later_release_is_left_out() {
        let slot = |numbers: &[[u64; 3]]| NodeCounts {
            node: NodeId(1),
            seq: 1,
            age: Duration::ZERO,
            numbers: numbers.to_vec(),
        };
        let key = |slot| KeyCounts {
            key: [1].into(),
            left: Duration::ZERO,
            cleared: 0,
            kept: Duration::ZERO,
            slots: vec![slot],
        };
        let store = ["gpc(0)", "glitch_cnt", "gpc(1)"].map(str::to_owned).to_vec();
        let counts = Counts { store, keys: vec![key(slot(&[[1, 0, 0], [2, 0, 0], [3, 0, 0]]))] };
        let expected = CountBatch {
            store: Some([Counter::Gpc(0), Counter::Gpc(1)].into()),
            keys: vec![key(slot(&[[1, 0, 0], [3, 0, 0]]))],
        };
        assert_eq!(counts.unpack(), expected);
    }

    #[test]
    fn columns_that_do_not_fit_are_garbage() {
        let whole: pb::Counts = Counts { store: vec!["gpc(0)".into()], keys: Vec::new() }.into();
        for broken in [
            pb::Counts { numbers: vec![1], ..whole.clone() },
            pb::Counts { keys: vec![1], ..whole.clone() },
            pb::Counts { slots: vec![u32::MAX], ..whole.clone() },
            pb::Counts { store: vec![String::new(); MAX_STORE + 1], ..whole.clone() },
            pb::Counts { store: vec!["\n".into()], ..whole },
        ] {
            assert!(Counts::try_from(broken.clone()).is_err(), "{broken:?}");
        }
    }
}
