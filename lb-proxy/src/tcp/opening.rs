//! What is known of a connection before it is passed on.
use super::hello::ClientHello;
use lb_core::stick::KeyExpr;
use lb_core::table::{StickKey, StickTable};
use std::net::IpAddr;

/// Where keys and routes of a connection come from.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The client.
    pub(crate) src: IpAddr,
    /// What its TLS asks for, where that was read.
    pub(crate) hello: Option<&'a ClientHello>,
}

impl Opening<'_> {
    /// The bytes that an expression names; `None`: it has none, or the source address, which is no bytes of it.
    pub(crate) fn value<'a>(&'a self, expr: &'a KeyExpr) -> Option<&'a [u8]> {
        match expr {
            KeyExpr::Sni => self.hello?.sni.as_deref().map(str::as_bytes),
            KeyExpr::TlsSessionId => self.hello.map(|hello| hello.session_id.as_slice()),
            KeyExpr::Const(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The key that an expression finds, for a table.
    pub(crate) fn key(&self, expr: &KeyExpr, table: &StickTable) -> Option<StickKey> {
        let (kind, len) = (table.kind(), table.key_len());
        match expr {
            KeyExpr::Src => StickKey::from_ip(kind, len, self.src),
            // Names are one whatever their case.
            KeyExpr::Sni => StickKey::from_value(kind, len, &self.value(expr)?.to_ascii_lowercase()),
            _ => StickKey::from_value(kind, len, self.value(expr)?),
        }
    }
}

impl lb_core::tcp::Opening for Opening<'_> {
    fn src(&self) -> IpAddr {
        self.src
    }

    fn sni(&self) -> Option<&str> {
        self.hello?.sni.as_deref()
    }

    fn offers(&self, protocol: &str) -> bool {
        self.hello.is_some_and(|hello| hello.offers(protocol))
    }
}
