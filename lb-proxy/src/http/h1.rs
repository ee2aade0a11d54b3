//! One client connection: heads read one after the other, each request forwarded, the connection closed in order.
use super::forward::{self, After};
use super::head::{self, Request};
use super::limits::Opened;
use super::reason::Reason;
use super::{account, own};
use crate::arrival::Arrival;
use crate::io::{self, Elapsed, Timer};
use crate::listener::{Admission, Listening};
use crate::stream::Stream;
use crate::tunnel;
use crate::worker::{Client, Local};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// How long, and for how many bytes, a connection is read after our last answer, so that the client can read that
/// before a reset reaches it.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 256 * 1024);

/// A connection's state between requests.
pub(crate) struct Conn {
    pub(crate) local: Rc<Local>,
    pub(crate) stream: Stream,
    /// How it began.
    pub(crate) arrival: Rc<Arrival>,
    pub(crate) client: Rc<Client>,
    pub(crate) listening: Rc<Listening>,
    pub(crate) timer: Timer,
    /// What came and was not used yet. No memory while there is nothing.
    pub(crate) input: Vec<u8>,
    /// Keys that its requests have named where tables count.
    pub(crate) opened: Opened,
}

/// Serves a connection to its end. `input` was read from it already.
pub(crate) async fn serve(
    local: Rc<Local>,
    stream: Stream,
    arrival: Rc<Arrival>,
    listening: Rc<Listening>,
    admission: Admission,
    input: Vec<u8>,
) {
    let client = local.remember();
    let (timer, opened) = (Timer::new(), Opened::default());
    let mut conn = Conn { local, stream, arrival, client, listening, timer, input, opened };
    let mut first = true;
    loop {
        let after = match conn.head(first).await {
            // Apart, so that a connection between two requests does not hold the memory of a request; and written where it
            // stays, not copied there.
            Ok(request) => Box::into_pin(Box::write(Box::new_uninit(), forward::exchange(&mut conn, request))).await,
            Err(None) => break,
            Err(Some(reason)) => conn.refuse(reason).await,
        };
        first = false;
        match after {
            After::Next => {}
            After::Close => break,
            After::Linger => {
                conn.linger().await;
                break;
            }
            After::Switch(switch) => {
                conn.local.forget(&conn.client);
                // A task of its own, because this one's memory is that of a whole request.
                tokio::task::spawn_local(tunnel::run(switch.into_tunnel(conn.stream, conn.opened, Some(admission))));
                return;
            }
        }
    }
    conn.local.forget(&conn.client);
}

