//! What goes over the wire, in our own types, and nothing but well-formed. The generated types stop here.
//!
//! It must not know what a frame is good for: sessions decide that.
use lb_core::config::KeyKind;
use lb_core::decisions::Decision;
use lb_core::hlc::Stamp;
use lb_core::id::NodeId;
use lb_core::pace::{Closing, Pace};
use lb_core::server::AdminState;
use lb_core::shares::{Load, SharedBounds};
use prost::Message;
use std::time::Duration;

mod counts;
mod entries;
pub use counts::Counts;
pub use entries::Entries;

/// The code that `peers.proto` gives.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub(crate) mod generated {
    include!("gen/lb.peers.v1.rs");
}
use generated as pb;
use pb::frame::Body;

/// The newest protocol spoken here.
pub const PROTOCOL: u32 = 2;
/// The oldest protocol spoken here: a release speaks its own and the one before.
pub const MIN_PROTOCOL: u32 = 1;
/// The greatest frame, in bytes; a greater one is refused before it is decoded.
pub const MAX_FRAME: usize = 4 << 20;
/// The longest text (a name, a reason) in a frame that is passed on or shown.
const MAX_TEXT: usize = 1024;
/// The greatest number of tables of a peer.
const MAX_TABLES: usize = 4096;
/// The greatest number of decisions in a frame: far more than anybody sends. A frame could hold millions of empty ones,
/// and each costs more here than on the wire.
const MAX_DECISIONS: usize = 1 << 16;

/// One frame, see `peers.proto`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Frame {
    Hello(Hello),
    Refuse(Refusal),
    Goodbye(Goodbye),
    Tables(Vec<Schema>),
    Ping {
        sent: u64,
    },
    Pong {
        sent: u64,
        wall_ms: u64,
    },
    Pulled,
    Batch {
        number: u64,
        table: u32,
        entries: Entries,
    },
    Ack {
        number: u64,
        taken: u32,
        refused: u32,
    },
    PullRequest {
        pull: u64,
        parts: Vec<Part>,
    },
    PullBatch {
        pull: u64,
        table: u32,
        entries: Entries,
    },
    PullAck {
        pull: u64,
    },
    PullDone {
        pull: u64,
        entries: u64,
        partial: bool,
    },
    Digest {
        table: u32,
        buckets: Vec<u64>,
    },
    Ask {
        id: u64,
        table: u32,
        key: Vec<u8>,
    },
    Answer {
        id: u64,
        table: u32,
        entries: Entries,
    },
    Decisions(Vec<Decision>),
    Root {
        table: u32,
        hash: u64,
        full: bool,
    },
    Compared {
        table: u32,
        buckets: Vec<u64>,
    },
    Counts {
        number: u64,
        pull: u64,
        table: u32,
        counts: Counts,
    },
    CountsAck {
        number: u64,
        refused: u32,
    },
    Loads {
        number: u64,
        seen: u64,
        loads: Vec<LoadOf>,
    },
    /// From a later release: passed over.
    Unknown,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Hello {
    pub protocol: u32,
    pub min_protocol: u32,
    pub cluster: String,
    pub node: String,
    pub incarnation: u64,
    pub listen: String,
    pub wall_ms: u64,
    pub pulled: bool,
    pub tables: Vec<Schema>,
    pub release: String,
}

/// A table as its owner has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Schema {
    pub id: u32,
    pub name: String,
    /// `None`: a type of a later release.
    pub kind: Option<KeyKind>,
    pub len: u64,
}

/// What is asked of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As the asking side names it.
    pub table: u32,
    /// Digest buckets as bits; empty: all.
    pub buckets: Vec<u8>,
}

/// What a node has, and wants to have, on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOf {
    /// Backend and server.
    pub server: (String, String),
    /// How much.
    pub load: Load,
}

/// Why two instances must not speak to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kind of the difference.
    pub code: RefuseCode,
    /// What differs and what to change, as the refusing side says it.
    pub text: String,
}

/// Kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RefuseCode {
    Other,
    Protocol,
    Cluster,
    Name,
    Table,
    Certificate,
    Malformed,
}

/// Why a link ends with nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Goodbye {
    Other,
    Stopping,
    Double,
    SelfDialled,
}

/// A frame that no instance of `lb` sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent a malformed frame: {0}")]
pub struct Garbage(pub &'static str);

impl Frame {
    /// As bytes, for those who carry frames by other means than gRPC (simulations, fuzzing).
    pub fn to_bytes(self) -> Vec<u8> {
        pb::Frame::from(self).encode_to_vec()
    }

    /// From bytes.
    ///
    /// # Errors
    /// Anything that no instance sends.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Garbage> {
        let frame = pb::Frame::decode(bytes).map_err(|_| Garbage("not protobuf"))?;
        Self::try_from(frame)
    }
}

