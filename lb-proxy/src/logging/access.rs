//! The access log: a thread of its own behind a bounded queue, so that a slow disk or a stopped terminal never holds
//! a request. What does not fit into the queue is dropped and counted.
use crate::shared::{AccessLine, AccessSink};
use lb_core::config::{AccessLog, Log};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use time::format_description::well_known::Rfc3339;

/// Lines that wait for the writer at most.
const QUEUE: usize = 8192;
/// Bytes gathered into one write.
const BATCH: usize = 64 * 1024;
/// How often a failing write is told at most.
const COMPLAIN: Duration = Duration::from_secs(60);

/// The access log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("log.access: cannot append to {}: {why}", path.display())]
pub struct OpenError {
    path: PathBuf,
    why: io::Error,
}

/// A running writer. Dropping it lets the thread write what is queued and end.
#[derive(Debug)]
pub struct Writer {
    ended: Receiver<()>,
}

impl Writer {
    /// Waits until the queue is written, for at most `within`. The [`AccessSink`] must be gone by then.
    pub fn finish(self, within: Duration) {
        // Nobody sends: the channel closes when the thread ends.
        self.ended.recv_timeout(within).ok();
    }
}

/// Opens the access log, if one is wanted. `dropped` counts lines that found the queue full or could not be written.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn open(config: &Log, dropped: &Arc<AtomicU64>) -> Result<Option<(AccessSink, Writer)>, OpenError> {
    let (out, terminal): (Box<dyn Write + Send>, bool) = match &config.access {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => (Box::new(io::stdout()), io::stdout().is_terminal()),
        AccessLog::File(path) => {
            let file = append(path).map_err(|why| OpenError { path: path.clone(), why })?;
            (Box::new(file), false)
        }
    };
    let text = super::is_text(config.format, terminal);
    Ok(Some(start(out, text, dropped.clone())))
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn start(out: Box<dyn Write + Send>, text: bool, dropped: Arc<AtomicU64>) -> (AccessSink, Writer) {
    let (lines, queue) = sync_channel(QUEUE);
    let (alive, ended) = sync_channel(0);
    let lost = dropped.clone();
    let thread = std::thread::Builder::new().name("lb-access-log".into()).spawn(move || {
        write_all(queue, out, text, &lost);
        drop(alive);
    });
    if let Err(e) = thread {
        // Every line is then counted as dropped, because nobody reads the queue.
        tracing::error!(error = %e, "no thread for the access log: its lines are dropped");
    }
    (AccessSink(Box::new(move |line| send(&lines, line, &dropped))), Writer { ended })
}

fn send(lines: &SyncSender<AccessLine>, line: AccessLine, dropped: &AtomicU64) {
    if lines.try_send(line).is_err() {
        dropped.fetch_add(1, Relaxed);
    }
}

