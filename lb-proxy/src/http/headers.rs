//! Heads written for the other side: hop-by-hop fields out, our own in, everything else as it came.
//!
//! Runs of untouched fields are copied whole. `Connection` cannot name a field away that framing, routing or affinity
//! depend on (RFC 9110, 7.6.1, and what went wrong elsewhere).
use super::edits::Edits;
use super::head::{Field, Framing, Known, Request, Response, options};
use lb_core::config::{self, Cookie, CookieMode};
use lb_core::cookie::{self, rule::Rule};
use smallvec::SmallVec;
use std::io::Write as _;
use std::net::IpAddr;

/// Whether a `Connection` option takes this field out.
fn named_away(field: &Field, buf: &[u8], named: &[&[u8]]) -> bool {
    field.known == Known::Other && named.iter().any(|n| n.eq_ignore_ascii_case(field.name.get(buf)))
}

/// The options of `Connection` that name fields; `any`: there are some.
fn named<'a>(buf: &'a [u8], fields: &'a [Field], any: bool) -> Vec<&'a [u8]> {
    if !any {
        return Vec::new();
    }
    let plain = [&b"close"[..], b"keep-alive", b"upgrade"];
    options(buf, fields).filter(|o| !plain.iter().any(|p| p.eq_ignore_ascii_case(o))).collect()
}

fn hop_by_hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Copies fields that `keep` keeps, whole runs at a time. All of them end with CRLF in `buf`.
fn copy_fields(buf: &[u8], fields: &[Field], end: usize, out: &mut Vec<u8>, mut keep: impl FnMut(&Field) -> bool) {
    let mut run: Option<usize> = None;
    for field in fields {
        match (keep(field), run) {
            (true, None) => run = Some(field.name.start()),
            (false, Some(start)) => {
                out.extend_from_slice(&buf[start..field.name.start()]);
                run = None;
            }
            _ => {}
        }
    }
    if let Some(start) = run {
        // Up to the blank line.
        out.extend_from_slice(&buf[start..end - 2]);
    }
}

