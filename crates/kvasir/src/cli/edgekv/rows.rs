//! The files that `kvasir edgekv import` reads.
//!
//! CSV has rows `group,item,value`, with or without a header of these words; what stands behind the
//! third column is not read. JSON is either `{"group": {"item": value}}` or a list of
//! `{"group", "item", "value"}`. Rows come in the order of the file, so that an import can go on
//! where it ended.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// Largest file, in bytes. It is held in memory as a whole.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Content type of JSON values.
const JSON: &str = "application/json";
/// Content type of all others.
const TEXT: &str = "text/plain";

/// One item to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) group: String,
    pub(super) item: String,
    pub(super) content_type: &'static str,
    pub(super) value: String,
}

/// A row of a JSON list.
#[derive(Deserialize)]
struct Listed {
    group: String,
    #[serde(alias = "key")]
    item: String,
    value: Json,
}

/// A file that was read.
pub(super) struct File<'a> {
    path: &'a Path,
    text: String,
}

impl File<'_> {
    /// Reads a file as it is.
    pub(super) fn read(path: &Path) -> anyhow::Result<File<'_>> {
        let cannot = || format!("cannot read {}", path.display());
        let bytes = std::fs::metadata(path).with_context(cannot)?.len();
        ensure!(
            bytes <= FILE_BYTES_MAX,
            "{} has {bytes} bytes, over the limit of {FILE_BYTES_MAX}; split it",
            path.display()
        );
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        Ok(File { path, text })
    }

    /// What tells this file from others of its name.
    pub(super) fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.text.as_bytes()))
    }

    /// All its rows, by its name's ending.
    pub(super) fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let rows = match self.path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => of_csv(&self.text),
            Some("json") => of_json(&self.text),
            _ => bail!("{} is neither .csv nor .json", self.path.display()),
        };
        rows.with_context(|| format!("{} is not as it must be", self.path.display()))
    }
}

fn of_csv(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let record = record?;
        let (Some(group), Some(item), Some(value)) = (record.get(0), record.get(1), record.get(2))
        else {
            bail!(
                "row {} has fewer than three columns: group, item, value",
                number + 1
            );
        };
        let is_header = number == 0 && (group, value) == ("group", "value");
        if !is_header {
            rows.push(row(group.to_owned(), item.to_owned(), value.to_owned()));
        }
    }
    Ok(rows)
}

/// A row whose value is JSON if it is a JSON object or list.
fn row(group: String, item: String, value: String) -> Row {
    let is_structure = value.trim_start().starts_with(['{', '[']);
    let is_json = is_structure && serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok();
    Row {
        group,
        item,
        content_type: if is_json { JSON } else { TEXT },
        value,
    }
}

fn of_json(text: &str) -> anyhow::Result<Vec<Row>> {
    let json: Json = serde_json::from_str(text)?;
    let listed = match json {
        Json::Array(_) => serde_json::from_value::<Vec<Listed>>(json)?,
        Json::Object(groups) => {
            let mut listed = Vec::new();
            for (group, items) in groups {
                let Json::Object(items) = items else {
                    bail!("the group {group:?} is no object of items");
                };
                listed.extend(items.into_iter().map(|(item, value)| Listed {
                    group: group.clone(),
                    item,
                    value,
                }));
            }
            listed
        }
        _ => bail!("it is neither an object of groups nor a list of items"),
    };
    Ok(listed.into_iter().map(row_of).collect())
}

fn row_of(listed: Listed) -> Row {
    let (content_type, value) = match listed.value {
        Json::String(text) => (TEXT, text),
        other => (JSON, other.to_string()),
    };
    Row {
        group: listed.group,
        item: listed.item,
        content_type,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(rows: &[Row]) -> Vec<[&str; 4]> {
        rows.iter()
            .map(|row| [&*row.group, &*row.item, row.content_type, &*row.value])
            .collect()
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.csv");
        // Sparse: it has a length and no blocks.
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let refused = File::read(&path).map(|file| file.sha256()).unwrap_err();
        assert!(refused.to_string().contains("over the limit"), "{refused}");
    }

    #[test]
    fn csv_rows_are_items_and_a_header_is_none() {
        let rows = of_csv("group,item,value\ng,a,x\ng,b,\"{\"\"n\"\": 1}\",86400\nh,c,\n").unwrap();
        assert_eq!(
            cells(&rows),
            [
                ["g", "a", TEXT, "x"],
                ["g", "b", JSON, "{\"n\": 1}"],
                ["h", "c", TEXT, ""],
            ]
        );
        assert!(of_csv("g,a\n").is_err());
        assert!(of_csv("").unwrap().is_empty());
    }

    #[test]
    fn json_is_groups_of_items_or_a_list() {
        let groups = of_json(r#"{"g": {"a": "x", "b": {"n": 1}}, "h": {"c": 1}}"#).unwrap();
        let list = of_json(
            r#"[{"group": "g", "item": "a", "value": "x"},
                {"group": "g", "key": "b", "value": {"n": 1}},
                {"group": "h", "item": "c", "value": 1}]"#,
        )
        .unwrap();
        assert_eq!(groups, list);
        assert_eq!(cells(&list)[1], ["g", "b", JSON, "{\"n\":1}"]);
        for bad in ["1", "{\"g\": 1}", "[1]", "{"] {
            assert!(of_json(bad).is_err(), "{bad}");
        }
    }
}
