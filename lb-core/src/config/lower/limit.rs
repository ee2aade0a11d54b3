//! One rule of `limit`
use super::super::condition::{Mistake, absent, conditions};
use super::super::reader::{Item, Section};
use super::super::{Table, suggest};
use super::{counter, sticky, table, table::Tables, value};
use crate::limit::{Action, Limit};
use crate::time::parse_duration;
use std::time::Duration;

/// How long a tarpit holds by default, and at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

pub(super) fn rule(section: &Section<'_>, tables: &Tables) -> Option<Limit> {
    let key_item = section.need("key");
    let key = key_item.as_ref().and_then(value::key_expr);
    let table_item = section.need("table");
    let spec = table_item.as_ref().and_then(|item| table::named(item, tables)).and_then(|(_, spec)| spec);
    let (when_item, then_item) = (section.get("when"), section.get("then"));
    let spec = spec.as_deref()?;
    if let (Some(item), Some(key)) = (&key_item, &key) {
        sticky::check_type(item, key, spec);
    }
    if spec.store.is_empty() {
        let help = format!("add `store = [\"http_req_rate(10s)\"]` to `[table.{}]`", spec.name);
        table_item?.bad(format!("table \"{}\" counts nothing", spec.name), help);
        return None;
    }
    let when = when_item.as_ref().map_or(Some(Vec::new()), |item| told(item, conditions(&item.text()?, spec)));
    let then = then_item.as_ref().map_or(Some(Action::Track), |item| action(item, spec));
    if let (Some(item), Some(Action::Track)) = (when_item, then) {
        let help = "add `then = \"deny 429\"`; a rule that only counts needs no `when`";
        item.bad("nothing is done when this holds", help);
    }
    Some(Limit { key: key?, table: spec.name.clone(), when: when?, then: then? })
}

/// Reports what is wrong with a text that was read for a table.
fn told<T>(item: &Item<'_>, read: Result<T, Mistake>) -> Option<T> {
    read.map_err(|wrong| item.bad(wrong.message, wrong.help)).ok()
}

const ACTIONS: [&str; 5] = ["deny", "tarpit", "track", "inc", "set"];

/// `deny 429`, `tarpit 5s 403`, `inc gpc(0)`, `set gpt(0) 1`, `track`
fn action(item: &Item<'_>, spec: &Table) -> Option<Action> {
    let text = item.text()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["track"] => Some(Action::Track),
        ["deny"] => Some(Action::Deny(403)),
        ["deny", number] => status(item, number).map(Action::Deny),
        ["tarpit", rest @ ..] if rest.len() <= 2 => tarpit(item, rest),
        ["inc", name] => match counter::general(item, name, "gpc", spec)? {
            n if counter::has_gpc(spec, n) => Some(Action::Inc(n)),
            n => told(item, Err(absent(&format!("gpc({n})"), spec))),
        },
        ["set", name, number] => {
            let n = counter::general(item, name, "gpt", spec)?;
            if !counter::has_gpt(spec, n) {
                return told(item, Err(absent(&format!("gpt({n})"), spec)));
            }
            let Ok(number) = number.parse() else {
                item.bad(format!("\"{number}\" is no number"), format!("write a whole number, as \"set gpt({n}) 1\""));
                return None;
            };
            Some(Action::Set(n, number))
        }
        words => {
            let first = words.first().copied().unwrap_or_default();
            let near = match first.to_lowercase().as_str() {
                "reject" | "drop" | "block" | "refuse" | "return" | "silent-drop" => Some("deny"),
                "count" | "none" => Some("track"),
                first => suggest::nearest(first, ACTIONS.into_iter()),
            };
            let forms = "\"deny 429\", \"tarpit 5s 429\", \"inc gpc(0)\", \"set gpt(0) 1\" or \"track\"";
            let help = match near.filter(|near| *near != first) {
                Some(near) => format!("did you mean \"{near}\"? Write {forms}"),
                None => format!("write {forms}"),
            };
            item.bad(format!("\"{text}\" is nothing that a rule does"), help);
            None
        }
    }
}

fn status(item: &Item<'_>, text: &str) -> Option<u16> {
    let status = text.parse().ok().filter(|status| (400..=599).contains(status));
    if status.is_none() {
        let message = format!("\"{text}\" is no status that denies");
        item.bad(message, "write a number from 400 to 599, as \"deny 429\"");
    }
    status
}

/// How long and what then, each of them or none.
fn tarpit(item: &Item<'_>, words: &[&str]) -> Option<Action> {
    let (mut hold, mut then) = (HOLD.0, 429);
    let (time, rest) = match words {
        [first, rest @ ..] if first.ends_with(|c: char| c.is_ascii_alphabetic()) => (Some(first), rest),
        words => (None, words),
    };
    if let Some(time) = time {
        let longest = HOLD.1.as_secs() / 60;
        match parse_duration(time) {
            Ok(given) if !given.is_zero() && given <= HOLD.1 => hold = given,
            Ok(_) => {
                let message = format!("a tarpit holds for more than nothing and at most {longest} minutes, not {time}");
                item.bad(message, "write \"tarpit 10s\"");
                return None;
            }
            Err(why) => {
                item.bad(format!("\"{time}\" is {why}"), "write \"tarpit 10s\" or \"tarpit 10s 429\"");
                return None;
            }
        }
    }
    match rest {
        [] => {}
        [one] => then = status(item, one)?,
        _ => {
            item.bad(format!("\"tarpit {}\" has one status too many", words.join(" ")), "write \"tarpit 10s 429\"");
            return None;
        }
    }
    Some(Action::Tarpit(hold, then))
}
