//! `set_header`, `add_header`, `remove_header`, `replace_header`, and the texts with variables in them
use super::super::reader::{Item, Section};
use super::{matcher, value};
use crate::rules::{Edit, Template, Var};

/// Fields that say where a message ends or belong to one hop: what they say is ours alone.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
];

/// What a rule of this name does; `answer`: to an answer.
pub(super) fn edits(name: &'static str, item: &Item<'_>, answer: bool) -> Option<Vec<Edit>> {
    if name == "remove_header" {
        let names: Vec<_> = item.elements().iter().map(|item| field_name(item, answer)).collect();
        let names: Option<Vec<_>> = names.into_iter().collect();
        return names.map(|names| names.into_iter().map(Edit::Remove).collect());
    }
    if name == "replace_header" {
        let named = item.named();
        nameless(item);
        let read = |(field, at, section): (String, _, Section<'_>)| replacement(field, at, item, &section, answer);
        let read: Vec<_> = named.into_iter().map(read).collect();
        return read.into_iter().collect();
    }
    let pairs = item.pairs();
    nameless(item);
    let read: Vec<_> = pairs.into_iter().map(|(field, item)| edit(name, field, &item, answer)).collect();
    read.into_iter().collect()
}

fn nameless(item: &Item<'_>) {
    if item.is_empty_section() {
        item.bad(format!("`{}` names no field", item.path), item.example());
    }
}

/// Fields of requests that lb writes anew, whatever came.
const ANEW: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-real-ip"];

fn replacement(
    field: String,
    at: std::ops::Range<usize>,
    item: &Item<'_>,
    section: &Section<'_>,
    answer: bool,
) -> Option<Edit> {
    let mut good = is_field(item, at.clone(), &field, answer);
    if !answer && ANEW.iter().any(|name| name.eq_ignore_ascii_case(&field)) {
        let help = "write `set_header` with what the servers shall see";
        item.cx.bad(at, &section.path, format!("`{field}` is not what the client sent: lb writes it anew"), help);
        good = false;
    }
    let pattern = section.need("regex").and_then(|item| matcher::pattern(&item));
    let groups = pattern.as_ref().map_or(9, |p| p.regex().captures_len() - 1);
    let to = section.get("to").map_or(Some(Template::default()), |item| {
        let text = item.text()?;
        if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            item.bad(format!("the text of `{}` cannot stand in a header", item.path), "write it on one line");
            return None;
        }
        if answer { template(&item, Some(groups)) } else { sent(&item, Some(groups)) }
    });
    let (pattern, to) = (pattern?, to?);
    good.then_some(Edit::Replace(field, pattern, to))
}

/// Whether rules may write a field of this name; if not, that is reported.
pub(super) fn is_field(item: &Item<'_>, at: std::ops::Range<usize>, name: &str, answer: bool) -> bool {
    value::header_name(item.cx, name, at.clone(), &item.path) && !ours(item, at, name, answer)
}

/// A text with variables that is used before a server is chosen; `groups`: of a pattern.
pub(super) fn sent(item: &Item<'_>, groups: Option<usize>) -> Option<Template> {
    let template = template(item, groups)?;
    if template.names(&Var::Server) {
        let help = "`%{server}` is for answers: write it under `response`";
        item.bad("a request's rules come before its server is chosen", help);
        return None;
    }
    Some(template)
}

fn edit(name: &'static str, field: String, item: &Item<'_>, answer: bool) -> Option<Edit> {
    let named = value::header_name(item.cx, &field, item.word.clone(), &item.path);
    let ours = named && ours(item, item.word.clone(), &field, answer);
    if named && name == "add_header" && field.eq_ignore_ascii_case("host") && !answer {
        item.cx.bad(item.word.clone(), &item.path, "a request has one `Host`", "write it under `set_header`");
        return None;
    }
    value::header_value(item)?;
    let template = if answer { template(item, None)? } else { sent(item, None)? };
    if !named || ours {
        return None;
    }
    Some(if name == "set_header" { Edit::Set(field, template) } else { Edit::Add(field, template) })
}

/// The name of a field that rules may touch.
pub(super) fn field_name(item: &Item<'_>, answer: bool) -> Option<String> {
    let name = item.text()?;
    if !value::header_name(item.cx, &name, item.at(), &item.path) || ours(item, item.at(), &name, answer) {
        return None;
    }
    if name.eq_ignore_ascii_case("host") && !answer {
        item.bad("a request must have its `Host`", "write `set_header = { Host = \"app.internal\" }` for another");
        return None;
    }
    Some(name)
}

/// Reports a field that no rule may touch; whether it is one.
fn ours(item: &Item<'_>, at: std::ops::Range<usize>, name: &str, answer: bool) -> bool {
    let found = OURS.iter().any(|field| field.eq_ignore_ascii_case(name));
    if found {
        let what = if answer { "an answer" } else { "a request" };
        let message = format!("no rule may touch `{name}`: it says where {what} ends, or belongs to one connection");
        item.cx.bad(at, &item.path, message, "remove it; lb writes what is right for each side");
    }
    found
}

/// A text with variables; `groups`: of a pattern.
pub(super) fn template(item: &Item<'_>, groups: Option<usize>) -> Option<Template> {
    let text = item.text()?;
    Template::read(&text, groups).map_err(|(message, help)| item.bad(message, help)).ok()
}
