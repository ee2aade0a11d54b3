//! What a valid file says in vain: sections that nothing names. They stop no start; `lb check` tells of them.
use super::{Config, Cookie, CookieValue, Fault, Sticky};
use crate::matcher::{Matcher, Test};
use crate::rules::{Action, Rules};
use std::collections::HashSet;

/// Sections that nothing uses, and values of servers that nothing looks at.
pub fn unused(config: &Config) -> Vec<Fault> {
    let (mut backends, mut used) = (HashSet::new(), Used::default());
    for frontend in &config.frontends {
        backends.extend(frontend.backend.iter().map(String::as_str));
        backends.extend(frontend.routes.iter().map(|route| route.backend.as_str()));
        backends.extend(frontend.tcp.iter().flat_map(|tcp| &tcp.routes).map(|route| route.backend.as_str()));
        used.tables.extend(frontend.limit.iter().map(|rule| rule.table.as_str()));
        frontend.routes.iter().for_each(|route| used.matcher(&route.when));
        used.rules(&frontend.rules);
    }
    for backend in &config.backends {
        backend.persist.force.iter().chain(&backend.persist.ignore).for_each(|when| used.matcher(when));
        used.rules(&backend.rules);
        for rule in &backend.sticky {
            match rule {
                Sticky::Cookie(cookie) => used.matcher(&cookie.when),
                Sticky::Table(rule) => {
                    used.tables.insert(&rule.table);
                    used.matcher(&rule.when);
                }
            }
        }
    }
    let mut all = Vec::new();
    let mut tell = |kind: &str, name: &str, what: &str| {
        all.push(Fault::new(format!("{kind}.{name}"), format!("`{kind}.{name}` is not used: {what}")));
    };
    let unused = config.tables.iter().filter(|table| !used.tables.contains(table.name.as_str()));
    unused.for_each(|table| tell("table", &table.name, "no sticky rule, limit or condition names it"));
    let unused = config.auth.iter().filter(|auth| !used.auth.contains(auth.name.as_str()));
    unused.for_each(|auth| tell("auth", &auth.name, "no `auth` rule names it"));
    let unused = config.backends.iter().filter(|backend| !backends.contains(backend.name.as_str()));
    unused.for_each(|backend| tell("backend", &backend.name, "no frontend or route leads to it"));
    all.extend(config.backends.iter().flat_map(|backend| values(backend)));
    all
}

/// Values of servers for cookies that the backend does not have.
fn values(backend: &super::Backend) -> Vec<Fault> {
    let cookie = |rule: &Sticky| matches!(rule, Sticky::Cookie(_));
    let keyed = |rule: &Sticky| matches!(rule, Sticky::Cookie(Cookie { value, .. }) if *value != CookieValue::Name);
    let (cookie, keyed) = (backend.sticky.iter().any(cookie), backend.sticky.iter().any(keyed));
    let mut all = Vec::new();
    for (i, server) in backend.servers.iter().enumerate() {
        let mut tell = |key: &str, what: &str| {
            let key = format!("backend.{}.server[{i}].{key}", backend.name);
            all.push(Fault::new(key.clone(), format!("`{key}` is not used: {what}")));
        };
        if !cookie && server.cookie != server.name {
            tell("cookie", "no sticky rule of the backend is a cookie");
        }
        if !keyed && server.generation != 0 {
            tell("generation", "no cookie of the backend is dynamic or sealed");
        }
    }
    all
}

#[derive(Default)]
struct Used<'a> {
    tables: HashSet<&'a str>,
    auth: HashSet<&'a str>,
}

impl<'a> Used<'a> {
    fn rules(&mut self, rules: &'a Rules) {
        for rule in &rules.request {
            self.matcher(&rule.when);
            if let Action::Auth(name) = &rule.then {
                self.auth.insert(name);
            }
        }
        rules.response.iter().for_each(|rule| self.matcher(&rule.when));
    }

    fn matcher(&mut self, matcher: &'a Matcher) {
        for test in &matcher.0 {
            match test {
                Test::Count { table, .. } => {
                    self.tables.insert(table);
                }
                Test::Not(matchers) => matchers.iter().for_each(|matcher| self.matcher(matcher)),
                _ => {}
            }
        }
    }
}
