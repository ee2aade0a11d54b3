//! Texts with variables: `%{src}`, `%{header(X-Tenant)}`. Variables are filled in by whoever knows the request.
//!
//! What a client sent never becomes more than a part of one value: each use says how its bytes are written.
use crate::stick::is_token;
use std::fmt;

/// A text with variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// Stands, with its digit behind it, for a group of a pattern in [`Template::part`]. No value has this byte.
pub const GROUP: u8 = 1;

/// Each group, as [`Template::part`] writes it.
const GROUPS: [[u8; 2]; 10] = {
    let mut groups = [[GROUP, b'0']; 10];
    let mut n = 0;
    while n < 10 {
        groups[n][1] += n as u8;
        n += 1;
    }
    groups
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var(Var),
    /// A group of the pattern that found the text.
    Group(usize),
}

/// Something known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Var {
    /// The client's address, behind trusted proxies.
    Src,
    /// Host without port.
    Host,
    /// Path without query.
    Path,
    /// Query without `?`.
    Query,
    /// Method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// The request's id.
    Id,
    /// Who showed a right password.
    User,
    /// Name of the frontend.
    Frontend,
    /// Name of the backend, once chosen.
    Backend,
    /// Name of the server. In answers.
    Server,
    /// Server name of TLS.
    Sni,
    /// What TLS agreed on with the client, as `TLSv1.3`.
    TlsVersion,
    /// Its cipher suite.
    TlsCipher,
    /// First name in the client's verified certificate.
    Client,
    /// Something else in it.
    Certificate(CertificatePart),
    /// A header field of the request, by lower-case name.
    Header(String),
    /// A cookie of the request.
    Cookie(String),
    /// A query parameter.
    Parameter(String),
}

/// Part of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// Distinguished name of the subject, as RFC 4514 writes it: `CN=billing,O=Shop`.
    Subject,
    /// Of who signed it.
    Issuer,
    /// Serial number in hex, small letters.
    Serial,
    /// SHA-256 of the whole in hex, small letters.
    Fingerprint,
    /// The whole: DER in Base64.
    Whole,
}

/// The variables, as messages list them.
pub const VARIABLES: &str = "src, host, path, query, method, scheme, id, user, frontend, backend, server, sni, \
                             tls_version, tls_cipher, client_name, client_subject, client_issuer, client_serial, \
                             client_fingerprint, client_cert, header(X), cookie(X), query(X)";

const WORDS: [(&str, Var); 20] = [
    ("src", Var::Src),
    ("host", Var::Host),
    ("path", Var::Path),
    ("query", Var::Query),
    ("method", Var::Method),
    ("scheme", Var::Scheme),
    ("id", Var::Id),
    ("user", Var::User),
    ("frontend", Var::Frontend),
    ("backend", Var::Backend),
    ("server", Var::Server),
    ("sni", Var::Sni),
    ("tls_version", Var::TlsVersion),
    ("tls_cipher", Var::TlsCipher),
    ("client_name", Var::Client),
    ("client_subject", Var::Certificate(CertificatePart::Subject)),
    ("client_issuer", Var::Certificate(CertificatePart::Issuer)),
    ("client_serial", Var::Certificate(CertificatePart::Serial)),
    ("client_fingerprint", Var::Certificate(CertificatePart::Fingerprint)),
    ("client_cert", Var::Certificate(CertificatePart::Whole)),
];

