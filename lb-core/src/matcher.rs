//! What a rule asks of a request: `if = { … }` of routes, of rules, of sticky rules. One type for all of them.
//!
//! A matcher is a list of tests that must all hold; a test with several values holds where one of them does; `not` holds
//! where none of its matchers does. What a request is like is told by an [`Asked`]; nothing here knows where it came from.
use crate::counters::Counter;
use crate::limit::Condition;
use crate::stick::KeyExpr;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

mod answer;
pub mod path;
pub use answer::AnswerMatcher;

/// What is known of a request.
pub trait Asked {
    /// Host without port, as sent.
    fn host(&self) -> &[u8];
    /// Path without query, as conditions compare it: see [`path`].
    fn plain_path(&self) -> &[u8];
    /// First value of a header field, by lower-case name.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// Whether it asks for a WebSocket.
    fn websocket(&self) -> bool;
    /// Method.
    fn method(&self) -> &[u8];
    /// Query without `?`.
    fn query(&self) -> &[u8];
    /// First value of a cookie.
    fn cookie(&self, name: &str) -> Option<&[u8]>;
    /// The client, behind trusted proxies.
    fn src(&self) -> IpAddr;
    /// What TLS said of its connection; `None`: the connection is plain.
    fn tls(&self) -> Option<Tls<'_>> {
        None
    }
    /// What a table has counted for the request's key; `None`: the request has no such key.
    fn count(&self, key: &KeyExpr, table: &str, counter: Counter) -> Option<u64>;
}

/// What TLS said of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls<'a> {
    /// The server name that the client asked for.
    pub sni: Option<&'a str>,
    /// Names in the client's certificate (its common name, its alternative names), if it showed one that was verified.
    pub client: Option<&'a [String]>,
}

/// First value of a query parameter, as sent; empty for one without `=`.
pub fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    query.split(|b| *b == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })
}

/// Tests that must all hold. Without one it matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher(pub Vec<Test>);

/// One test of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Host names in lower case, without port; `*.example.com` matches everything under it.
    Host(Vec<String>),
    /// The host by pattern; it is compared in lower case.
    HostRegex(Vec<Pattern>),
    /// Whole paths.
    Path(Vec<String>),
    /// Path prefixes, at segment borders: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.
    PathPrefix(Vec<String>),
    /// The path by pattern.
    PathRegex(Vec<Pattern>),
    /// Methods.
    Method(Vec<String>),
    /// A header field, by lower-case name.
    Header(String, Value),
    /// A query parameter.
    Query(String, Value),
    /// A cookie.
    Cookie(String, Value),
    /// Networks of the client.
    Src(Vec<IpNet>),
    /// Whether the connection is TLS.
    Tls(bool),
    /// Server names of TLS, as [`Self::Host`].
    Sni(Vec<String>),
    /// Whether the client showed a certificate that was verified.
    ClientCert(bool),
    /// A verified certificate with one of these names.
    ClientName(Vec<String>),
    /// Whether it asks for a WebSocket.
    Websocket(bool),
    /// What a table has counted for a key of the request.
    Count {
        /// Whose counts.
        key: KeyExpr,
        /// In which table.
        table: String,
        /// All of these must hold.
        when: Vec<Condition>,
    },
    /// None of these matches.
    Not(Vec<Matcher>),
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Anything, but it must be there.
    Any,
    /// Exactly this.
    Is(String),
    /// Like this.
    Like(Pattern),
}

impl Value {
    fn holds(&self, found: Option<&[u8]>) -> bool {
        found.is_some_and(|found| match self {
            Self::Any => true,
            Self::Is(wanted) => found == wanted.as_bytes(),
            Self::Like(pattern) => pattern.0.is_match(found),
        })
    }
}

/// A regular expression over bytes. Its time is linear in what it looks at, whatever it is.
#[derive(Clone, Debug)]
pub struct Pattern(regex::bytes::Regex);

impl Pattern {
    /// Reads one; `\d`, `\w` and `i` mean ASCII.
    ///
    /// # Errors
    /// Why it is none, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build();
        built.map(Self).map_err(|why| match why {
            regex::Error::CompiledTooBig(_) => "it is too large".into(),
            // The parser draws a picture over several lines; the last one says what is wrong.
            why => why.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        })
    }

    /// The expression.
    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Matcher {
    /// Whether all its tests hold.
    pub fn matches(&self, asked: &impl Asked) -> bool {
        self.0.iter().all(|test| test.holds(asked))
    }
}

