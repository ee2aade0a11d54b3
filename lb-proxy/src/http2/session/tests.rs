//! Whatever a client sends: nothing fails, what goes back is whole frames, and how the bytes were cut does not matter.
use super::super::frame::HEAD;
use super::*;
use crate::io::Buffers;
use proptest::prelude::*;

const SETTINGS: [u8; HEAD] = frame::head(0, frame::SETTINGS, 0, 0);

fn session() -> Rc<Session> {
    Session::new(&Rc::new(Buffers::default()), Bounds { streams: 3, window: 20_000, head: 2000 })
}

/// Feeds all of it in pieces of these sizes, as the connection's task does. Heads that came, and what went back.
fn talk(bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Vec<u8>) {
    let (session, mut heads, mut input, mut new) = (session(), Vec::new(), Vec::new(), Vec::new());
    let mut sizes = cuts.iter().cycle();
    let mut rest = bytes;
    loop {
        let size = sizes.next().map_or(rest.len(), |size| *size).min(rest.len());
        let (piece, more) = rest.split_at(size);
        rest = more;
        input.extend_from_slice(piece);
        let taken = session.feed(&input, &mut new);
        input.drain(..taken);
        heads.extend(new.drain(..).map(|new| String::from_utf8_lossy(&new.text).into_owned()));
        if rest.is_empty() {
            break;
        }
    }
    (heads, sent(&session))
}

fn sent(session: &Session) -> Vec<u8> {
    session.inner.borrow().out.bytes()
}

/// Kind, stream and payload of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let head = Head::read(*head);
        let (payload, rest) = rest.split_at(head.length);
        frames.push((head.kind, head.stream, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    frames
}

fn one(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&frame::head(payload.len(), kind, flags, stream), payload].concat()
}

/// GET http://a/ of the static table.
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84];
    hpack::field(b":authority", b"a", &mut block);
    block
}

fn hello() -> Vec<u8> {
    [&PREFACE[..], &SETTINGS].concat()
}

/// Bytes that are nearly a frame: of any kind, with flags, streams and payloads that have a meaning more often than chance has it.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(get()),
        proptest::collection::vec(any::<u8>(), 0..40),
        (0usize..9).prop_map(|n| vec![0; n]),
        (0u16..10, any::<u32>()).prop_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()),
        any::<u32>().prop_map(|n| n.to_be_bytes().to_vec()),
        (0usize..17_000).prop_map(|n| vec![b'x'; n]),
    ];
    (0u8..11, prop_oneof![Just(0u8), Just(1), Just(4), Just(5), any::<u8>()], 0u32..9, payload)
        .prop_map(|(kind, flags, stream, payload)| one(kind, flags, stream, &payload))
}

#[test]
fn a_request_comes_whole_in_pieces_of_one_byte() {
    let bytes = [hello(), one(frame::HEADERS, 5, 1, &get())].concat();
    let (heads, back) = talk(&bytes, &[1]);
    assert_eq!(heads, ["GET / HTTP/1.1\r\nhost: a\r\n\r\n"]);
    // Our settings, and that theirs were heard.
    let kinds: Vec<_> = frames(&back).iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [frame::SETTINGS, frame::SETTINGS]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }))]

    #[test]
    fn nothing_that_a_client_sends_makes_the_session_fail(
        pieces in proptest::collection::vec(nearly(), 0..30),
        cuts in proptest::collection::vec(1usize..6000, 1..8),
        greeted in prop_oneof![9 => Just(true), 1 => Just(false)],
    ) {
        let mut bytes = if greeted { hello() } else { Vec::new() };
        pieces.iter().for_each(|piece| bytes.extend(piece));
        let (heads, back) = talk(&bytes, &cuts);
        let seen = frames(&back);
        let ends = seen.iter().filter(|(kind, ..)| *kind == frame::GOAWAY).count();
        prop_assert!(ends <= 1);
        // A farewell is the last word.
        prop_assert!(ends == 0 || seen.last().is_some_and(|(kind, ..)| *kind == frame::GOAWAY));
        let (whole, at_once) = talk(&bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(heads, whole);
        prop_assert_eq!(back, at_once);
    }

    /// What is read is told, what was not read is told as well once its stream is over: no byte of the connection's window is
    /// ever lost.
    #[test]
    fn the_connections_window_comes_back_whole(
        bodies in proptest::collection::vec((0usize..16_000, any::<bool>()), 1..60),
    ) {
        let session = session();
        let mut new = Vec::new();
        session.feed(&hello(), &mut new);
        let (mut came, mut id) = (0usize, 1);
        for (size, taken_back) in bodies {
            session.feed(&one(frame::HEADERS, frame::END_HEADERS, id, &get()), &mut new);
            session.feed(&one(frame::DATA, 0, id, &vec![0; size]), &mut new);
            came += size;
            if taken_back {
                session.feed(&one(frame::RST_STREAM, 0, id, &[0; 4]), &mut new);
            }
            new.drain(..).for_each(|new| session.refuse(&new.stream));
            id += 2;
        }
        prop_assert_eq!(session.over(), None);
        let told: usize = frames(&sent(&session))
            .iter()
            .filter(|(kind, stream, _)| *kind == frame::WINDOW_UPDATE && *stream == 0)
            .map(|(.., payload)| u32::from_be_bytes(payload[..4].try_into().unwrap()) as usize)
            .sum();
        // But for what is not worth a frame yet.
        prop_assert!(came - told < WINDOW as usize / 2 + 1, "{came} came, {told} told");
    }
}
