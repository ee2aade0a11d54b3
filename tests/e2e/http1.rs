//! HTTP/1.1 as servers and clients expect it of a proxy.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Client, Instance, Origin};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn connections_are_kept_on_both_sides() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let a = Origin::raw(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut buf = [0; 4096];
        while stream.read(&mut buf).is_ok_and(|n| n > 0) {
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").text(), "ok");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[test]
fn chunked_bodies_pass_both_ways_with_their_trailers() {
    let a = Origin::answering(|seen| {
        let n = seen.body.len();
        Reply::Keep(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n1\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", n % 10).into_bytes())
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n");
        client.send("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n");
        assert_eq!(client.answer().expect("an answer").text(), "body8");
    }
    assert_eq!(a.seen()[0].body, b"helloabc");
}

#[test]
fn head_and_bodyless_answers_leave_the_connection_in_step() {
    let a = Origin::answering(|seen| {
        Reply::Keep(match seen.head.split(' ').next() {
            Some("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(),
            Some("PUT") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            Some("OPTIONS") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nget".to_vec(),
        })
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
    let head = client.answer_to(true).expect("an answer");
    assert_eq!(head.value("Content-Length"), Some("1000"));
    client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.status), Some(204));
    client.send("OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.status), Some(304));
    assert_eq!(client.get("/", "").text(), "get");
}

#[test]
fn a_client_that_expects_100_gets_it_from_the_server() {
    let a = Origin::answering(|seen| Reply::Body(format!("{} bytes", seen.body.len())));
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.status), Some(100));
    client.send("hello");
    assert_eq!(client.answer().expect("an answer").text(), "5 bytes");
}

#[test]
fn early_hints_pass_and_old_clients_do_not_see_them() {
    let a = Origin::answering(|_| {
        Reply::Keep(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        )
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    let hint = client.get("/", "");
    assert_eq!((hint.status, hint.value("Link")), (103, Some("</x>")));
    assert_eq!(client.answer().expect("an answer").text(), "ok");
    let mut old = lb.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().map(|a| a.status), Some(200));
    assert!(old.closed());
}

#[test]
fn an_old_client_gets_a_body_without_chunks_and_may_keep_its_connection() {
    let a = Origin::answering(|seen| {
        if seen.head.starts_with("GET /chunked") {
            Reply::Keep(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec())
        } else {
            Reply::Body("plain".into())
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut old = lb.client();
    old.send("GET / HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n");
    let answer = old.answer().expect("an answer");
    assert_eq!((answer.text().as_str(), answer.value("Connection")), ("plain", Some("keep-alive")));
    old.send("GET /chunked HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n");
    let answer = old.answer().expect("an answer");
    assert_eq!((answer.text().as_str(), answer.value("Transfer-Encoding")), ("ok", None));
    assert!(old.closed());
}

#[test]
fn an_answer_that_ends_with_its_connection_is_chunked_for_the_client() {
    let a = Origin::answering(|_| Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()));
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for _ in 0..3 {
        let answer = client.get("/", "");
        assert_eq!(answer.value("Transfer-Encoding"), Some("chunked"));
        assert_eq!(answer.text(), "until the end");
    }
}

#[test]
fn large_bodies_stream_both_ways_in_bounded_memory() {
    const SIZE: usize = 48 << 20;
    let a =
        Origin::raw(|mut stream| {
            let mut buf = vec![0; 1 << 16];
            let mut total = 0;
            // The head is small: what is over it is body.
            while total < SIZE {
                match stream.read(&mut buf) {
                    Ok(0) | Err(_) => return,
                    Ok(n) => total += n,
                }
            }
            drop(stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n").as_bytes(),
            ));
            for _ in 0..SIZE / buf.len() {
                if stream.write_all(&buf).is_err() {
                    return;
                }
            }
        });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {SIZE}\r\n\r\n"));
    let piece = vec![0; 1 << 20];
    for _ in 0..SIZE / piece.len() {
        assert!(client.send(&piece));
    }
    assert_eq!(client.answer().expect("an answer").body.len(), SIZE);
    let status = lb.api("/api/status");
    let pid = status["pid"].as_u64().expect("a pid");
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("proc");
    let rss: u64 = text
        .lines()
        .find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("RssAnon");
    assert!(rss < 40_000, "{rss} kB");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let a = Origin::answering(|seen| Reply::Body(seen.head.split(' ').nth(1).unwrap_or("").into()));
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    let one = |i: usize| format!("GET /{i} HTTP/1.1\r\nHost: t\r\n\r\n");
    let post = "POST /p HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc";
    client.send(format!("{}{post}{}{}", one(1), one(2), one(3)));
    let answers: Vec<_> = (0..4).map(|_| client.answer().expect("an answer").text()).collect();
    assert_eq!(answers, ["/1", "/p", "/2", "/3"]);
}

#[test]
fn fields_of_one_hop_stay_there_and_ours_are_added() {
    let a = Origin::answering(|_| {
        Reply::With("Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\n".into(), "ok".into())
    });
    let lb = Instance::start(&app(&[&a], "real_ip = true"));
    let answer = lb.client().get(
        "/",
        "X-Hop: 1\r\nConnection: x-hop, host\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nX-Forwarded-For: 6.6.6.6\r\nX-End: 2\r\n",
    );
    assert_eq!((answer.value("X-Hop"), answer.value("Keep-Alive"), answer.value("X-End")), (None, None, Some("1")));
    let seen = &a.seen()[0];
    for gone in ["X-Hop", "TE", "Proxy-Connection", "Connection"] {
        assert_eq!(seen.value(gone), None, "{gone}");
    }
    assert_eq!(seen.value("Host"), Some("test"));
    assert_eq!(seen.value("X-End"), Some("2"));
    assert_eq!(seen.value("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen.value("X-Forwarded-Proto"), Some("http"));
    assert_eq!(seen.value("X-Real-IP"), Some("127.0.0.1"));
}

#[test]
fn an_early_answer_to_an_upload_reaches_the_client() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 1024];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"));
        // Stays open and reads no more.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![0; 100_000]);
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    assert_eq!(answer.value("Connection"), Some("close"));
}

#[test]
fn a_connection_that_its_server_closed_while_idle_costs_the_client_nothing() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        // Says nothing of closing, and closes.
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        drop(stream.shutdown(std::net::Shutdown::Both));
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for _ in 0..200 {
        assert_eq!(client.get("/", "").text(), "ok");
    }
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_whole() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let a = Origin::answering(move |_| Reply::Raw(answer.to_vec()));
        let lb = Instance::start(&app(&[&a], ""));
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.answer().is_none(), "{}", String::from_utf8_lossy(answer));
        assert!(client.closed());
    }
}

#[test]
fn a_client_that_goes_away_ends_its_upload_to_the_server() {
    let a = Origin::raw(|mut stream| {
        let mut all = Vec::new();
        drop(stream.read_to_end(&mut all));
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client: Client = lb.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nhalf");
    lb_tests::eventually("the request is on the server", || lb.api("/api/servers")[0]["active"] == 1);
    drop(client);
    lb_tests::eventually("and gone again", || lb.api("/api/servers")[0]["active"] == 0);
}
