//! The settings as a JSON schema, for editors.

use serde_json::{Map, Value, json};

use super::Settings;
use crate::units::knob::{Key, Kind, Section};

/// A JSON schema (draft 7, which editors of TOML understand) of the file.
pub fn as_json() -> Value {
    let mut schema = of_keys(Settings::keys());
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("bits-gateway");
    schema
}

fn of_keys(keys: Vec<Key>) -> Value {
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut properties = Map::new();
    for key in keys {
        if matches!(key.kind, Kind::Unavailable) {
            continue;
        }
        let mut property = of_kind(key.kind);
        let about: Vec<_> = key.about.iter().map(|line| line.trim()).collect();
        property["description"] = json!(about.join(" "));
        if let Some(default) = key.default.as_deref().and_then(json_of) {
            property["default"] = default;
        }
        if let Some(example) = key.example.and_then(json_of) {
            property["examples"] = json!([example]);
        }
        properties.insert(key.name.to_owned(), property);
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::FlagOr(words) => json!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "enum": words }] }),
        Kind::Whole { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Text | Kind::Unavailable => json!({ "type": "string", "minLength": 1 }),
        Kind::Form { pattern, .. } => json!({ "type": "string", "pattern": pattern }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Secret => json!({ "anyOf": [
            { "type": ["string", "boolean", "integer"] },
            { "type": "object", "additionalProperties": false, "required": ["file"], "properties": { "file": { "type": "string" } } },
            { "type": "object", "additionalProperties": false, "required": ["env"], "properties": { "env": { "type": "string" } } },
        ] }),
        Kind::List(of) => json!({ "type": "array", "items": of_kind(*of) }),
        Kind::Map(of) => json!({ "type": "object", "additionalProperties": of_kind(*of) }),
        Kind::Table(keys) => of_keys(keys),
    }
}

/// A TOML value as JSON.
fn json_of(toml: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {toml}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}
