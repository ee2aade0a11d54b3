//! Key expressions: which bytes of a request or an answer become a stick key.
use crate::jwt;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where a key comes from, as `src` or `header(X-Session-ID)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyExpr {
    /// The client's address.
    Src,
    /// A header field, by lower-case name.
    Header(String),
    /// A cookie: of the request, or set by the answer.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// The path, without the query.
    Path,
    /// One segment of the path, from 1.
    Segment(usize),
    /// So many first segments of the path, with their slashes; of a shorter path all.
    Segments(usize),
    /// Path and query.
    Url,
    /// A claim of the bearer token.
    Jwt(Claim),
    /// The server name that the client asks TLS for.
    Sni,
    /// TLS's session id, up to TLS 1.2: of the client's hello, or given out by the server's.
    TlsSessionId,
    /// A constant.
    Const(String),
}

/// A claim of a token, and what the token is believed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// `None` until the configuration has given them: no token is believed.
    pub keys: Option<Arc<jwt::Keys>>,
}

impl Claim {
    /// Its value in the token that an `Authorization` field brings.
    pub fn of(&self, authorization: &[u8]) -> Option<Vec<u8>> {
        jwt::claim(self.keys.as_deref()?, authorization, &self.name)
    }
}

/// One segment of a path, from 1; `None` where it has fewer, or nothing in it.
pub fn segment(path: &[u8], n: usize) -> Option<&[u8]> {
    path.strip_prefix(b"/")?.split(|b| *b == b'/').nth(n.checked_sub(1)?).filter(|s| !s.is_empty())
}

/// So many first segments of a path, with their slashes; of a shorter path all.
pub fn segments(path: &[u8], n: usize) -> &[u8] {
    let end = memchr::memchr_iter(b'/', path).nth(n);
    &path[..end.unwrap_or(path.len())]
}

/// Why a text is no key expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyExprError(pub String);

/// The forms, as error messages list them.
pub const FORMS: &str = "src, header(NAME), cookie(NAME), query(NAME), path, path(N), path_prefix(N), url, \
                         jwt(CLAIM), sni, tls_session_id, const(X)";

impl FromStr for KeyExpr {
    type Err = KeyExprError;

    fn from_str(text: &str) -> Result<Self, KeyExprError> {
        let bad = |why: String| Err(KeyExprError(why));
        let (word, arg) = match text.trim().split_once('(') {
            None => (text.trim(), None),
            Some((word, rest)) => match rest.strip_suffix(')') {
                Some(arg) => (word.trim(), Some(arg.trim())),
                None => return bad(format!("\"{text}\" has no closing parenthesis")),
            },
        };
        match (word, arg) {
            ("src", None) => Ok(Self::Src),
            ("path", None) => Ok(Self::Path),
            ("url", None) => Ok(Self::Url),
            ("path" | "path_prefix", Some(n)) => match n.parse().ok().filter(|n| (1..=64).contains(n)) {
                Some(n) if word == "path" => Ok(Self::Segment(n)),
                Some(n) => Ok(Self::Segments(n)),
                None => bad(format!("\"{text}\" names no part of a path: write \"{word}(1)\"")),
            },
            ("path_prefix", None) => bad("\"path_prefix\" needs a number: write \"path_prefix(1)\"".into()),
            ("sni", None) => Ok(Self::Sni),
            ("tls_session_id", None) => Ok(Self::TlsSessionId),
            ("src" | "url" | "sni" | "tls_session_id", Some(_)) => {
                bad(format!("\"{word}\" takes no argument: write \"{word}\""))
            }
            ("header" | "cookie" | "query" | "jwt" | "const", None | Some("")) => {
                bad(format!("\"{word}\" needs an argument: write \"{word}(NAME)\""))
            }
            ("header", Some(name)) if !name.bytes().all(is_token) => bad(format!("\"{name}\" is no header name")),
            ("cookie", Some(name)) if !name.bytes().all(is_token) => bad(format!("\"{name}\" is no cookie name")),
            ("header", Some(name)) => Ok(Self::Header(name.to_ascii_lowercase())),
            ("cookie", Some(name)) => Ok(Self::Cookie(name.into())),
            ("query", Some(name)) => Ok(Self::Query(name.into())),
            ("jwt", Some(name)) => Ok(Self::Jwt(Claim { name: name.into(), keys: None })),
            ("const", Some(value)) => Ok(Self::Const(value.into())),
            _ => {
                let words = [
                    "src",
                    "header",
                    "cookie",
                    "query",
                    "path",
                    "path_prefix",
                    "url",
                    "jwt",
                    "sni",
                    "tls_session_id",
                    "const",
                ];
                let near = words.iter().min_by_key(|w| strsim::damerau_levenshtein(w, word));
                let hint = near
                    .filter(|w| strsim::damerau_levenshtein(w, word) <= 2)
                    .map_or(String::new(), |w| format!("; did you mean \"{w}\"?"));
                bad(format!("\"{word}\" is no key expression{hint} There are: {FORMS}"))
            }
        }
    }
}

impl fmt::Display for KeyExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Src => f.write_str("src"),
            Self::Path => f.write_str("path"),
            Self::Segment(n) => write!(f, "path({n})"),
            Self::Segments(n) => write!(f, "path_prefix({n})"),
            Self::Url => f.write_str("url"),
            Self::Jwt(claim) => write!(f, "jwt({})", claim.name),
            Self::Sni => f.write_str("sni"),
            Self::TlsSessionId => f.write_str("tls_session_id"),
            Self::Header(name) => write!(f, "header({name})"),
            Self::Cookie(name) => write!(f, "cookie({name})"),
            Self::Query(name) => write!(f, "query({name})"),
            Self::Const(value) => write!(f, "const({value})"),
        }
    }
}

/// `tchar` of RFC 9110, 5.6.2.
pub fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_expressions_read_and_write_alike() {
        for text in [
            "src",
            "path",
            "header(x-session-id)",
            "cookie(JSESSIONID)",
            "query(room)",
            "path(2)",
            "path_prefix(1)",
            "url",
            "jwt(sub)",
            "jwt(https://example.org/room)",
            "sni",
            "tls_session_id",
            "const(all)",
        ] {
            assert_eq!(text.parse::<KeyExpr>().map(|e| e.to_string()), Ok(text.into()));
        }
        assert_eq!("header(X-A)".parse(), Ok(KeyExpr::Header("x-a".into())));
    }

    #[test]
    fn a_wrong_expression_says_what_to_write() {
        let why = |text: &str| text.parse::<KeyExpr>().expect_err(text).to_string();
        assert!(why("heder(X)").contains("did you mean \"header\""));
        assert!(why("header").contains("header(NAME)"));
        assert!(why("header(X").contains("closing parenthesis"));
        assert!(why("src(1)").contains("takes no argument"));
        assert!(why("path(0)").contains("write \"path(1)\""));
        assert!(why("path_prefix(x)").contains("write \"path_prefix(1)\""));
        assert!(why("jwt").contains("jwt(NAME)"));
    }

    #[test]
    fn a_path_has_segments() {
        let path = b"/tenants/blue/x";
        assert_eq!((segment(path, 1), segment(path, 2)), (Some(&b"tenants"[..]), Some(&b"blue"[..])));
        assert_eq!((segment(path, 4), segment(path, 0), segment(b"/", 1), segment(b"*", 1)), (None, None, None, None));
        assert_eq!((segments(path, 1), segments(path, 2)), (&b"/tenants"[..], &b"/tenants/blue"[..]));
        assert_eq!((segments(path, 3), segments(path, 9), segments(b"/", 2)), (&path[..], &path[..], &b"/"[..]));
    }
}
