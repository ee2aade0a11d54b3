//! `return` of a rule on requests: an answer of the configuration's own
use super::super::reader::{Item, Section};
use super::{edit, page, value};
use crate::rules::fixed::{Body, Fixed};
use crate::stick::is_token;

pub(super) fn fixed(section: &Section<'_>) -> Option<Fixed> {
    let status = status(section);
    let (text, file) = (section.get("text"), section.get("file"));
    if let (Some(_), Some(file)) = (&text, &file) {
        let help = "remove one of `text` and `file`";
        file.cx.bad(file.word.clone(), &file.path, "an answer has one body, and this one has `text` already", help);
    }
    let given = section.get("content_type").map(|item| content_type(&item));
    let (body, default) = match (&text, &file) {
        (Some(text), _) => (edit::sent(text, None).map(Body::Text), "text/plain; charset=utf-8"),
        (None, Some(file)) => {
            let page = page::page(file);
            let kind = page.as_ref().and_then(|page| page::kind(page.path.to_str()?));
            (page.map(Body::File), kind.unwrap_or("application/octet-stream"))
        }
        (None, None) => {
            section.useless(&["content_type"], "without a body", "add `text` or `file`, or remove it");
            (Some(Body::None), "")
        }
    };
    let headers = section.get("headers").map_or(Some(Vec::new()), |item| headers(&item));
    let status = status?;
    let item = text.or(file);
    if let (Some(item), 204 | 205) = (&item, status) {
        item.cx.bad(
            item.word.clone(),
            &item.path,
            format!("an answer {status} has no body"),
            "remove it, or write 200",
        );
    }
    let kind = item.is_some().then(|| given.unwrap_or_else(|| Some(default.to_owned())));
    let kind = kind.map_or(Some(None), |kind| kind.map(Some))?;
    Some(Fixed { status, kind, body: body?, headers: headers? })
}

fn status(section: &Section<'_>) -> Option<u16> {
    let Some(item) = section.get("status") else { return Some(200) };
    let status = item.whole().and_then(|n| u16::try_from(n).ok())?;
    if (300..400).contains(&status) {
        let help = "write `redirect = { path = \"/new\", status = 301 }` instead of `return`";
        item.bad(format!("{status} sends the client elsewhere"), help);
    }
    Some(status)
}

fn content_type(item: &Item<'_>) -> Option<String> {
    let text = value::header_value(item)?;
    let kind = text.split(';').next().unwrap_or_default().trim_end();
    let token = |part: &str| !part.is_empty() && part.bytes().all(is_token);
    if kind.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub)) {
        return Some(text);
    }
    item.bad(format!("\"{text}\" is no content type"), "write \"application/json\" or \"text/html; charset=utf-8\"");
    None
}

fn headers(item: &Item<'_>) -> Option<Vec<(String, crate::rules::Template)>> {
    let read = |(name, item): (String, Item<'_>)| {
        if name.eq_ignore_ascii_case("content-type") {
            let help = "write `content_type` beside `headers`";
            item.cx.bad(item.word.clone(), &item.path, "the content type has a key of its own", help);
            return None;
        }
        let good = edit::is_field(&item, item.word.clone(), &name, true);
        value::header_value(&item)?;
        let value = edit::sent(&item, None)?;
        good.then_some((name, value))
    };
    let read: Vec<_> = item.pairs().into_iter().map(read).collect();
    read.into_iter().collect()
}
