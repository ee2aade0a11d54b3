//! WebSockets that are ended by lb: with which words, where in the stream, when.
use crate::app;
use lb_tests::websocket::{CLOSE, PING, PONG, TEXT};
use lb_tests::{Instance, Origin, PATIENCE, Socket, eventually};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What servers saw: texts as they are, Close frames as "CODE REASON", the end as "end"; a frame without a mask as "bare".
pub(super) type Log = Arc<Mutex<Vec<String>>>;

pub(super) fn said(log: &Log) -> Vec<String> {
    log.lock().map(|l| l.clone()).unwrap_or_default()
}

fn note(log: &Log, word: String) {
    if let Ok(mut log) = log.lock() {
        log.push(word);
    }
}

/// A server that says its name and every text back, and answers Close and Ping as the standard wants.
pub(super) fn echo(name: &'static str) -> (Origin, Log) {
    let log = Log::default();
    let seen = log.clone();
    let origin = Origin::raw(move |stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        while let Some(frame) = socket.read() {
            if !frame.masked {
                note(&seen, "bare".into());
            }
            match (frame.opcode(), frame.close()) {
                (CLOSE, close) => {
                    note(&seen, close.map_or("no code".into(), |(code, reason)| format!("{code} {reason}")));
                    socket.send(CLOSE, &frame.payload);
                    break;
                }
                (PING, _) => _ = socket.send(PONG, &frame.payload),
                (PONG, _) => note(&seen, format!("pong {}", frame.text())),
                _ => {
                    note(&seen, frame.text());
                    socket.send(TEXT, format!("{name} {}", frame.text()));
                }
            }
        }
        note(&seen, "end".into());
    });
    (origin, log)
}

/// The next frame is a Close with this code; it is answered, and then the connection ends in order.
fn is_closed(socket: &mut Socket, code: u16) -> String {
    let frame = socket.read().expect("a Close frame");
    let (said, reason) = frame.close().unwrap_or_else(|| panic!("{frame:?}"));
    assert_eq!((said, frame.masked), (code, false), "{frame:?}");
    socket.send_close(code);
    assert_eq!(socket.rest(), (Vec::new(), false));
    reason
}

fn talks(socket: &mut Socket, word: &str) -> String {
    assert!(socket.send(TEXT, word));
    socket.read().expect("an answer").text()
}

#[test]
fn a_drain_moves_nobody_before_its_deadline_and_then_says_so_to_both_ends() {
    let (a, seen) = echo("a");
    let (b, _) = echo("b");
    let lb = Instance::start(&app(&[&a, &b], "sticky = [{ cookie = \"S\", insert = true }]"));
    let mut socket = Socket::connect(lb.addr, "Cookie: S=node1\r\n");
    assert_eq!(talks(&mut socket, "one"), "a one");
    let began = Instant::now();
    lb.json(&["server", "drain", "app/node1", "--deadline", "1s", "--pace", "50/s"]);
    // One that is pinned still comes, and stays to the end.
    let mut late = Socket::connect(lb.addr, "Cookie: S=node1\r\n");
    assert_eq!((talks(&mut socket, "two"), talks(&mut late, "three")), ("a two".into(), "a three".into()));
    assert!(is_closed(&mut socket, 1012).contains("drained"));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    is_closed(&mut late, 1012);
    eventually("the server has seen it all", || said(&seen).len() == 7);
    let mut seen = said(&seen);
    assert_eq!(seen[..3], ["one", "two", "three"]);
    seen[3..].sort();
    assert_eq!(seen[3..].iter().filter(|w| w.starts_with("1012 ")).count(), 2, "{seen:?}");
    // Whoever comes back with that pin goes elsewhere now.
    let mut back = Socket::connect(lb.addr, "Cookie: S=node1\r\n");
    assert_eq!(talks(&mut back, "back"), "b back");
    eventually("both are in the access log", || {
        lb.access().matches("\"close_code\":1012,\"close_by\":\"lb\"").count() == 2
    });
    let metrics = lb.admin_text("/metrics");
    assert!(metrics.contains("lb_websocket_closes_total{backend=\"app\",code=\"1012\",by=\"lb\"} 2"), "{metrics}");
    assert!(metrics.contains("lb_websocket_messages_total{backend=\"app\",server=\"node1\",direction=\"in\"} 3"));
    lb.json(&["server", "ready", "app/node1"]);
    assert_eq!(talks(&mut Socket::connect(lb.addr, "Cookie: S=node1\r\n"), "again"), "a again");
}

