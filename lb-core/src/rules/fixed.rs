//! An answer that a rule gives by itself: status, fields, a body from the configuration or from a file.
//!
//! What a client sent may stand in a text, but never becomes a part of its language: it is written as the text's content
//! type quotes it.
use super::Page;
use super::template::{Template, Var};
use std::fmt;

/// `return` of a rule on requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    /// 200 to 299, 400 to 599.
    pub status: u16,
    /// Content type; `None`: there is no body.
    pub kind: Option<String>,
    /// What is sent.
    pub body: Body,
    /// Fields more, each with a name of its own.
    pub headers: Vec<(String, Template)>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// A text with variables.
    Text(Template),
    /// What a file held when the configuration was read, as it is.
    File(Page),
}

/// How a content type quotes what is not a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoting {
    Plain,
    Markup,
    Script,
}

impl Quoting {
    fn of(kind: &str) -> Self {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind.ends_with("html") || kind.ends_with("xml") {
            Self::Markup
        } else if kind.ends_with("json") || kind.ends_with("javascript") || kind.ends_with("ecmascript") {
            Self::Script
        } else {
            Self::Plain
        }
    }

    fn write(self, value: &[u8], out: &mut Vec<u8>) {
        for byte in value.iter().copied().filter(|b| !b.is_ascii_control()) {
            match (self, byte) {
                (Self::Markup, b'&') => out.extend_from_slice(b"&amp;"),
                (Self::Markup, b'<') => out.extend_from_slice(b"&lt;"),
                (Self::Markup, b'>') => out.extend_from_slice(b"&gt;"),
                (Self::Markup, b'"') => out.extend_from_slice(b"&#34;"),
                (Self::Markup, b'\'') => out.extend_from_slice(b"&#39;"),
                (Self::Script, b'"') => out.extend_from_slice(b"\\\""),
                (Self::Script, b'\\') => out.extend_from_slice(b"\\\\"),
                // A page that holds the script would end it here; and strings of scripts have other quotes, too.
                (Self::Script, b'<' | b'>' | b'&' | b'\'' | b'`' | b'$') => {
                    let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                }
                (_, byte) => out.push(byte),
            }
        }
    }
}

impl Fixed {
    /// Appends the text of a body that is none of a file; `say` appends a variable's value.
    pub fn text(&self, out: &mut Vec<u8>, say: &mut dyn FnMut(&Var, &mut Vec<u8>)) {
        let Body::Text(text) = &self.body else { return };
        let quoting = self.kind.as_deref().map_or(Quoting::Plain, Quoting::of);
        let mut said = |var: &Var, out: &mut Vec<u8>| {
            let mut value = Vec::new();
            say(var, &mut value);
            // What is no text breaks the text around it.
            quoting.write(String::from_utf8_lossy(&value).as_bytes(), out);
        };
        text.write(out, &mut said, &|_| b"");
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "return {}", self.status)?;
        if let Some(kind) = &self.kind {
            write!(f, " {kind}")?;
        }
        match &self.body {
            Body::None => {}
            Body::Text(text) => write!(f, " {text}")?,
            Body::File(page) => write!(f, " {page}")?,
        }
        self.headers.iter().try_for_each(|(name, value)| write!(f, ", {name}: {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(kind: &str, text: &str, value: &[u8]) -> String {
        let body = Body::Text(Template::read(text, None).unwrap());
        let fixed = Fixed { status: 200, kind: Some(kind.into()), body, headers: Vec::new() };
        let mut out = Vec::new();
        fixed.text(&mut out, &mut |_, out| out.extend_from_slice(value));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_text_is_sent_as_it_is_written() {
        assert_eq!(text("text/plain", " ok \n\t%{src}\n", b"192.0.2.1"), " ok \n\t192.0.2.1\n");
    }

    #[test]
    fn what_a_client_sent_is_quoted_as_the_content_type_wants_it() {
        let evil = b"<script>'\"&\\`${x}\r\n\0";
        for kind in ["text/html", "text/html; charset=utf-8", "application/xhtml+xml", "image/svg+xml"] {
            assert_eq!(text(kind, "<p>%{path}</p>", evil), "<p>&lt;script&gt;&#39;&#34;&amp;\\`${x}</p>", "{kind}");
        }
        for kind in ["application/json", "Application/Problem+JSON", "text/javascript"] {
            let shown = text(kind, "{\"a\":\"%{path}\"}", evil);
            assert_eq!(shown, "{\"a\":\"\\u003cscript\\u003e\\u0027\\\"\\u0026\\\\\\u0060\\u0024{x}\"}", "{kind}");
        }
        assert_eq!(text("text/plain", "%{path}", evil), "<script>'\"&\\`${x}");
        assert_eq!(text("text/plain", "%{path}", b"a\xffb"), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn a_value_in_json_is_that_value(value in "[^\\x00-\\x1f\\x7f]{0,20}") {
            let shown = text("application/json", "{\"a\":\"%{path}\"}", value.as_bytes());
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(read["a"].as_str(), Some(&value[..]));
        }
    }
}
