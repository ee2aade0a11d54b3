//! One question to one server: does it take a connection, does it answer as expected?
//!
//! It knows a [`Probe`] and an address; when to ask and what the answer means for the server is the schedule's part.
use bytes::BytesMut;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use lb_core::config::Probe;
use lb_core::time::format_duration;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// How much of a body is searched for `expect_body`.
const BODY: usize = 64 * 1024;

/// Why a probe gave no pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The server is to blame; a sentence for people.
    #[error("{0}")]
    Server(String),
    /// This machine is: no descriptors, no ports. It says nothing about the server.
    #[error("{0}")]
    Local(String),
}

/// Asks once. `within` bounds everything: connecting, sending, the whole answer.
///
/// # Errors
/// [`Failed`]
pub async fn probe(probe: &Probe, addr: SocketAddr, within: Duration) -> Result<(), Failed> {
    let ask = async {
        let stream = TcpStream::connect(addr).await.map_err(|e| connect_error(&e))?;
        match probe {
            Probe::Tcp => Ok(()),
            Probe::Http { .. } => http(probe, addr, stream).await,
        }
    };
    let late = || Failed::Server(format!("no answer within {}", format_duration(within)));
    tokio::time::timeout(within, ask).await.unwrap_or_else(|_| Err(late()))
}

fn connect_error(error: &io::Error) -> Failed {
    // Descriptors and local ports are ours, not the server's.
    const OURS: [rustix::io::Errno; 5] = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
        rustix::io::Errno::ADDRNOTAVAIL,
    ];
    let text = format!("cannot connect: {error}");
    match error.raw_os_error() {
        Some(code) if OURS.iter().any(|e| e.raw_os_error() == code) => Failed::Local(text),
        _ => Failed::Server(text),
    }
}

/// The connection's driver, ended with the probe whatever becomes of it.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn http(probe: &Probe, addr: SocketAddr, stream: TcpStream) -> Result<(), Failed> {
    let Probe::Http { expect, expect_body, .. } = probe else { return Ok(()) };
    let broken = |e: hyper::Error| Failed::Server(format!("no HTTP answer: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let _driver = Driver(tokio::spawn(async move {
        // What goes wrong on the connection is told by `send_request` or by the body.
        connection.await.ok();
    }));
    let answer = sender.send_request(request(probe, addr)?).await.map_err(broken)?;
    let status = answer.status().as_u16();
    if !expect.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(Failed::Server(format!("answered {status}, expected {}", ranges(expect))));
    }
    match expect_body {
        Some(text) => body_holds(answer.into_body(), text).await,
        None => Ok(()),
    }
}

fn request(probe: &Probe, addr: SocketAddr) -> Result<Request<Empty<&'static [u8]>>, Failed> {
    let Probe::Http { method, path, headers, .. } = probe else { return Err(Failed::Local("no HTTP probe".into())) };
    let mut builder = Request::builder().method(method.as_str()).uri(path.as_str());
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    // The configuration was checked; should something have slipped through, the server is not to blame.
    let mut request =
        builder.body(Empty::new()).map_err(|e| Failed::Local(format!("the check cannot be sent: {e}")))?;
    let host = HeaderValue::from_str(&addr.to_string());
    if let (false, Ok(host)) = (request.headers().contains_key(header::HOST), host) {
        request.headers_mut().insert(header::HOST, host);
    }
    let headers = request.headers_mut();
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("lb-check"));
    headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
    Ok(request)
}

async fn body_holds(mut body: hyper::body::Incoming, text: &str) -> Result<(), Failed> {
    let mut seen = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failed::Server(format!("the answer broke off: {e}")))?;
        if let Some(data) = frame.data_ref() {
            seen.extend_from_slice(&data[..data.len().min(BODY - seen.len())]);
        }
        if memchr::memmem::find(&seen, text.as_bytes()).is_some() {
            return Ok(());
        }
        if seen.len() >= BODY {
            break;
        }
    }
    Err(Failed::Server(format!("the body (first {} bytes) does not hold {text:?}", seen.len())))
}

fn ranges(expect: &[(u16, u16)]) -> String {
    let one = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    expect.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(10);

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
        probe(&get(&[(200, 399)], None), addr, SOON).await.unwrap();
        let asked = asked.await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("get /health?deep=1 http/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("\r\nhost: {addr}\r\n")) && asked.contains("\r\nx-check: lb\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn another_status_fails_and_says_which_was_expected() {
        let (addr, _asked) = answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
        let why = why(probe(&get(&[(200, 200), (300, 399)], None), addr, SOON).await);
        assert_eq!(why, "answered 500, expected 200, 300-399");
    }

    #[tokio::test]
    async fn the_expected_text_is_found_across_chunks_and_missed_when_absent() {
        const CHUNKED: &str =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall o\r\n6\r\nk here\r\n0\r\n\r\n";
        let (addr, _asked) = answers(CHUNKED).await;
        probe(&get(&[(200, 200)], Some("all ok")), addr, SOON).await.unwrap();
        let (addr, _asked) = answers(CHUNKED).await;
        assert!(why(probe(&get(&[(200, 200)], Some("broken")), addr, SOON).await).contains("\"broken\""));
    }

    #[tokio::test]
    async fn something_that_speaks_no_http_fails() {
        let (addr, _asked) = answers("SSH-2.0-OpenSSH_9.2\r\n").await;
        assert!(why(probe(&get(&[(200, 200)], None), addr, SOON).await).contains("no HTTP answer"));
    }

    #[tokio::test]
    async fn a_silent_server_fails_at_the_timeout_although_it_takes_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let timeout = Duration::from_millis(50);
        probe(&Probe::Tcp, addr, SOON).await.unwrap();
        assert_eq!(why(probe(&get(&[(200, 200)], None), addr, timeout).await), "no answer within 50ms");
    }

    #[tokio::test]
    async fn a_refused_connection_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert!(why(probe(&Probe::Tcp, addr, SOON).await).contains("cannot connect"));
    }

    #[test]
    fn running_out_of_descriptors_is_not_the_servers_fault() {
        let emfile = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        assert!(matches!(connect_error(&emfile), Failed::Local(_)));
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert!(matches!(connect_error(&refused), Failed::Server(_)));
    }
}