#[test]
fn sockets_are_closed_at_the_pace_and_a_wait_ends_when_the_last_has_gone() {
    let (a, _) = echo("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut sockets: Vec<_> = (0..20).map(|_| Socket::connect(lb.addr, "")).collect();
    eventually("all are counted", || lb.api("/api/servers")[0]["tunnels"] == 20);
    let ends = std::thread::scope(|scope| {
        let wait = scope.spawn(|| {
            lb.json(&["server", "drain", "app/node1", "--deadline", "300ms", "--pace", "20/s", "--wait"]);
            Instant::now()
        });
        let ends: Vec<_> = sockets.iter_mut().map(|s| scope.spawn(|| (is_closed(s, 1012), Instant::now()).1)).collect();
        let mut ends: Vec<_> = ends.into_iter().map(|end| end.join().expect("closed")).collect();
        ends.sort();
        let waited = wait.join().expect("done");
        assert!(waited + Duration::from_millis(50) >= ends[19], "it ended before the last was closed");
        ends
    });
    let (all, half) = (ends[19] - ends[0], ends[9] - ends[0]);
    assert!(all >= Duration::from_millis(800) && half >= Duration::from_millis(300), "{all:?} {half:?}");
    assert!(all <= Duration::from_secs(10), "{all:?}");
    assert_eq!(lb.api("/api/servers")[0]["active"], 0);
}

#[test]
fn maintenance_closes_at_once_on_every_instance() {
    let (a, _) = echo("a");
    let (b, _) = echo("b");
    let lbs = Instance::cluster(2, &app(&[&a, &b], "sticky = [{ cookie = \"S\", insert = true }]"));
    let mut sockets: Vec<_> = lbs.iter().map(|lb| Socket::connect(lb.addr, "Cookie: S=node1\r\n")).collect();
    let mut others: Vec<_> = lbs.iter().map(|lb| Socket::connect(lb.addr, "Cookie: S=node2\r\n")).collect();
    lbs[0].json(&["server", "maint", "app/node1", "--pace", "100/s"]);
    sockets.iter_mut().for_each(|socket| _ = is_closed(socket, 1012));
    for other in &mut others {
        assert_eq!(talks(other, "still here"), "b still here");
    }
    // A deadline and a pace travel as well.
    lbs[1].json(&["server", "drain", "app/node2", "--deadline", "200ms", "--pace", "1000/s"]);
    others.iter_mut().for_each(|socket| _ = is_closed(socket, 1012));
}

#[test]
fn a_backend_that_moves_its_clients_closes_their_sockets_without_a_deadline() {
    let (a, _) = echo("a");
    let (b, _) = echo("b");
    let lb = Instance::start(&app(&[&a, &b], "drain = \"move\"\nsticky = [{ cookie = \"S\", insert = true }]"));
    let mut socket = Socket::connect(lb.addr, "Cookie: S=node1\r\n");
    lb.json(&["server", "drain", "app/node1"]);
    is_closed(&mut socket, 1012);
    assert_eq!(talks(&mut Socket::connect(lb.addr, "Cookie: S=node1\r\n"), "x"), "b x");
}

#[test]
fn an_instance_that_leaves_says_so_and_takes_no_new_sockets() {
    let (a, seen) = echo("a");
    let mut lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    let mut quiet = Socket::connect(lb.addr, "");
    assert_eq!(talks(&mut socket, "x"), "a x");
    let mut half = lb.client();
    half.send("GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\n");
    let began = Instant::now();
    lb.signal("-TERM");
    assert!(is_closed(&mut socket, 1001).contains("leaving"));
    half.send("Upgrade: websocket\r\n\r\n");
    let answer = half.answer().expect("an answer");
    assert_eq!((answer.status, answer.value("Retry-After").is_some()), (503, true));
    assert!(answer.text().contains("leaving"), "{}", answer.text());
    is_closed(&mut quiet, 1001);
    assert_eq!(lb.wait_end(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "nobody was left to wait for: {:?}", began.elapsed());
    eventually("the server hears it", || said(&seen).iter().filter(|w| w.starts_with("1001 ")).count() == 2);
}

#[test]
fn a_close_waits_for_the_end_of_the_message_and_of_the_answer() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    let large = "x".repeat(100_000);
    let frame = socket.frame(0x01, large.as_bytes());
    assert!(socket.send_bytes(&frame[..50_000]));
    eventually("it is on its way", || lb.api("/api/servers")[0]["tunnels"] == 1);
    lb.json(&["server", "maint", "app/node1"]);
    std::thread::sleep(Duration::from_millis(300));
    // The rest of the first fragment, a ping between, the last fragment.
    assert!(socket.send_bytes(&frame[50_000..]));
    assert!(socket.send(PING, "p"));
    assert_eq!(socket.read().expect("an answer").text(), format!("a {large}"));
    assert_eq!(socket.read().expect("a pong").text(), "p");
    let last = socket.frame(0x80, b"end");
    assert!(socket.send_bytes(&last));
    assert_eq!(socket.read().expect("the answer").text(), "a end");
    is_closed(&mut socket, 1012);
    eventually("the server has the Close behind the message", || {
        let seen = said(&seen);
        seen.len() == 4 && seen[0].len() == 100_000 && seen[1] == "end" && seen[2].starts_with("1012 ")
    });
}

#[test]
fn a_frame_that_never_ends_is_cut_after_a_bounded_time() {
    let (a, _) = echo("a");
    let lb = Instance::start(&app(&[&a], "websocket = { close_timeout = \"300ms\" }"));
    let mut socket = Socket::connect(lb.addr, "");
    let frame = socket.frame(0x81, &[0; 1000]);
    assert!(socket.send_bytes(&frame[..500]));
    lb.json(&["server", "maint", "app/node1"]);
    let (rest, reset) = socket.rest();
    assert!(rest.is_empty() && reset, "{rest:?} {reset}");
    eventually("it is counted", || {
        lb.access().contains("\"end\":\"drained\",\"retries\":0,\"tunnel\":true,\"close_code\":null")
    });
}

#[test]
fn a_message_of_fragments_that_has_a_pause_too_long_is_closed_between_two_of_them() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&app(&[&a], "websocket = { close_timeout = \"300ms\" }"));
    let mut socket = Socket::connect(lb.addr, "");
    let first = socket.frame(0x01, b"begun");
    assert!(socket.send_bytes(&first));
    assert_eq!(socket.read().expect("an answer").text(), "a begun");
    lb.json(&["server", "maint", "app/node1"]);
    is_closed(&mut socket, 1012);
    eventually("the server, too", || said(&seen).get(1).is_some_and(|w| w.starts_with("1012 ")));
}

