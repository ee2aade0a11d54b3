//! More of what servers do: odd but legal answers reach the client, wrong ones never as something else.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Client, Instance, Origin, eventually};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which of a table's rows a request asks for.
fn row(head: &str) -> usize {
    head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Odd, but legal: answer, status, body. Each ends with its connection.
const LEGAL: &[(&str, u16, &str)] = &[
    ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 It is all right\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 299 Own\r\nContent-Length: 2\r\n\r\nok", 299, "ok"),
    ("HTTP/1.1 599 Own\r\nContent-Length: 2\r\n\r\nok", 599, "ok"),
    ("HTTP/1.0 200 OK\r\n\r\nok", 200, "ok"),
    ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 002\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: \t 2 \t\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nX-8bit: caf\u{e9}\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02 ; a=b\r\nok\r\n00\r\n\r\n", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n", 200, "ok"),
    ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", 200, "ok"),
    ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
    ("HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", 205, ""),
    ("HTTP/1.1 413 Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", 413, "no"),
];

#[test]
fn odd_but_legal_answers_reach_the_client_whole() {
    let a = Origin::answering(|seen| Reply::Raw(LEGAL[row(&seen.head)].0.as_bytes().to_vec()));
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for (i, (text, status, body)) in LEGAL.iter().enumerate() {
        client.send(format!("GET /{i} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let answer = client.answer().unwrap_or_else(|| panic!("no answer for {text:?}"));
        assert_eq!((answer.status, answer.text().as_str()), (*status, *body), "{text:?}");
        if answer.value("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
            client = lb.client();
        }
    }
}

/// Bodies where there can be none, after answers that look complete: what follows belongs to nobody.
#[test]
fn a_body_after_an_answer_without_one_is_nobodys_answer() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let rows = [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (method, head) in rows {
        let a = Origin::answering(move |seen| {
            if seen.head.contains("/next") {
                Reply::Body("good".into())
            } else {
                Reply::Keep(format!("{head}{evil}").into_bytes())
            }
        });
        let lb = Instance::start(&app(&[&a], ""));
        for _ in 0..5 {
            let mut client = lb.client();
            client.send(format!("{method} / HTTP/1.1\r\nHost: t\r\n\r\n"));
            assert!(client.answer_to(method == "HEAD").is_some(), "{head:?}");
            assert_eq!(client.get("/next", "").text(), "good", "{method} {head:?}");
        }
    }
}

/// Servers say 408 on idle connections, or worse: it is not the answer to the next request.
#[test]
fn what_a_server_says_unasked_on_an_idle_connection_is_dropped_with_it() {
    let said = Arc::new(AtomicUsize::new(0));
    let count = said.clone();
    let a = Origin::raw(move |mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        // The proxy has put the connection away when its client has the answer: told by the client's next step.
        std::thread::sleep(std::time::Duration::from_millis(30));
        drop(stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil"));
        count.fetch_add(1, Ordering::SeqCst);
        drop(stream.read(&mut buf));
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut client = lb.client();
    for round in 1..=10 {
        assert_eq!(client.get("/", "").text(), "ok");
        eventually("the server spoke unasked", || said.load(Ordering::SeqCst) >= round);
    }
}

#[test]
fn a_head_without_end_gets_502_and_bounded_memory() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\n").is_ok();
        while alive {
            alive = stream.write_all(format!("X: {}\r\n", "x".repeat(1000)).as_bytes()).is_ok();
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let before = lb.memory();
    for _ in 0..5 {
        assert_eq!(lb.client().get("/", "").status, 502);
    }
    let grew = lb.memory().saturating_sub(before);
    // The allocator takes memory by the two MiB.
    assert!(grew < 16 << 20, "{grew}");
}

#[test]
fn interim_answers_without_end_do_not_grow_and_end_with_the_client() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").is_ok() {}
    });
    let lb = Instance::start(&app(&[&a], ""));
    let before = lb.memory();
    let mut client = lb.client();
    for _ in 0..2000 {
        if client.get("/", "").status == 502 {
            break;
        }
    }
    drop(client);
    eventually("the request ends", || lb.api("/api/servers")[0]["active"] == 0);
    let grew = lb.memory().saturating_sub(before);
    // The allocator takes memory by the two MiB.
    assert!(grew < 16 << 20, "{grew}");
}

#[test]
fn a_chunk_line_or_trailers_without_end_cut_the_answer() {
    for endless in ["2;", "2\r\nok\r\n0\r\nX: "] {
        let a = Origin::raw(move |mut stream| {
            let mut buf = [0; 4096];
            drop(stream.read(&mut buf));
            drop(
                stream.write_all(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{endless}").as_bytes()),
            );
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
        });
        let lb = Instance::start(&app(&[&a], ""));
        let mut client: Client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.answer().is_none_or(|a| a.status == 502), "{endless:?}");
        eventually("the server is free", || lb.api("/api/servers")[0]["active"] == 0);
    }
}

#[test]
fn connection_cannot_name_cookies_or_our_own_fields_away() {
    let a = Origin::named("a");
    let lb =
        Instance::start(&app(&[&a], "real_ip = true\nsticky = [{ cookie = \"S\", insert = true, indirect = true }]"));
    let fields = "Connection: cookie, x-forwarded-for, x-forwarded-proto, x-real-ip, authorization\r\n\
                  Cookie: kept=1; S=node1\r\nAuthorization: Basic eA==\r\n";
    assert_eq!(lb.client().get("/", fields).status, 200);
    let seen = &a.seen()[0];
    assert_eq!(seen.value("Cookie"), Some("kept=1"));
    for ours in ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"] {
        assert!(seen.value(ours).is_some(), "{ours} is gone:\n{}", seen.head);
    }
}
