//! A stick table: what it holds, for how long, and what is counted beside it.
use crate::counters::Counter;
use crate::pace::Pace;
use std::time::Duration;

/// `[table.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name, unique.
    pub name: String,
    /// Type of the keys.
    pub kind: KeyKind,
    /// Greatest length of a string or binary key in bytes; longer ones are cut. Default 64.
    pub len: usize,
    /// Greatest number of entries. Default 100,000.
    pub size: usize,
    /// Life of an entry that nobody touches. Default 30m.
    pub expire: Duration,
    /// A pin ends this long after it was made, used or not; `None`: no bound.
    pub max_life: Option<Duration>,
    /// How fast one client address makes keys at most; `None`: no bound.
    pub max_new_keys: Option<Pace>,
    /// What a new key gets when the table is full.
    pub when_full: WhenFull,
    /// Whether peers get it. Default true.
    pub replicate: bool,
    /// What is counted for each key, summed over the cluster. Default nothing.
    pub store: Vec<Counter>,
}

impl Table {
    /// A table of which the file says no more than this.
    pub fn new(name: impl Into<String>, kind: KeyKind) -> Self {
        Self {
            name: name.into(),
            kind,
            len: 64,
            size: 100_000,
            expire: Duration::from_secs(30 * 60),
            max_life: None,
            max_new_keys: None,
            when_full: WhenFull::default(),
            replicate: true,
            store: Vec::new(),
        }
    }
}

/// Type of a table's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// IPv4 address (IPv4-mapped IPv6 included); an IPv6 address is no key here.
    Ip,
    /// IPv6 address; IPv4 as its mapped form.
    Ipv6,
    /// Signed 64-bit number.
    Integer,
    /// Text.
    String,
    /// Bytes, shown in hexadecimal.
    Binary,
}

/// What a new key gets when its table is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The entry nearest its deadline goes.
    #[default]
    Evict,
    /// The new one is not stored.
    Refuse,
}
