//! A request as rules and routes look at it.
use super::affinity;
use super::head::{Known, Request, first_value};
use crate::shared::now;
use lb_core::cookie;
use lb_core::counters::Counter;
use lb_core::matcher::Asked;
use lb_core::snapshot::Snapshot;
use lb_core::stick::KeyExpr;
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
        let fields = self.request.fields.iter().filter(|f| f.known == Known::Cookie);
        fields.filter_map(|f| cookie::find(f.value.get(self.buf), name)).next()
    }
    fn src(&self) -> IpAddr {
        self.src
    }
    fn count(&self, key: &KeyExpr, table: &str, counter: Counter) -> Option<u64> {
        let table = self.snap.tables.get(table)?;
        let key = affinity::key(key, table, self.src, self.request, self.buf)?;
        Some(table.counter(&key, counter, now()))
    }
}