impl From<Frame> for pb::Frame {
    fn from(frame: Frame) -> Self {
        let body = match frame {
            Frame::Hello(hello) => Some(Body::Hello(hello.into())),
            Frame::Refuse(refusal) => Some(Body::Refuse(refusal.into())),
            Frame::Goodbye(why) => Some(Body::Goodbye(pb::Goodbye { code: goodbye_code(why).into() })),
            Frame::Tables(tables) => Some(Body::Tables(pb::Tables { tables: schemas(tables) })),
            Frame::Ping { sent } => Some(Body::Ping(pb::Ping { sent })),
            Frame::Pong { sent, wall_ms } => Some(Body::Pong(pb::Pong { sent, wall_ms })),
            Frame::Pulled => Some(Body::Pulled(pb::Pulled {})),
            Frame::Batch { number, table, entries } => {
                Some(Body::Batch(pb::Batch { number, table, entries: Some(entries.into()) }))
            }
            Frame::Ack { number, taken, refused } => Some(Body::Ack(pb::Ack { number, taken, refused })),
            Frame::PullRequest { pull, parts } => {
                let part = |p: Part| pb::pull_request::Part { table: p.table, buckets: p.buckets };
                let parts = parts.into_iter().map(part).collect();
                Some(Body::PullRequest(pb::PullRequest { pull, parts }))
            }
            Frame::PullBatch { pull, table, entries } => {
                Some(Body::PullBatch(pb::PullBatch { pull, table, entries: Some(entries.into()) }))
            }
            Frame::PullAck { pull } => Some(Body::PullAck(pb::PullAck { pull })),
            Frame::PullDone { pull, entries, partial } => Some(Body::PullDone(pb::PullDone { pull, entries, partial })),
            Frame::Digest { table, buckets } => Some(Body::Digest(pb::Digest { table, buckets })),
            Frame::Ask { id, table, key } => Some(Body::Ask(pb::Ask { id, table, key })),
            Frame::Answer { id, table, entries } => {
                Some(Body::Answer(pb::Answer { id, table, entries: Some(entries.into()) }))
            }
            Frame::Decisions(all) => {
                Some(Body::Decisions(pb::Decisions { decisions: all.into_iter().map(Into::into).collect() }))
            }
            Frame::Root { table, hash, full } => Some(Body::Root(pb::Root { table, hash, full })),
            Frame::Compared { table, buckets } => Some(Body::Compared(pb::Compared { table, buckets })),
            Frame::Counts { number, pull, table, counts } => {
                Some(Body::Counts(pb::Counts { number, pull, table, ..counts.into() }))
            }
            Frame::CountsAck { number, refused } => Some(Body::CountsAck(pb::CountsAck { number, refused })),
            Frame::Loads { number, seen, loads } => {
                let load = |l: LoadOf| pb::loads::Load {
                    backend: l.server.0,
                    server: l.server.1,
                    active: l.load.active,
                    wanted: l.load.wanted,
                };
                Some(Body::Loads(pb::Loads { number, seen, loads: loads.into_iter().map(load).collect() }))
            }
            Frame::Unknown => None,
        };
        Self { body }
    }
}

impl TryFrom<pb::Frame> for Frame {
    type Error = Garbage;

