//! Tentative pins: requests that come at once with one new key share one server.
use super::*;
use std::sync::Barrier;
use std::sync::mpsc::channel;

fn assign(t: &Arc<StickTable>, text: &str, server: NameId) -> Assigned {
    t.assign(&key(text), NOW, || Some(server)).expect("it chose")
}

fn tentative(t: &Arc<StickTable>, text: &str, server: NameId) -> Tentative {
    match assign(t, text, server) {
        Assigned::Tentative(tentative) => tentative,
        Assigned::Pinned(pin) => panic!("pinned to {:?}", pin.server),
    }
}

#[test]
fn those_who_come_meanwhile_follow_the_first() {
    let t = table(spec(10));
    let first = tentative(&t, "k", s(1));
    let second = tentative(&t, "k", s(2));
    assert_eq!((first.server(), second.server()), (s(1), s(1)));
    assert_eq!(t.peek(&key("k"), NOW), None, "no pin yet");
    assert!(read(&t, &mut Vec::new(), 10, NOW).is_empty(), "nobody is told");
    assert_eq!(second.confirm(NOW), Stored::Pinned);
    assert!(matches!(assign(&t, "k", s(3)), Assigned::Pinned(pin) if pin.server == s(1)));
    assert_eq!(first.confirm(NOW), Stored::Same);
    assert_eq!(t.env.tries.load(Ordering::Relaxed), 0);
}

#[test]
fn six_first_requests_at_once_get_one_server() {
    for round in 0..50 {
        let t = table(spec(10));
        let start = Barrier::new(6);
        let (send, receive) = channel();
        std::thread::scope(|scope| {
            for n in 1..=6 {
                let (t, start, send) = (t.clone(), &start, send.clone());
                scope.spawn(move || {
                    start.wait();
                    let server = match assign(&t, "new", s(n)) {
                        Assigned::Pinned(pin) => pin.server,
                        Assigned::Tentative(tentative) => {
                            let server = tentative.server();
                            assert_ne!(tentative.confirm(NOW), Stored::Refused);
                            server
                        }
                    };
                    send.send(server).expect("the test waits");
                });
            }
        });
        drop(send);
        let servers: std::collections::BTreeSet<_> = receive.iter().collect();
        assert_eq!(servers.len(), 1, "round {round}: {servers:?}");
        check(&t);
    }
}

#[test]
fn the_last_to_give_up_removes_it() {
    let t = table(spec(10));
    let (first, second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(2)));
    drop(first);
    assert_eq!(tentative(&t, "k", s(3)).server(), s(1));
    drop(second);
    assert_eq!(tentative(&t, "k", s(3)).server(), s(3));
    assert_eq!(t.env.tries.load(Ordering::Relaxed), 0);
    assert_eq!(t.stats().entries, 0);
}

#[test]
fn who_chooses_nobody_leaves_nothing() {
    let t = table(spec(10));
    assert!(t.assign(&key("k"), NOW, || None).is_none());
    let mut hold = tentative(&t, "k", s(1));
    assert_eq!(hold.replace(s(1), || None), None);
    drop(hold);
    assert_eq!(t.env.tries.load(Ordering::Relaxed), 0);
}

#[test]
fn a_replacement_is_chosen_once_and_followed() {
    let t = table(spec(10));
    let (mut first, mut second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(1)));
    assert_eq!(first.replace(s(1), || Some(s(2))), Some(s(2)));
    assert_eq!(second.replace(s(1), || panic!("it has been replaced")), Some(s(2)));
    assert_eq!(tentative(&t, "k", s(3)).server(), s(2));
    assert_eq!(first.confirm(NOW), Stored::Pinned);
    assert_eq!(server(&t, "k", NOW), Some(s(2)));
}

#[test]
fn the_first_answer_decides_even_for_those_who_moved_on() {
    let t = table(spec(10));
    let (first, mut second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(1)));
    assert_eq!(second.replace(s(1), || Some(s(2))), Some(s(2)));
    assert_eq!(first.confirm(NOW), Stored::Pinned);
    assert_eq!(second.confirm(NOW), Stored::Same);
    assert_eq!(server(&t, "k", NOW), Some(s(1)));
}

#[test]
fn a_pin_confirmed_meanwhile_is_the_replacement() {
    let t = table(spec(10));
    let (mut first, mut second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(1)));
    second.replace(s(1), || Some(s(2)));
    assert_eq!(second.confirm(NOW), Stored::Pinned);
    assert_eq!(first.replace(s(1), || panic!("it is pinned")), Some(s(2)));
    assert_eq!(first.confirm(NOW), Stored::Same);
}

#[test]
fn a_pin_to_a_server_that_failed_since_is_moved() {
    let t = table(spec(10));
    let (first, mut second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(1)));
    assert_eq!(first.confirm(NOW), Stored::Pinned);
    assert_eq!(second.replace(s(1), || Some(s(2))), Some(s(2)));
    assert_eq!(second.confirm(NOW), Stored::Pinned);
    assert_eq!(server(&t, "k", NOW), Some(s(2)));
}

#[test]
fn a_pin_that_a_peer_told_of_meanwhile_stays() {
    let t = table(spec(10));
    let hold = tentative(&t, "k", s(1));
    t.merge(&update("k", s(2), 1, EXPIRE), NOW);
    assert_eq!(hold.confirm(NOW), Stored::Same);
    assert_eq!(server(&t, "k", NOW), Some(s(2)));
    assert_eq!(t.env.tries.load(Ordering::Relaxed), 0);
}

#[test]
fn an_old_hold_does_not_disturb_a_newer_try() {
    let t = table(spec(10));
    let (first, old) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(1)));
    first.confirm(NOW);
    t.clear(&key("k"), NOW);
    let new = tentative(&t, "k", s(2));
    drop(old);
    assert_eq!(tentative(&t, "k", s(3)).server(), s(2));
    drop(new);
}

#[test]
fn too_many_tries_are_not_shared_but_work() {
    let t = table(spec(10));
    t.env.tries.store(usize::MAX / 2, Ordering::Relaxed);
    let (mut first, second) = (tentative(&t, "k", s(1)), tentative(&t, "k", s(2)));
    assert_eq!((first.server(), second.server()), (s(1), s(2)));
    assert_eq!(first.replace(s(1), || Some(s(3))), Some(s(3)));
    assert_eq!(first.confirm(NOW), Stored::Pinned);
    assert_eq!(second.confirm(NOW), Stored::Same);
    assert_eq!(server(&t, "k", NOW), Some(s(3)));
}
