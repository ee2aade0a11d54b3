//! A DNS server on loopback whose answers change.
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it knows. Every answer holds for a second.
#[derive(Clone, Debug)]
pub enum Record {
    /// An address of a name.
    A(&'static str, Ipv4Addr),
    /// A port and host of a service.
    Srv(&'static str, u16, &'static str),
    /// The same, with priority and weight.
    Weighted(&'static str, u16, &'static str, (u16, u16)),
}

/// A running server. It dies with this.
#[derive(Debug)]
pub struct Dns {
    /// Where it listens.
    pub addr: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Dns {
    /// Starts it.
    ///
    /// # Panics
    /// There is no port.
    pub fn start(records: Vec<Record>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let addr = socket.local_addr().expect("an address");
        let (records, ended) = (Arc::new(Mutex::new(records)), Arc::new(AtomicBool::new(false)));
        let (known, end) = (records.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut question = [0; 1024];
            while !end.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..len], &known.lock().expect("the records")) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { addr, records, ended, thread: Some(thread) }
    }

    /// It knows something else from now on.
    ///
    /// # Panics
    /// It has failed.
    pub fn set(&self, records: Vec<Record>) {
        *self.records.lock().expect("the records") = records;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

const A: u16 = 1;
const SRV: u16 = 33;

/// The answer to a message with one question; `None`: there is none in it.
fn answer(message: &[u8], known: &[Record]) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while *message.get(at)? != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(message.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let (name, end) = (labels.join("."), at + 5);
    let kind = u16::from_be_bytes(message.get(at + 1..at + 3)?.try_into().ok()?);
    let of_name = known
        .iter()
        .filter(|r| matches!(r, Record::A(n, _) | Record::Srv(n, ..) | Record::Weighted(n, ..) if *n == name));
    let data: Vec<Vec<u8>> = of_name.clone().filter_map(|record| data(record, kind)).collect();
    let code = if of_name.count() == 0 { 3 } else { 0 };
    let count = u8::try_from(data.len()).ok()?;
    // The question's id; an answer with authority, recursion as wanted; one question, so many records.
    let mut answer = [&message[..2], &[0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], message.get(12..end)?].concat();
    for data in data {
        // The name is that of the question; class IN; a second.
        answer.extend([&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 1]].concat());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

fn data(record: &Record, kind: u16) -> Option<Vec<u8>> {
    match record {
        Record::A(_, ip) if kind == A => Some(ip.octets().to_vec()),
        Record::Srv(name, port, target) => data(&Record::Weighted(name, *port, target, (0, 0)), kind),
        Record::Weighted(_, port, target, (priority, weight)) if kind == SRV => {
            let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
            for label in target.split('.') {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend(label.as_bytes());
            }
            data.push(0);
            Some(data)
        }
        _ => None,
    }
}