    fn try_from(frame: pb::Frame) -> Result<Self, Garbage> {
        let Some(body) = frame.body else { return Ok(Self::Unknown) };
        Ok(match body {
            Body::Hello(hello) => Self::Hello(hello.try_into()?),
            Body::Refuse(refuse) => Self::Refuse(refuse.into()),
            Body::Goodbye(goodbye) => Self::Goodbye(goodbye_from(goodbye.code())),
            Body::Tables(tables) => Self::Tables(schemas_from(tables.tables)?),
            Body::Ping(ping) => Self::Ping { sent: ping.sent },
            Body::Pong(pong) => Self::Pong { sent: pong.sent, wall_ms: pong.wall_ms },
            Body::Pulled(_) => Self::Pulled,
            Body::Batch(b) => Self::Batch { number: b.number, table: b.table, entries: entries(b.entries)? },
            Body::Ack(a) => Self::Ack { number: a.number, taken: a.taken, refused: a.refused },
            Body::PullRequest(r) => Self::PullRequest { pull: r.pull, parts: parts(r.parts)? },
            Body::PullBatch(b) => Self::PullBatch { pull: b.pull, table: b.table, entries: entries(b.entries)? },
            Body::PullAck(a) => Self::PullAck { pull: a.pull },
            Body::PullDone(d) => Self::PullDone { pull: d.pull, entries: d.entries, partial: d.partial },
            Body::Digest(d) => Self::Digest { table: d.table, buckets: d.buckets },
            Body::Ask(a) => Self::Ask { id: a.id, table: a.table, key: a.key },
            Body::Answer(a) => Self::Answer { id: a.id, table: a.table, entries: entries(a.entries)? },
            Body::Decisions(d) if d.decisions.len() > MAX_DECISIONS => return Err(Garbage("too many decisions")),
            Body::Decisions(d) => {
                let all: Result<_, Garbage> = d.decisions.into_iter().map(Decision::try_from).collect();
                Self::Decisions(all?)
            }
            Body::Root(r) => Self::Root { table: r.table, hash: r.hash, full: r.full },
            Body::Compared(c) => Self::Compared { table: c.table, buckets: c.buckets },
            Body::Counts(c) => Self::Counts { number: c.number, pull: c.pull, table: c.table, counts: c.try_into()? },
            Body::CountsAck(a) => Self::CountsAck { number: a.number, refused: a.refused },
            Body::Loads(l) => Self::Loads { number: l.number, seen: l.seen, loads: loads(l.loads)? },
        })
    }
}

fn entries(entries: Option<pb::Entries>) -> Result<Entries, Garbage> {
    entries.unwrap_or_default().try_into()
}

fn loads(loads: Vec<pb::loads::Load>) -> Result<Vec<LoadOf>, Garbage> {
    if loads.len() > SharedBounds::MAX {
        return Err(Garbage("too many loads"));
    }
    let load = |l: pb::loads::Load| {
        let load = Load { active: l.active, wanted: l.wanted };
        Ok(LoadOf { server: (text(l.backend)?, text(l.server)?), load })
    };
    loads.into_iter().map(load).collect()
}

fn parts(parts: Vec<pb::pull_request::Part>) -> Result<Vec<Part>, Garbage> {
    if parts.len() > MAX_TABLES {
        return Err(Garbage("too many tables"));
    }
    Ok(parts.into_iter().map(|p| Part { table: p.table, buckets: p.buckets }).collect())
}

impl From<Hello> for pb::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol: hello.protocol,
            min_protocol: hello.min_protocol,
            cluster: hello.cluster,
            node: hello.node,
            incarnation: hello.incarnation,
            listen: hello.listen,
            wall_ms: hello.wall_ms,
            pulled: hello.pulled,
            tables: schemas(hello.tables),
            release: hello.release,
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = Garbage;

    fn try_from(hello: pb::Hello) -> Result<Self, Garbage> {
        if hello.node.is_empty() {
            return Err(Garbage("a hello without a node name"));
        }
        Ok(Self {
            protocol: hello.protocol,
            min_protocol: hello.min_protocol,
            cluster: text(hello.cluster)?,
            node: text(hello.node)?,
            incarnation: hello.incarnation,
            listen: text(hello.listen)?,
            wall_ms: hello.wall_ms,
            pulled: hello.pulled,
            tables: schemas_from(hello.tables)?,
            release: text(hello.release)?,
        })
    }
}

/// A text that may be shown: bounded, without control characters.
fn text(text: String) -> Result<String, Garbage> {
    match text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        true => Err(Garbage("a text that is too long or holds control characters")),
        false => Ok(text),
    }
}

