//! Bytes sent, bytes awaited: `tcp = [{ send = …, expect = … }]`.
use super::{Failed, Stream};
use bytes::{Buf, BytesMut};
use lb_core::config::check::shown;
use lb_core::config::{Expected, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much may come before what is expected.
const MOST: usize = 64 * 1024;
/// How much of a wrong answer is shown.
const SHOWN: usize = 64;

/// Takes all steps.
pub(super) async fn ask(steps: &[Step], mut stream: Stream) -> Result<(), Failed> {
    let mut seen = BytesMut::new();
    for Step { send, expect } in steps {
        if !send.is_empty() {
            // What came before is no answer to this.
            seen.clear();
            let sent = async {
                stream.write_all(send).await?;
                stream.flush().await
            };
            sent.await.map_err(|e| Failed::Server(format!("cannot send {}: {e}", shown(send))))?;
        }
        if let Some(expected) = expect {
            await_match(expected, &mut stream, &mut seen).await?;
        }
    }
    Ok(())
}

/// Reads until it is there; what comes behind stays in `seen`.
async fn await_match(expected: &Expected, stream: &mut Stream, seen: &mut BytesMut) -> Result<(), Failed> {
    loop {
        if let Some(end) = expected.find(seen) {
            seen.advance(end);
            return Ok(());
        }
        let why = match stream.read_buf(seen).await {
            Ok(_) if seen.len() > MOST => "more came",
            Ok(1..) => continue,
            Ok(0) => "the connection ended",
            Err(_) => "the connection broke",
        };
        let got = if seen.is_empty() { "nothing".into() } else { shown(&seen[..seen.len().min(SHOWN)]) };
        return Err(Failed::Server(format!("expected {expected}, got {got}: {why}")));
    }
}
