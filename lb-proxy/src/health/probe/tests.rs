use super::*;
use crate::tls::connect::Purpose;
use futures_util::{SinkExt, StreamExt};
use lb_core::config::{Expected, Proto, ServerTls, Step};
use rustls_pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

const SOON: Duration = Duration::from_secs(10);

fn at(addr: SocketAddr) -> Target {
    Target { addr: addr.into(), host: None, tls: None, send_proxy: None, h2: false }
}

fn tcp(steps: &[Step]) -> Probe {
    Probe::Tcp { steps: steps.to_vec() }
}

fn get(expect: &[(u16, u16)], body: Option<&str>) -> Probe {
    Probe::Http {
        method: "GET".into(),
        path: "/health?deep=1".into(),
        headers: vec![("X-Check".into(), "lb".into())],
        expect: expect.to_vec(),
        expect_body: body.map(Into::into),
    }
}

/// A server that answers one connection with these bytes; gives back what it was asked.
async fn answers(bytes: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut buf = [0; 1024];
            let n = stream.read(&mut buf).await.unwrap();
            assert_ne!(n, 0);
            seen.extend_from_slice(&buf[..n]);
        }
        stream.write_all(bytes.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (addr, asked)
}

fn why(result: Result<(), Failed>) -> String {
    match result {
        Err(Failed::Server(why)) => why,
        other => panic!("expected the server to be blamed, got {other:?}"),
    }
}

#[tokio::test]
async fn an_expected_status_passes_and_the_request_is_as_configured() {
    let (addr, asked) = answers("HTTP/1.1 204 No Content\r\n\r\n").await;
    probe(&get(&[(200, 399)], None), &at(addr), SOON).await.unwrap();
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /health?deep=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nhost: {addr}\r\n")) && asked.contains("\r\nx-check: lb\r\n"), "{asked}");
}

#[tokio::test]
async fn another_status_fails_and_says_which_was_expected() {
    let (addr, _asked) = answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    let why = why(probe(&get(&[(200, 200), (300, 399)], None), &at(addr), SOON).await);
    assert_eq!(why, "answered 500, expected 200, 300-399");
}

#[tokio::test]
async fn the_expected_text_is_found_across_chunks_and_missed_when_absent() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall o\r\n6\r\nk here\r\n0\r\n\r\n";
    let (addr, _asked) = answers(CHUNKED).await;
    probe(&get(&[(200, 200)], Some("all ok")), &at(addr), SOON).await.unwrap();
    let (addr, _asked) = answers(CHUNKED).await;
    assert!(why(probe(&get(&[(200, 200)], Some("broken")), &at(addr), SOON).await).contains("\"broken\""));
}

#[tokio::test]
async fn something_that_speaks_no_http_fails() {
    let (addr, _asked) = answers("SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(why(probe(&get(&[(200, 200)], None), &at(addr), SOON).await).contains("no HTTP answer"));
}

#[tokio::test]
async fn a_silent_server_fails_at_the_timeout_although_it_takes_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let timeout = Duration::from_millis(50);
    probe(&tcp(&[]), &at(addr), SOON).await.unwrap();
    assert_eq!(why(probe(&get(&[(200, 200)], None), &at(addr), timeout).await), "no answer within 50ms");
}

#[tokio::test]
async fn a_refused_connection_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert!(why(probe(&tcp(&[]), &at(addr), SOON).await).contains("cannot connect"));
}

#[test]
fn running_out_of_descriptors_is_not_the_servers_fault() {
    let emfile = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
    assert!(matches!(connect_error(&emfile), Failed::Local(_)));
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
    assert!(matches!(connect_error(&refused), Failed::Server(_)));
}

fn step(send: &str, expect: Option<Expected>) -> Step {
    Step { send: send.into(), expect }
}

fn text(text: &str) -> Option<Expected> {
    Some(Expected::Bytes(text.into()))
}