impl Test {
    fn holds(&self, asked: &impl Asked) -> bool {
        match self {
            Self::Host(hosts) => hosts.iter().any(|h| host_matches(h, asked.host())),
            Self::HostRegex(patterns) => {
                let host = asked.host().to_ascii_lowercase();
                patterns.iter().any(|p| p.0.is_match(&host))
            }
            Self::Path(paths) => paths.iter().any(|p| p.as_bytes() == asked.plain_path()),
            Self::PathPrefix(prefixes) => prefixes.iter().any(|p| under(p, asked.plain_path()).is_some()),
            Self::PathRegex(patterns) => patterns.iter().any(|p| p.0.is_match(asked.plain_path())),
            Self::Method(methods) => methods.iter().any(|m| m.as_bytes() == asked.method()),
            Self::Header(name, value) => value.holds(asked.header(name)),
            Self::Query(name, value) => value.holds(parameter(asked.query(), name)),
            Self::Cookie(name, value) => value.holds(asked.cookie(name)),
            Self::Src(networks) => {
                let src = asked.src();
                networks.iter().any(|net| net.contains(&src))
            }
            Self::Tls(wanted) => asked.tls().is_some() == *wanted,
            Self::Sni(names) => {
                let sni = asked.tls().and_then(|tls| tls.sni);
                sni.is_some_and(|sni| names.iter().any(|n| host_matches(n, sni.as_bytes())))
            }
            Self::ClientCert(wanted) => asked.tls().is_some_and(|tls| tls.client.is_some()) == *wanted,
            Self::ClientName(names) => {
                let client = asked.tls().and_then(|tls| tls.client);
                client.is_some_and(|has| has.iter().any(|name| names.contains(name)))
            }
            Self::Websocket(wanted) => asked.websocket() == *wanted,
            Self::Count { key, table, when } => {
                when.iter().all(|c| asked.count(key, table, c.counter).is_some_and(|value| c.holds(value)))
            }
            Self::Not(matchers) => !matchers.iter().any(|m| m.matches(asked)),
        }
    }
}

/// Whether a name in lower case, or `*.` and a name for everything under it, stands for this host.
pub(crate) fn host_matches(pattern: &str, host: &[u8]) -> bool {
    // "shop.example." and "shop.example" are one name.
    let host = host.strip_suffix(b".").unwrap_or(host);
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            host.len() > suffix.len() && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        }
        None => host.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

/// What follows a prefix that ends at a segment border of the path.
pub fn under<'a>(prefix: &str, path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix.as_bytes())?;
    (rest.is_empty() || prefix.ends_with('/') || rest[0] == b'/').then_some(rest)
}

/// `host a|b and path under /x and not (method POST)`
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, test) in self.0.iter().enumerate() {
            write!(f, "{}{test}", if i == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |yes: &bool| if *yes { "" } else { "no " };
        match self {
            Self::Host(names) => write!(f, "host {}", or(names)),
            Self::HostRegex(patterns) => write!(f, "host like {}", or(patterns)),
            Self::Path(paths) => write!(f, "path is {}", or(paths)),
            Self::PathPrefix(prefixes) => write!(f, "path {}", or(prefixes)),
            Self::PathRegex(patterns) => write!(f, "path like {}", or(patterns)),
            Self::Method(methods) => write!(f, "method {}", or(methods)),
            Self::Header(name, value) => write!(f, "{name}: {value}"),
            Self::Query(name, value) => write!(f, "query {name}: {value}"),
            Self::Cookie(name, value) => write!(f, "cookie {name}: {value}"),
            Self::Src(networks) => write!(f, "src {}", or(networks)),
            Self::Tls(wanted) => write!(f, "{}tls", yes(wanted)),
            Self::Sni(names) => write!(f, "sni {}", or(names)),
            Self::ClientCert(wanted) => write!(f, "{}client certificate", yes(wanted)),
            Self::ClientName(names) => write!(f, "client certificate of {}", or(names)),
            Self::Websocket(wanted) => write!(f, "{}websocket", yes(wanted)),
            Self::Count { key, table, when } => {
                write!(f, "{key} in {table} has ")?;
                let when: Vec<_> = when.iter().map(ToString::to_string).collect();
                f.write_str(&when.join(" and "))
            }
            Self::Not(matchers) => {
                let all: Vec<_> = matchers.iter().map(|m| format!("({m})")).collect();
                write!(f, "not {}", all.join(" nor "))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Is(text) => write!(f, "{text:?}"),
            Self::Like(pattern) => write!(f, "like {pattern}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0)
    }
}

fn or<T: fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests;
