//! `set_header`, `add_header`, `remove_header`, and the texts with variables in them
use super::super::reader::Item;
use super::value;
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
    let pairs = item.pairs();
    if pairs.is_empty() && item.is_section() {
        item.bad(format!("`{}` names no field", item.path), item.example());
    }
    let read: Vec<_> = pairs.into_iter().map(|(field, item)| edit(name, field, &item, answer)).collect();
    read.into_iter().collect()
}

fn edit(name: &'static str, field: String, item: &Item<'_>, answer: bool) -> Option<Edit> {
    let named = value::header_name(item.cx, &field, item.word.clone(), &item.path);
    let ours = named && ours(item, item.word.clone(), &field, answer);
    if named && name == "add_header" && field.eq_ignore_ascii_case("host") && !answer {
        item.cx.bad(item.word.clone(), &item.path, "a request has one `Host`", "write it under `set_header`");
        return None;
    }
    value::header_value(item)?;
    let template = template(item, None)?;
    if !answer && template.names(&Var::Server) {
        let help = "`%{server}` is for answers: write it under `response`";
        item.bad("a request's rules come before its server is chosen", help);
        return None;
    }
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
