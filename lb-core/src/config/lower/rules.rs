//! `request`, `response`, `error_pages`, `maintenance`, `request_id`, `compression`: what frontends and backends do to
//! requests and answers
use super::super::reader::{Item, Section};
use super::super::suggest;
use super::{edit, fixed, matcher, page, place, table::Tables, value};
use crate::matcher::Matcher;
use crate::rules::{Action, AnswerRule, Auth, Compression, Encoding, Maintenance, REASONS, RequestId, Rule, Rules};
use crate::rules::{Page, PageFor, Redirect, Template};
use std::sync::Arc;
use std::time::Duration;

/// What rules may name.
pub(super) struct Known<'a> {
    pub(super) tables: &'a Tables,
    pub(super) auth: &'a [Arc<Auth>],
    /// Names of sections that have mistakes are known, too.
    pub(super) auth_names: &'a [String],
}

/// Reads what a frontend and a backend both have.
pub(super) fn rules(section: &Section<'_>, known: &Known<'_>) -> Rules {
    let (request, response) = (section.get("request"), section.get("response"));
    Rules {
        request: request.iter().flat_map(Item::elements).filter_map(|i| rule(&i.section()?, known)).collect(),
        response: response.iter().flat_map(Item::elements).filter_map(|i| answer(&i.section()?, known)).collect(),
        pages: section.get("error_pages").map_or(Vec::new(), |item| pages(&item)),
        maintenance: section.get("maintenance").and_then(|item| maintenance(&item)),
        request_id: None,
        compression: None,
    }
}

/// The first ones change heads, of answers, too.
const ACTIONS: [&str; 11] = [
    "set_header",
    "add_header",
    "remove_header",
    "replace_header",
    "deny",
    "allow",
    "return",
    "redirect",
    "rewrite",
    "auth",
    "set_priority_class",
];

/// `if` of a rule; without it everything.
fn given(section: &Section<'_>, known: &Known<'_>) -> Option<Matcher> {
    let read = section.get("if").map(|item| item.section().and_then(|s| matcher::matcher(&s, known.tables)));
    read.unwrap_or_else(|| Some(Matcher::default()))
}

/// The one of these keys that a rule has.
fn one<'a>(section: &Section<'a>, names: &[&'static str]) -> Option<(&'static str, Item<'a>)> {
    let mut found: Vec<_> = names.iter().filter_map(|name| Some((*name, section.get(name)?))).collect();
    match found.as_slice() {
        [_] => found.pop(),
        [] => {
            let keys = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let message = format!("`{}` does nothing", section.path);
            section.lacks(message, format!("add one of {keys}"));
            None
        }
        [(first, _), (second, item), ..] => {
            let message = format!("`{}` does several things: `{first}` and `{second}`", section.path);
            section.cx.bad(item.word.clone(), &item.path, message, "make a rule of its own of each, in their order");
            None
        }
    }
}

fn rule(section: &Section<'_>, known: &Known<'_>) -> Option<Rule> {
    let when = given(section, known);
    let (name, item) = one(section, &ACTIONS)?;
    let then = match name {
        "deny" => Action::Deny(u16::try_from(item.whole()?).ok()?),
        "allow" => {
            if !item.flag()? {
                item.bad("`allow = false` does nothing", "write `deny = 403`, or leave the rule out");
            }
            Action::Allow
        }
        "return" => Action::Return(Box::new(fixed::fixed(&item.section()?)?)),
        "redirect" => Action::Redirect(Box::new(redirect(&item.section()?)?)),
        "rewrite" => Action::Rewrite(Box::new(rewrite(&item.section()?)?)),
        "auth" => Action::Auth(auth(&item, known)?),
        "set_priority_class" => Action::PriorityClass(i16::try_from(item.signed()?).ok()?),
        name => Action::Edit(edit::edits(name, &item, false)?),
    };
    Some(Rule { when: when?, then })
}

fn answer(section: &Section<'_>, known: &Known<'_>) -> Option<AnswerRule> {
    let when = given(section, known);
    let of = matcher::of_answer(section);
    let (name, item) = one(section, &ACTIONS[..4])?;
    Some(AnswerRule { when: when?, of, then: edit::edits(name, &item, true)? })
}

fn auth(item: &Item<'_>, known: &Known<'_>) -> Option<String> {
    let name = item.text()?;
    if known.auth.iter().any(|a| a.name == name) || known.auth_names.contains(&name) {
        return Some(name);
    }
    let help = suggest::name(&name, "auth", known.auth_names);
    item.cx.missing(item.at(), &item.path, format!("there is no `[auth.{name}]`"), help);
    None
}

fn redirect(section: &Section<'_>) -> Option<Redirect> {
    let https = section.word::<String>("scheme").map(|scheme| scheme == "https");
    let host = section.get("host").map(|item| redirect_host(&item));
    let place = place::place(section);
    let status = section.get("status").map_or(Some(302), |item| {
        let status = item.whole().and_then(|n| u16::try_from(n).ok())?;
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            item.bad(format!("{status} is no redirect"), "write 301 or 308 (for ever), 302, 303 or 307 (for now)");
        }
        Some(status)
    });
    let keys = ["scheme", "host", "path", "prefix", "regex", "to"];
    if keys.iter().all(|name| section.get(name).is_none()) {
        let help = "add `scheme = \"https\"`, `host`, `path`, or `prefix` and `to`";
        section.lacks(format!("`{}` leads nowhere", section.path), help);
        return None;
    }
    let host = host.map_or(Some(None), |host| host.map(Some))?;
    Some(Redirect { https, host, place: place?, status: status? })
}

