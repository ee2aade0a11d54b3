//! Listening sockets that the service manager opened for this process (systemd's socket activation: `LISTEN_FDS`,
//! `LISTEN_PID`, `LISTEN_FDNAMES`). They are kept for as long as the process lives: a reload may want them again.
use super::Listener;
use listenfd::ListenFd;
use parking_lot::Mutex;
use std::io;
use std::sync::OnceLock;

/// The first one's number.
const FIRST: usize = 3;

struct Passed {
    name: Option<String>,
    listener: Listener,
}

/// A copy of the socket of that name or number.
pub(super) fn open(wanted: &str) -> io::Result<Listener> {
    let all = all().lock();
    let by_number =
        wanted.parse::<usize>().ok().and_then(|n| n.checked_sub(FIRST)).and_then(|at| all.get(at)?.as_ref());
    let by_name = || all.iter().flatten().find(|passed| passed.name.as_deref() == Some(wanted));
    match by_number.or_else(by_name) {
        Some(passed) => passed.listener.try_clone(),
        None => {
            let known: Vec<_> = all.iter().flatten().filter_map(|passed| passed.name.as_deref()).collect();
            let why = match (all.len(), known.as_slice()) {
                (0, _) => "no socket was passed to this process (LISTEN_FDS)".to_owned(),
                (n, []) => format!("{n} sockets without names were passed, from fd@{FIRST} on"),
                (n, known) => format!("{n} sockets were passed, from fd@{FIRST} on: {}", known.join(", ")),
            };
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        }
    }
}

/// Taken over once: others must not take them for theirs. `None`: it is no listening stream socket.
fn all() -> &'static Mutex<Vec<Option<Passed>>> {
    static PASSED: OnceLock<Mutex<Vec<Option<Passed>>>> = OnceLock::new();
    PASSED.get_or_init(|| {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let count = passed.len();
        let take = |at| {
            let name = names.next().filter(|name| !name.is_empty()).map(str::to_owned);
            let listener = match passed.take_tcp_listener(at) {
                Ok(listener) => listener.map(Listener::Tcp),
                Err(_) => passed.take_unix_listener(at).ok().flatten().map(Listener::Unix),
            };
            listener.map(|listener| Passed { name, listener })
        };
        Mutex::new((0..count).map(take).collect())
    })
}
