//! A message means the same however its bytes are split over reads.
use crate::app;
use crate::framing::{REFUSED, SERVED};
use lb_tests::{Instance, Origin};
use std::time::Duration;

/// What lets the proxy read the first piece by itself; when it does not, the split is one of another place.
const PAUSE: Duration = Duration::from_micros(300);

#[test]
fn legal_requests_split_anywhere_are_read_alike() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut sent = 0;
    for (request, line, body) in SERVED {
        for at in 1..request.len() {
            let mut client = lb.client();
            client.send(&request.as_bytes()[..at]);
            std::thread::sleep(PAUSE);
            client.send(&request.as_bytes()[at..]);
            assert_eq!(client.answer().map(|a| a.status), Some(200), "{request:?} split at {at}");
            sent += 1;
            let seen = a.seen().pop().expect("the server saw it");
            assert_eq!(seen.head.lines().next(), Some(*line), "{request:?} split at {at}");
            assert_eq!(seen.body, body.as_bytes(), "{request:?} split at {at}");
        }
    }
    assert_eq!(a.seen().len(), sent);
}

#[test]
fn requests_in_doubt_are_refused_byte_by_byte_as_well() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    std::thread::scope(|scope| {
        for part in REFUSED.chunks(REFUSED.len() / 4 + 1) {
            let lb = &lb;
            scope.spawn(move || {
                for text in part {
                    let mut client = lb.client();
                    let whole = text.replace("{}", "Host: test\r\n") + "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
                    for byte in whole.bytes() {
                        // It may have refused already.
                        if !client.send([byte]) {
                            break;
                        }
                        std::thread::sleep(PAUSE);
                    }
                    // What it has taken for a beginning of a body is not answered by a server either: the server never
                    // saw the end. A refusal may be lost when more bytes than it could drain cross it.
                    if let Some(answer) = client.answer() {
                        assert!(matches!(answer.status, 400 | 431 | 501 | 505), "{} to {text:?}", answer.status);
                    }
                    assert!(client.answer().is_none(), "a second answer to {text:?}");
                }
            });
        }
    });
    assert_eq!(a.seen(), [], "a server took one for whole");
}

#[test]
fn answers_that_trickle_are_read_as_those_that_come_at_once() {
    use std::io::{Read, Write};
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
    ];
    for answer in answers {
        let a = Origin::raw(move |mut stream| {
            let mut buf = [0; 4096];
            drop(stream.read(&mut buf));
            for byte in answer {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            drop(stream.shutdown(std::net::Shutdown::Both));
        });
        let lb = Instance::start(&app(&[&a], ""));
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        let mut got = client.answer().expect("an answer");
        if got.status == 103 {
            got = client.answer().expect("an answer");
        }
        assert_eq!((got.status, got.text().as_str()), (200, "hello"), "{}", String::from_utf8_lossy(answer));
    }
}