#[test]
fn a_side_that_does_not_answer_a_close_holds_nothing_up() {
    // It reads on and says nothing.
    let a = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        while socket.read().is_some() {}
    });
    let lb = Instance::start(&app(&[&a], "websocket = { close_timeout = \"300ms\" }"));
    let mut socket = Socket::connect(lb.addr, "");
    lb.json(&["server", "maint", "app/node1"]);
    let frame = socket.read().expect("a Close frame all the same");
    assert_eq!(frame.close().map(|c| c.0), Some(1012));
    // Nor does the client answer.
    assert_eq!(socket.rest().0, b"");
}

#[test]
fn what_the_server_says_before_it_answers_a_close_is_delivered() {
    let a = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        while let Some(frame) = socket.read() {
            if frame.opcode() == CLOSE {
                for i in 0..50 {
                    socket.send(TEXT, format!("{i}{}", "x".repeat(3000)));
                }
                socket.send(CLOSE, 1000u16.to_be_bytes());
                break;
            }
        }
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    lb.json(&["server", "maint", "app/node1"]);
    for i in 0..50 {
        assert!(socket.read().expect("a message").text().starts_with(&format!("{i}x")));
    }
    is_closed(&mut socket, 1012);
}

#[test]
fn a_server_that_is_lost_is_told_to_the_client() {
    for reset in [false, true] {
        let a = Origin::raw(move |stream| {
            let kept = stream.try_clone().expect("a second handle");
            let Some(mut socket) = Socket::accept(stream, "") else { return };
            socket.send(TEXT, "hello");
            while socket.read().is_some_and(|f| f.text() != "die") {}
            if reset {
                // What is not read makes the end a reset.
                std::thread::sleep(Duration::from_millis(100));
            }
            drop(kept.shutdown(Shutdown::Both));
        });
        let lb = Instance::start(&app(&[&a], ""));
        let mut socket = Socket::connect(lb.addr, "");
        assert_eq!(socket.read().expect("hello").text(), "hello");
        assert!(socket.send(TEXT, "die"));
        if reset {
            (0..10).for_each(|_| _ = socket.send(TEXT, "unread"));
        }
        assert_eq!(is_closed(&mut socket, 1011), "server lost");
        eventually("it is logged", || lb.access().contains("\"end\":\"server-lost\""));
        assert!(lb.access().contains("\"close_code\":1011,\"close_by\":\"lb\""));
    }
}