/// A text for people: whatever it holds, made fit to be shown.
fn cleaned(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

fn schemas(tables: Vec<Schema>) -> Vec<pb::Schema> {
    let schema =
        |t: Schema| pb::Schema { id: t.id, name: t.name, kind: t.kind.map_or(0, |k| kind_code(k).into()), len: t.len };
    tables.into_iter().map(schema).collect()
}

fn schemas_from(tables: Vec<pb::Schema>) -> Result<Vec<Schema>, Garbage> {
    if tables.len() > MAX_TABLES {
        return Err(Garbage("too many tables"));
    }
    let schema = |t: pb::Schema| Ok(Schema { id: t.id, kind: kind_from(t.kind()), len: t.len, name: text(t.name)? });
    tables.into_iter().map(schema).collect()
}

fn kind_code(kind: KeyKind) -> pb::KeyKind {
    match kind {
        KeyKind::Ip => pb::KeyKind::Ip,
        KeyKind::Ipv6 => pb::KeyKind::Ipv6,
        KeyKind::Integer => pb::KeyKind::Integer,
        KeyKind::String => pb::KeyKind::String,
        KeyKind::Binary => pb::KeyKind::Binary,
    }
}

fn kind_from(kind: pb::KeyKind) -> Option<KeyKind> {
    match kind {
        pb::KeyKind::Unspecified => None,
        pb::KeyKind::Ip => Some(KeyKind::Ip),
        pb::KeyKind::Ipv6 => Some(KeyKind::Ipv6),
        pb::KeyKind::Integer => Some(KeyKind::Integer),
        pb::KeyKind::String => Some(KeyKind::String),
        pb::KeyKind::Binary => Some(KeyKind::Binary),
    }
}

impl From<Refusal> for pb::Refuse {
    fn from(refusal: Refusal) -> Self {
        use pb::refuse::Code;
        let code = match refusal.code {
            RefuseCode::Other => Code::Unspecified,
            RefuseCode::Protocol => Code::Protocol,
            RefuseCode::Cluster => Code::Cluster,
            RefuseCode::Name => Code::Name,
            RefuseCode::Table => Code::Table,
            RefuseCode::Certificate => Code::Certificate,
            RefuseCode::Malformed => Code::Malformed,
        };
        Self { code: code.into(), text: refusal.text }
    }
}

impl From<pb::Refuse> for Refusal {
    fn from(refuse: pb::Refuse) -> Self {
        use pb::refuse::Code;
        let code = match refuse.code() {
            Code::Unspecified => RefuseCode::Other,
            Code::Protocol => RefuseCode::Protocol,
            Code::Cluster => RefuseCode::Cluster,
            Code::Name => RefuseCode::Name,
            Code::Table => RefuseCode::Table,
            Code::Certificate => RefuseCode::Certificate,
            Code::Malformed => RefuseCode::Malformed,
        };
        Self { code, text: cleaned(&refuse.text) }
    }
}

fn goodbye_code(why: Goodbye) -> pb::goodbye::Code {
    match why {
        Goodbye::Other => pb::goodbye::Code::Unspecified,
        Goodbye::Stopping => pb::goodbye::Code::Stopping,
        Goodbye::Double => pb::goodbye::Code::Double,
        Goodbye::SelfDialled => pb::goodbye::Code::Self_,
    }
}

fn goodbye_from(code: pb::goodbye::Code) -> Goodbye {
    match code {
        pb::goodbye::Code::Unspecified => Goodbye::Other,
        pb::goodbye::Code::Stopping => Goodbye::Stopping,
        pb::goodbye::Code::Double => Goodbye::Double,
        pb::goodbye::Code::Self_ => Goodbye::SelfDialled,
    }
}

impl From<Decision> for pb::Decision {
    fn from(d: Decision) -> Self {
        use pb::decision::State;
        let state = match d.state {
            None => State::Unspecified,
            Some(AdminState::Ready) => State::Ready,
            Some(AdminState::Drain) => State::Drain,
            Some(AdminState::Maint) => State::Maint,
        };
        Self {
            backend: d.server.0,
            server: d.server.1,
            state: state.into(),
            weight: d.weight,
            clock: d.stamp.clock(),
            stamp_node: d.stamp.node.0,
            node: d.node,
            author: d.author,
            reason: d.reason,
            at_ms: d.at,
            closing: d.closing.map(|c| pb::decision::Closing {
                left_ms: lb_core::time::millis(c.left),
                per_minute: c.pace.map_or(0, Pace::in_a_minute),
            }),
        }
    }
}

impl TryFrom<pb::Decision> for Decision {
    type Error = Garbage;

    fn try_from(d: pb::Decision) -> Result<Self, Garbage> {
        use pb::decision::State;
        let state = match d.state() {
            State::Unspecified => None,
            State::Ready => Some(AdminState::Ready),
            State::Drain => Some(AdminState::Drain),
            State::Maint => Some(AdminState::Maint),
        };
        Ok(Self {
            state,
            server: (text(d.backend)?, text(d.server)?),
            weight: d.weight,
            stamp: Stamp::new(d.clock, NodeId(d.stamp_node)),
            node: text(d.node)?,
            author: cleaned(&d.author),
            reason: cleaned(&d.reason),
            at: d.at_ms,
            closing: d.closing.map(|c| Closing {
                left: Duration::from_millis(c.left_ms),
                pace: (c.per_minute > 0).then(|| Pace::per_minute(c.per_minute)),
            }),
        })
    }
}

#[cfg(test)]
mod tests;
