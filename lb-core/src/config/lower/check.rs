//! `check` of a backend
use super::super::reader::{Item, Section};
use super::super::{Check, Probe};
use super::value;
use crate::stick::is_token;
use std::time::Duration;

pub(super) fn check(section: &Section<'_>) -> Option<Check> {
    let tcp = section.get("tcp").map(|item| (item.flag(), item));
    let probe = match (tcp, section.get("http")) {
        (None, Some(item)) => http(&item, section),
        (Some((Some(true), _)), None) => {
            for item in ["headers", "expect", "expect_body"].into_iter().filter_map(|name| section.get(name)) {
                item.cx.bad(
                    item.word.clone(),
                    &item.path,
                    "a TCP check looks at no answer",
                    "remove it, or write `http = \"GET /health\"`",
                );
            }
            Some(Probe::Tcp)
        }
        (Some((None, _)), None) => None,
        (Some((_, item)), http) => {
            let help = match http {
                Some(_) => "remove `tcp`: an HTTP check connects as well",
                None => "write `tcp = true` or `http = \"GET /health\"`, or remove the check",
            };
            item.cx.bad(item.word.clone(), &item.path, "a check is either TCP or HTTP", help);
            None
        }
        (None, None) => {
            let help = "add `tcp = true` or `http = \"GET /health\"`";
            section.cx.missing(section.at.clone(), &section.path, "this check does not say how to ask", help);
            None
        }
    };
    let interval = section.duration("interval", Duration::from_secs(2));
    let (fall, rise) = (section.whole("fall", 3), section.whole("rise", 2));
    Some(Check { probe: probe?, interval, fall, rise })
}

fn http(item: &Item<'_>, section: &Section<'_>) -> Option<Probe> {
    let request = item.text().and_then(|text| request(item, &text));
    let headers = section.get("headers").map_or(Vec::new(), |item| headers(&item));
    let expect: Vec<_> =
        section.get("expect").iter().flat_map(Item::elements).filter_map(|item| status(&item)).collect();
    let expect = if expect.is_empty() { vec![(200, 399)] } else { expect };
    let expect_body = section.text("expect_body");
    let (method, path) = request?;
    Some(Probe::Http { method, path, headers, expect, expect_body })
}

/// `GET /health`
fn request(item: &Item<'_>, text: &str) -> Option<(String, String)> {
    let legal = |path: &str| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if let Some((method, path)) = text.split_once(' ')
        && !method.is_empty()
        && method.bytes().all(is_token)
        && legal(path)
    {
        let upper = method.to_ascii_uppercase();
        if method != upper {
            item.bad(
                format!("\"{method}\" is no method: methods are in capitals"),
                format!("write \"{upper} {path}\""),
            );
            return None;
        }
        return Some((upper, path.to_owned()));
    }
    let help = match legal(text) {
        true => format!("write \"GET {text}\""),
        false => "write a method, a space and a path: \"GET /health\"".into(),
    };
    item.bad(format!("\"{text}\" is no request"), help);
    None
}

fn headers(item: &Item<'_>) -> Vec<(String, String)> {
    let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "expect"];
    let read = |(name, item): (String, Item<'_>)| {
        let named = value::header_name(item.cx, &name, item.word.clone(), &item.path);
        if framing.contains(&name.to_ascii_lowercase().as_str()) {
            let message = format!("`{name}` is the check's own: it frames the message");
            item.cx.bad(item.word.clone(), &item.path, message, "remove it");
        }
        let text = value::header_value(&item)?;
        named.then_some((name, text))
    };
    item.pairs().into_iter().filter_map(read).collect()
}

/// `200` or `"200-399"`
pub(super) fn status(item: &Item<'_>) -> Option<(u16, u16)> {
    let value = item.either()?;
    if item.is_number() {
        let status = u16::try_from(value.whole()?).ok()?;
        return Some((status, status));
    }
    let text = value.text()?;
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
        (Ok(from), Ok(to)) if (100..=599).contains(&from) && (from..=599).contains(&to) => Some((from, to)),
        _ => {
            let message = format!("\"{text}\" is no range of statuses");
            item.bad(message, "write 200, \"200-399\", or a list of these; statuses are 100 to 599");
            None
        }
    }
}