/// A host and perhaps a port; what variables make of it is looked at when they are known.
fn redirect_host(item: &Item<'_>) -> Option<Template> {
    let template = edit::template(item, None)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if let Some(wrong) = template.texts().find(|text| !text.bytes().all(legal)) {
        let help = "write \"www.example.com\" or \"%{host}:8443\": no scheme, no path";
        item.bad(format!("\"{wrong}\" cannot stand in a host"), help);
        return None;
    }
    Some(template)
}

fn rewrite(section: &Section<'_>) -> Option<crate::rules::Place> {
    let place = place::place(section)?;
    if place.is_none() {
        let help = "add `path`, or `prefix` and `to`, or `regex` and `to`";
        section.lacks(format!("`{}` rewrites nothing", section.path), help);
    }
    place
}

fn pages(item: &Item<'_>) -> Vec<(PageFor, Page)> {
    let read = |(name, item): (String, Item<'_>)| {
        let kind = page_for(&name);
        if kind.is_none() {
            let help = match suggest::nearest(&name, REASONS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write a status as 503, a class as 5xx, or a reason: {}", REASONS.join(", ")),
            };
            item.cx.bad(item.word.clone(), &item.path, format!("\"{name}\" is none of our answers"), help);
        }
        let page = page::page(&item);
        Some((kind?, page?))
    };
    item.pairs().into_iter().filter_map(read).collect()
}

fn page_for(name: &str) -> Option<PageFor> {
    match name {
        "4xx" => Some(PageFor::Class(4)),
        "5xx" => Some(PageFor::Class(5)),
        name if REASONS.contains(&name) => Some(PageFor::Reason(name.to_owned())),
        name => name.parse().ok().filter(|status| (300..=599).contains(status)).map(PageFor::Status),
    }
}

fn maintenance(item: &Item<'_>) -> Option<Maintenance> {
    let value = item.either()?;
    let default = Duration::from_secs(60);
    if value.is_flag() {
        return value.flag()?.then(|| Maintenance { page: None, retry_after: default, exempt: Vec::new() });
    }
    let section = value.section()?;
    let exempt = section.get("exempt");
    let maintenance = Maintenance {
        page: section.get("page").and_then(|item| page::page(&item)),
        retry_after: section.duration("retry_after", default),
        exempt: exempt.iter().flat_map(Item::elements).filter_map(|item| value::network(&item)).collect(),
    };
    section.flag("enabled", true).then_some(maintenance)
}

/// `request_id` of a frontend
pub(super) fn request_id(section: &Section<'_>) -> Option<RequestId> {
    let item = section.get("request_id")?;
    let value = item.either()?;
    let default = || "X-Request-ID".to_owned();
    if value.is_flag() {
        return value.flag()?.then(|| RequestId { header: default(), answer: false });
    }
    let section = value.section()?;
    let header = section.get("header").map_or_else(|| Some(default()), |item| edit::field_name(&item, false));
    Some(RequestId { header: header?, answer: section.flag("answer", false) })
}

/// What is worth compressing where the file does not say.
const TYPES: [&str; 13] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/manifest+json",
    "application/ld+json",
    "application/problem+json",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
];

/// `compression` of a backend
pub(super) fn compression(section: &Section<'_>) -> Option<Compression> {
    let item = section.get("compression")?;
    let value = item.either()?;
    let types = || TYPES.map(str::to_owned).to_vec();
    if value.is_flag() {
        let encodings = Encoding::ALL.to_vec();
        return value.flag()?.then(|| Compression { types: types(), min_size: 1024, level: 5, encodings });
    }
    let section = value.section()?;
    let given = section.get("types");
    Some(Compression {
        types: given.map_or_else(types, |item| item.elements().iter().filter_map(content_type).collect()),
        min_size: section.size("min_size", 1024) as u64,
        level: section.whole("level", 5),
        encodings: section.get("encodings").map_or_else(|| Encoding::ALL.to_vec(), |item| encodings(&item)),
    })
}

fn encodings(item: &Item<'_>) -> Vec<Encoding> {
    let mut found = Vec::new();
    for item in item.elements() {
        let Some(encoding) = item.word::<Encoding>() else { continue };
        if found.contains(&encoding) {
            item.bad(format!("\"{}\" is in the list already", encoding.name()), "remove one of the two");
        }
        found.push(encoding);
    }
    if item.elements().is_empty() && item.is_list() {
        item.bad(format!("`{}` is empty", item.path), "write `compression = false`, or name an encoding");
    }
    found
}

fn content_type(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.to_ascii_lowercase();
    let token = |part: &str| !part.is_empty() && part.bytes().all(crate::stick::is_token);
    if text.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub) && kind != "*") {
        return Some(text);
    }
    item.bad(format!("\"{text}\" is no content type"), "write \"application/json\", or \"text/*\" for all of text");
    None
}
