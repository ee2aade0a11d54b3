//! Our own answers: a page of the configuration, or one line that names the reason.
use super::edits::Edits;
use super::forward::{After, Facts};
use super::h1::Conn;
use super::passage::Passage;
use super::reason::Reason;
use super::{account, say};
use crate::websocket;
use lb_core::rules::fixed::Body;
use lb_core::rules::{Fixed, Page, Rules};
use lb_core::snapshot::Frontend;
use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

/// A no, or an elsewhere.
pub(crate) struct Refusal<'s> {
    pub(crate) reason: Reason,
    /// What the body names instead of the reason's code.
    pub(crate) label: Option<String>,
    /// Seconds after which it is worth another try.
    pub(crate) retry_after: Option<u64>,
    /// Where the client is sent.
    pub(crate) location: Option<Vec<u8>>,
    /// What a password is asked for.
    pub(crate) realm: Option<&'s str>,
    /// A page that the configuration says for this very case.
    pub(crate) page: Option<&'s Page>,
    /// All of the answer, as a rule gives it.
    pub(crate) given: Option<Given<'s>>,
}

/// An answer that a rule gives by itself.
pub(crate) struct Given<'s> {
    pub(crate) fixed: &'s Fixed,
    /// Its body, if that is a text.
    pub(crate) text: Vec<u8>,
    /// Its fields.
    pub(crate) fields: Vec<(&'s str, Vec<u8>)>,
}

impl From<Reason> for Refusal<'_> {
    fn from(reason: Reason) -> Self {
        Self { reason, label: None, retry_after: None, location: None, realm: None, page: None, given: None }
    }
}

/// How it goes to the client.
#[derive(Default)]
pub(crate) struct Way<'a> {
    /// The answer to HEAD has no body.
    pub(crate) head: bool,
    /// The connection stays open.
    pub(crate) keep: bool,
    /// What rules do with it.
    pub(crate) edits: Option<&'a Edits<'a>>,
}

/// Our own answer instead of a server's.
pub(crate) struct Refusing<'a, 's> {
    pub(crate) frontend: &'s Frontend,
    pub(crate) passage: &'a Passage<'s>,
    pub(crate) facts: &'a Facts,
    pub(crate) body_done: bool,
}

impl Refusing<'_, '_> {
    /// Sends it; what becomes of the connection.
    pub(crate) async fn send(&self, conn: &mut Conn, refusal: Refusal<'_>, mut account: account::Request) -> After {
        let reason = refusal.reason;
        account.status = reason.status;
        if reason.status == 0 {
            account.finish(reason.code);
            return After::Close;
        }
        account.own_answer();
        // Over HTTP/2 the status reaches whoever may see it.
        let counts = self.facts.close.take().filter(|_| websocket::refuse::is_for_later(reason));
        if let (Some(accept), Some(counts), None) = (&self.facts.accept, counts, conn.stream.h2()) {
            account.status = 101;
            let answer = websocket::refuse::answer(accept, reason, &counts, conn.local.id);
            let sent = conn.timer.within(Duration::from_secs(5), say(&conn.stream.writer(), &answer)).await;
            account.finish(reason.code);
            return if matches!(sent, Ok(Ok(()))) { After::Linger } else { After::Close };
        }
        let fine = !conn.local.draining() && !matches!(reason.status, 400 | 408);
        let keep = self.facts.keep_alive && self.body_done && fine;
        let backend = self.passage.backend.map(|b| &b.config.rules);
        let own = Own::new(&refusal, [backend, Some(&self.frontend.config.rules)]);
        let edits = self.passage.echo(None, self.frontend);
        let edits = self.passage.answer(edits, reason.status, &|name| own.field(name), "", conn.local.id);
        let answer = own.write(&Way { head: self.facts.head, keep, edits: edits.as_ref() });
        // A line of 16 KiB a second is slow enough.
        let patience = Duration::from_secs(5 + answer.len() as u64 / (16 << 10));
        let sent = conn.timer.within(patience, say(&conn.stream.writer(), &answer)).await;
        account.finish(reason.code);
        match sent {
            Ok(Ok(())) if keep => After::Next,
            Ok(Ok(())) => After::Linger,
            _ => After::Close,
        }
    }
}

/// An answer of ours as it is before rules change it.
pub(crate) struct Own<'a> {
    status: u16,
    phrase: &'static str,
    /// Fields but those of framing.
    fields: Vec<(&'a str, Cow<'a, [u8]>)>,
    body: Cow<'a, [u8]>,
}