/// A server that greets, then answers each line by this.
async fn talker(greeting: &'static str, answer: fn(&str) -> &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // In pieces, as networks do.
            for piece in greeting.as_bytes().chunks(3) {
                stream.write_all(piece).await.ok();
                tokio::task::yield_now().await;
            }
            let mut buf = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut buf).await {
                stream.write_all(answer(std::str::from_utf8(&buf[..n]).unwrap()).as_bytes()).await.ok();
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_dialogue_passes_when_every_answer_is_as_expected() {
    let addr =
        talker("220 mail ready\r\n", |line| if line == "QUIT\r\n" { "221 bye\r\n" } else { "500 what\r\n" }).await;
    let pattern = |p: &str| Some(Expected::Pattern(regex::bytes::Regex::new(p).unwrap()));
    let steps = [step("", pattern("^2[0-9]{2} ")), step("", text("ready\r\n")), step("QUIT\r\n", pattern("^221 "))];
    probe(&tcp(&steps), &at(addr), SOON).await.unwrap();
    let steps = [step("", text("220")), step("HELP\r\n", text("214"))];
    let short = Duration::from_millis(200);
    assert_eq!(why(probe(&tcp(&steps), &at(addr), short).await), "no answer within 200ms");
}

#[tokio::test]
async fn a_dialogue_that_ends_early_says_what_came() {
    let (addr, _asked) = answers("-ERR no\r\n").await;
    let steps = [step("PING\r\n\r\n", text("+PONG"))];
    let why = why(probe(&tcp(&steps), &at(addr), SOON).await);
    assert_eq!(why, r#"expected "+PONG", got "-ERR no\r\n": the connection ended"#);
}

/// A WebSocket server: `pongs` or is silent; tells the code of the close it got.
async fn websocket(pongs: bool) -> (SocketAddr, tokio::task::JoinHandle<Option<u16>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.send(Message::text("news of its own")).await.unwrap();
        while pongs && let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                // The answer to it goes out with the next look.
                while socket.next().await.is_some() {}
                return frame.map(|f| f.code.into());
            }
        }
        std::future::pending().await
    });
    (addr, task)
}

fn ws() -> Probe {
    Probe::WebSocket { path: "/ws".into(), headers: vec![("Host".into(), "shop.example".into())] }
}

#[tokio::test]
async fn a_websocket_opens_answers_a_ping_and_is_closed_with_1000() {
    let (addr, task) = websocket(true).await;
    probe(&ws(), &at(addr), SOON).await.unwrap();
    assert_eq!(task.await.unwrap(), Some(1000));
}

#[tokio::test]
async fn a_websocket_without_a_pong_a_proof_or_a_101_fails() {
    let (addr, _task) = websocket(false).await;
    assert_eq!(why(probe(&ws(), &at(addr), Duration::from_millis(100)).await), "no answer within 100ms");
    const FORGED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (addr, asked) = answers(FORGED).await;
    assert_eq!(why(probe(&ws(), &at(addr), SOON).await), "answered 101 with a wrong Sec-WebSocket-Accept");
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /ws http/1.1\r\n") && asked.contains("\r\nhost: shop.example\r\n"), "{asked}");
    let (addr, _asked) = answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(why(probe(&ws(), &at(addr), SOON).await), "answered 404, expected 101");
}

/// The health service of tonic itself, perhaps over TLS.
async fn grpc(tls: Option<tokio_rustls::TlsAcceptor>) -> SocketAddr {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Orders", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("shop.Stock", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = hyper_util::service::TowerToHyperService::new(service);
    tokio::spawn(async move {
        let _reporter = reporter;
        while let Ok((stream, _)) = listener.accept().await {
            let stream: Stream = match &tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => continue,
                },
                None => Box::new(stream),
            };
            let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(builder.serve_connection(io, service.clone()));
        }
    });
    addr
}

fn asks(service: &str) -> Probe {
    Probe::Grpc { service: service.into() }
}