#[test]
fn a_server_that_is_lost_in_the_middle_of_a_frame_ends_the_stream_there() {
    let a = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        let frame = socket.frame(0x82, &[7; 1000]);
        socket.send_bytes(&frame[..300]);
        socket.finish();
    });
    let lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    let (rest, _) = socket.rest();
    assert_eq!(rest.len(), 300, "nothing of ours behind half a frame");
    eventually("it is counted", || {
        lb.admin_text("/metrics").contains("lb_websocket_closes_total{backend=\"app\",code=\"none\",by=\"server\"} 1")
    });
}

#[test]
fn a_client_that_is_lost_is_an_end_to_the_server_and_nothing_is_made_up() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut socket = Socket::connect(lb.addr, "");
    assert_eq!(talks(&mut socket, "x"), "a x");
    drop(socket);
    eventually("the server sees the end", || said(&seen) == ["x", "end"]);
    eventually("it is counted", || {
        lb.admin_text("/metrics").contains("lb_websocket_closes_total{backend=\"app\",code=\"none\",by=\"client\"} 1")
    });
}

#[test]
fn what_the_ends_say_themselves_is_theirs() {
    let (a, seen) = echo("a");
    let lb = Instance::start(&app(&[&a], ""));
    for code in [1000u16, 3123, 4001] {
        let mut socket = Socket::connect(lb.addr, "");
        let payload = [&code.to_be_bytes()[..], b"enough"].concat();
        assert!(socket.send(CLOSE, payload));
        assert_eq!(socket.read().and_then(|f| f.close()), Some((code, "enough".into())));
        assert_eq!(socket.rest(), (Vec::new(), false));
        eventually("the server got it", || said(&seen).contains(&format!("{code} enough")));
    }
    let text = || lb.admin_text("/metrics");
    for code in ["1000", "3xxx", "4xxx"] {
        let row = format!("lb_websocket_closes_total{{backend=\"app\",code=\"{code}\",by=\"client\"}} 1");
        eventually("it is counted", || text().contains(&row));
    }
    // A close of theirs that is under way is not disturbed by ours.
    let b = Origin::raw(|stream| {
        let Some(mut socket) = Socket::accept(stream, "") else { return };
        socket.send_close(4002);
        std::thread::sleep(PATIENCE / 20);
        socket.read();
    });
    let lb = Instance::start(&app(&[&b], "websocket = { close_timeout = \"300ms\" }"));
    let mut socket = Socket::connect(lb.addr, "");
    assert_eq!(socket.read().and_then(|f| f.close()).map(|c| c.0), Some(4002));
    lb.json(&["server", "maint", "app/node1"]);
    assert_eq!(socket.rest().0, b"", "one Close is enough");
}

