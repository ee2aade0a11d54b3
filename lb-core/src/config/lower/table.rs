//! `[table.NAME]`
use super::super::reader::{Item, Section};
use super::super::{KeyKind, Table, suggest};
use super::{counter, instance, value};
use std::sync::Arc;

/// Every table of the file by name; `None` where it has mistakes, so that rules that use it are not reported as well.
pub(super) type Tables = Vec<(String, Option<Arc<Table>>)>;

pub(super) fn tables(root: &Section<'_>) -> Tables {
    let named = root.get("table").map_or(Vec::new(), |item| item.named());
    let read = |(name, at, section): (String, _, Section<'_>)| {
        let good = value::check_name(section.cx, "table", &name, &at, &section.path);
        let table = table(&name, &section).filter(|_| good).map(Arc::new);
        (name, table)
    };
    named.into_iter().map(read).collect()
}

fn table(name: &str, section: &Section<'_>) -> Option<Table> {
    let kind: Option<KeyKind> = section.need("type").and_then(|item| item.word());
    // The rest is read all the same, so that all mistakes are told at once.
    let silent = Table::new(name, kind.unwrap_or(KeyKind::String));
    let len = section.size("len", silent.len);
    if let (Some(kind), Some(item)) = (kind, section.get("len"))
        && !matches!(kind, KeyKind::String | KeyKind::Binary)
    {
        item.bad(
            "`len` is for string and binary keys: those of other types have one length",
            "leave `len` out, or write `type = \"string\"`",
        );
    }
    let store = counter::store(section);
    let read = Table {
        len,
        size: section.size("size", silent.size),
        expire: section.duration("expire", silent.expire),
        max_life: section.get("max_life").and_then(|item| item.duration()),
        max_new_keys: section.get("max_new_keys").and_then(|item| instance::pace(&item)),
        when_full: section.word("when_full").unwrap_or(silent.when_full),
        replicate: section.flag("replicate", silent.replicate),
        ..silent
    };
    Some(Table { kind: kind?, store: store?, ..read })
}

/// The name of a table that the file has, and the table, unless it has mistakes of its own.
pub(super) fn named(item: &Item<'_>, tables: &Tables) -> Option<(String, Option<Arc<Table>>)> {
    let text = item.text()?;
    let found = tables.iter().find(|(name, _)| *name == text).cloned();
    if found.is_none() {
        let names: Vec<_> = tables.iter().map(|(name, _)| name.clone()).collect();
        let help = suggest::name(&text, "table", &names);
        item.cx.missing(item.at(), &item.path, format!("there is no table \"{text}\""), help);
    }
    found
}
