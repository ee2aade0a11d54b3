//! Slow sides, many clients, few descriptors: memory stays bounded, the others are served.
use crate::app;
use crate::foreign::{python, server};
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Client, Instance, Origin, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What sockets between two processes of one machine may hold, and some more: bytes that are spliced fill them closer than
/// copied ones do.
const IN_SOCKETS: usize = 36 << 20;

/// By how much a process may grow that holds nothing back. Threads that work for the first time take memory in huge
/// pages, megabytes each.
const AT_REST: usize = 12 << 20;

/// Waits until a count no longer grows.
fn stalls(count: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    eventually("it stalls", || {
        let now = count.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        last > 0 && since.elapsed() > Duration::from_millis(300)
    });
    last
}

#[test]
fn a_client_that_does_not_read_stops_its_server_and_costs_no_memory() {
    const SIZE: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let a = Origin::raw(move |mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()));
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..SIZE / piece.len() {
            if stream.write_all(&piece).is_err() {
                return;
            }
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let before = lb.memory();
    let mut client = lb.client();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let stalled = stalls(&written);
    assert!(stalled < IN_SOCKETS, "{stalled} bytes were taken from the server");
    assert!(lb.memory() < before + AT_REST);
    assert_eq!(client.answer().expect("the rest").body.len(), SIZE, "nothing was lost");
}