impl<'a> Own<'a> {
    /// `rules`: where pages are, the backend's, the frontend's.
    pub(crate) fn new(refusal: &'a Refusal<'_>, rules: [Option<&'a Rules>; 2]) -> Self {
        let Reason { status, code } = refusal.reason;
        if let Some(given) = &refusal.given {
            return Self::given(status, given);
        }
        let phrase = phrase(status);
        let named = || rules.into_iter().flatten().find_map(|rules| rules.page(status, code));
        let (kind, body): (_, Cow<'_, [u8]>) = match refusal.page.or_else(named) {
            Some(page) => (page.kind, Cow::Borrowed(&page.body)),
            None => {
                let line = format!("{status} {phrase}: {}\n", refusal.label.as_deref().unwrap_or(code));
                ("text/plain; charset=utf-8", Cow::Owned(line.into_bytes()))
            }
        };
        let mut fields = vec![("Content-Type", Cow::Borrowed(kind.as_bytes()))];
        // A redirect for ever may be kept; nothing else that we say holds longer than now.
        if !matches!(status, 301 | 308) {
            fields.push(("Cache-Control", Cow::Borrowed(b"no-store")));
        }
        if let Some(location) = &refusal.location {
            fields.push(("Location", Cow::Borrowed(location)));
        }
        if let Some(realm) = refusal.realm {
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            fields.push(("WWW-Authenticate", Cow::Owned(challenge.into_bytes())));
        }
        if let Some(seconds) = refusal.retry_after.or((status == 503).then_some(1)) {
            fields.push(("Retry-After", Cow::Owned(seconds.to_string().into_bytes())));
        }
        Self { status, phrase, fields, body }
    }

    fn given(status: u16, given: &'a Given<'_>) -> Self {
        let kind = given.fixed.kind.as_ref().map(|kind| ("Content-Type", Cow::Borrowed(kind.as_bytes())));
        let fields = given.fields.iter().map(|(name, value)| (*name, Cow::Borrowed(&value[..])));
        let body = match &given.fixed.body {
            Body::File(page) => &page.body[..],
            Body::Text(_) | Body::None => &given.text,
        };
        Self { status, phrase: phrase(status), fields: kind.into_iter().chain(fields).collect(), body: body.into() }
    }

    /// The value of a field.
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The whole answer.
    pub(crate) fn write(&self, way: &Way<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.body.len());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", self.status, self.phrase);
        let kept = |name: &str| !way.edits.is_some_and(|edits| edits.drops(name.as_bytes()));
        for (name, value) in self.fields.iter().filter(|(name, _)| kept(name)) {
            let value = way.edits.map_or(Cow::Borrowed(&**value), |edits| edits.replaced(name.as_bytes(), value));
            for part in [name.as_bytes(), b": ", &value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        // RFC 9110, 8.6.
        if self.status != 204 {
            let _ = write!(out, "Content-Length: {}\r\n", self.body.len());
        }
        if let Some(edits) = way.edits {
            edits.write("content-length", &mut out);
        }
        out.extend_from_slice(if way.keep { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        if !way.head {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::rules::PageFor;

    fn text(refusal: &Refusal<'_>, way: &Way<'_>) -> String {
        String::from_utf8(Own::new(refusal, [None, None]).write(way)).unwrap()
    }

    #[test]
    fn an_answer_names_its_reason_and_head_has_no_body() {
        let way = Way { keep: true, ..Way::default() };
        assert_eq!(
            text(&Reason::NO_SERVER.into(), &way),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
             Retry-After: 1\r\nContent-Length: 35\r\n\r\n503 Service Unavailable: no-server\n"
        );
        let head = text(&Reason::NO_ROUTE.into(), &Way { head: true, ..Way::default() });
        assert!(
            head.contains("Content-Length: 24\r\nConnection: close\r\n\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn the_backends_page_comes_before_the_frontends() {
        let page = |body: &[u8]| Page { path: "x".into(), kind: "text/html", body: body.into() };
        let rules = |body: &[u8]| Rules { pages: vec![(PageFor::Class(5), page(body))], ..Rules::default() };
        let (backend, frontend) = (rules(b"backend"), rules(b"frontend"));
        let with = |rules| {
            let refusal = Reason::NO_SERVER.into();
            String::from_utf8(Own::new(&refusal, rules).write(&Way::default())).unwrap()
        };
        assert!(
            with([Some(&backend), Some(&frontend)]).ends_with("Content-Length: 7\r\nConnection: close\r\n\r\nbackend")
        );
        assert!(with([None, Some(&frontend)]).contains("Content-Type: text/html\r\n"));
        let own = page(b"own");
        let refusal = Refusal { page: Some(&own), ..Reason::NO_SERVER.into() };
        assert!(Own::new(&refusal, [Some(&backend), None]).write(&Way::default()).ends_with(b"own"));
    }

    #[test]
    fn rules_see_the_fields_of_our_own_answers() {
        let refusal = Reason::NO_SERVER.into();
        let own = Own::new(&refusal, [None, None]);
        assert_eq!((own.field("retry-after"), own.field("location")), (Some(&b"1"[..]), None));
        assert!(own.field("content-type").is_some_and(|kind| kind.starts_with(b"text/plain")));
    }

    #[test]
    fn rules_change_our_own_answers_but_not_their_framing() {
        let mut edits = Edits::default();
        edits.set("Cache-Control", |out| out.extend_from_slice(b"max-age=5"));
        edits.add("X-A", |out| out.extend_from_slice(b"1"));
        let shown = text(&Reason::NO_ROUTE.into(), &Way { edits: Some(&edits), ..Way::default() });
        assert!(shown.contains("Content-Length: 24\r\nCache-Control: max-age=5\r\nX-A: 1\r\n"), "{shown}");
        assert_eq!(shown.matches("Cache-Control").count(), 1);
    }

    #[test]
    fn redirects_and_challenges_say_where_and_what_for() {
        let refusal = Refusal { location: Some(b"/x".to_vec()), ..Reason::redirect(301).into() };
        let shown = text(&refusal, &Way::default());
        assert!(shown.contains("\r\nLocation: /x\r\n") && !shown.contains("no-store"), "{shown}");
        let refusal = Refusal { realm: Some("here"), ..Reason::AUTH.into() };
        assert!(
            text(&refusal, &Way::default()).contains("WWW-Authenticate: Basic realm=\"here\", charset=\"UTF-8\"\r\n")
        );
    }
}
