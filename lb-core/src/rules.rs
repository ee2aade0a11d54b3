//! Rules of frontends and backends on requests and answers, as values: what is changed, denied, redirected, asked for a
//! password; pages of our own answers. Who carries them out is not known here.
use crate::matcher::{AnswerMatcher, Matcher, Pattern};
use ipnet::IpNet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub mod fixed;
pub mod place;
pub mod template;
pub use fixed::Fixed;
pub use place::Place;
pub use template::{CertificatePart, Template, Var};

/// Codes of the reasons for which lb answers itself: in the answer's body, in the access log, in `error_pages`.
pub const REASONS: &[&str] = &[
    "bad-request",
    "bad-framing",
    "bad-host",
    "bad-body",
    "head-timeout",
    "body-timeout",
    "body-too-slow",
    "body-too-large",
    "head-too-large",
    "transfer-coding-unknown",
    "connect-not-supported",
    "http-version",
    "limit",
    "maintenance",
    "deny",
    "redirect",
    "auth",
    "auth-busy",
    "no-route",
    "no-server",
    "pinned-server-down",
    "server-down",
    "leaving",
    "bad-websocket-accept",
    "misdirected",
    "server-refused",
    "connect-failed",
    "queue-full",
    "queue-timeout",
    "bad-answer",
    "server-closed",
    "server-timeout",
];

/// What a frontend or a backend does to its requests and answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Tried in order for each request.
    pub request: Vec<Rule>,
    /// Tried in order for each answer.
    pub response: Vec<AnswerRule>,
    /// Bodies of our own answers.
    pub pages: Vec<(PageFor, Page)>,
    /// Nobody is served but those exempt.
    pub maintenance: Option<Maintenance>,
    /// Each request has an id. Of a frontend.
    pub request_id: Option<RequestId>,
    /// Answers are compressed. Of a backend.
    pub compression: Option<Compression>,
}

/// One rule on requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which requests.
    pub when: Matcher,
    /// What is done with them.
    pub then: Action,
}

/// What a rule does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The head that the server gets is changed.
    Edit(Vec<Edit>),
    /// Our answer, with this status.
    Deny(u16),
    /// An answer of the configuration.
    Return(Box<Fixed>),
    /// The rest of the list is passed over.
    Allow,
    /// The client is sent elsewhere.
    Redirect(Box<Redirect>),
    /// The path is changed.
    Rewrite(Box<Place>),
    /// Name and password are asked for: of this `[auth.NAME]`.
    Auth(String),
    /// It has this class in queues.
    PriorityClass(i16),
}

/// One rule on answers.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRule {
    /// Answers to which requests.
    pub when: Matcher,
    /// Which of them.
    pub of: AnswerMatcher,
    /// What is done with them.
    pub then: Vec<Edit>,
}

/// A change of a head.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// The field has this value and no other.
    Set(String, Template),
    /// A field more.
    Add(String, Template),
    /// No field of that name.
    Remove(String),
    /// In each field of that name, everything that is like the pattern becomes this.
    Replace(String, Pattern, Template),
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// To HTTPS, or to HTTP; `None`: as it came.
    pub https: Option<bool>,
    /// Host and port; `None`: as it came, without its port where the scheme changes.
    pub host: Option<Template>,
    /// Another path; `None`: path and query as they came.
    pub place: Option<Place>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Which of our own answers a page is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFor {
    /// A reason's code.
    Reason(String),
    /// A status.
    Status(u16),
    /// A class of statuses: 4 or 5.
    Class(u16),
}

/// A body of our own.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it was read.
    pub path: PathBuf,
    /// Its content type, by the file's ending.
    pub kind: &'static str,
    /// What was read.
    pub body: Arc<[u8]>,
}

/// Nobody is served but those exempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// What the others see; `None`: the page for this reason or its status, or a line of text.
    pub page: Option<Page>,
    /// When they may come back.
    pub retry_after: Duration,
    /// Networks of those who are served.
    pub exempt: Vec<IpNet>,
}

/// Ids of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The field that carries it: of trusted proxies, to servers.
    pub header: String,
    /// Whether the client gets it, too.
    pub answer: bool,
}

/// Which answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Content types, in lower case; `text/*` is all of `text`.
    pub types: Vec<String>,
    /// Answers that are known to be smaller are left alone, in bytes.
    pub min_size: u64,
    /// 1 (fast) to 9 (small), of each encoding.
    pub level: u32,
    /// What it is done with, the better liked first; not empty.
    pub encodings: Vec<Encoding>,
}

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

impl Encoding {
    /// All, in the order in which they are liked where the file does not say.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in HTTP and in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// `[auth.NAME]`: who may pass with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// Name, unique.
    pub name: String,
    /// What browsers show.
    pub realm: String,
    /// Users and the hashes of their passwords, sorted by name.
    pub users: Vec<(String, String)>,
}

impl Auth {
    /// The hash of a user's password.
    pub fn hash(&self, user: &[u8]) -> Option<&str> {
        let at = self.users.binary_search_by(|(name, _)| name.as_bytes().cmp(user)).ok()?;
        Some(&self.users[at].1)
    }
}

impl Rules {
    /// The page of one of our own answers: for its reason, else its status, else its class.
    pub fn page(&self, status: u16, reason: &str) -> Option<&Page> {
        let rank = |kind: &PageFor| match kind {
            PageFor::Reason(code) => (code == reason).then_some(0),
            PageFor::Status(code) => (*code == status).then_some(1),
            PageFor::Class(class) => (*class == status / 100).then_some(2),
        };
        let fitting = self.pages.iter().filter_map(|(kind, page)| Some((rank(kind)?, page)));
        fitting.min_by_key(|(rank, _)| *rank).map(|(_, page)| page)
    }
}