/// Copies fields that `goes` lets go on with another value.
fn copy_replaced(
    buf: &[u8],
    fields: &[Field],
    edits: Option<&Edits<'_>>,
    out: &mut Vec<u8>,
    goes: impl Fn(&Field) -> bool,
) {
    let Some(edits) = edits.filter(|edits| edits.replaces_any()) else { return };
    for field in fields.iter().filter(|f| edits.replaces(f.name.get(buf)) && goes(f)) {
        let name = field.name.get(buf);
        for part in [name, b": ", &edits.replaced(name, field.value.get(buf)), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// Replaces in a value of our own making that was just written.
fn replace_tail(name: &[u8], start: usize, edits: Option<&Edits<'_>>, out: &mut Vec<u8>) {
    if let Some(edits) = edits.filter(|edits| edits.replaces(name)) {
        let value = edits.replaced(name, &out[start..]).into_owned();
        out.truncate(start);
        out.extend_from_slice(&value);
    }
}

/// What a request's head is written by.
pub(crate) struct Rewrite<'a> {
    pub(crate) frontend: &'a config::Frontend,
    pub(crate) backend: &'a config::Backend,
    /// The affinity rule of the backend.
    pub(crate) affinity: Option<&'a Rule>,
    /// `http` or `https`, as the client came.
    pub(crate) scheme: &'static str,
    /// The connection's other end.
    pub(crate) client: IpAddr,
    /// The client behind trusted proxies.
    pub(crate) src: IpAddr,
    /// What rules change.
    pub(crate) edits: Option<&'a Edits<'a>>,
    /// Path and query, where a rule changed them.
    pub(crate) target: Option<&'a [u8]>,
}

impl Rewrite<'_> {
    /// Whether rules have taken fields of that name into their own hands.
    fn dropped(&self, name: &[u8]) -> bool {
        self.edits.is_some_and(|edits| edits.drops(name))
    }
}

/// Writes a request's head for a server.
pub(crate) fn request(buf: &[u8], request: &Request, rewrite: &Rewrite<'_>, out: &mut Vec<u8>) {
    let Rewrite { frontend, backend, affinity, src, edits, target, .. } = *rewrite;
    out.extend_from_slice(request.method.get(buf));
    out.push(b' ');
    out.extend_from_slice(target.unwrap_or_else(|| request.target.get(buf)));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let named = named(buf, &request.fields, request.names);
    let affinity = affinity.map(|rule| &rule.config);
    let changed = affinity.filter(|c| c.indirect || c.mode == CookieMode::Prefix);
    let cookie_here = |f: &Field| {
        !rewrite.dropped(b"cookie") && changed.is_some_and(|c| cookie::find(f.value.get(buf), &c.name).is_some())
    };
    let cookies = request.fields.iter().filter(|f| f.known == Known::Cookie && cookie_here(f));
    let cookies: SmallVec<[&Field; 1]> = cookies.collect();
    let mut lengths = 0;
    let goes = |f: &Field| match f.known {
        known if hop_by_hop(known) => false,
        Known::XForwardedFor | Known::XForwardedProto => !frontend.forwarded,
        Known::XRealIp => !backend.real_ip,
        // Written anew: an absolute target, or the same length told twice.
        Known::Host | Known::ContentLength => false,
        Known::Cookie => !cookies.iter().any(|cookie| cookie.name == f.name),
        _ => !named_away(f, buf, &named),
    } && !edits.is_some_and(|edits| edits.drops(f.name.get(buf)));
    let replaced = |f: &Field| edits.is_some_and(|edits| edits.replaces(f.name.get(buf)));
    out.extend_from_slice(b"Host: ");
    let host = edits.and_then(|edits| edits.value("host"));
    out.extend_from_slice(host.unwrap_or_else(|| request.authority.get(buf)));
    out.extend_from_slice(b"\r\n");
    copy_fields(buf, &request.fields, request.len, out, |f| goes(f) && !replaced(f));
    copy_replaced(buf, &request.fields, edits, out, goes);
    for field in &cookies {
        let before = out.len();
        out.extend_from_slice(b"Cookie: ");
        let start = out.len();
        match changed {
            Some(c) if c.indirect => cookie::without(field.value.get(buf), &c.name, out),
            Some(c) => cookie::unprefixed(field.value.get(buf), &c.name, out),
            None => {}
        }
        if out.len() == start {
            out.truncate(before);
        } else {
            replace_tail(b"cookie", start, edits, out);
            out.extend_from_slice(b"\r\n");
        }
    }
    for field in request.fields.iter().filter(|f| f.known == Known::ContentLength) {
        if lengths == 0 {
            lengths = 1;
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(field.value.get(buf));
            out.extend_from_slice(b"\r\n");
        }
    }
    if request.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if frontend.forwarded {
        forwarded(buf, request, rewrite, out);
    }
    if backend.real_ip && !rewrite.dropped(b"x-real-ip") {
        out.extend_from_slice(b"X-Real-IP: ");
        address(src.to_canonical(), out);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(edits) = edits {
        edits.write("host", out);
    }
    if let Some(upgrade) = request.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(upgrade.get(buf));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// An address as text. IPv4 by hand: it stands in every request, and the formatter costs a twentieth of what we do for one.
fn address(ip: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(v4) = ip else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{ip}");
        return;
    };
    for (i, octet) in v4.octets().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        for (unit, shown) in [(100, octet >= 100), (10, octet >= 10), (1, true)] {
            if shown {
                out.push(b'0' + octet / unit % 10);
            }
        }
    }
}

/// `X-Forwarded-For` goes on from what a trusted proxy said, and starts anew for everybody else.
fn forwarded(buf: &[u8], request: &Request, rewrite: &Rewrite<'_>, out: &mut Vec<u8>) {
    let client = rewrite.client.to_canonical();
    let trusted = rewrite.frontend.trusted_proxies.iter().any(|net| net.contains(&client));
    if !rewrite.dropped(b"x-forwarded-for") {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if trusted {
            for field in request.fields.iter().filter(|f| f.known == Known::XForwardedFor) {
                out.extend_from_slice(field.value.get(buf));
                out.extend_from_slice(b", ");
            }
        }
        address(client, out);
        out.extend_from_slice(b"\r\n");
    }
    if !rewrite.dropped(b"x-forwarded-proto") {
        out.extend_from_slice(b"X-Forwarded-Proto: ");
        let said = request.fields.iter().find(|f| f.known == Known::XForwardedProto).filter(|_| trusted);
        out.extend_from_slice(said.map_or(rewrite.scheme.as_bytes(), |f| f.value.get(buf)));
        out.extend_from_slice(b"\r\n");
    }
}

/// The address that affinity and logs take for the client: behind trusted proxies the last one that is not trusted
/// itself, else the connection's.
pub(crate) fn source(buf: &[u8], request: &Request, frontend: &config::Frontend, client: IpAddr) -> IpAddr {
    let trusted = |ip: &IpAddr| frontend.trusted_proxies.iter().any(|net| net.contains(ip));
    let mut source = client.to_canonical();
    if frontend.trusted_proxies.is_empty() || !trusted(&source) {
        return source;
    }
    let fields: Vec<_> = request.fields.iter().filter(|f| f.known == Known::XForwardedFor).collect();
    for field in fields.iter().rev() {
        for part in field.value.get(buf).rsplit(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let Some(ip) = std::str::from_utf8(part).ok().and_then(|t| t.parse::<IpAddr>().ok()) else {
                return source;
            };
            source = ip.to_canonical();
            if !trusted(&source) {
                return source;
            }
        }
    }
    source
}

/// How an answer goes to the client.
pub(crate) struct Onward<'a> {
    /// The affinity rule of the backend.
    pub(crate) affinity: Option<&'a Rule>,
    /// `Set-Cookie` to add.
    pub(crate) set_cookie: Option<String>,
    /// What goes into the affinity cookie that the server sets.
    pub(crate) cookie_value: Option<String>,
    /// The body is sent in chunks.
    pub(crate) chunked: bool,
    /// The connection stays open.
    pub(crate) keep_alive: bool,
    /// The client speaks HTTP/1.1.
    pub(crate) http11: bool,
    /// What rules and compression change.
    pub(crate) edits: Option<&'a Edits<'a>>,
}