impl Template {
    /// Reads a text; `%%{` is `%{` itself. What would be a variable elsewhere (`%[src]`, `$remote_addr`) is refused, so that
    /// nobody sends its name for its value; `%%[` is `%[` itself. `groups`: so many of a pattern may be named, as `$1`; `$$` is `$` itself.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn read(text: &str, groups: Option<usize>) -> Result<Self, (String, String)> {
        let mut parts = Parts::default();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '$']) {
            let (plain, here) = rest.split_at(at);
            parts.text(plain);
            rest = if let Some(after) = here.strip_prefix("%%{") {
                parts.text("%{");
                after
            } else if let Some(after) = here.strip_prefix("%%[") {
                parts.text("%[");
                after
            } else if let Some(after) = here.strip_prefix("%[") {
                let name = after.split(']').next().unwrap_or_default();
                return Err(foreign(&format!("%[{name}]"), name, "; %%[ is %[ itself"));
            } else if let Some(after) = here.strip_prefix("%{") {
                let Some((name, after)) = after.split_once('}') else {
                    return Err((format!("\"{here}\" has no closing brace"), "write it as %{src}".into()));
                };
                parts.0.push(Part::Var(variable(name.trim())?));
                after
            } else if let (Some(groups), Some(after)) = (groups, here.strip_prefix('$')) {
                parts.group(after, groups)?
            } else if let Some(name) = here.strip_prefix('$').and_then(nginx) {
                return Err(foreign(&format!("${name}"), name, ""));
            } else {
                parts.text(&here[..1]);
                &here[1..]
            };
        }
        parts.text(rest);
        Ok(Self(parts.0))
    }

    /// Whether it names this variable.
    pub fn names(&self, var: &Var) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Var(v) if v == var))
    }

    /// Its text, if there are no variables in it.
    pub fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The texts in it, one after the other.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
    }

    /// Appends the text; `say` appends a variable's value, `group` is what a group found.
    pub fn write<'a>(
        &self,
        out: &mut Vec<u8>,
        say: &mut dyn FnMut(&Var, &mut Vec<u8>),
        group: &dyn Fn(usize) -> &'a [u8],
    ) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Var(var) => say(var, out),
                Part::Group(n) => out.extend_from_slice(group(*n)),
            }
        }
    }

    /// Appends it as the value of a header field: control bytes of variables are left out, but for what `say` writes for
    /// [`Var::Server`], which is no client's.
    pub fn value(&self, out: &mut Vec<u8>, say: &mut dyn FnMut(&Var, &mut Vec<u8>)) {
        let start = out.len();
        self.part(out, say);
        // White space around a value is no part of it.
        let trimmed = out[start..].trim_ascii();
        let (skip, len) = (out.len() - start - out[start..].trim_ascii_start().len(), trimmed.len());
        out.copy_within(start + skip..start + skip + len, start);
        out.truncate(start + len);
    }

    /// As [`Self::value`], as a part of one: white space stays, and what groups found is left open, as [`GROUP`] says.
    pub fn part(&self, out: &mut Vec<u8>, say: &mut dyn FnMut(&Var, &mut Vec<u8>)) {
        let mut said = |var: &Var, out: &mut Vec<u8>| {
            let start = out.len();
            say(var, out);
            if *var == Var::Server {
                return;
            }
            retain(out, start, |b| (b >= b' ' && b != 0x7f) || b == b'\t');
        };
        self.write(out, &mut said, &|n| &GROUPS[n.min(9)]);
    }
}

fn retain(out: &mut Vec<u8>, start: usize, keep: impl Fn(u8) -> bool) {
    if out[start..].iter().all(|b| keep(*b)) {
        return;
    }
    let kept: Vec<u8> = out[start..].iter().copied().filter(|b| keep(*b)).collect();
    out.truncate(start);
    out.extend_from_slice(&kept);
}

#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, text: &str) {
        match (self.0.last_mut(), text) {
            (_, "") => {}
            (Some(Part::Text(before)), more) => before.push_str(more),
            (_, text) => self.0.push(Part::Text(text.to_owned())),
        }
    }

    /// What follows a `$`; the rest after it.
    fn group<'a>(&mut self, after: &'a str, groups: usize) -> Result<&'a str, (String, String)> {
        match after.as_bytes().first() {
            Some(b'$') => self.text("$"),
            Some(digit) if digit.is_ascii_digit() => {
                let n = usize::from(digit - b'0');
                if n > groups {
                    let help = format!("the pattern has {groups}: put what you mean in parentheses");
                    return Err((format!("there is no group ${n}"), help));
                }
                self.0.push(Part::Group(n));
            }
            _ => {
                let help = "write $1 to $9 for what the pattern's groups found, $0 for all of it, $$ for a dollar";
                return Err(("a lone `$` means nothing here".into(), help.into()));
            }
        }
        Ok(&after[1..])
    }
}

fn variable(name: &str) -> Result<Var, (String, String)> {
    if let Some((_, var)) = WORDS.iter().find(|(word, _)| *word == name) {
        return Ok(var.clone());
    }
    if let Some((word, arg)) = name.strip_suffix(')').and_then(|n| n.split_once('(')) {
        let arg = arg.trim();
        let good = !arg.is_empty() && arg.bytes().all(is_token);
        match word.trim() {
            "header" if good => return Ok(Var::Header(arg.to_ascii_lowercase())),
            "cookie" if good => return Ok(Var::Cookie(arg.to_owned())),
            "query" if !arg.is_empty() => return Ok(Var::Parameter(arg.to_owned())),
            word @ ("header" | "cookie" | "query") => {
                return Err((format!("\"{arg}\" is no name of a {word}"), format!("write %{{{word}(NAME)}}")));
            }
            _ => {}
        }
    }
    let help = match ours(name) {
        Some(ours) => format!("write {ours}"),
        None => format!("there are {VARIABLES}; ${{NAME}} is the environment's, %%{{ is %{{ itself"),
    };
    Err((format!("there is no variable %{{{name}}}"), help))
}