fn write_all(queue: Receiver<AccessLine>, mut out: impl Write, text: bool, dropped: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut complained: Option<Instant> = None;
    while let Ok(first) = queue.recv() {
        let mut lines = 0;
        let mut line = Some(first);
        while let Some(l) = line {
            format_line(&l, text, &mut batch);
            lines += 1;
            line = if batch.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        if let Err(e) = out.write_all(&batch).and_then(|()| out.flush()) {
            dropped.fetch_add(lines, Relaxed);
            if complained.is_none_or(|at| at.elapsed() > COMPLAIN) {
                tracing::warn!(error = %e, lines, "access log lines were lost: they could not be written");
                complained = Some(Instant::now());
            }
        }
        batch.clear();
    }
}

fn format_line(line: &AccessLine, text: bool, out: &mut Vec<u8>) {
    if text {
        write_text(line, out);
    } else if serde_json::to_writer(&mut *out, line).is_err() {
        // Only a writer that fails can make it fail, and a Vec does not.
        return;
    }
    out.push(b'\n');
}

fn write_text(line: &AccessLine, out: &mut Vec<u8>) {
    let backend = line.backend.as_deref().unwrap_or("-");
    let server = line.server.as_deref().unwrap_or("-");
    let wait = line.wait_us.map_or("-".into(), |us| format!("{:.1}ms", us as f64 / 1000.0));
    // What came from the client is escaped: it must not forge a line, nor speak to the reader's terminal.
    let _ = write!(
        out,
        "{time} {client} {frontend} {backend}/{server} {why} \"{method} {host}{target}\" {status} in={bytes_in} \
         out={bytes_out} wait={wait} total={total:.1}ms {end}",
        time = rfc3339(line.time),
        client = line.client,
        frontend = line.frontend,
        why = line.why,
        method = line.method.escape_debug(),
        host = line.host.escape_debug(),
        target = line.target.escape_debug(),
        status = line.status,
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        total = line.total_us as f64 / 1000.0,
        end = line.end,
    );
    if line.src != line.client.ip().to_canonical() {
        let _ = write!(out, " src={}", line.src);
    }
    if let Some(id) = &line.id {
        let _ = write!(out, " id={id}");
    }
    if let Some(user) = &line.user {
        let _ = write!(out, " user={}", user.escape_debug());
    }
    if let Some(tls) = line.tls {
        let _ = write!(out, " {tls}");
    }
    if line.retries > 0 {
        let _ = write!(out, " retries={}", line.retries);
    }
    if line.tunnel {
        out.extend_from_slice(b" tunnel");
    }
    if line.protocol != "http/1.1" {
        let _ = write!(out, " {}", line.protocol);
    }
    if let Some(by) = line.close_by {
        let code = line.close_code.map_or("none".into(), |code| code.to_string());
        let _ = write!(out, " close={code} by={by}");
    }
}

/// Unix milliseconds as `2026-11-02T10:00:00.123Z`.
pub(crate) fn rfc3339(ms: u64) -> String {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn line(target: &str) -> AccessLine {
        AccessLine {
            time: 1_700_000_000_123,
            client: ([192, 0, 2, 7], 4711).into(),
            src: [198, 51, 100, 9].into(),
            tls: Some("TLSv1.3"),
            frontend: "web".into(),
            backend: Some("app".into()),
            server: Some("node1".into()),
            method: "GET".into(),
            host: "example.com".into(),
            target: target.into(),
            status: 200,
            bytes_in: 0,
            bytes_out: 12,
            total_us: 1500,
            wait_us: Some(1200),
            why: "table:sessions".into(),
            id: None,
            user: None,
            end: "ok",
            retries: 1,
            tunnel: false,
            close_code: None,
            close_by: None,
            protocol: "http/1.1",
        }
    }

    /// What a writer wrote, and a gate that holds it.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_writer_ends() {
        let out = Out::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let (sink, writer) = start(Box::new(out.clone()), false, dropped.clone());
        for i in 0..1000 {
            sink.0(line(&format!("/{i}")));
        }
        drop(sink);
        writer.finish(Duration::from_secs(10));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let targets: Vec<_> =
            text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["target"].clone()).collect();
        assert_eq!(targets, (0..1000).map(|i| format!("/{i}").into()).collect::<Vec<serde_json::Value>>());
        assert_eq!(dropped.load(Relaxed), 0);
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_blocks() {
        let out = Out::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let (sink, writer) = start(Box::new(out.clone()), true, dropped.clone());
        let held = out.0.lock().unwrap();
        // The writer takes at most one batch before it blocks on the lock.
        let sent = QUEUE + BATCH;
        for _ in 0..sent {
            sink.0(line("/"));
        }
        assert!(dropped.load(Relaxed) > 0);
        drop(held);
        drop(sink);
        writer.finish(Duration::from_secs(10));
        let written = out.0.lock().unwrap().iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(written + dropped.load(Relaxed), sent as u64);
    }

    #[test]
    fn a_line_for_people_holds_what_matters_and_no_control_bytes() {
        let mut out = Vec::new();
        format_line(&line("/a\u{1b}[31m\n\"x"), true, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "2023-11-14T22:13:20.123Z 192.0.2.7:4711 web app/node1 table:sessions \
             \"GET example.com/a\\u{1b}[31m\\n\\\"x\" 200 in=0 out=12 wait=1.2ms total=1.5ms ok src=198.51.100.9 TLSv1.3 retries=1\n"
        );
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = Log {
            level: "info".into(),
            format: lb_core::config::LogFormat::Json,
            access: AccessLog::File("/nowhere/access.log".into()),
        };
        let error = open(&config, &Arc::default()).err().unwrap().to_string();
        assert!(error.contains("log.access") && error.contains("/nowhere/access.log"), "{error}");
    }
}