/// Writes an answer's head for the client (also a 101, and 1xx).
pub(crate) fn response(buf: &[u8], response: &Response, onward: &Onward<'_>, out: &mut Vec<u8>) {
    status_line(response.status, response.phrase.get(buf), out);
    let named = named(buf, &response.fields, response.names);
    let affinity = onward.affinity.map(|rule| &rule.config);
    // A cookie of our name that the server sets would say something we do not mean, unless it may.
    let changed = affinity.filter(|c| match c.mode {
        CookieMode::Insert => !c.preserve,
        CookieMode::Rewrite | CookieMode::Prefix => onward.cookie_value.is_some(),
        CookieMode::Passive => false,
    });
    let ours = |f: &Field, rule: &Cookie| {
        cookie::set_pair(f.value.get(buf)).is_some_and(|(name, _)| name == rule.name.as_bytes())
    };
    let mut length_seen = false;
    let preserved = affinity.is_some_and(|rule| {
        rule.preserve && response.fields.iter().any(|f| f.known == Known::SetCookie && ours(f, rule))
    });
    let dropped = |f: &Field| onward.edits.is_some_and(|edits| edits.drops(f.name.get(buf)));
    let duplicate_length = response.fields.iter().filter(|f| f.known == Known::ContentLength).count() > 1;
    let goes = |f: &Field| match f.known {
        known if hop_by_hop(known) => false,
        Known::ContentLength => !duplicate_length,
        Known::SetCookie => !changed.is_some_and(|rule| ours(f, rule)),
        _ => !named_away(f, buf, &named),
    } && !dropped(f);
    let replaced = |f: &Field| onward.edits.is_some_and(|edits| edits.replaces(f.name.get(buf)));
    copy_fields(buf, &response.fields, response.len, out, |f| goes(f) && !replaced(f));
    copy_replaced(buf, &response.fields, onward.edits, out, goes);
    for field in response.fields.iter().filter(|f| f.known == Known::ContentLength && duplicate_length) {
        if !length_seen && !dropped(field) {
            length_seen = true;
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(field.value.get(buf));
            out.extend_from_slice(b"\r\n");
        }
    }
    if let (Some(value), Some(rule)) = (&onward.cookie_value, changed) {
        let kept = |f: &&Field| f.known == Known::SetCookie && ours(f, rule) && !dropped(f);
        for field in response.fields.iter().filter(kept) {
            out.extend_from_slice(b"Set-Cookie: ");
            let start = out.len();
            cookie::reset(field.value.get(buf), value, rule.mode == CookieMode::Prefix, out);
            replace_tail(b"set-cookie", start, onward.edits, out);
            out.extend_from_slice(b"\r\n");
        }
        if rule.nocache {
            out.extend_from_slice(b"Cache-Control: private\r\n");
        }
    }
    if let Some(edits) = onward.edits {
        edits.write("content-length", out);
    }
    if let Some(cookie) = onward.set_cookie.as_ref().filter(|_| !preserved) {
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(cookie.as_bytes());
        out.extend_from_slice(b"\r\n");
        if affinity.is_some_and(|c| c.nocache) {
            out.extend_from_slice(b"Cache-Control: private\r\n");
        }
    }
    if onward.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if response.status == 101 {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(response.upgrade.map_or(&b""[..], |u| u.get(buf)));
        out.extend_from_slice(b"\r\n");
    } else if response.status >= 200 {
        match (onward.keep_alive, onward.http11) {
            (false, true) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: u16, phrase: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend([b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8, b' ']);
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::head;
    use super::*;
    use lb_core::config::Timeouts;
    use lb_core::rules::Rules;

    fn frontend() -> config::Frontend {
        config::Frontend {
            tcp: None,
            name: "web".into(),
            listen: Vec::new(),
            routes: Vec::new(),
            backend: None,
            timeout: Timeouts::default(),
            maxconn: 10,
            maxconn_per_address: 0,
            forwarded: true,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            max_head: 16384,
            max_headers: 100,
            min_rate: 240,
            limit: Vec::new(),
            max_tarpit: 1000,
            rules: Rules::default(),
            http2: Default::default(),
        }
    }

    fn backend() -> config::Backend {
        config::Backend { real_ip: true, ..crate::fixture::backend("app", &[]) }
    }

    fn rewritten(text: &str, client: &str) -> String {
        let cookie = Cookie { name: "SERVERID".into(), indirect: true, path: "/".into(), ..Cookie::default() };
        let request = head::request(text.as_bytes(), 100, Vec::new()).unwrap().unwrap();
        let (frontend, backend) = (frontend(), backend());
        let client = client.parse().unwrap();
        let src = source(text.as_bytes(), &request, &frontend, client);
        let cookie = Rule::new(cookie, &[]);
        let rewrite = Rewrite {
            frontend: &frontend,
            backend: &backend,
            affinity: Some(&cookie),
            scheme: "http",
            client,
            src,
            edits: None,
            target: None,
        };
        let mut out = Vec::new();
        super::request(text.as_bytes(), &request, &rewrite, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        for ip in ["0.0.0.0", "127.0.0.1", "10.20.30.40", "255.255.255.255", "100.9.99.200", "::1", "2001:db8::ff"] {
            let mut out = Vec::new();
            address(ip.parse().expect("an address"), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), ip);
        }
    }

    #[test]
    fn what_belongs_to_one_hop_stays_there_and_connection_names_nothing_important_away() {
        let text = "GET http://a/x HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: X-One, cookie, content-length, close\r\n\
                    Keep-Alive: 5\r\nTE: trailers\r\nCookie: a=b; SERVERID=n1\r\nX-Two: 2\r\n\r\n";
        assert_eq!(
            rewritten(text, "192.0.2.1"),
            "GET /x HTTP/1.1\r\nHost: a\r\nX-Two: 2\r\nCookie: a=b\r\nX-Forwarded-For: 192.0.2.1\r\n\
             X-Forwarded-Proto: http\r\nX-Real-IP: 192.0.2.1\r\n\r\n"
        );
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_about_the_client() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 198.51.100.7\r\nX-Forwarded-For: 10.9.9.9\r\n\
                    X-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\n\r\n";
        let trusted = rewritten(text, "10.0.0.1");
        assert!(trusted.contains("X-Forwarded-For: 1.1.1.1, 198.51.100.7, 10.9.9.9, 10.0.0.1\r\n"), "{trusted}");
        assert!(trusted.contains("X-Forwarded-Proto: https\r\nX-Real-IP: 198.51.100.7\r\n"), "{trusted}");
        let stranger = rewritten(text, "192.0.2.1");
        assert!(stranger.contains("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Real-IP: 192.0.2.1\r\n"));
        assert!(!stranger.contains("1.1.1.1") && !stranger.contains("6.6.6.6"));
    }

    #[test]
    fn a_length_told_twice_is_passed_on_once() {
        let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(rewritten(text, "192.0.2.1").matches("Content-Length: 3").count(), 1);
    }

    #[test]
    fn the_affinity_cookie_is_ours_alone() {
        let text = b"HTTP/1.1 200 OK\r\nSet-Cookie: SERVERID=evil\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n";
        let response = head::response(text, false, Vec::new()).unwrap().unwrap();
        let write = |preserve| {
            let cookie =
                Cookie { name: "SERVERID".into(), preserve, nocache: true, path: "/".into(), ..Cookie::default() };
            let onward = Onward {
                affinity: Some(&Rule::new(cookie, &[])),
                set_cookie: Some("SERVERID=n1; Path=/".into()),
                cookie_value: None,
                chunked: false,
                keep_alive: true,
                http11: true,
                edits: None,
            };
            let mut out = Vec::new();
            super::response(text, &response, &onward, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            write(false),
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nSet-Cookie: SERVERID=n1; Path=/\r\n\
             Cache-Control: private\r\n\r\n"
        );
        assert!(write(true).contains("SERVERID=evil") && !write(true).contains("SERVERID=n1"));
    }

    #[test]
    fn what_rules_say_comes_instead_of_ours_and_of_the_clients() {
        let text = b"GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nCookie: SERVERID=n1; c=d\r\nx-a: 3\r\n\r\n";
        let request = head::request(text, 100, Vec::new()).unwrap().unwrap();
        let cookie = Cookie { name: "SERVERID".into(), indirect: true, path: "/".into(), ..Cookie::default() };
        let (frontend, backend) = (frontend(), backend());
        let client = "192.0.2.1".parse().unwrap();
        let mut edits = Edits::default();
        for name in ["X-A", "Host", "X-Forwarded-For", "X-Real-IP"] {
            edits.set(name, |out| out.extend_from_slice(b"new"));
        }
        edits.remove("cookie");
        edits.add("X-B", |out| out.extend_from_slice(b"more"));
        let rewrite = Rewrite {
            frontend: &frontend,
            backend: &backend,
            affinity: Some(&Rule::new(cookie, &[])),
            scheme: "http",
            client,
            src: client,
            edits: Some(&edits),
            target: Some(b"/y?z"),
        };
        let mut out = Vec::new();
        super::request(text, &request, &rewrite, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /y?z HTTP/1.1\r\nHost: new\r\nX-B: 2\r\nX-Forwarded-Proto: http\r\nX-A: new\r\n\
             X-Forwarded-For: new\r\nX-Real-IP: new\r\nX-B: more\r\n\r\n"
        );
    }
}
