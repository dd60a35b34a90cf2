//! The JSON schema of the configuration file, for editors: made of the settings themselves, their
//! defaults, and what `default.toml` says about them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{Config, DEFAULT_TOML, Kind, Setting, secrets};

/// The schema, in the dialect of 2020-12.
pub fn json_schema() -> Json {
    let (defaults, comments) = (defaults(), comments());
    let mut root = object();
    for setting in Config::settings() {
        let mut schema = of_kind(&setting);
        if let Some(default) = defaults.get(&setting.path) {
            schema["default"] = default.clone();
        }
        if let Some(comment) = comments.get(&setting.path) {
            schema["description"] = comment.as_str().into();
        }
        insert(&mut root, &setting.path, schema);
        if secrets::is_secret(&setting.path.replace('*', "NAME")) {
            let file = json!({
                "type": "string",
                "description": format!("A file that holds {}.", setting.path),
            });
            insert(&mut root, &format!("{}_file", setting.path), file);
        }
    }
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Configuration of Kvasir".into();
    root
}

fn object() -> Json {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

fn of_kind(setting: &Setting) -> Json {
    match setting.kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Text => json!({"type": "string"}),
        Kind::List => json!({"type": "array"}),
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
    }
}

/// Puts the schema of a setting at its place. A `*` in its path stands for any name.
fn insert(root: &mut Json, path: &str, schema: Json) {
    let mut names: Vec<&str> = path.split('.').collect();
    let last = names.pop().unwrap_or_default();
    let mut at = root;
    for name in names {
        let below = match name {
            "*" => &mut at["additionalProperties"],
            name => &mut at["properties"][name],
        };
        if !below.is_object() {
            *below = object();
        }
        at = below;
    }
    match last {
        "*" => at["additionalProperties"] = schema,
        last => at["properties"][last] = schema,
    }
}

/// The values of `default.toml` by path.
fn defaults() -> BTreeMap<String, Json> {
    let table: toml::Table = DEFAULT_TOML.parse().expect("a test reads it as well");
    let table = serde_json::to_value(table).expect("it holds no dates and no special numbers");
    let mut found = BTreeMap::new();
    gather("", table.as_object().unwrap_or(&Map::new()), &mut found);
    found
}

fn gather(prefix: &str, table: &Map<String, Json>, found: &mut BTreeMap<String, Json>) {
    for (name, value) in table {
        let path = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}.{name}"),
        };
        match value {
            Json::Object(table) => gather(&path, table, found),
            value => {
                found.insert(path, value.clone());
            }
        }
    }
}

/// The comments of `default.toml` by path: the lines in front of a setting. One comment may be about
/// several settings below it.
fn comments() -> BTreeMap<String, String> {
    let (mut section, mut comment, mut found) = (String::new(), Vec::new(), BTreeMap::new());
    let mut is_fresh = true;
    for line in DEFAULT_TOML.lines() {
        let setting = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = setting.strip_prefix('[') {
            section = name.trim_end_matches(']').replace("NAME", "*");
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            if !is_fresh {
                comment.clear();
            }
            comment.push(text);
            is_fresh = true;
        } else if let Some((name, _)) = setting.split_once(" = ") {
            found.insert(format!("{section}.{name}"), comment.join(" "));
            is_fresh = false;
        } else {
            comment.clear();
        }
    }
    found.retain(|_, comment| !comment.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_the_schema_with_its_kind_default_and_meaning() {
        let schema = json_schema();
        let at = |path: &str| {
            let names: Vec<_> = path.split('.').collect();
            schema
                .pointer(&format!("/properties/{}", names.join("/properties/")))
                .unwrap_or_else(|| panic!("no {path}"))
                .clone()
        };
        assert_eq!(at("limits.head")["default"], "10s");
        assert_eq!(at("limits.head")["type"], "string");
        let said = at("limits.head")["description"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(said.starts_with("From the first byte"), "{said}");
        assert_eq!(at("log.format")["enum"], json!(["auto", "text", "json"]));
        assert_eq!(at("metrics.enabled")["default"], true);
        assert_eq!(at("store.url_file")["type"], "string");
        assert_eq!(schema["additionalProperties"], false);
        let mounts = &at("mount")["additionalProperties"]["properties"];
        assert_eq!(mounts["enabled"]["type"], "boolean");
        for setting in Config::settings() {
            if !setting.path.contains('*') {
                at(&setting.path);
            }
        }
    }
}