/// A variable as HAProxy or nginx has it.
fn foreign(sent: &str, name: &str, more: &str) -> (String, String) {
    let help = match ours(name) {
        Some(ours) => format!("write {ours}{more}"),
        None => format!("variables are {VARIABLES}, as %{{src}}{more}"),
    };
    (format!("\"{sent}\" is no variable here: it would be sent as it stands"), help)
}

/// What others call our variables.
const OTHERS: [(&str, &str); 38] = [
    ("ssl_sni", "%{sni}"),
    ("ssl_fc_sni", "%{sni}"),
    ("ssl_server_name", "%{sni}"),
    ("tls_sni", "%{sni}"),
    ("ip", "%{src}"),
    ("client_ip", "%{src}"),
    ("remote_addr", "%{src}"),
    ("proxy_add_x_forwarded_for", "%{src}"),
    ("addr", "%{src}"),
    ("server_name", "%{host}"),
    ("http_host", "%{header(Host)}"),
    ("uri", "%{path}, and ?%{query}"),
    ("url", "%{path}, and ?%{query}"),
    ("request_uri", "%{path}, and ?%{query}"),
    ("document_uri", "%{path}"),
    ("pathq", "%{path}, and ?%{query}"),
    ("args", "%{query}"),
    ("query_string", "%{query}"),
    ("request_method", "%{method}"),
    ("request_id", "%{id}"),
    ("unique_id", "%{id}"),
    ("unique-id", "%{id}"),
    ("remote_user", "%{user}"),
    ("fe_name", "%{frontend}"),
    ("be_name", "%{backend}"),
    ("srv_name", "%{server}"),
    ("ssl_protocol", "%{tls_version}"),
    ("ssl_fc_protocol", "%{tls_version}"),
    ("ssl_cipher", "%{tls_cipher}"),
    ("ssl_fc_cipher", "%{tls_cipher}"),
    ("ssl_client_s_dn", "%{client_subject}, or %{client_name} for its name alone"),
    ("ssl_c_s_dn", "%{client_subject}, or %{client_name} for its name alone"),
    ("ssl_client_i_dn", "%{client_issuer}"),
    ("ssl_c_i_dn", "%{client_issuer}"),
    ("ssl_client_serial", "%{client_serial}"),
    ("ssl_c_serial", "%{client_serial}"),
    ("ssl_client_fingerprint", "%{client_fingerprint}"),
    ("ssl_client_escaped_cert", "%{client_cert}, in Base64"),
];

/// Our variable for a name that others use, or for a slip.
fn ours(name: &str) -> Option<String> {
    let name = name.split(',').next().unwrap_or_default().trim();
    if let Some((_, ours)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Some((*ours).to_owned());
    }
    let (word, arg) = name.strip_suffix(')').and_then(|n| n.split_once('(')).unwrap_or((name, ""));
    let argument = |kind: &str, arg: &str| format!("%{{{kind}({arg})}}");
    let arg = if arg.is_empty() { "NAME" } else { arg };
    match word {
        "hdr" | "req.hdr" | "req.fhdr" | "headers" => return Some(argument("header", arg)),
        "cook" | "req.cook" | "cookies" => return Some(argument("cookie", arg)),
        "url_param" | "urlp" | "param" => return Some(argument("query", arg)),
        _ => {}
    }
    for (begin, kind) in [("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")] {
        if let Some(arg) = word.strip_prefix(begin).filter(|arg| !arg.is_empty()) {
            let arg = if kind == "header" { arg.replace('_', "-") } else { arg.to_owned() };
            return Some(argument(kind, &arg));
        }
    }
    if let Some((word, _)) = WORDS.iter().find(|(known, _)| *known == word) {
        return Some(format!("%{{{word}}}"));
    }
    let near = WORDS.iter().map(|(word, _)| *word).find(|w| strsim::damerau_levenshtein(w, word) <= 1 && w.len() > 1);
    near.map(|near| format!("%{{{near}}}"))
}