#[tokio::test]
async fn grpc_health_is_asked_for_the_service_that_is_meant() {
    let addr = grpc(None).await;
    for service in ["", "shop.Orders"] {
        probe(&asks(service), &at(addr), SOON).await.unwrap();
    }
    assert_eq!(why(probe(&asks("shop.Stock"), &at(addr), SOON).await), "it says NOT_SERVING");
    assert_eq!(why(probe(&asks("shop.None"), &at(addr), SOON).await), "it knows no gRPC service \"shop.None\"");
    let (addr, _asked) = answers("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(why(probe(&asks(""), &at(addr), SOON).await).starts_with("no gRPC answer: "));
}

/// A certificate for these names, as an acceptor and as PEM.
fn certificate(names: &[&str], alpn: &[u8]) -> (tokio_rustls::TlsAcceptor, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    (Arc::new(config).into(), made.cert.pem())
}

fn over_tls(addr: SocketAddr, proto: Option<Proto>, tls: ServerTls) -> Target {
    let tls = Connector::load(&Arc::new(tls), Purpose::Check(proto)).unwrap();
    Target { tls: Some(Arc::new(tls)), ..at(addr) }
}

fn trusting(dir: &tempfile::TempDir, pem: &str, sni: Option<&str>) -> ServerTls {
    let file = dir.path().join(format!("{:x}.pem", lb_core::hash::stable(pem.as_bytes())));
    std::fs::write(&file, pem).unwrap();
    ServerTls { ca: vec![file], sni: sni.map(Into::into), ..ServerTls::default() }
}

#[tokio::test]
async fn over_tls_a_check_verifies_as_requests_do() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, pem) = certificate(&["shop.internal", "127.0.0.1"], b"h2");
    let (_, other) = certificate(&["shop.internal"], b"h2");
    let addr = grpc(Some(acceptor)).await;
    let anybody = ServerTls { verify: false, ..ServerTls::default() };
    for tls in [anybody, trusting(&dir, &pem, Some("shop.internal")), trusting(&dir, &pem, None)] {
        probe(&asks(""), &over_tls(addr, Some(Proto::H2), tls.clone()), SOON).await.unwrap();
        probe(&tcp(&[]), &over_tls(addr, None, tls), SOON).await.unwrap();
    }
    // Of several authorities any will do.
    let both = trusting(&dir, &other, Some("shop.internal"));
    let both =
        ServerTls { ca: [both.ca, trusting(&dir, &pem, None).ca].concat(), sni: both.sni, ..ServerTls::default() };
    probe(&tcp(&[]), &over_tls(addr, None, both), SOON).await.unwrap();
    // By the name that the server was found by.
    let found = Target { host: Some("shop.internal".into()), ..over_tls(addr, None, trusting(&dir, &pem, None)) };
    probe(&tcp(&[]), &found, SOON).await.unwrap();
    let strange = why(probe(&tcp(&[]), &over_tls(addr, None, trusting(&dir, &other, None)), SOON).await);
    // Both sign themselves under one name: it is the signature that does not fit.
    assert!(strange.starts_with("no TLS: "), "{strange}");
    let wrong = over_tls(addr, None, trusting(&dir, &pem, Some("other.internal")));
    let wrong = why(probe(&tcp(&[]), &wrong, SOON).await);
    assert_eq!(wrong, "no TLS: its certificate is not for \"other.internal\": see `tls.sni`");
}

#[tokio::test]
async fn a_server_without_tls_fails_a_check_over_tls() {
    let addr = talker("220 plain\r\n", |_| "").await;
    let anybody = ServerTls { verify: false, ..ServerTls::default() };
    assert!(why(probe(&tcp(&[]), &over_tls(addr, None, anybody), SOON).await).starts_with("no TLS: "));
}

#[tokio::test]
async fn a_check_begins_with_a_header_that_names_nobody() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let said = proxy_protocol::read(&mut stream).await.unwrap();
            let mut buf = [0; 16];
            stream.read_exact(&mut buf).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            (said, buf)
        });
        let target = Target { send_proxy: Some(version), ..at(addr) };
        probe(&get(&[(200, 200)], None), &target, SOON).await.unwrap();
        let (told, asked) = server.await.unwrap();
        assert!(told.is_none() && asked == *b"GET /health?deep");
    }
}

#[tokio::test]
async fn a_unix_socket_is_asked_as_localhost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let target = Target { addr: ServerAddr::Unix(path), ..at(([127, 0, 0, 1], 1).into()) };
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buf = [0; 512];
        let n = stream.read(&mut buf).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&buf[..n]).to_ascii_lowercase()
    });
    probe(&get(&[(200, 200)], None), &target, SOON).await.unwrap();
    let asked = server.await.unwrap();
    assert!(asked.contains("\r\nhost: localhost\r\n"), "{asked}");
    std::fs::remove_file(target.addr.to_string().trim_start_matches("unix:")).unwrap();
    assert!(why(probe(&tcp(&[]), &target, SOON).await).contains("cannot connect"));
}
