//! The JSON Schema of the file, made of its shape ([`mod@super::file`]): editors complete and check by it.
//! What only the whole file shows (a backend that does not exist, an address used twice) stays with [`super::load`].
use super::file::{Kind, ROOT, Shape};
use super::file_rules::IF;
use serde_json::{Map, Value, json};

/// The schema, indented, with a newline at its end: as it ships in `deploy/lb.schema.json`.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema. Draft 7, which the TOML plugins of editors speak.
pub fn schema() -> Value {
    let mut root = section(&ROOT);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        root.insert("title".into(), "lb.toml".into());
        root.insert("definitions".into(), json!({ "if": section(&IF) }));
    }
    root
}

fn section(shape: &Shape) -> Value {
    let property = |key: &super::file::Key| {
        let mut value = kind(&key.kind);
        if let Some(value) = value.as_object_mut() {
            value.insert("description".into(), key.doc.into());
            // Whole sections are described by their own keys.
            if !matches!(key.kind, Kind::Section(_) | Kind::Named(_)) {
                value.extend(example(key.eg).map(|eg| ("examples".to_owned(), json!([eg]))));
            }
        }
        (key.name.to_owned(), value)
    };
    let properties: Map<String, Value> = shape.keys.iter().map(property).collect();
    let required: Vec<_> = shape.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut value = json!({
        "type": "object",
        "description": shape.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Some(value), false) = (value.as_object_mut(), required.is_empty()) {
        value.insert("required".into(), json!(required));
    }
    value
}

const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Flag => any(vec![json!({ "type": "boolean" }), from_env()]),
        Kind::Whole(min, max) => any(vec![json!({ "type": "integer", "minimum": min, "maximum": max }), from_env()]),
        Kind::Signed(min, max) => any(vec![json!({ "type": "integer", "minimum": min, "maximum": max }), from_env()]),
        Kind::Size(min, max) => any(vec![
            json!({ "type": "integer", "minimum": min, "maximum": max }),
            json!({ "type": "string", "pattern": "^[0-9_]+ ?([kKmMgG]i?)?[bB]?$" }),
            from_env(),
        ]),
        Kind::Span | Kind::SpanOrZero => {
            any(vec![json!({ "type": "string", "pattern": DURATION, "minLength": 2 }), from_env()])
        }
        Kind::Word(words) => any(vec![json!({ "enum": words }), from_env()]),
        Kind::Pairs => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        // It holds itself.
        Kind::Section(shape) if std::ptr::eq(*shape, &IF) => json!({ "$ref": "#/definitions/if" }),
        Kind::Section(shape) => section(shape),
        Kind::Named(shape) => json!({ "type": "object", "additionalProperties": section(shape) }),
        Kind::List(of) => json!({ "type": "array", "items": self::kind(of) }),
        Kind::Many(of) => any(vec![self::kind(of), json!({ "type": "array", "items": self::kind(of) })]),
        Kind::Either(kinds) => any(kinds.iter().map(self::kind).collect()),
    }
}

/// Any text with a variable in it: what it comes to is known when an instance starts.
fn from_env() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{" })
}

/// One of several, without nesting.
fn any(of: Vec<Value>) -> Value {
    let flat = of.into_iter().flat_map(|value| match value.get("anyOf").and_then(Value::as_array) {
        Some(inner) => inner.clone(),
        None => vec![value],
    });
    let mut all: Vec<Value> = Vec::new();
    for value in flat {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    json!({ "anyOf": all })
}

/// A key's example, from TOML to JSON.
fn example(eg: &str) -> Option<Value> {
    let mut table: Map<String, Value> = toml::from_str(&format!("eg = {eg}")).ok()?;
    table.remove("eg")
}