#[test]
fn other_tunnels_are_ended_by_a_drain_too() {
    let a = Origin::named("a");
    let lb = Instance::start(&app(&[&a], ""));
    let mut tunnel = lb.client();
    assert_eq!(tunnel.upgrade("/x", "").status, 101);
    lb.json(&["server", "drain", "app/node1", "--deadline", "100ms"]);
    assert!(tunnel.closed());
    eventually("it is logged", || lb.access().contains("\"end\":\"drained\""));
}

#[test]
fn sockets_on_a_server_that_goes_down_get_1011_where_that_is_wanted_and_in_maintenance_1012() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let (a, seen) = echo("a");
    let (b, _) = echo("b");
    let sick = Arc::<AtomicBool>::default();
    let state = sick.clone();
    let health = Origin::answering(move |_| {
        let status = if state.load(SeqCst) { "500 Sick" } else { "200 OK" };
        lb_tests::origin::Reply::Keep(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    });
    let lines = format!(
        "sticky = [{{ cookie = \"S\", insert = true }}]\non_marked_down = \"close\"\n\
         check = {{ http = \"GET /\", expect = 200, interval = \"50ms\", port = {} }}",
        health.addr.port()
    );
    let config = app(&[&a, &b], &lines).replace("\"node2\",", "\"node2\", check = false,");
    let lb = Instance::start(&config);
    let mut sockets: Vec<_> = (0..3).map(|_| Socket::connect(lb.addr, "Cookie: S=node1\r\n")).collect();
    let mut other = Socket::connect(lb.addr, "Cookie: S=node2\r\n");
    for socket in &mut sockets {
        assert_eq!(talks(socket, "x"), "a x");
    }
    sick.store(true, SeqCst);
    for socket in &mut sockets {
        assert_eq!(is_closed(socket, 1011), "server down");
    }
    assert_eq!(talks(&mut other, "still"), "b still");
    eventually("the server hears the ends", || said(&seen).iter().filter(|word| *word == "end").count() == 3);
    let counted = "lb_websocket_closes_total{backend=\"app\",code=\"1011\",by=\"lb\"}";
    eventually("each is counted once it is over", || lb.metric(counted) == 3.0);
    assert_eq!(lb.metric("lb_server_closed_total{backend=\"app\",server=\"node1\"}"), 3.0);
    // Whoever comes back is served elsewhere; what an operator does is no loss.
    assert_eq!(talks(&mut Socket::connect(lb.addr, "Cookie: S=node1\r\n"), "back"), "b back");
    sick.store(false, SeqCst);
    eventually("it is up again", || lb.api("/api/servers")[0]["health"] == "up");
    let mut again = Socket::connect(lb.addr, "Cookie: S=node1\r\n");
    assert_eq!(talks(&mut again, "again"), "a again");
    lb.json(&["server", "maint", "app/node1"]);
    is_closed(&mut again, 1012);
    assert_eq!(lb.metric("lb_server_closed_total{backend=\"app\",server=\"node1\"}"), 3.0, "that was no fault");
}

#[test]
fn a_wait_for_a_drain_is_for_the_sockets_of_every_instance() {
    let (a, _) = echo("a");
    let lbs = Instance::cluster(2, &app(&[&a], ""));
    let mut socket = Socket::connect(lbs[1].addr, "");
    assert_eq!(talks(&mut socket, "x"), "a x");
    let drain = ["server", "drain", "app/node1", "--wait"];
    let late = lbs[0].cli(&[&drain[..], &["--timeout", "4s"]].concat());
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(!late.status.success() && said.contains("0 still open on app/node1, and 1 on other instances"), "{said}");
    assert!(lbs[0].text(&["server", "list"]).contains("1 active on other instances"));
    assert!(lbs[0].cli(&[&drain[..], &["--local"]].concat()).status.success(), "here nothing is open");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| {
            lbs[0].json(&drain);
            over.load(std::sync::atomic::Ordering::SeqCst)
        });
        // It sees what is open there, and waits.
        eventually("the other has told", || lbs[0].api("/api/servers")[0]["elsewhere"] == 1);
        assert_eq!(talks(&mut socket, "y"), "a y");
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        socket.send_close(1000);
        while socket.read().is_some() {}
        assert!(wait.join().expect("done"), "it ended before the socket did");
    });
}
