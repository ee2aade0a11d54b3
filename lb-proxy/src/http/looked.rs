//! A request as rules and routes look at it, and what `%{…}` says of it.
use super::head::{Known, Request, first_value};
use super::passage::Made;
use crate::arrival::TlsFacts;
use crate::shared::now;
use lb_core::cookie;
use lb_core::counters::Counter;
use lb_core::matcher::{Asked, Tls, parameter};
use lb_core::rules::Var;
use lb_core::snapshot::{Backend, Frontend, Snapshot};
use lb_core::stick::{self, KeyExpr};
use lb_core::table::{StickKey, StickTable};
use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

/// A request in its buffer, with what is known of it beside.
#[derive(Clone, Copy)]
pub(crate) struct Looked<'a> {
    pub(crate) request: &'a Request,
    pub(crate) buf: &'a [u8],
    /// The connection's other end.
    pub(crate) client: IpAddr,
    /// The client behind trusted proxies.
    pub(crate) src: IpAddr,
    /// Where the tables are.
    pub(crate) snap: &'a Snapshot,
    pub(crate) frontend: &'a Frontend,
    pub(crate) backend: Option<&'a Backend>,
    /// What TLS agreed on, where it ends here.
    pub(crate) tls: Option<&'a TlsFacts>,
    /// What rules have made of it so far.
    pub(crate) made: Option<&'a Made<'a>>,
}

impl Looked<'_> {
    /// Whether the client came by TLS, to us or to a trusted proxy.
    pub(crate) fn secure(&self) -> bool {
        let said = || self.trusted().then(|| self.header("x-forwarded-proto")).flatten();
        self.tls().is_some() || said().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"))
    }

    /// Whether the connection comes from a trusted proxy.
    pub(crate) fn trusted(&self) -> bool {
        let client = self.client.to_canonical();
        self.frontend.config.trusted_proxies.iter().any(|net| net.contains(&client))
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &[u8] {
        match self.made.and_then(|made| made.target.as_ref()) {
            Some(target) => &target.bytes,
            None => self.request.target.get(self.buf),
        }
    }

    /// Path without query, as it is passed on.
    pub(crate) fn path(&self) -> &[u8] {
        match self.made.and_then(|made| made.target.as_ref()) {
            Some(target) => target.path(),
            None => self.request.path.get(self.buf),
        }
    }

    /// Appends what a variable stands for.
    pub(crate) fn say(&self, var: &Var, out: &mut Vec<u8>) {
        let bytes: &[u8] = match var {
            Var::Src => {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{}", self.src);
                return;
            }
            Var::Host => self.host(),
            Var::Path => self.path(),
            Var::Query => self.query(),
            Var::Method => self.method(),
            Var::Scheme if self.secure() => b"https",
            Var::Scheme => b"http",
            Var::Id => self.made.and_then(|m| m.id.as_deref()).map_or(b"", str::as_bytes),
            Var::User => self.made.and_then(|m| m.user.as_deref()).map_or(b"", str::as_bytes),
            Var::Frontend => self.frontend.config.name.as_bytes(),
            Var::Backend => self.backend.map_or(b"", |b| b.config.name.as_bytes()),
            // Known when the answer is.
            Var::Server => super::passage::SERVER,
            Var::Sni => self.tls().and_then(|tls| tls.sni).map_or(b"", str::as_bytes),
            Var::TlsVersion => self.tls.map_or(b"", |tls| tls.version.as_bytes()),
            Var::TlsCipher => self.tls.map_or(b"", |tls| tls.cipher.as_bytes()),
            Var::Certificate(part) => {
                if let Some(certificate) = self.tls.and_then(|tls| tls.certificate.as_ref()) {
                    certificate.say(*part, out);
                }
                return;
            }
            Var::Client => self.tls().and_then(|tls| tls.client?.first()).map_or(b"", |name| name.as_bytes()),
            Var::Header(name) => self.header(name).unwrap_or_default(),
            Var::Cookie(name) => self.cookie(name).unwrap_or_default(),
            Var::Parameter(name) => parameter(self.query(), name).unwrap_or_default(),
        };
        out.extend_from_slice(bytes);
    }
}

impl<'a> Looked<'a> {
    /// The key that an expression finds here, for a table.
    pub(crate) fn key(&self, expr: &KeyExpr, table: &StickTable) -> Option<StickKey> {
        let (kind, len) = (table.kind(), table.key_len());
        match expr {
            KeyExpr::Src => StickKey::from_ip(kind, len, self.src),
            _ => StickKey::from_value(kind, len, &self.value(expr)?),
        }
    }

    /// The bytes that an expression names; `None` for the source address, which is no bytes of a request.
    pub(crate) fn value<'s>(&'s self, expr: &'s KeyExpr) -> Option<Cow<'s, [u8]>> {
        let (request, buf) = (self.request, self.buf);
        let plain = match expr {
            // The session that we end is ours, and nobody else's.
            KeyExpr::Src | KeyExpr::TlsSessionId => return None,
            // Names are alike whatever their case.
            KeyExpr::Sni => return self.tls()?.sni.map(|name| Cow::Owned(name.to_ascii_lowercase().into_bytes())),
            KeyExpr::Jwt(claim) => return claim.of(request.value(buf, "authorization")?).map(Cow::Owned),
            KeyExpr::Header(name) => request.value(buf, name),
            KeyExpr::Cookie(name) => self.cookie_of(name),
            KeyExpr::Query(name) => parameter(request.query.get(buf), name),
            KeyExpr::Path => Some(request.path.get(buf)),
            KeyExpr::Segment(n) => stick::segment(request.path.get(buf), *n),
            KeyExpr::Segments(n) => Some(stick::segments(request.path.get(buf), *n)),
            KeyExpr::Url => Some(request.target.get(buf)),
            KeyExpr::Const(text) => Some(text.as_bytes()),
        };
        plain.map(Cow::Borrowed)
    }

    fn cookie_of(&self, name: &str) -> Option<&'a [u8]> {
        let fields = self.request.fields.iter().filter(|f| f.known == Known::Cookie);
        fields.filter_map(|f| cookie::find(f.value.get(self.buf), name)).next()
    }
}

impl Asked for Looked<'_> {
    fn host(&self) -> &[u8] {
        self.request.host.get(self.buf)
    }
    fn plain_path(&self) -> &[u8] {
        match (self.made.and_then(|made| made.target.as_ref()), &self.request.plain) {
            (Some(target), _) => target.plain(),
            (None, Some(plain)) => plain,
            (None, None) => self.request.path.get(self.buf),
        }
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        first_value(&self.request.fields, self.buf, name)
    }
    fn tls(&self) -> Option<Tls<'_>> {
        let of = self.tls?;
        let client = of.certificate.as_ref().map(|certificate| &certificate.names[..]);
        Some(Tls { sni: of.sni.as_deref(), client })
    }
    fn websocket(&self) -> bool {
        self.request.websocket(self.buf)
    }
    fn method(&self) -> &[u8] {
        self.request.method.get(self.buf)
    }
    fn query(&self) -> &[u8] {
        match self.made.and_then(|made| made.target.as_ref()) {
            Some(target) => target.query(),
            None => self.request.query.get(self.buf),
        }
    }
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.cookie_of(name)
    }
    fn src(&self) -> IpAddr {
        self.src
    }
    fn count(&self, key: &KeyExpr, table: &str, counter: Counter) -> Option<u64> {
        let table = self.snap.tables.get(table)?;
        let key = self.key(key, table)?;
        Some(table.counter(&key, counter, now()))
    }
}
