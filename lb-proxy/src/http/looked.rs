//! A request as rules and routes look at it.
use super::head::{Known, Request, first_value};
use crate::shared::now;
use lb_core::cookie;
use lb_core::counters::Counter;
use lb_core::matcher::{self, Asked};
use lb_core::snapshot::Snapshot;
use lb_core::stick::{self, KeyExpr};
use lb_core::table::{StickKey, StickTable};
use std::borrow::Cow;
use std::net::IpAddr;

/// A request in its buffer, with what is known of it beside.
pub(crate) struct Looked<'a> {
    pub(crate) request: &'a Request,
    pub(crate) buf: &'a [u8],
    /// The client behind trusted proxies.
    pub(crate) src: IpAddr,
    /// Where the tables are.
    pub(crate) snap: &'a Snapshot,
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
            KeyExpr::Query(name) => matcher::parameter(request.query.get(buf), name),
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
    fn path(&self) -> &[u8] {
        self.request.path.get(self.buf)
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        first_value(&self.request.fields, self.buf, name)
    }
    fn websocket(&self) -> bool {
        self.request.websocket(self.buf)
    }
    fn method(&self) -> &[u8] {
        self.request.method.get(self.buf)
    }
    fn query(&self) -> &[u8] {
        self.request.query.get(self.buf)
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
