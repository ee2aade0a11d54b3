//! What comes into a replicator and what goes out: plain values, no behaviour.
use super::{Failure, Found};
use crate::wire::{self, Frame};
use lb_core::config::{self, PeerAddr};
use lb_core::decisions::Decision;
use lb_core::table::StickTable;
use lb_core::time::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The time, read by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since the start: never goes back.
    pub at: Duration,
    /// The wall clock as it was at the start, carried on steadily: lives and stamps go by it.
    pub wall: Timestamp,
    /// The wall clock as it is, which somebody may have set meanwhile. Only told to peers, who show the offset.
    pub clock: Timestamp,
}

/// A stream to a peer, in the order of their making. The caller numbers those that were accepted
/// ([`LinkId::accepted`]), the replicator those that it dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

impl LinkId {
    /// The `n`th stream that was accepted.
    pub fn accepted(n: u64) -> Self {
        Self(n * 2 + 1)
    }

    /// The `n`th stream that is dialled.
    pub(super) fn dialled(n: u64) -> Self {
        Self(n * 2)
    }
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Dialler,
    /// The peer did.
    Acceptor,
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A stream is open, dialled or accepted.
    Opened {
        /// Which.
        link: LinkId,
        /// Who dialled.
        side: Side,
        /// The other end's address.
        remote: SocketAddr,
        /// Names in the peer's certificate; `None`: no TLS.
        certificate: Option<Vec<String>>,
    },
    /// An [`Output::Dial`] led to no stream.
    NotOpened {
        /// Which.
        link: LinkId,
        /// Kind of failure.
        failure: Failure,
        /// For people.
        error: String,
    },
    /// Somebody came who is not of us, and has been sent away.
    Stranger {
        /// From where.
        remote: SocketAddr,
        /// Why.
        why: wire::Refusal,
    },
    /// A frame came in.
    Received {
        /// On which stream.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// Bytes came in that are no frame.
    Garbage {
        /// On which stream.
        link: LinkId,
        /// What is wrong with them.
        garbage: wire::Garbage,
    },
    /// A stream has ended.
    Closed {
        /// Which.
        link: LinkId,
        /// For people.
        error: String,
    },
    /// An [`Output::LookUp`] was done.
    LookedUp {
        /// Name.
        name: PeerAddr,
        /// Its addresses, or why there are none.
        result: Result<Found, String>,
    },
    /// A table's change log has something new.
    Changed,
    /// Time has passed.
    Tick,
    /// Somebody wants to know a key.
    Ask {
        /// For [`Output::Answered`].
        id: u64,
        /// Table.
        table: String,
        /// Canonical key.
        key: Vec<u8>,
    },
    /// Somebody wants to know how a peer's table compares; nothing is changed by it.
    Inspect {
        /// For [`Output::Inspected`].
        id: u64,
        /// The peer's name.
        peer: String,
        /// Table.
        table: String,
        /// What.
        what: Inspect,
    },
    /// A decision was made here.
    Decided(Box<Decision>),
    /// Another configuration holds.
    Configure {
        /// `[peers]`
        config: Box<config::Peers>,
        /// The replicated tables.
        tables: Vec<Arc<StickTable>>,
    },
    /// The node stops: sends what is left, for this long at most.
    Stop {
        /// At most.
        within: Duration,
    },
}

/// Something is to be done.
#[derive(Debug)]
pub enum Output {
    /// Look a name up.
    LookUp {
        /// Name.
        name: PeerAddr,
        /// The DNS server that is asked; `None`: as the system does it.
        resolver: Option<SocketAddr>,
    },
    /// Dial an address.
    Dial {
        /// The stream's number.
        link: LinkId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Send a frame.
    Send {
        /// On which stream.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// Close a stream, once what was sent is out.
    Close {
        /// Which.
        link: LinkId,
    },
    /// A question is done: what was found is merged.
    Answered {
        /// As in [`Input::Ask`].
        id: u64,
    },
    /// A part of the answer to an [`Input::Inspect`].
    Inspected {
        /// As there.
        id: u64,
        /// What.
        found: Inspected,
    },
    /// The tables are whole from now on.
    Pulled,
    /// A peer's decision was merged.
    DecisionsChanged,
    /// This node may have more requests on a server than a moment ago.
    AllowanceGrew,
    /// Everything is told; the node may go.
    Stopped,
}

/// What people may want to know of a peer's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspect {
    /// Which buckets differ.
    Compare,
    /// Its entries in these buckets, as bits.
    List(Vec<u8>),
}

/// What they get.
#[derive(Clone, Debug, PartialEq)]
pub enum Inspected {
    /// The buckets that differ; this is all.
    Differ(Vec<usize>),
    /// Some of the entries.
    Entries(wire::Entries),
    /// There are no more.
    End,
    /// Why there is no answer.
    Failed(String),
}

/// What a replicator works on.
#[derive(Clone, Debug)]
pub struct Setup {
    /// As for the whole crate.
    pub settings: crate::Settings,
    /// Where it listens, with the real port.
    pub listen: SocketAddr,
    /// Random: for jitter.
    pub seed: u64,
}
