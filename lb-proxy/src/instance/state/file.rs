//! One state file: what stands in it, how it is written, how it is read again. It knows bytes, not paths.
//!
//! ```text
//! "lbstate\n"   version: u32                              (numbers are little-endian)
//! chunk 0       length: u32   checksum: u64   header      JSON: what the file holds, written when
//! chunk 1 ..    length: u32   checksum: u64   frame       Batch or Decisions, as the peers' protocol writes them
//! last chunk    length: u32   checksum: u64   PullDone    how many records came before
//! ```
//!
//! Frames are the peers' because an entry then has one form outside of memory, with one set of rules by which it may
//! change. A checksum covers its chunk and the chunk's place, so that no flipped bit and no chunk in another's place is
//! read; the last chunk tells a whole file from one that was cut between two chunks.
use lb_core::config::KeyKind;
use lb_core::hash::stable_seeded;
use lb_peers::wire::Frame;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"lbstate\n";
const VERSION: u32 = 1;
/// The greatest chunk that is read.
const MAX_CHUNK: u32 = 4 << 20;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Who wrote it, for people.
    pub(super) node: String,
    /// When writing began, Unix milliseconds: every life in the file counts from then.
    pub(super) written: u64,
    /// The node's clock at that moment: no later stamp is in use.
    pub(super) clock: u64,
    pub(super) content: Content,
}

/// Of what kind the records are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    /// Entries of a table.
    Table {
        name: String,
        #[serde(rename = "type")]
        kind: KeyKind,
    },
    /// Operators' decisions for all instances.
    Decisions,
    /// Operators' decisions for this instance.
    Local,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { name, kind } => write!(f, "table {name} with {} keys", format!("{kind:?}").to_lowercase()),
            Self::Decisions => f.write_str("decisions for all instances"),
            Self::Local => f.write_str("decisions for one instance"),
        }
    }
}

/// Why a file, or the rest of it, is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is no state file of lb")]
    Foreign,
    #[error("a later release wrote it (format {0}; this release reads format {VERSION})")]
    Newer(u32),
    #[error("it ends in the middle")]
    CutOff,
    #[error("it is damaged in chunk {0}")]
    Damaged(u64),
    #[error("it holds {0}")]
    OtherContent(String),
    #[error("it cannot be read: {0}")]
    Read(io::Error),
}

/// Writes a file.
#[derive(Debug)]
pub(super) struct Writer<W> {
    to: W,
    chunks: u64,
    records: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut to: W, header: &Header) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        let mut writer = Self { to, chunks: 0, records: 0 };
        writer.chunk(&serde_json::to_vec(header)?)?;
        Ok(writer)
    }

    /// A frame that holds so many records.
    pub(super) fn frame(&mut self, frame: Frame, records: usize) -> io::Result<()> {
        self.records += records as u64;
        self.chunk(&frame.to_bytes())
    }

    /// Ends the file; what it was written to.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.chunk(&Frame::PullDone { pull: 0, entries: self.records, partial: false }.to_bytes())?;
        Ok(self.to)
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|n| *n <= MAX_CHUNK);
        let length = length.ok_or_else(|| io::Error::other("a record is too great to be written"))?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&stable_seeded(bytes, self.chunks).to_le_bytes())?;
        self.chunks += 1;
        self.to.write_all(bytes)
    }
}

/// Reads a file, a chunk at a time: memory is bounded by the greatest chunk.
#[derive(Debug)]
pub(super) struct Reader<R> {
    from: R,
    chunks: u64,
    records: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut from: R) -> Result<(Self, Header), Unusable> {
        let (mut magic, mut version) = ([0; 8], [0; 4]);
        read_exact(&mut from, &mut magic)?;
        if magic != *MAGIC {
            return Err(Unusable::Foreign);
        }
        read_exact(&mut from, &mut version)?;
        match u32::from_le_bytes(version) {
            VERSION => {}
            newer if newer > VERSION => return Err(Unusable::Newer(newer)),
            _ => return Err(Unusable::Foreign),
        }
        let mut reader = Self { from, chunks: 0, records: 0 };
        let header = serde_json::from_slice(&reader.chunk()?).map_err(|_| Unusable::Damaged(0))?;
        Ok((reader, header))
    }

    /// The next frame and how many records it holds; `None` at the end of a whole file.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Unusable> {
        let chunk = self.chunk()?;
        let damaged = Unusable::Damaged(self.chunks - 1);
        match Frame::from_bytes(&chunk) {
            Ok(Frame::PullDone { entries, .. }) if entries == self.records => match self.at_end()? {
                true => Ok(None),
                false => Err(Unusable::Damaged(self.chunks)),
            },
            Ok(frame) => {
                self.records += match &frame {
                    Frame::Batch { entries, .. } => entries.len() as u64,
                    Frame::Decisions(all) => all.len() as u64,
                    _ => return Err(damaged),
                };
                Ok(Some(frame))
            }
            Err(_) => Err(damaged),
        }
    }

    fn chunk(&mut self) -> Result<Vec<u8>, Unusable> {
        let (mut length, mut sum) = ([0; 4], [0; 8]);
        read_exact(&mut self.from, &mut length)?;
        read_exact(&mut self.from, &mut sum)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_CHUNK {
            return Err(Unusable::Damaged(self.chunks));
        }
        let mut bytes = vec![0; length as usize];
        read_exact(&mut self.from, &mut bytes)?;
        if stable_seeded(&bytes, self.chunks) != u64::from_le_bytes(sum) {
            return Err(Unusable::Damaged(self.chunks));
        }
        self.chunks += 1;
        Ok(bytes)
    }

    fn at_end(&mut self) -> Result<bool, Unusable> {
        match self.from.read_exact(&mut [0]) {
            Ok(()) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(e) => Err(Unusable::Read(e)),
        }
    }
}

fn read_exact(from: &mut impl Read, into: &mut [u8]) -> Result<(), Unusable> {
    from.read_exact(into).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Unusable::CutOff,
        _ => Unusable::Read(e),
    })
}