impl Action {
    /// Its key in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Edit(edits) => edits.first().map_or("set_header", Edit::word),
            Self::Deny(_) => "deny",
            Self::Return(_) => "return",
            Self::Allow => "allow",
            Self::Redirect(_) => "redirect",
            Self::Rewrite(_) => "rewrite",
            Self::Auth(_) => "auth",
            Self::PriorityClass(_) => "set_priority_class",
        }
    }
}

impl AnswerRule {
    /// Its key in the file.
    pub fn word(&self) -> &'static str {
        self.then.first().map_or("set_header", Edit::word)
    }
}

impl Edit {
    /// Its key in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Set(..) => "set_header",
            Self::Add(..) => "add_header",
            Self::Remove(_) => "remove_header",
            Self::Replace(..) => "replace_header",
        }
    }
}

/// Without the hashes, which are secrets.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.users.iter().map(|(name, _)| name).collect();
        f.debug_struct("Auth").field("name", &self.name).field("users", &users).finish_non_exhaustive()
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.body.len())
    }
}

/// A page by its file and a digest of what is in it: a reload shows that it changed.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:08x})", self.path.display().to_string(), crate::hash::stable(&self.body) as u32)
    }
}

impl fmt::Display for PageFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(code) => f.write_str(code),
            Self::Status(status) => status.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

fn given(f: &mut fmt::Formatter<'_>, when: &Matcher) -> fmt::Result {
    if when.0.is_empty() { Ok(()) } else { write!(f, "if {when} ") }
}

/// `if path /admin deny 403`
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        given(f, &self.when)?;
        match &self.then {
            Action::Edit(edits) => all(f, edits),
            Action::Deny(status) => write!(f, "deny {status}"),
            Action::Return(fixed) => fixed.fmt(f),
            Action::Allow => f.write_str("allow"),
            Action::Redirect(to) => to.fmt(f),
            Action::Rewrite(place) => write!(f, "rewrite {place}"),
            Action::Auth(name) => write!(f, "auth {name}"),
            Action::PriorityClass(class) => write!(f, "set_priority_class {class}"),
        }
    }
}

impl fmt::Display for AnswerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        given(f, &self.when)?;
        if self.of != AnswerMatcher::default() {
            write!(f, "of {} ", self.of)?;
        }
        all(f, &self.then)
    }
}

fn all(f: &mut fmt::Formatter<'_>, edits: &[Edit]) -> fmt::Result {
    let edits: Vec<_> = edits.iter().map(ToString::to_string).collect();
    f.write_str(&edits.join(", "))
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(name, value) => write!(f, "set {name}: {value}"),
            Self::Add(name, value) => write!(f, "add {name}: {value}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::Replace(name, pattern, to) => write!(f, "replace {name}: {pattern} by {to}"),
        }
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirect {}", self.status)?;
        if let Some(https) = self.https {
            f.write_str(if https { " to https" } else { " to http" })?;
        }
        if let Some(host) = &self.host {
            write!(f, " to {host}")?;
        }
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " {place}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(to) => to.fmt(f),
            Self::Prefix(prefix, to) => write!(f, "{prefix} by {to}"),
            Self::Like(pattern, to) => write!(f, "{pattern} by {to}"),
        }
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exempt: Vec<_> = self.exempt.iter().map(ToString::to_string).collect();
        write!(f, "retry after {}", crate::time::format_duration(self.retry_after))?;
        if let Some(page) = &self.page {
            write!(f, ", page {page}")?;
        }
        if exempt.is_empty() { Ok(()) } else { write!(f, ", but {}", exempt.join(", ")) }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.header, if self.answer { ", answered" } else { "" })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.encodings.iter().map(|e| e.name()).collect();
        let (types, names) = (self.types.join(" "), names.join(" "));
        write!(f, "{types} from {} bytes on, {names}, level {}", self.min_size, self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str) -> Page {
        Page { path: path.into(), kind: "text/html", body: Arc::from(&b"x"[..]) }
    }

    #[test]
    fn the_page_for_a_reason_comes_before_that_for_a_status_and_its_class() {
        let mut rules = Rules {
            pages: vec![
                (PageFor::Class(5), page("5xx")),
                (PageFor::Status(503), page("503")),
                (PageFor::Reason("no-server".into()), page("no-server")),
            ],
            ..Rules::default()
        };
        let path = |rules: &Rules, status, reason| rules.page(status, reason).map(|p| p.path.display().to_string());
        assert_eq!(path(&rules, 503, "no-server").as_deref(), Some("no-server"));
        assert_eq!(path(&rules, 503, "queue-full").as_deref(), Some("503"));
        assert_eq!(path(&rules, 502, "bad-answer").as_deref(), Some("5xx"));
        assert_eq!(path(&rules, 404, "no-route"), None);
        rules.pages.clear();
        assert_eq!(path(&rules, 503, "no-server"), None);
    }

    #[test]
    fn users_are_found_by_their_whole_name_and_hashes_are_not_shown() {
        let users = [("ann", "$2b$x"), ("bob", "$6$y")].map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        let auth = Auth { name: "a".into(), realm: "r".into(), users: users.to_vec() };
        assert_eq!((auth.hash(b"bob"), auth.hash(b"bo"), auth.hash(b"")), (Some("$6$y"), None, None));
        assert!(!format!("{auth:?}").contains('$'));
    }
}