#[test]
fn a_server_that_does_not_read_stops_its_client_and_costs_no_memory() {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    const SIZE: usize = 64 << 20;
    let a = Origin::raw(move |mut stream| {
        eventually("the test goes on", || gate.load(Ordering::SeqCst));
        let (mut total, mut buf) = (0, vec![0; 64 << 10]);
        while total < SIZE {
            match stream.read(&mut buf) {
                Ok(0) | Err(_) => return,
                Ok(n) => total += n,
            }
        }
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        drop(stream.read(&mut buf));
    });
    let lb = Instance::start(&app(&[&a], ""));
    let before = lb.memory();
    let mut stream = TcpStream::connect(lb.addr).expect("the proxy listens");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let mut writing = stream.try_clone().expect("a handle");
    let writer = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n");
        writing.write_all(head.as_bytes()).expect("it takes the head");
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..SIZE / piece.len() {
            writing.write_all(&piece).expect("it takes the body");
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let stalled = stalls(&sent);
    assert!(stalled < IN_SOCKETS, "{stalled} bytes were taken from the client");
    assert!(lb.memory() < before + AT_REST);
    go.store(true, Ordering::SeqCst);
    writer.join().expect("all was taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_tunnel_whose_client_does_not_read_stops_its_server_too() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let a = Origin::raw(move |mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
        let piece = vec![b'x'; 64 << 10];
        while stream.write_all(&piece).is_ok() {
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let before = lb.memory();
    let mut client = lb.client();
    assert_eq!(client.upgrade("/ws", "").status, 101);
    let stalled = stalls(&written);
    assert!(stalled < IN_SOCKETS, "{stalled} bytes were taken from the server");
    assert!(lb.memory() < before + AT_REST);
    assert!(client.read(stalled).is_some_and(|all| all.iter().all(|b| *b == b'x')), "nothing was lost");
}

/// How long a request of somebody else takes, and whether it is answered as ever.
fn request(lb: &Instance) -> Duration {
    let started = Instant::now();
    assert_eq!(lb.client().get("/", "").status, 200);
    started.elapsed()
}

fn open(lb: &Instance) -> u64 {
    lb.api("/api/status")["frontends"][0]["open"].as_u64().unwrap_or(0)
}

#[test]
fn thousands_of_silent_and_trickling_clients_cost_little_and_slow_nobody() {
    const CROWD: usize = 3000;
    let a = Origin::named("a");
    let config =
        app(&[&a], "").replace("backend = \"app\"\n", "backend = \"app\"\ntimeout = { http_request = \"8s\" }\n");
    let lb = Instance::start(&config);
    request(&lb);
    let before = lb.memory();
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| lb.client()).collect();
    for client in crowd.iter_mut().step_by(2) {
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Slow: a");
    }
    eventually("all are in", || open(&lb) >= CROWD as u64);
    let each = lb.memory().saturating_sub(before) / CROWD;
    assert!(each <= 16 << 10, "{each} bytes each");
    let (mut times, mut trickling) = (Vec::new(), (0..CROWD).step_by(2).cycle());
    for _ in 0..100 {
        for _ in 0..20 {
            crowd[trickling.next().expect("endless")].send("a");
        }
        times.push(request(&lb));
    }
    times.sort();
    // The figure is that of an optimised build on a quiet machine; here others test beside us.
    assert!(times[98] < Duration::from_millis(500), "{:?}", &times[90..]);
    let mut most = 0;
    eventually("all are sent away", || {
        most = most.max(lb.memory().saturating_sub(before) / CROWD);
        open(&lb) == 0
    });
    assert!(most <= 16 << 10, "{most} bytes each while they are sent away");
    // Those who trickled are told why, the others as well: they owed a request.
    assert!(crowd.iter_mut().all(|client| client.answer().is_some_and(|a| a.status == 408)));
}

#[test]
fn many_silent_clients_with_tls_hold_little() {
    const CROWD: usize = 400;
    let (pki, a) = (Pki::new(), Origin::named("a"));
    pki.issue("site.pem", &["shop.example"]);
    let port = free_port();
    let listen = format!("[LISTEN, {{ addr = \"127.0.0.1:{port}\", tls = {{ cert = {:?} }} }}]", pki.text("site.pem"));
    let lb = Instance::start(&app(&[&a], "").replace("[LISTEN]", &listen));
    for protocol in ["http/1.1", "h2"] {
        // Each shakes hands; over HTTP/1.1 it begins a request, over HTTP/2 it says its preface.
        let mut idle = server(python("tls_idle.py"), &format!("{port} {protocol} 20"));
        eventually("some were there", || open(&lb) >= 20);
        idle.say("go");
        eventually("they have gone", || open(&lb) == 0);
        let before = lb.memory();
        let _idle = server(python("tls_idle.py"), &format!("{port} {protocol} {CROWD}"));
        assert!(open(&lb) >= CROWD as u64);
        let each = lb.memory().saturating_sub(before) / CROWD;
        assert!(each <= 48 << 10, "{protocol}: {each} bytes each");
        assert!(request(&lb) < Duration::from_secs(1));
    }
}

#[test]
fn without_descriptors_left_it_neither_dies_nor_spins_and_serves_again() {
    let a = Origin::named("a");
    let lb = Instance::start_with_files(96, &app(&[&a], ""));
    let crowd: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(lb.addr).ok()).collect();
    assert!(crowd.len() >= 100, "the kernel's queue takes more than the process");
    let before = lb.cpu();
    // A second in which nothing happens: what is used now is spinning.
    std::thread::sleep(Duration::from_secs(1));
    let used = lb.cpu() - before;
    assert!(used < Duration::from_millis(300), "{used:?} of a second");
    let told = lb.log().lines().filter(|line| line.contains("accept failed")).count();
    assert!((1..=4).contains(&told), "each worker's listener says so once: {told}");
    drop(crowd);
    eventually("it serves again", || {
        let mut client = lb.client();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        client.answer().is_some_and(|a| a.status == 200)
    });
    assert!(lb.metric("lb_frontend_accept_errors_total{frontend=\"web\"}") >= 1.0);
}

#[test]
fn idle_tunnels_hold_no_buffers() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let open = |n: usize| -> Vec<Client> {
        (0..n)
            .map(|_| {
                let mut client = lb.client();
                assert_eq!(client.upgrade("/ws", "").status, 101);
                client
            })
            .collect()
    };
    drop(open(20));
    let before = lb.memory();
    let mut tunnels = open(400);
    let each = lb.memory().saturating_sub(before) / tunnels.len();
    // A buffer would be 16 KiB; the rest of the bound is for what the allocator rounds up (tests/perf has the figure).
    assert!(each < 8 << 10, "{each} bytes a tunnel");
    for tunnel in &mut tunnels {
        assert!(tunnel.send("x") && tunnel.read(1).is_some(), "all live");
    }
}
