//! The documents that ship with lb say what the reader knows, all of it and nothing else.
use super::super::file::{Key, Kind, ROOT, Shape};
use super::super::reader::Cx;
use super::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_else(|why| panic!("deploy/{name}: {why}"))
}

/// Every key of a shape; one behind several paths once.
fn keys(shape: &'static Shape, into: &mut Vec<&'static Key>) {
    for key in shape.keys {
        if !into.iter().any(|known| std::ptr::eq(*known, key)) {
            into.push(key);
            inner(&key.kind, into);
        }
    }
}

fn inner(kind: &'static Kind, into: &mut Vec<&'static Key>) {
    match kind {
        Kind::Section(shape) | Kind::Named(shape) => keys(shape, into),
        Kind::List(kind) | Kind::Many(kind) => inner(kind, into),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| inner(kind, into)),
        _ => {}
    }
}

/// The keys that a value of the file uses, by the shape that they belong to.
fn used(kind: &'static Kind, value: &DeValue<'_>, into: &mut BTreeSet<*const Key>) {
    match (kind, value) {
        (Kind::Section(shape), DeValue::Table(table)) => used_in(shape, table, into),
        (Kind::Named(shape), DeValue::Table(table)) => {
            table.values().filter_map(|v| v.get_ref().as_table()).for_each(|t| used_in(shape, t, into));
        }
        (Kind::List(kind) | Kind::Many(kind), DeValue::Array(values)) => {
            values.iter().for_each(|v| used(kind, v.get_ref(), into));
        }
        (Kind::Either(kinds), value) => kinds.iter().for_each(|kind| used(kind, value, into)),
        _ => {}
    }
}

fn used_in(shape: &'static Shape, table: &DeTable<'_>, into: &mut BTreeSet<*const Key>) {
    for key in shape.keys {
        if let Some(value) = table.get(key.name) {
            into.insert(key);
            used(&key.kind, value.get_ref(), into);
        }
    }
}

#[test]
fn the_annotated_example_is_valid_and_shows_every_key() {
    let text = text("lb.toml");
    valid(&text);
    let root = DeTable::parse(&text).expect("TOML");
    let mut shown = BTreeSet::new();
    used_in(&ROOT, root.get_ref(), &mut shown);
    let mut all = Vec::new();
    keys(&ROOT, &mut all);
    let absent: Vec<_> = all.iter().filter(|key| !shown.contains(&std::ptr::from_ref(**key))).map(|k| k.name).collect();
    assert!(absent.is_empty(), "deploy/lb.toml does not show {absent:?}");
    assert!(all.len() > 80, "the shape was not walked: {} keys", all.len());
}

#[test]
fn the_reader_asks_for_every_key_of_the_shape() {
    let text = text("lb.toml");
    let root = DeTable::parse(&text).expect("TOML");
    let cx = Cx::new(&text, &env, false);
    lower::config(&cx, root.get_ref(), "host1", None);
    let asked = cx.asked.borrow();
    let mut all = Vec::new();
    keys(&ROOT, &mut all);
    let ignored: Vec<_> =
        all.iter().filter(|key| !asked.contains(&std::ptr::from_ref(**key))).map(|k| k.name).collect();
    assert!(ignored.is_empty(), "in the shape, but never read: {ignored:?}");
}

#[test]
fn every_example_of_a_key_is_toml_of_its_kind() {
    let mut all = Vec::new();
    keys(&ROOT, &mut all);
    for key in all {
        let text = format!("eg = {}", key.eg);
        let table = DeTable::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", key.name));
        let value = table.get_ref().get("eg").expect("the key").get_ref();
        let fits = |kind: &Kind| match kind {
            Kind::Many(of) => of.fits(value) || value.is_array() || matches!(of, Kind::Either(_)),
            Kind::Either(kinds) => kinds.iter().any(|kind| kind.fits(value)),
            Kind::Size(..) => value.is_integer(),
            kind => kind.fits(value),
        };
        assert!(fits(&key.kind), "{} = {} is not {}", key.name, key.eg, key.kind.noun());
    }
}

/// `LB_UPDATE=1 cargo test -p lb-core schema` writes it anew.
#[test]
fn the_schema_that_ships_is_that_of_the_shape() {
    if std::env::var_os("LB_UPDATE").is_some() {
        std::fs::write(deploy("lb.schema.json"), schema::text()).expect("written");
    }
    let shipped: serde_json::Value = serde_json::from_str(&text("lb.schema.json")).expect("JSON");
    assert_eq!(shipped, schema::schema(), "deploy/lb.schema.json is old: LB_UPDATE=1 cargo test -p lb-core schema");
}

#[test]
fn the_cluster_of_three_is_valid_and_differs_only_where_it_must() {
    let configs: Vec<_> = ["a", "b", "c"].iter().map(|n| valid(&text(&format!("cluster/{n}.toml")))).collect();
    let peers = |c: &Config| c.peers.clone().expect("peers");
    for config in &configs {
        assert_eq!(config.backends, configs[0].backends);
        assert_eq!(config.tables, configs[0].tables);
        assert_eq!((peers(config).cluster, peers(config).join), (peers(&configs[0]).cluster, peers(&configs[0]).join));
        assert!(peers(config).join.contains(&PeerAddr::Socket(peers(config).listen)), "each lists all three");
    }
    let distinct: BTreeSet<_> = configs.iter().map(|c| (c.instance.name.clone(), peers(c).listen)).collect();
    assert_eq!(distinct.len(), 3);
}
