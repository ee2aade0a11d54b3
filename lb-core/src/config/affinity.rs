//! What binds a client to its server: cookies and stick rules, and what becomes of a client whose server is away.
use crate::matcher::Matcher;
use crate::secret::Secret;
use crate::stick::KeyExpr;
use std::time::Duration;

/// When affinity is kept in spite of all, when not at all, and when a client goes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persist {
    /// Such requests go to their pinned server though it is down or in maintenance. Any of them.
    pub force: Vec<Matcher>,
    /// Such requests have no affinity: nothing is looked up, stored or set. Any of them.
    pub ignore: Vec<Matcher>,
    /// When a redispatched client goes back to its first server.
    pub fail_back: FailBack,
}

/// `backend.fail_back`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailBack {
    /// It stays where it is.
    #[default]
    Never,
    /// Once it was idle for a quarter of the pin's life.
    Idle,
    /// At its next request.
    Now,
}

/// One sticky rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Sticky {
    /// A cookie of ours that names the server.
    Cookie(Cookie),
    /// A table.
    Table(TableRule),
}

impl Sticky {
    /// The table that it names.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Cookie(_) => None,
            Self::Table(rule) => Some(&rule.table),
        }
    }
}

/// A cookie that names a server.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Who sets it.
    pub mode: CookieMode,
    /// What it says of the server.
    pub value: CookieValue,
    /// Keys of dynamic and sealed values, shared by the cluster. The first writes, all are read.
    pub keys: Vec<Secret>,
    /// Of which requests; all: for every one.
    pub when: Matcher,
    /// The server does not see it, and a client that has a right one is not sent it again.
    pub indirect: bool,
    /// `Cache-Control: private` where the cookie is set.
    pub nocache: bool,
    /// Attribute.
    pub httponly: bool,
    /// Attribute.
    pub secure: bool,
    /// Attribute.
    pub samesite: Option<SameSite>,
    /// Attribute; one `Domain` only.
    pub domain: Option<String>,
    /// Attribute. Default `/`.
    pub path: String,
    /// A cookie of that name that the server itself sets is left as it is.
    pub preserve: bool,
    /// Ignored when it was not used for this long.
    pub max_idle: Option<Duration>,
    /// Ignored this long after it was first set.
    pub max_life: Option<Duration>,
    /// More attributes, as they are written.
    pub attr: Vec<String>,
}

/// Who sets the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieMode {
    /// `insert`: lb.
    #[default]
    Insert,
    /// `rewrite`: the server; lb puts in its own value.
    Rewrite,
    /// `prefix`: the server; lb puts its own value before.
    Prefix,
    /// `passive`: the server, with the value that names it; lb only looks.
    Passive,
}

/// What the cookie says of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CookieValue {
    /// Its cookie name.
    #[default]
    Name,
    /// A keyed hash of its address and port, or of its path.
    Dynamic,
    /// Its cookie name, encrypted and authenticated.
    Sealed,
}

/// `SameSite`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    Lax,
    /// `None`
    None,
}

/// A stick rule on a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRule {
    /// What it does.
    pub action: StickAction,
    /// Where the key comes from.
    pub key: KeyExpr,
    /// Which table.
    pub table: String,
    /// Of which requests; all: for every one.
    pub when: Matcher,
}

/// What a stick rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickAction {
    /// `on`: look up, and store on the request.
    On,
    /// `match`: look up.
    Match,
    /// `store_request`: store under a key of the request.
    StoreRequest,
    /// `store_response`: store under a key of the answer.
    StoreResponse,
}

/// `backend.on_down`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// Another server takes the client, and the pin moves.
    #[default]
    Redispatch,
    /// 503; the pin stays.
    Fail,
}

/// `backend.drain`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrainMode {
    /// Pinned clients still come.
    #[default]
    Stay,
    /// Pinned clients go elsewhere at their next request.
    Move,
}
