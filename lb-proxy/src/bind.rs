//! Listening sockets of the frontends: one for each worker on the same address (`SO_REUSEPORT`), so that the kernel
//! spreads connections and no worker wakes for another's.
//!
//! It knows addresses and sockets, not workers, snapshots or HTTP.
//!
//! `SO_REUSEPORT` has a trap: a second process of the same user may bind a port that is already served, and then
//! silently takes a share of its clients. So every address is first tried *without* it; that fails if anybody at all
//! listens there, and the error is told before anything starts. Addresses that this very process serves already (a
//! reload that hands one from frontend to frontend) skip the trial.
use lb_core::config::{ListenAddr, SocketOptions};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

mod inherited;
mod unix;

/// Connections the kernel holds that no worker has accepted yet. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An address that a frontend asks for: all of it is the listener's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Frontend name.
    pub frontend: String,
    /// Address as configured.
    pub addr: ListenAddr,
    /// How its socket is made.
    pub options: SocketOptions,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP
    Tcp(TcpListener),
    /// Unix
    Unix(UnixListener),
}

impl Listener {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// Where it really listens.
    fn real(&self, wanted: &ListenAddr) -> io::Result<ListenAddr> {
        Ok(match self {
            Self::Tcp(listener) => ListenAddr::Tcp(listener.local_addr()?),
            Self::Unix(listener) if matches!(wanted, ListenAddr::Inherited(_)) => {
                let path = listener.local_addr()?.as_pathname().map(Into::into);
                path.map_or_else(|| wanted.clone(), ListenAddr::Unix)
            }
            Self::Unix(_) => wanted.clone(),
        })
    }
}

/// Open listening sockets for one [`Wanted`].
#[derive(Debug)]
pub struct Bound {
    /// What was asked for.
    pub wanted: Wanted,
    /// The address with its real port.
    pub real: ListenAddr,
    /// One non-blocking socket for each worker.
    pub sockets: Vec<Listener>,
}

/// A frontend cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("frontend \"{frontend}\" cannot listen on {addr}: {why}. {}", advice(why, addr))]
pub struct BindError {
    /// Frontend name.
    pub frontend: String,
    /// Address as configured.
    pub addr: ListenAddr,
    /// Why. Not a `source`: the sentence above holds it, and printers of chains would say it twice.
    pub why: io::Error,
}

/// Sockets that were passed to this process and that nothing has bound.
pub(crate) fn unused() -> Vec<String> {
    inherited::unused()
}

/// Opens every wanted address, `workers` sockets each; all or none. `served` are the real addresses that this process
/// listens on already.
///
/// # Errors
/// The first address that cannot be had; nothing stays open then.
pub fn bind_all(wanted: &[Wanted], workers: usize, served: &HashSet<ListenAddr>) -> Result<Vec<Bound>, BindError> {
    let explain = |w: &Wanted| {
        let (frontend, addr) = (w.frontend.clone(), w.addr.clone());
        move |why| BindError { frontend, addr, why }
    };
    // All trials come before the first real socket, which would stand in the way of a wildcard's trial.
    for w in wanted.iter().filter(|w| !served.contains(&w.addr)) {
        try_out(w).map_err(explain(w))?;
    }
    wanted.iter().map(|w| bind(w, workers).map_err(explain(w))).collect()
}

fn try_out(wanted: &Wanted) -> io::Result<()> {
    match &wanted.addr {
        ListenAddr::Tcp(addr) if addr.port() != 0 => open(*addr, &wanted.options, false).map(drop),
        ListenAddr::Unix(path) => unix::try_out(path),
        ListenAddr::Tcp(_) | ListenAddr::Inherited(_) => Ok(()),
    }
}

fn bind(wanted: &Wanted, workers: usize) -> io::Result<Bound> {
    let options = &wanted.options;
    let first = match &wanted.addr {
        ListenAddr::Tcp(addr) => Listener::Tcp(open(*addr, options, true)?),
        ListenAddr::Unix(path) => Listener::Unix(unix::open(path, options, BACKLOG)?),
        ListenAddr::Inherited(name) => inherited::open(name)?,
    };
    first.set_nonblocking()?;
    let real = first.real(&wanted.addr)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(match (&wanted.addr, &real) {
            (ListenAddr::Tcp(_), ListenAddr::Tcp(real)) => Listener::Tcp(open(*real, options, true)?),
            // One queue, which the workers take turns at.
            _ => sockets[0].try_clone()?,
        });
    }
    Ok(Bound { wanted: wanted.clone(), real, sockets })
}

