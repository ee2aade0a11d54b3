//! Whether a request may pass, and where to: its id, limits, maintenance, the frontend's rules, routes, then the
//! backend's maintenance and rules. Nothing of it is sent yet.
use super::account;
use super::forward::Failure;
use super::head::{self, Request};
use super::ids;
use super::limits::{self, Opened};
use super::looked::Looked;
use super::own::{Given, Refusal};
use super::passage::{Passage, Target};
use super::passwords::Verdict;
use super::reason::Reason;
use crate::arrival::TlsFacts;
use crate::shared::wall;
use crate::worker::Local;
use lb_core::matcher::Asked;
use lb_core::route::route;
use lb_core::rules::{Action, Edit, Fixed, Maintenance, Redirect, Rules, Template};
use lb_core::snapshot::{Backend, Done, Frontend, Ruled, Snapshot};
use std::net::IpAddr;

/// A request before the gate.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'g, 's> {
    pub(crate) local: &'g Local,
    pub(crate) snap: &'s Snapshot,
    pub(crate) frontend: &'s Frontend,
    pub(crate) request: &'g Request,
    pub(crate) buf: &'g [u8],
    /// The connection's other end.
    pub(crate) client: IpAddr,
    /// The client behind trusted proxies.
    pub(crate) src: IpAddr,
    /// What TLS agreed on.
    pub(crate) tls: Option<&'g TlsFacts>,
}

/// Takes a request through; the index of its backend.
pub(crate) async fn admit<'s>(
    gate: Gate<'_, 's>,
    passage: &mut Passage<'s>,
    opened: &mut Opened,
    account: &mut account::Request,
) -> Result<usize, Failure<'s>> {
    gate.identify(passage, account);
    let passed = gate.pass(passage, opened, account).await;
    // What is done with the answer, ours or a server's, is known now: the request's bytes will be gone.
    if let Some(backend) = passage.backend {
        gate.foresee(passage, &backend.config.rules, &backend.ruled);
        if let (Ok(_), Some(spec)) = (&passed, &backend.config.rules.compression) {
            passage.make().encoding = super::compression::accepted(gate.request, gate.buf, &spec.encodings);
        }
    }
    gate.foresee(passage, &gate.frontend.config.rules, &gate.frontend.ruled);
    passed
}

