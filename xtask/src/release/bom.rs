//! The list of what is built in, in CycloneDX's JSON form.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::output;
use crate::root;

/// Writes the list of all crates that the lock file names.
pub(super) fn write(out: &Path, version: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root());
    let metadata: Value = serde_json::from_str(&output(&mut cargo)?)?;
    let mut components: Vec<Value> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        // Our own crates come from no registry.
        .filter(|package| !package["source"].is_null())
        .map(component)
        .collect();
    components.sort_by_key(|component| component["purl"].to_string());
    let list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "name": "kvasir", "version": version,
            "licenses": [{"expression": "MIT"}],
        }},
        "components": components,
    });
    let file = out.join(format!("kvasir-{version}.cdx.json"));
    std::fs::write(&file, format!("{list:#}\n"))?;
    Ok(file)
}

fn component(package: &Value) -> Value {
    let text = |name: &str| package[name].as_str().unwrap_or_default();
    let mut component = json!({
        "type": "library",
        "name": text("name"),
        "version": text("version"),
        "purl": format!("pkg:cargo/{}@{}", text("name"), text("version")),
    });
    if let Some(license) = package["license"].as_str() {
        // Old manifests write "A/B" where the expression is "A OR B".
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    component
}
