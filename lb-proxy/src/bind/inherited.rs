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
    number: usize,
    name: Option<String>,
    listener: Listener,
    used: bool,
}

/// A copy of the socket of that name or number.
pub(super) fn open(wanted: &str) -> io::Result<Listener> {
    let mut all = all().lock();
    let is = |passed: &Passed| passed.name.as_deref() == Some(wanted);
    let number = wanted.parse::<usize>().ok();
    let fits = |passed: &&mut Passed| Some(passed.number) == number || is(passed);
    let named: Vec<_> = all.iter().filter(|passed| is(passed)).map(|passed| format!("fd@{}", passed.number)).collect();
    if named.len() > 1 {
        // The others would take connections that nobody serves.
        let why = format!("{} sockets have that name: {}", named.len(), named.join(", "));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match all.iter_mut().find(fits) {
        Some(passed) => {
            passed.used = true;
            passed.listener.try_clone()
        }
        None => {
            let known: Vec<_> = all.iter().filter_map(|passed| passed.name.as_deref()).collect();
            let why = match (all.len(), known.as_slice()) {
                (0, _) => "no socket was passed to this process (LISTEN_FDS)".to_owned(),
                (n, []) => format!("{n} sockets without names were passed, from fd@{FIRST} on"),
                (n, known) => format!("{n} sockets were passed, from fd@{FIRST} on: {}", known.join(", ")),
            };
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        }
    }
}

/// Those that nothing has asked for: their connections wait for nobody.
pub(super) fn unused() -> Vec<String> {
    let name = |passed: &Passed| match &passed.name {
        Some(name) => format!("fd@{name} (fd@{})", passed.number),
        None => format!("fd@{}", passed.number),
    };
    all().lock().iter().filter(|passed| !passed.used).map(name).collect()
}

/// Taken over once: others must not take them for theirs. What is no listening stream socket is left out.
fn all() -> &'static Mutex<Vec<Passed>> {
    static PASSED: OnceLock<Mutex<Vec<Passed>>> = OnceLock::new();
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
            listener.map(|listener| Passed { number: FIRST + at, name, listener, used: false })
        };
        Mutex::new((0..count).filter_map(take).collect())
    })
}