impl<'g, 's> Gate<'g, 's> {
    /// The request with what was made of it.
    pub(crate) fn looked<'a>(&'a self, passage: &'a Passage<'s>) -> Looked<'a> {
        let Self { request, buf, client, src, snap, frontend, tls, .. } = *self;
        Looked { request, buf, client, src, snap, frontend, backend: passage.backend, tls, made: passage.made() }
    }

    /// A text of the configuration as the value of a field.
    fn value(&self, passage: &Passage<'s>, template: &Template, out: &mut Vec<u8>) {
        let looked = self.looked(passage);
        template.value(out, &mut |var, out| looked.say(var, out));
    }

    /// What a change of a head writes.
    fn written(&self, passage: &Passage<'s>, edit: &Edit, out: &mut Vec<u8>) {
        match edit {
            Edit::Set(_, value) | Edit::Add(_, value) => self.value(passage, value, out),
            Edit::Replace(_, _, to) => {
                let looked = self.looked(passage);
                to.part(out, &mut |var, out| looked.say(var, out));
            }
            Edit::Remove(_) => {}
        }
    }

    /// An answer of the configuration, for this request.
    fn given(&self, passage: &Passage<'s>, fixed: &'s Fixed) -> Given<'s> {
        let looked = self.looked(passage);
        let mut text = Vec::new();
        fixed.text(&mut text, &mut |var, out| looked.say(var, out));
        let field = |(name, value): &'s (String, Template)| {
            let mut out = Vec::new();
            self.value(passage, value, &mut out);
            (&name[..], out)
        };
        Given { fixed, text, fields: fixed.headers.iter().map(field).collect() }
    }

    /// Its id: that of a trusted proxy, else a new one.
    fn identify(&self, passage: &mut Passage<'s>, account: &mut account::Request) {
        let Some(spec) = &self.frontend.config.rules.request_id else { return };
        let looked = self.looked(passage);
        let theirs = looked.trusted().then(|| looked.header(&spec.header)).flatten().and_then(ids::given);
        let id = theirs.unwrap_or_else(|| self.local.ids.make(wall().0));
        account.identified(&id);
        let made = passage.make();
        made.edits.set(&spec.header, |out| out.extend_from_slice(id.as_bytes()));
        made.id = Some(id);
    }

    async fn pass(
        &self,
        passage: &mut Passage<'s>,
        opened: &mut Opened,
        account: &mut account::Request,
    ) -> Result<usize, Failure<'s>> {
        let Self { snap, frontend, .. } = *self;
        if let Some(denied) = limits::check(frontend, &self.looked(passage), opened, account) {
            return Err(Failure::Denied(denied));
        }
        self.maintained(frontend.config.rules.maintenance.as_ref())?;
        if !frontend.config.rules.request.is_empty() {
            self.rules(&frontend.config.rules, &frontend.ruled, "", passage, account).await?;
        }
        let index = route(frontend, &self.looked(passage)).ok_or(Failure::Unanswered(Reason::NO_ROUTE))?;
        let backend: &'s Backend = &snap.backends[index];
        passage.backend = Some(backend);
        account.at_backend(backend);
        self.maintained(backend.config.rules.maintenance.as_ref())?;
        if !backend.config.rules.request.is_empty() {
            self.rules(&backend.config.rules, &backend.ruled, &backend.config.name, passage, account).await?;
        }
        Ok(index)
    }

    fn maintained(&self, maintenance: Option<&'s Maintenance>) -> Result<(), Failure<'s>> {
        let Some(maintenance) = maintenance else { return Ok(()) };
        if maintenance.exempt.iter().any(|net| net.contains(&self.src)) {
            return Ok(());
        }
        Err(refused(Refusal {
            retry_after: Some(maintenance.retry_after.as_millis().div_ceil(1000) as u64),
            page: maintenance.page.as_ref(),
            ..Reason::MAINTENANCE.into()
        }))
    }

    /// Tries the rules on requests in order. `of`: the backend whose they are.
    async fn rules(
        &self,
        rules: &'s Rules,
        ruled: &'s Ruled,
        of: &str,
        passage: &mut Passage<'s>,
        account: &mut account::Request,
    ) -> Result<(), Failure<'s>> {
        for (number, (rule, done)) in rules.request.iter().zip(&ruled.request).enumerate() {
            if !rule.when.matches(&self.looked(passage)) {
                continue;
            }
            let no = |refusal: Refusal<'s>, account: &mut account::Request| {
                bump(done, self.local);
                account.ruled(|| {
                    if of.is_empty() { format!("request[{number}]") } else { format!("{of}.request[{number}]") }
                });
                Err(refused(refusal))
            };
            match &rule.then {
                Action::Edit(edits) => {
                    if let Err(reason) = self.edit(edits, passage) {
                        return no(reason.into(), account);
                    }
                }
                Action::PriorityClass(class) => passage.make().class = *class,
                Action::Deny(status) => return no(Reason::deny(*status).into(), account),
                Action::Return(fixed) => {
                    let given = Some(self.given(passage, fixed));
                    return no(Refusal { given, ..Reason::fixed(fixed.status).into() }, account);
                }
                Action::Allow => {
                    bump(done, self.local);
                    return Ok(());
                }
                Action::Redirect(to) => match location(&self.looked(passage), to) {
                    Ok(None) => continue,
                    Ok(Some(to_there)) => {
                        let refusal = Refusal { location: Some(to_there), ..Reason::redirect(to.status).into() };
                        return no(refusal, account);
                    }
                    Err(reason) => return no(reason.into(), account),
                },
                Action::Rewrite(place) => {
                    let looked = self.looked(passage);
                    let target = place.target(looked.path(), looked.query(), &mut |var, out| looked.say(var, out));
                    let Some(target) = target else { continue };
                    passage.make().target = Some(Target::new(target));
                }
                Action::Auth(name) => match self.password(name).await {
                    Ok(user) => {
                        account.user(&user);
                        passage.make().user = Some(user);
                    }
                    Err(refusal) => return no(refusal, account),
                },
            }
            bump(done, self.local);
        }
        Ok(())
    }

    /// Changes the head that the server gets.
    fn edit(&self, edits: &'s [Edit], passage: &mut Passage<'s>) -> Result<(), Reason> {
        for edit in edits {
            let mut text = Vec::new();
            self.written(passage, edit, &mut text);
            let head = &mut passage.make().edits;
            match edit {
                // What a variable brought must be a host: everything behind it depends on that.
                Edit::Set(name, _) if name.eq_ignore_ascii_case("host") && !head::is_authority(&text) => {
                    return Err(Reason::BAD_HOST);
                }
                Edit::Set(name, _) => head.set(name, |out| out.extend_from_slice(&text)),
                Edit::Add(name, _) => head.add(name, |out| out.extend_from_slice(&text)),
                Edit::Remove(name) => head.remove(name),
                // It is written apart from the other fields.
                Edit::Replace(name, pattern, _) if name.eq_ignore_ascii_case("host") => {
                    if head.value(name).is_none() {
                        head.set(name, |out| out.extend_from_slice(self.request.authority.get(self.buf)));
                    }
                    head.replace(name, pattern, |out| out.extend_from_slice(&text));
                    if !head.value(name).is_some_and(head::is_authority) {
                        return Err(Reason::BAD_HOST);
                    }
                }
                Edit::Replace(name, pattern, _) => head.replace(name, pattern, |out| out.extend_from_slice(&text)),
            }
        }
        Ok(())
    }

    /// Whose name and password the request brings.
    async fn password(&self, name: &str) -> Result<Box<str>, Refusal<'s>> {
        let auth = self.snap.config.auth.iter().find(|auth| auth.name == *name);
        let Some(auth) = auth else { return Err(Reason::AUTH.into()) };
        let authorization = self.request.value(self.buf, "authorization");
        // Apart, so that requests without it do not hold its memory.
        match Box::pin(self.local.passwords.check(auth, authorization)).await {
            Verdict::Right(user) => Ok(user),
            Verdict::Wrong => Err(Refusal { realm: Some(&auth.realm), ..Reason::AUTH.into() }),
            Verdict::Busy => Err(Reason::AUTH_BUSY.into()),
        }
    }

    /// Keeps what rules will do with the answer.
    fn foresee(&self, passage: &mut Passage<'s>, rules: &'s Rules, ruled: &'s Ruled) {
        for (rule, done) in rules.response.iter().zip(&ruled.response) {
            if !rule.when.matches(&self.looked(passage)) {
                continue;
            }
            let mut text = Vec::new();
            let mut values = smallvec::SmallVec::<[_; 4]>::new();
            for edit in &rule.then {
                let start = text.len();
                self.written(passage, edit, &mut text);
                values.push(start..text.len());
            }
            passage.foresee(rule, done, &values, &text);
        }
    }
}

