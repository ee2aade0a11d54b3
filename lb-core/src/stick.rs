//! Key expressions: which bytes of a request or an answer become a stick key.
use std::fmt;
use std::str::FromStr;

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
    /// The server name that the client asks TLS for.
    Sni,
    /// TLS's session id, up to TLS 1.2: of the client's hello, or given out by the server's.
    TlsSessionId,
    /// A constant.
    Const(String),
}

/// Why a text is no key expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyExprError(pub String);

/// The forms, as error messages list them.
pub const FORMS: &str = "src, header(NAME), cookie(NAME), query(NAME), path, sni, tls_session_id, const(X)";

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
            ("sni", None) => Ok(Self::Sni),
            ("tls_session_id", None) => Ok(Self::TlsSessionId),
            ("src" | "path" | "sni" | "tls_session_id", Some(_)) => {
                bad(format!("\"{word}\" takes no argument: write \"{word}\""))
            }
            ("header" | "cookie" | "query" | "const", None | Some("")) => {
                bad(format!("\"{word}\" needs an argument: write \"{word}(NAME)\""))
            }
            ("header", Some(name)) if !name.bytes().all(is_token) => bad(format!("\"{name}\" is no header name")),
            ("cookie", Some(name)) if !name.bytes().all(is_token) => bad(format!("\"{name}\" is no cookie name")),
            ("header", Some(name)) => Ok(Self::Header(name.to_ascii_lowercase())),
            ("cookie", Some(name)) => Ok(Self::Cookie(name.into())),
            ("query", Some(name)) => Ok(Self::Query(name.into())),
            ("const", Some(value)) => Ok(Self::Const(value.into())),
            _ => {
                let words = ["src", "header", "cookie", "query", "path", "sni", "tls_session_id", "const"];
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
    }
}
