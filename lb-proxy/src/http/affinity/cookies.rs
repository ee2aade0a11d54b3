//! The affinity cookie of an answer.
use super::Plan;
use crate::http::head::{Field, Known};
use lb_core::config::{CookieMode, FailBack};
use lb_core::cookie::{self, rule::NONCE};
use lb_core::snapshot::Backend;
use lb_core::time::Timestamp;

impl Plan {
    /// `Set-Cookie` value for the answer, if lb sets the cookie and one is due.
    pub(crate) fn set_cookie(&self, backend: &Backend, server: usize, now: Timestamp) -> Option<String> {
        let rule = backend.cookie.as_ref().filter(|rule| rule.config.mode == CookieMode::Insert && !self.no_cookie)?;
        let (first, home) = match &self.cookie {
            Some(found) if found.server == server && !found.renew => return None,
            Some(found) if found.server == server => (found.first, found.home),
            Some(found) => (0, Some(found.home.unwrap_or(found.server))),
            None => (0, None),
        };
        let home = home.filter(|home| *home != server && backend.config.persist.fail_back != FailBack::Never);
        let value = rule.value(server, home, first, now, nonce)?;
        let mut text = String::with_capacity(64);
        rule.write(&value, &mut text);
        Some(text)
    }

    /// What goes into the cookie that the server sets, if it sets it and something goes in.
    pub(crate) fn cookie_value(
        &self,
        backend: &Backend,
        server: usize,
        fields: &[Field],
        buf: &[u8],
        now: Timestamp,
    ) -> Option<String> {
        let rule = backend.cookie.as_ref().filter(|_| !self.no_cookie)?;
        let name = rule.config.name.as_bytes();
        let ours = |f: &Field| cookie::set_pair(f.value.get(buf)).is_some_and(|(found, _)| found == name);
        let changes = matches!(rule.config.mode, CookieMode::Rewrite | CookieMode::Prefix);
        let sets = changes && fields.iter().any(|f| f.known == Known::SetCookie && ours(f));
        if !sets {
            return None;
        }
        rule.value(server, None, 0, now, nonce)
    }
}

/// Random bytes; nothing if the system has none.
fn nonce() -> Option<[u8; NONCE]> {
    let mut bytes = [0; NONCE];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}