fn bump(done: &Done, local: &Local) {
    done[local.id].0.bump();
}

fn refused(refusal: Refusal<'_>) -> Failure<'_> {
    Failure::Refused(Box::new(refusal))
}

/// Where a redirect leads; `None`: the request is there already, or has no such path.
fn location(looked: &Looked<'_>, to: &Redirect) -> Result<Option<Vec<u8>>, Reason> {
    let target = looked.target();
    if !target.starts_with(b"/") {
        return Ok(None);
    }
    let came = looked.secure();
    let https = to.https.unwrap_or(came);
    let authority = looked.request.authority.get(looked.buf);
    let host = match &to.host {
        Some(template) => {
            let mut host = Vec::new();
            template.value(&mut host, &mut |var, out| looked.say(var, out));
            if !head::is_authority(&host) {
                return Err(Reason::BAD_HOST);
            }
            host
        }
        // A port belongs to its scheme.
        None if https != came => looked.host().to_vec(),
        None => authority.to_vec(),
    };
    let place = match &to.place {
        Some(place) => place.target(looked.path(), looked.query(), &mut |var, out| looked.say(var, out)),
        None => Some(target.to_vec()),
    };
    let Some(place) = place else { return Ok(None) };
    if https == came && host.eq_ignore_ascii_case(authority) && place == target {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(host.len() + place.len() + 8);
    if (to.https.is_none() && to.host.is_none()) || host.is_empty() {
        // Two slashes at the beginning would make a host of what follows.
        let slashes = place.iter().take_while(|b| matches!(b, b'/' | b'\\')).count();
        out.push(b'/');
        out.extend_from_slice(&place[slashes..]);
    } else {
        out.extend_from_slice(if https { b"https://" } else { b"http://" });
        out.extend_from_slice(&host);
        out.extend_from_slice(&place);
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests;
