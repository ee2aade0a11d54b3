//! `path`, `prefix` and `to`, `regex` and `to`: another path
use super::super::reader::{Item, Section};
use super::{edit, matcher};
use crate::rules::{Place, Template};

/// Reads the keys of `rewrite` and `redirect`; inside, `None`: none of them is there.
pub(super) fn place(section: &Section<'_>) -> Option<Option<Place>> {
    let items = ["path", "prefix", "regex"].map(|name| section.get(name));
    let to = section.get("to");
    match items {
        [None, None, None] => match to {
            Some(_) if section.misspelt("prefix") || section.misspelt("regex") => None,
            Some(to) => {
                to.cx.missing(
                    to.word.clone(),
                    &to.path,
                    "nothing says what `to` stands for",
                    "add `prefix` or `regex`",
                );
                None
            }
            None => Some(None),
        },
        [Some(path), None, None] => {
            if let Some(to) = to {
                to.cx.bad(to.word.clone(), &to.path, "`path` is all of the new path", "remove `to`");
                return None;
            }
            Some(Some(Place::Whole(new(&path, None)?)))
        }
        [None, Some(prefix), None] => {
            let to = section.need("to").and_then(|to| new(&to, None));
            Some(Some(Place::Prefix(matcher::plain(&prefix, "path prefix")?, to?)))
        }
        [None, None, Some(regex)] => {
            let pattern = matcher::pattern(&regex);
            let groups = pattern.as_ref().map_or(9, |p| p.regex().captures_len() - 1);
            let to = section.need("to").and_then(|to| text(&to, Some(groups)));
            Some(Some(Place::Like(pattern?, to?)))
        }
        items => {
            let second = items.into_iter().flatten().nth(1)?;
            let help = "write one of `path`, `prefix` and `regex`";
            second.cx.bad(second.word.clone(), &second.path, "these say several new paths", help);
            None
        }
    }
}

/// A whole new path or the beginning of one.
fn new(item: &Item<'_>, groups: Option<usize>) -> Option<Template> {
    let template = text(item, groups)?;
    let given = item.text()?;
    if !given.starts_with('/') && !given.starts_with("%{path}") {
        item.bad(format!("\"{given}\" is no path"), format!("write \"/{}\"", given.trim_start_matches('/')));
        return None;
    }
    Some(template)
}

/// Text that may stand in a target.
fn text(item: &Item<'_>, groups: Option<usize>) -> Option<Template> {
    let template = edit::template(item, groups)?;
    let wrong = template.texts().find(|text| !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    if let Some(wrong) = wrong {
        let help = "a path holds letters, digits and signs of ASCII, no spaces, no `#`; write others as %20";
        item.bad(format!("\"{wrong}\" cannot stand in a path"), help);
        return None;
    }
    Some(template)
}
