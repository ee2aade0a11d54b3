//! A TCP link that can be broken, and made bad: what switches, firewalls and long ways do to two peers.
use crate::dice::Dice;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parts on their way that a link holds; then it reads no more.
const HELD: usize = 64;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// They arrive.
    #[default]
    Pass,
    /// They wait until the link is healed.
    Wait,
    /// They are lost, and with them the connection, once the link is healed.
    Lost,
}

/// Passes connections on to a port of this machine, until it is cut.
pub struct Link {
    /// Where it listens.
    pub addr: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    cut: Arc<AtomicBool>,
    there: Arc<Way>,
    back: Arc<Way>,
}

/// One direction of a link.
#[derive(Default)]
struct Way {
    now: Mutex<Weather>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Weather {
    fate: Fate,
    delay: Duration,
    jitter: Duration,
}

impl Link {
    /// A link to a port.
    ///
    /// # Panics
    /// No port is free.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let (open, cut): (Arc<Mutex<Vec<TcpStream>>>, Arc<AtomicBool>) = Default::default();
        let (there, back): (Arc<Way>, Arc<Way>) = Default::default();
        let (streams, broken, ways) = (open.clone(), cut.clone(), (there.clone(), back.clone()));
        // Ends with the process: a link is small.
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                if broken.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(to) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                ways.0.join(&from, &to);
                ways.1.join(&to, &from);
                if let Ok(mut streams) = streams.lock() {
                    streams.extend([from, to]);
                }
            }
        });
        Self { addr, open, cut, there, back }
    }

    /// Breaks all connections, and takes no new ones.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.reset();
    }

    /// Bytes take this long each way, and up to `jitter` more.
    pub fn slow(&self, delay: Duration, jitter: Duration) {
        for way in [&self.there, &self.back] {
            way.change(|now| (now.delay, now.jitter) = (delay, jitter));
        }
    }

    /// What becomes of bytes on their way there, and on their way back. Connections are taken as ever.
    pub fn fate(&self, there: Fate, back: Fate) {
        self.there.change(|now| now.fate = there);
        self.back.change(|now| now.fate = back);
    }

    /// All is well again.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
        for way in [&self.there, &self.back] {
            way.change(|now| *now = Weather::default());
        }
    }

    /// Breaks all connections.
    pub fn reset(&self) {
        if let Ok(mut open) = self.open.lock() {
            for stream in open.drain(..) {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }
}

impl Way {
    fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until bytes move, or are lost.
    fn fate(&self) -> Fate {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.changed.wait_while(now, |now| now.fate == Fate::Wait);
        now.unwrap_or_else(PoisonError::into_inner).fate
    }

    /// Waits until all is well.
    fn healed(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(now, |now| now.fate != Fate::Pass));
    }

    fn join(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let (parts, held) = sync_channel(HELD);
        let (reading, writing) = (self.clone(), self.clone());
        std::thread::spawn(move || reading.read(from, &parts));
        std::thread::spawn(move || writing.write(to, &held));
    }

    fn read(&self, mut from: TcpStream, parts: &SyncSender<(Instant, Vec<u8>)>) {
        let (mut dice, mut due, mut buf) = (Dice::new(1), Instant::now(), [0; 16 << 10]);
        while let Ok(n) = from.read(&mut buf)
            && n > 0
        {
            let now = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
            let jitter = now.jitter.mul_f64(dice.below(1000) as f64 / 1000.0);
            // In order, whatever the jitter: this is TCP.
            due = due.max(Instant::now() + now.delay + jitter);
            if parts.send((due, buf[..n].to_vec())).is_err() {
                return;
            }
        }
    }

    fn write(&self, mut to: TcpStream, held: &Receiver<(Instant, Vec<u8>)>) {
        let mut whole = true;
        while let Ok((due, part)) = held.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            whole &= self.fate() == Fate::Pass;
            if !whole {
                // The rest goes the same way.
                self.healed();
                break;
            }
            if to.write_all(&part).is_err() {
                break;
            }
        }
        // That a connection has ended is heard of as late as its bytes.
        self.healed();
        drop(to.shutdown(if whole { Shutdown::Write } else { Shutdown::Both }));
    }
}
