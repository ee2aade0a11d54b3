//! Much of it: both ways at once, spliced and copied, to slow readers.
use super::{echo, open, tcp};
use lb_tests::origin::Reply;
use lb_tests::{Dice, Instance, Origin, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes that show where they belong.
fn pattern(len: usize) -> Arc<Vec<u8>> {
    Arc::new((0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect())
}

/// Reads to the end and compares.
fn expect(mut stream: &TcpStream, wanted: &[u8]) {
    let (mut at, mut buf) = (0, vec![0; 1 << 20]);
    loop {
        let n = stream.read(&mut buf).expect("more");
        if n == 0 {
            break;
        }
        assert!(buf[..n] == wanted[at..at + n], "other bytes behind {at}");
        at += n;
    }
    assert_eq!(at, wanted.len());
}

/// A server that sends this and takes what comes, which must be the same.
fn exchange(bytes: &Arc<Vec<u8>>) -> Origin {
    let bytes = bytes.clone();
    Origin::raw(move |stream| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = (&stream).write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Write);
            });
            expect(&stream, &bytes);
        });
    })
}

#[test]
fn large_transfers_both_ways_at_once_arrive_whole() {
    let bytes = pattern(48 << 20);
    let server = exchange(&bytes);
    let lb = Instance::start(&tcp(&[&server], "", ""));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = open(lb.addr);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        (&client).write_all(&bytes).expect("it takes all");
                        client.shutdown(Shutdown::Write).expect("it is open");
                    });
                    expect(&client, &bytes);
                });
            });
        }
    });
    eventually("all is counted", || {
        let all = 4 * (48 << 20);
        let metrics = lb.admin_text("/metrics");
        ["in", "out"].iter().all(|way| {
            metrics.contains(&format!(
                "lb_server_bytes_total{{backend=\"app\",server=\"node1\",direction=\"{way}\"}} {all}\n"
            ))
        })
    });
    eventually("every connection ended in order", || {
        lb.access().matches("\"end\":\"c").count() + lb.access().matches("\"end\":\"server-closed\"").count() == 4
    });
}

#[test]
fn pieces_of_every_size_in_turn_come_back_as_they_were() {
    let server = Origin::raw(echo);
    let lb = Instance::start(&tcp(&[&server], "", ""));
    let bytes = pattern(1 << 20);
    let client = open(lb.addr);
    client.set_nodelay(true).expect("a socket");
    let mut dice = Dice::new(7);
    let mut buf = vec![0; 1 << 20];
    // Small ones are copied, large ones spliced: each change of mind is met many times.
    for _ in 0..300 {
        let most = [1, 100, 20_000, 70_000, 400_000][dice.below(5)];
        let len = 1 + dice.below(most);
        let at = dice.below(bytes.len() - len);
        std::thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&bytes[at..at + len]).expect("it takes all"));
            (&client).read_exact(&mut buf[..len]).expect("the echo");
        });
        assert!(buf[..len] == bytes[at..at + len]);
    }
}

#[test]
fn a_client_that_reads_nothing_costs_little_and_misses_nothing() {
    let bytes = pattern(64 << 20);
    let sent = Arc::new(AtomicUsize::new(0));
    let server = {
        let (bytes, sent) = (bytes.clone(), sent.clone());
        Origin::raw(move |mut stream| {
            for piece in bytes.chunks(64 << 10) {
                if stream.write_all(piece).is_err() {
                    break;
                }
                sent.fetch_add(piece.len(), Relaxed);
            }
            let _ = stream.shutdown(Shutdown::Write);
        })
    };
    let lb = Instance::start(&tcp(&[&server], "", ""));
    drop(open(lb.addr));
    let before = lb.memory();
    let slow: Vec<_> = (0..8).map(|_| open(lb.addr)).collect();
    let mut stood = (0, Instant::now());
    eventually("nobody goes on: the kernel's buffers are full", || {
        let now = sent.load(Relaxed);
        if now != stood.0 {
            stood = (now, Instant::now());
        }
        now > 0 && stood.1.elapsed() > Duration::from_millis(500)
    });
    assert!(stood.0 < 8 * bytes.len(), "it waits for its readers");
    let grown = lb.memory().saturating_sub(before);
    // What waits is 512 MiB; threads that work for the first time take some as well.
    assert!(grown < 12 << 20, "{grown} bytes for eight clients");
    for client in slow {
        expect(&client, &bytes);
    }
}

#[test]
fn large_bodies_of_http_arrive_whole_and_the_connection_goes_on() {
    let server = Origin::answering(|seen| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        Reply::Keep([head.as_bytes(), &seen.body].concat())
    });
    let lb = Instance::start(&crate::app(&[&server], ""));
    let mut client = lb.client();
    for len in [1, 100_000, 128 << 10, (128 << 10) + 1, 9 << 20, 3, 5_000_001] {
        let body = pattern(len);
        let head = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\n\r\n");
        assert!(client.send(head) && client.send(&*body));
        let answer = client.answer().expect("an answer");
        assert!(answer.status == 200 && answer.body == *body, "{len} bytes");
    }
    eventually("each is in the log", || lb.access().matches("\"end\":\"ok\"").count() == 7);
    let metrics = lb.admin_text("/metrics");
    let all = 1 + 100_000 + (128 << 10) + (128 << 10) + 1 + (9 << 20) + 3 + 5_000_001;
    for way in ["in", "out"] {
        let line = format!("lb_server_bytes_total{{backend=\"app\",server=\"node1\",direction=\"{way}\"}} {all}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    assert!(metrics.contains("lb_server_connects_total{backend=\"app\",server=\"node1\"} 1\n"), "one connection");
}

#[test]
fn a_large_body_that_is_cut_is_not_taken_for_whole() {
    let server = Origin::answering(|_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 4 << 20);
        Reply::Raw([head.as_bytes(), &vec![7; 3 << 20]].concat())
    });
    let lb = Instance::start(&crate::app(&[&server], ""));
    let mut client = lb.client();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(client.answer().is_none(), "it ends before its length");
    eventually("the log says so", || lb.access().contains("\"end\":\"server-closed\""));
}
