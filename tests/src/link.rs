//! A TCP link that can be broken: what a switch that dies, or a firewall, does to two peers.
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Passes connections on to a port of this machine, until it is cut.
pub struct Link {
    /// Where it listens.
    pub addr: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    cut: Arc<AtomicBool>,
}

impl Link {
    /// A link to a port.
    ///
    /// # Panics
    /// No port is free.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let cut = Arc::new(AtomicBool::new(false));
        let (streams, broken) = (open.clone(), cut.clone());
        // Ends with the process: a link is small.
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                if broken.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(to) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                join(&from, &to);
                join(&to, &from);
                if let Ok(mut streams) = streams.lock() {
                    streams.extend([from, to]);
                }
            }
        });
        Self { addr, open, cut }
    }

    /// Breaks all connections, and takes no new ones.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.reset();
    }

    /// Takes connections again.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
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

fn join(from: &TcpStream, to: &TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
}