impl Conn {
    /// The next request's head, at the start of `input`. `Err(None)`: the connection ends without another word.
    async fn head(&mut self, first: bool) -> Result<Request, Option<Reason>> {
        let snap = self.local.snapshot();
        let Some(frontend) = self.listening.frontend(&snap).map(|f| &f.config) else { return Err(None) };
        let (limit, keep_alive) = (frontend.timeout.http_request, frontend.timeout.http_keep_alive);
        let (max_head, max_headers) = (frontend.max_head, frontend.max_headers);
        drop(snap);
        if self.input.is_empty() {
            self.idle(if first { limit } else { keep_alive }, first).await?;
        }
        let mut deadline = None;
        let mut looked = 0;
        loop {
            if self.input.len() > looked {
                if looked == 0 || worth_a_look(&self.input, looked) {
                    let spare = self.local.fields.take();
                    if let Some(request) = head::request(&self.input, max_headers, spare).map_err(Some)? {
                        if request.len > max_head {
                            return Err(Some(Reason::HEAD_TOO_LARGE));
                        }
                        return Ok(request);
                    }
                }
                looked = self.input.len();
                if looked >= max_head {
                    return Err(Some(Reason::HEAD_TOO_LARGE));
                }
            }
            let at = *deadline.get_or_insert_with(|| Instant::now() + limit);
            match self.timer.until(at, more(&self.local, &mut self.stream, &mut self.input)).await {
                Err(Elapsed) => return Err(Some(Reason::HEAD_TIMEOUT)),
                Ok(Ok(0)) => return Err(Some(Reason::BAD_REQUEST)),
                Ok(Err(_)) => return Err(None),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Waits for first bytes, without a buffer.
    async fn idle(&mut self, limit: Duration, first: bool) -> Result<(), Option<Reason>> {
        let Self { local, client, stream, input, .. } = self;
        let bytes = poll_fn(|cx| {
            client.wake_on_drain(cx.waker());
            match io::poll_fill(stream, &local.buffers, input, cx) {
                Poll::Pending if local.draining() && !first => Poll::Ready(Ok(0)),
                polled => polled,
            }
        });
        match self.timer.within(limit, bytes).await {
            Ok(Ok(1..)) => Ok(()),
            Err(Elapsed) if first => Err(Some(Reason::HEAD_TIMEOUT)),
            _ => Err(None),
        }
    }

    /// Drops what was used of `input`; gives the buffer back when nothing is left.
    pub(crate) fn consume(&mut self, n: usize) {
        if n >= self.input.len() {
            self.local.buffers.give(std::mem::take(&mut self.input));
        } else {
            self.input.drain(..n);
        }
    }

    /// Drops a request that is answered without its body; true: it has none.
    pub(crate) fn give_up(&mut self, request: &Request) -> bool {
        self.consume(request.len);
        request.framing == head::Framing::Empty
    }

    /// Answers a request that could not be read.
    pub(crate) async fn refuse(&mut self, reason: Reason) -> After {
        let mut account = account::Request::unread(&self.local, &self.listening, &self.arrival);
        account.protocol(&self.stream);
        account.status = reason.status;
        account.own_answer();
        let snap = self.local.snapshot();
        let rules = self.listening.frontend(&snap).map(|f| &f.config.rules);
        let answer = own::Own::new(&reason.into(), [None, rules]).write(&own::Way::default());
        let sent = self.timer.within(LINGER.0, super::say(&self.stream.writer(), &answer)).await;
        account.finish(reason.code);
        if matches!(sent, Ok(Ok(()))) { After::Linger } else { After::Close }
    }

    /// Says that nothing more comes, and reads on for a bounded while.
    async fn linger(&mut self) {
        self.stream.writer().shutdown();
        let until = Instant::now() + LINGER.0;
        let mut total = 0;
        while total < LINGER.1 {
            // Those who are sent away at the same time may be thousands.
            let mut buf = Vec::new();
            let read = self.timer.until(until, io::fill(&mut self.stream, &self.local.buffers, &mut buf)).await;
            self.local.buffers.give(buf);
            match read {
                Ok(Ok(n)) if n > 0 => total += n,
                _ => break,
            }
        }
    }
}

/// Appends to `input`. What is there already is the beginning of a head that came in pieces: it waits in as much memory
/// as it needs, because such clients may be many and slow.
pub(crate) async fn more(local: &Local, stream: &mut Stream, input: &mut Vec<u8>) -> std::io::Result<usize> {
    if input.capacity() > 2 * input.len() {
        let fitting = input.as_slice().to_vec();
        local.buffers.give(std::mem::replace(input, fitting));
    }
    let mut piece = Vec::new();
    let read = io::fill(stream, &local.buffers, &mut piece).await;
    input.extend_from_slice(&piece);
    local.buffers.give(piece);
    read
}

/// Whether the bytes from `from` on can have completed or spoilt a head: a blank line, or a line that ends wrongly.
fn worth_a_look(input: &[u8], from: usize) -> bool {
    memchr::memchr_iter(b'\n', &input[from..]).any(|i| {
        let at = from + i;
        at < 3 || input[at - 1] != b'\r' || input[at - 2] == b'\n'
    })
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_between_two_requests_is_small() {
        fn future<A, B, C, D, E, G, F>(_: fn(A, B, C, D, E, G) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future(serve) <= 2048, "{}", future(serve));
    }
}