/// The variable of nginx with which this text begins.
fn nginx(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..end];
    let known = WORDS.iter().map(|(word, _)| *word).chain(OTHERS.iter().map(|(other, _)| *other));
    let of_request =
        ["http_", "cookie_", "arg_"].iter().any(|begin| name.len() > begin.len() && name.starts_with(begin));
    (of_request || known.into_iter().any(|word| word == name)).then_some(name)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Var(var) => text.push_str(&format!("%{{{var}}}")),
                Part::Group(n) => text.push_str(&format!("${n}")),
            }
        }
        write!(f, "{text:?}")
    }
}

impl fmt::Display for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header({name})"),
            Self::Cookie(name) => write!(f, "cookie({name})"),
            Self::Parameter(name) => write!(f, "query({name})"),
            var => f.write_str(WORDS.iter().find(|(_, v)| v == var).map_or("", |(word, _)| word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str, value: &[u8]) -> String {
        let template = Template::read(text, None).unwrap();
        let mut out = b"X: ".to_vec();
        template.value(&mut out, &mut |var, out| {
            if *var == Var::Src {
                out.extend_from_slice(value);
            }
        });
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn variables_are_filled_in_and_everything_else_stays() {
        assert_eq!(filled("a %{src}, b", b"192.0.2.1"), "X: a 192.0.2.1, b");
        assert_eq!(filled("100% of %%{src} $1", b""), "X: 100% of %{src} $1");
        assert_eq!(filled("", b""), "X: ");
        let all = "%{src}%{host}%{path}%{query}%{method}%{scheme}%{id}%{user}%{frontend}%{backend}%{server}%{sni}\
                   %{tls_version}%{tls_cipher}%{client_name}%{client_subject}%{client_issuer}\
                   %{client_serial}%{client_fingerprint}%{client_cert}%{header(x-a)}%{cookie(a)}%{query(a)}";
        assert_eq!(Template::read(all, None).unwrap().to_string(), format!("{all:?}"));
    }

    #[test]
    fn what_a_client_sent_is_one_value_and_nothing_more() {
        assert_eq!(filled("a%{src}b", b"1\r\nEvil: 1\0\x7f"), "X: a1Evil: 1b");
        assert_eq!(filled("%{src}", b" \t v \t "), "X: v");
        assert_eq!(filled(" %{src} ", b""), "X: ");
    }

    #[test]
    fn a_wrong_variable_says_what_to_write() {
        let why = |text: &str| Template::read(text, Some(2)).expect_err(text);
        assert!(why("%{banana}").1.contains("src, host"));
        assert_eq!((why("%{scr}").1, why("%{hdr(X-A)}").1), ("write %{src}".into(), "write %{header(X-A)}".into()));
        assert_eq!(why("%{ssl_sni}").1, "write %{sni}");
        assert!(why("%{src").0.contains("no closing brace"));
        assert!(why("%{header()}").1.contains("%{header(NAME)}"));
        assert!(why("%{header(a b)}").0.contains("\"a b\""));
        assert!(why("$3").0.contains("no group $3"));
        assert!(why("a$").1.contains("$$"));
    }

    #[test]
    fn variables_of_others_are_not_sent_as_they_stand() {
        let why = |text: &str| Template::read(text, None).expect_err(text);
        assert!(why("a %[src] b").0.contains("\"%[src]\" is no variable here"));
        assert_eq!(why("%[src]").1, "write %{src}; %%[ is %[ itself");
        assert_eq!(why("%[req.hdr(Host),lower]").1, "write %{header(Host)}; %%[ is %[ itself");
        assert_eq!((why("$remote_addr:1").1, why("x$host").1), ("write %{src}".into(), "write %{host}".into()));
        assert_eq!(why("$http_x_tenant").1, "write %{header(x-tenant)}");
        assert_eq!(filled("%%[src] $5 $USD 5$", b""), "X: %[src] $5 $USD 5$");
    }

    #[test]
    fn groups_are_single_digits() {
        let template = Template::read("/$1x$$/$0", Some(1)).unwrap();
        let mut out = Vec::new();
        template.write(&mut out, &mut |_, _| {}, &|n| if n == 0 { b"all" } else { b"one" });
        assert_eq!(out, b"/onex$/all");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fail_and_no_value_breaks_a_line(text: String, value: Vec<u8>) {
            let _ = Template::read(&text, Some(3));
            let out = filled("a%{src}b%{src}", &value);
            prop_assert!(!out.contains(['\r', '\n', '\0']));
        }
    }
}
