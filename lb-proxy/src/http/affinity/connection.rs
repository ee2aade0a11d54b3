//! The plan of a connection that is passed on as it is: keys of what opens it, pins once its server answers.
use super::{Keyed, Plan, hash_ip};
use crate::tcp::Opening;
use lb_core::config::{Balance, StickAction};
use lb_core::hash;
use lb_core::snapshot::Backend;
use lb_core::stick::KeyExpr;
use lb_core::table::StickKey;
use lb_core::time::Timestamp;

impl Plan {
    /// Takes the keys out of what opens a connection.
    pub(crate) fn of_connection(backend: &Backend, opening: &Opening<'_>) -> Self {
        let mut plan = Self::new(opening.src, false);
        for (rule, (stick, table)) in backend.stick.iter().enumerate() {
            match stick.action {
                StickAction::StoreResponse => plan.learns.push(rule),
                _ => plan.keys.extend(opening.key(&stick.key, table).map(|key| Keyed::new(rule, key))),
            }
        }
        plan.hash = match &backend.config.balance {
            Balance::Hash(KeyExpr::Src) => Some(hash_ip(opening.src)),
            Balance::Hash(expr) => Some(opening.value(expr).map_or_else(|| hash_ip(opening.src), hash::stable)),
            _ => plan.key_hash(),
        };
        plan
    }

    /// Whether anything is to be remembered once the server answers.
    pub(crate) fn remembers(&self, backend: &Backend) -> bool {
        !self.keys.is_empty() || self.listens(backend)
    }

    /// Whether the session id that the server gives out is to be stored.
    pub(crate) fn listens(&self, backend: &Backend) -> bool {
        let of_answer = |key: &KeyExpr| *key == KeyExpr::TlsSessionId;
        backend.stick.iter().any(|(rule, _)| rule.action == StickAction::StoreResponse && of_answer(&rule.key))
    }

    /// The server has taken the connection: pins what the rules say.
    pub(crate) fn taken(&mut self, backend: &Backend, server: usize, session_id: &[u8], now: Timestamp) {
        let id = backend.servers[server].id;
        self.pin(backend, id, now);
        for rule in std::mem::take(&mut self.learns) {
            let (stick, table) = &backend.stick[rule];
            let value = match &stick.key {
                KeyExpr::TlsSessionId => session_id,
                KeyExpr::Const(text) => text.as_bytes(),
                _ => continue,
            };
            let key = StickKey::from_value(table.kind(), table.key_len(), value);
            if let Some(key) = key.filter(|key| table.may_pin(key, self.src, now)) {
                table.store(&key, id, now);
                self.keys.push(Keyed { found: Some(id), ..Keyed::new(rule, key) });
            }
        }
    }
}
