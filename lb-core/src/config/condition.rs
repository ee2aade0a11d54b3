//! Comparisons with counters of a table, as rules and operators write them: `http_req_rate > 100 and conn_cur >= 5`.
use super::{Table, suggest};
use crate::counters::Counter;
use crate::limit::{Condition, Op};

/// What is wrong with a text, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

fn mistake<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { message: message.into(), help: help.into() })
}

/// Reads comparisons with counters of this table.
///
/// # Errors
/// The first that is none.
pub fn conditions(text: &str, table: &Table) -> Result<Vec<Condition>, Mistake> {
    text.split(" and ").map(|part| condition(part.trim(), table)).collect()
}

fn condition(text: &str, table: &Table) -> Result<Condition, Mistake> {
    let Some(at) = text.find(['<', '>', '=', '!']) else {
        let help = "write a counter, one of `>`, `>=`, `<`, `<=`, `==`, and a number, as \"http_req_rate > 100\"; \
                    several are joined by \" and \"";
        return mistake(format!("\"{text}\" compares nothing"), help);
    };
    let (name, rest) = text.split_at(at);
    let (sign, number) = rest.split_at(rest.find(|c| !"<>=!".contains(c)).unwrap_or(rest.len()));
    let Some((_, op)) = Op::SIGNS.iter().find(|(known, _)| *known == sign) else {
        let help = match sign {
            "=" | "===" => "write `==`",
            "=>" | ">>" => "write `>=`",
            "=<" | "<<" => "write `<=`",
            _ => "write `>`, `>=`, `<`, `<=` or `==`",
        };
        return mistake(format!("\"{sign}\" is no comparison"), help);
    };
    let counter = stored(name.trim(), table)?;
    let Some(number) = suggest::size(number).and_then(|n| u64::try_from(n).ok()) else {
        let help = "write a whole number, as 100, or 10M where bytes are counted; several comparisons are joined by \
                    \" and \"";
        return mistake(format!("\"{}\" is no number", number.trim()), help);
    };
    Ok(Condition { counter, op: *op, number })
}

/// The counter that is meant, named with its period or without.
fn stored(name: &str, table: &Table) -> Result<Counter, Mistake> {
    let plain: String = name.split_whitespace().collect();
    let exact = plain.parse::<Counter>().ok();
    let meant = |c: &Counter| exact.map_or_else(|| short(*c) == plain, |exact| exact == *c);
    let fits: Vec<Counter> = table.store.iter().copied().filter(meant).collect();
    match fits.as_slice() {
        [one] => Ok(*one),
        [] => Err(absent(name, table)),
        several => {
            let names: Vec<_> = several.iter().map(|c| format!("\"{c}\"")).collect();
            let message = format!("`{name}` could be any of several counters of table \"{}\"", table.name);
            mistake(message, format!("write {}", names.join(" or ")))
        }
    }
}

/// A counter's name without its period: `gpc_rate(0)` of `gpc_rate(0,10s)`.
fn short(counter: Counter) -> String {
    match counter {
        Counter::Gpc(n) | Counter::Gpt(n) | Counter::GpcRate(n, _) => format!("{}({n})", counter.name()),
        counter => counter.name().to_owned(),
    }
}

/// That the table does not store a counter.
pub(super) fn absent(name: &str, table: &Table) -> Mistake {
    let shorts: Vec<String> = table.store.iter().map(|c| short(*c)).collect();
    let word = |text: &str| text.split('(').next().unwrap_or_default().trim().to_owned();
    if Counter::EXAMPLES.iter().any(|e| word(e) == word(name)) {
        let message = format!("table \"{}\" does not store `{name}`", table.name);
        return Mistake { message, help: format!("add it to the `store` of `[table.{}]`{}", table.name, has(table)) };
    }
    let help = match suggest::nearest(name, shorts.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write a counter of the `store` of `[table.{}]`{}", table.name, has(table)),
    };
    Mistake { message: format!("there is no counter \"{name}\""), help }
}

fn has(table: &Table) -> String {
    let names = table.store.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
    if names.is_empty() { ", which has nothing".into() } else { format!(", which has {names}") }
}
