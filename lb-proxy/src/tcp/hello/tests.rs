//! Hellos of real programs, cut and bent in every way.
use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore};

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

macro_rules! recorded {
    ($name:literal) => {
        unhex(include_str!(concat!("data/", $name, ".hex")))
    };
}

/// The hello that rustls writes now.
fn rustls_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = ClientConnection::new(Arc::new(config), "a.example".try_into().unwrap()).unwrap();
    let mut out = Vec::new();
    client.write_tls(&mut out).unwrap();
    out
}

/// Name, bytes, server name, protocols, length of the session id.
type Case = (&'static str, Vec<u8>, Option<&'static str>, &'static [&'static str], usize);

fn cases() -> Vec<Case> {
    let a = Some("a.example");
    vec![
        ("openssl", recorded!("openssl"), a, &["imap", "h2"], 32),
        ("openssl without a name", recorded!("openssl-no-name"), None, &[], 0),
        ("openssl with a session", recorded!("openssl-resume"), a, &[], 32),
        ("curl", recorded!("curl"), a, &["h2", "http/1.1"], 32),
        ("python", recorded!("python"), a, &[], 32),
        ("node", recorded!("node"), a, &["h2", "http/1.1"], 32),
        ("rustls", rustls_hello(), a, &["h2"], 32),
    ]
}

fn whole(bytes: &[u8]) -> ClientHello {
    match client(bytes) {
        Read::Whole(hello) => hello,
        other => panic!("{other:?}"),
    }
}

/// The same message in records of these sizes, the last size again and again.
fn in_records(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut left, mut sizes) = (Vec::new(), &bytes[5..], sizes.iter().copied());
    let mut size = 1;
    while !left.is_empty() {
        size = sizes.next().unwrap_or(size).clamp(1, left.len());
        out.extend([22, 3, 1, (size >> 8) as u8, size as u8]);
        out.extend(&left[..size]);
        left = &left[size..];
    }
    out
}

#[test]
fn hellos_of_real_clients_tell_what_they_ask_for() {
    for (name, bytes, sni, protocols, session) in cases() {
        let hello = whole(&bytes);
        assert_eq!(hello.sni.as_deref(), sni, "{name}");
        assert!(protocols.iter().all(|p| hello.offers(p)), "{name} offers {protocols:?}");
        assert!(!hello.offers("smtp") && !hello.offers(""), "{name}");
        assert_eq!(hello.session_id.len(), session, "{name}");
    }
    let resumed = whole(&recorded!("openssl-resume")).session_id;
    assert_eq!(resumed[..4], [0xe1, 0xdd, 0xd8, 0xdc], "what openssl printed of its session");
}

#[test]
fn every_beginning_of_a_hello_waits_for_more_and_what_follows_it_changes_nothing() {
    for (name, bytes, ..) in cases() {
        for end in 0..bytes.len() {
            assert_eq!(client(&bytes[..end]), Read::More, "{name} up to {end}");
        }
        let hello = whole(&bytes);
        for after in [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3], &[0], b"garbage"] {
            assert_eq!(whole(&[&bytes, after].concat()), hello, "{name}");
        }
    }
}

#[test]
fn the_id_that_a_server_gives_out_is_read_but_for_tls_13() {
    let old = recorded!("server-tls12");
    let Read::Whole(Some(id)) = server(&old) else { panic!("{:?}", server(&old)) };
    assert_eq!(id.len(), 32);
    assert_eq!(server(&recorded!("server-tls13")), Read::Whole(None));
    for end in 0..80 {
        assert_eq!(server(&old[..end]), Read::More);
    }
    assert_eq!(server(&[21, 3, 3, 0, 2, 2, 40]), Read::Other, "an alert is no hello");
}

#[test]
fn what_is_not_tls_is_told_from_what_is_tls_and_wrong() {
    for text in ["GET / HTTP/1.1\r\n", "SSH-2.0-OpenSSH", "\x16", "\0", "\u{16}\u{3}"] {
        let other = text.len() > 2;
        assert_eq!(client(text.as_bytes()) == Read::Other, other || text == "\0", "{text:?}");
    }
    assert_eq!(client(&[0x80, 0x2e, 1, 3, 1]), Read::Other, "the hello of SSLv2");
    let good = recorded!("openssl");
    // (offset, byte): each makes it another message than it says it is.
    for (at, byte) in [(5, 2), (5, 0), (6, 1), (9, 9), (43, 33), (43, 0xff)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(client(&bad), Read::Broken, "byte {at} is {byte}");
    }
    let mut empty_record = good.clone();
    (empty_record[3], empty_record[4]) = (0, 0);
    assert_eq!(client(&empty_record), Read::Broken);
    // Another record in the middle of the message.
    let mut split = in_records(&good, &[100]);
    split[105] = 23;
    assert_eq!(client(&split), Read::Broken);
}

#[test]
fn two_names_or_a_name_of_odd_bytes_are_refused() {
    let good = recorded!("openssl");
    let at = good.windows(9).position(|w| w == b"a.example").unwrap();
    for byte in [0, b' ', b'\n', 0x80] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(client(&bad), Read::Broken, "{byte}");
    }
    // The same extension once more, all lengths corrected.
    let extension = good[at - 9..at + 9].to_vec();
    let mut twice = [&good[..at + 9], &extension, &good[at + 9..]].concat();
    let mut grow = |place: usize| {
        let len = u16::from_be_bytes([twice[place], twice[place + 1]]) + 18;
        twice[place..place + 2].copy_from_slice(&len.to_be_bytes());
    };
    let list = at - 9 - 2 - usize::from(good[at - 9 - 2] == 0xff);
    grow(3);
    grow(7);
    let extensions = (44 + 32..list + 2)
        .find(|i| usize::from(u16::from_be_bytes([good[*i], good[i + 1]])) == good.len() - i - 2)
        .unwrap();
    grow(extensions);
    assert_eq!(client(&twice), Read::Broken);
}

#[test]
fn a_hello_without_end_is_refused_before_it_fills_the_memory() {
    let mut endless = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb];
    endless.resize(MAX - 1, 0);
    assert_eq!(client(&endless), Read::More);
    endless.push(0);
    assert_eq!(client(&endless), Read::Broken);
    assert_eq!(client(&[22, 3, 1, 0, 4, 1, 0, 0x40, 1]), Read::Broken, "longer than any");
}

proptest! {
    #[test]
    fn records_may_cut_a_hello_anywhere(which in 0usize..7, sizes in prop::collection::vec(1usize..200, 1..20), cut in 0.0f64..1.0) {
        let (_, bytes, ..) = cases().swap_remove(which);
        let split = in_records(&bytes, &sizes);
        prop_assert_eq!(client(&split), client(&bytes));
        let end = (split.len() as f64 * cut) as usize;
        prop_assert_eq!(client(&split[..end]), Read::More);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        client(&bytes);
        server(&bytes);
        client(&[&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &bytes].concat());
    }

    #[test]
    fn a_bent_hello_never_panics_and_a_beginning_is_never_believed(
        which in 0usize..7,
        bends in prop::collection::vec((0usize..600, any::<u8>()), 1..6),
        end in 0usize..600,
    ) {
        let (_, mut bytes, ..) = cases().swap_remove(which);
        for (at, byte) in bends {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        let all = client(&bytes);
        // A verdict stands, whatever comes after it.
        match client(&bytes[..end.min(bytes.len())]) {
            Read::More => {}
            verdict => prop_assert_eq!(verdict, all),
        }
    }
}