fn open(addr: SocketAddr, options: &SocketOptions, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would wait for the TIME_WAIT connections of the former process.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if options.v6only {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn advice(error: &io::Error, addr: &ListenAddr) -> String {
    let addr = match addr {
        ListenAddr::Tcp(addr) => addr,
        ListenAddr::Unix(path) => return of_unix(error, path),
        ListenAddr::Inherited(_) if error.kind() == io::ErrorKind::InvalidInput => {
            return "Write their numbers, or give each a socket unit with a name of its own".into();
        }
        ListenAddr::Inherited(_) => {
            return "Name one that the socket unit opens (`FileDescriptorName=`), or count from fd@3 on".into();
        }
    };
    let port = addr.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("Somebody listens there already (see `ss -ltnp sport = :{port}`): stop it, or choose another port")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("This machine has no address {}: write one of its own, or 0.0.0.0 for all", addr.ip())
        }
        io::ErrorKind::PermissionDenied => format!(
            "Ports below 1024 need CAP_NET_BIND_SERVICE (`AmbientCapabilities=` in systemd): give it, or choose a \
             higher port than {port}"
        ),
        _ => "Check the address, and the limit of open files (`ulimit -n`)".into(),
    }
}

fn of_unix(error: &io::Error, path: &std::path::Path) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Somebody listens there already (see `ss -lxp`): stop it, or choose another path".into()
        }
        io::ErrorKind::AlreadyExists => "Move it away, or choose another path".into(),
        io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(path);
            format!("The directory {} must be there, and `user` and `group` must exist", dir.display())
        }
        _ => "Check the directory's permissions, and those of `user` and `group`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addr: SocketAddr) -> Vec<Wanted> {
        vec![Wanted { frontend: "web".into(), addr: addr.into(), options: SocketOptions::default() }]
    }

    fn loopback(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_port_that_the_first_one_took() {
        let bound = bind_all(&wanted(loopback(0)), 3, &HashSet::new()).unwrap().remove(0);
        let real = bound.real.tcp().unwrap();
        assert_ne!(real.port(), 0);
        assert_eq!(bound.sockets.len(), 3);
        for socket in &bound.sockets {
            let Listener::Tcp(socket) = socket else { panic!("TCP") };
            assert_eq!(socket.local_addr().unwrap(), real);
            assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn an_address_in_use_is_an_error_even_if_its_holder_shares_it() {
        let holder = open(loopback(0), &SocketOptions::default(), true).unwrap();
        let addr = holder.local_addr().unwrap();
        let error = bind_all(&wanted(addr), 2, &HashSet::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("frontend \"web\"") && text.contains(&addr.to_string()), "{text}");
        assert!(text.contains("choose another port"), "{text}");
    }

    #[test]
    fn an_address_that_this_process_serves_can_be_shared() {
        let holder = open(loopback(0), &SocketOptions::default(), true).unwrap();
        let addr = holder.local_addr().unwrap();
        let bound = bind_all(&wanted(addr), 2, &HashSet::from([addr.into()])).unwrap();
        assert_eq!(bound[0].real, addr.into());
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_says_so() {
        let error = bind_all(&wanted("192.0.2.1:8080".parse().unwrap()), 1, &HashSet::new()).unwrap_err();
        assert!(error.to_string().contains("no address 192.0.2.1"), "{error}");
    }

    #[test]
    fn a_failure_leaves_no_socket_open() {
        let holder = open(loopback(0), &SocketOptions::default(), false).unwrap();
        let taken = holder.local_addr().unwrap();
        let free = open(loopback(0), &SocketOptions::default(), false).unwrap().local_addr().unwrap();
        let both = [wanted(free), wanted(taken)].concat();
        bind_all(&both, 1, &HashSet::new()).unwrap_err();
        assert!(open(free, &SocketOptions::default(), false).is_ok());
    }
}
