//! A request, over HTTP/1.1 or as its server speaks over HTTP/2, and its answer.
use super::{Failed, Stream, Target};
use bytes::BytesMut;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lb_core::config::Probe;

/// How much of a body is searched for `expect_body`.
const BODY: usize = 64 * 1024;

/// The connection's driver, ended with the probe whatever becomes of it.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn ask(probe: &Probe, target: &Target, stream: Stream) -> Result<(), Failed> {
    let Probe::Http { expect, expect_body, .. } = probe else { return Ok(()) };
    let broken = |e: hyper::Error| Failed::Server(format!("no HTTP answer: {e}"));
    let (request, io) = (request(probe, target)?, TokioIo::new(stream));
    // What goes wrong on the connection is told by `send_request` or by the body.
    let (answer, _driver) = if target.h2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(broken)?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        (
            sender
                .send_request(in_http2(request, if target.tls.is_some() { "https" } else { "http" })?)
                .await
                .map_err(broken)?,
            driver,
        )
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        (sender.send_request(request).await.map_err(broken)?, driver)
    };
    let status = answer.status().as_u16();
    if !expect.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(Failed::Server(format!("answered {status}, expected {}", ranges(expect))));
    }
    match expect_body {
        Some(text) => body_holds(answer.into_body(), text).await,
        None => Ok(()),
    }
}

fn request(probe: &Probe, target: &Target) -> Result<Request<Empty<&'static [u8]>>, Failed> {
    let Probe::Http { method, path, headers, .. } = probe else { return Err(Failed::Local("no HTTP probe".into())) };
    let mut builder = Request::builder().method(method.as_str()).uri(path.as_str());
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    // The configuration was checked; should something have slipped through, the server is not to blame.
    let mut request =
        builder.body(Empty::new()).map_err(|e| Failed::Local(format!("the check cannot be sent: {e}")))?;
    let host = HeaderValue::from_str(&target.host());
    if let (false, Ok(host)) = (request.headers().contains_key(header::HOST), host) {
        request.headers_mut().insert(header::HOST, host);
    }
    let headers = request.headers_mut();
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("lb-check"));
    headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
    Ok(request)
}

/// The host becomes part of the target, and fields of the connection go.
fn in_http2(mut request: Request<Empty<&'static [u8]>>, scheme: &str) -> Result<Request<Empty<&'static [u8]>>, Failed> {
    let wrong = |e: &dyn std::fmt::Display| Failed::Local(format!("the check cannot be sent: {e}"));
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    if let Some(host) = headers.remove(header::HOST) {
        let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target);
        *request.uri_mut() = uri.build().map_err(|e| wrong(&e))?;
    }
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
