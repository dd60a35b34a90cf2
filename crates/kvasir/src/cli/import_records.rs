//! What an import reads: one entry or message after the other, each with its place in the file.

use std::io::{BufRead, Read};

use anyhow::{Context, bail, ensure};
use kvasir_api::dump::{self, MessageLine};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::import_csv::Columns;
use super::import_lines::Format;

/// Longest line or row, in bytes: the largest value, typed and as base64.
const RECORD_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// What a line or row says, as the server takes it.
pub(super) enum Item {
    /// With the keyspace that it names.
    Entry(Box<RawValue>, Option<String>),
    /// Of the queue.
    Message(Box<RawValue>),
}

/// Reads a file record by record. Holds one of them.
pub(super) struct Records<R> {
    input: R,
    /// Of CSV.
    columns: Option<Columns>,
    /// Bytes and lines read so far.
    offset: u64,
    line: u64,
    /// The first line of the record that was read last.
    begun: u64,
}

impl<R: BufRead> Records<R> {
    /// Begins at the begin of a file.
    ///
    /// # Errors
    ///
    /// If CSV does not begin with its columns, or the file cannot be read.
    pub(super) fn begin(input: R, format: Format) -> anyhow::Result<Records<R>> {
        let mut records = Records {
            input,
            columns: None,
            offset: 0,
            line: 0,
            begun: 1,
        };
        if format == Format::Csv {
            let head = records.read(true).context("line 1")?;
            let head = head.context("the file is empty: CSV begins with a line of columns")?;
            records.columns = Some(Columns::read(&head).context("line 1")?);
        }
        Ok(records)
    }

    /// Goes on in `input`, which begins at this place of the same file.
    pub(super) fn go_on<S>(self, input: S, offset: u64, line: u64) -> Records<S> {
        Records {
            input,
            columns: self.columns,
            offset,
            line,
            begun: line + 1,
        }
    }

    /// Bytes and lines up to the end of what was read last.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.offset, self.line)
    }

    /// The line in which what was read last begins.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// The next one; `None` at the end. Blank lines are passed over.
    ///
    /// # Errors
    ///
    /// If it is no entry and no message, with what would be.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let is_csv = self.columns.is_some();
        while let Some(text) = self.read(is_csv)? {
            if text.trim_ascii().is_empty() {
                continue;
            }
            return match &self.columns {
                None => json_line(&text).map(Some),
                Some(columns) => {
                    let (line, keyspace) = columns.line(&text)?;
                    let raw = to_raw_value(&line).context("an entry cannot be written as JSON")?;
                    Ok(Some(Item::Entry(raw, keyspace)))
                }
            };
        }
        Ok(None)
    }

    /// A line, or a row of CSV: there a line feed between quotes belongs to a cell.
    fn read(&mut self, is_csv: bool) -> anyhow::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        let mut is_quoted = false;
        self.begun = self.line + 1;
        loop {
            let begin = text.len();
            let room = RECORD_BYTES_MAX - begin as u64;
            let mut limited = Read::take(&mut self.input, room);
            let read = limited.read_until(b'\n', &mut text);
            let read = read.context("it cannot be read")?;
            if read == 0 {
                ensure!(!is_quoted, "a quote is not closed; the file may be cut off");
                return Ok((!text.is_empty()).then_some(text));
            }
            self.offset += read as u64;
            self.line += 1;
            let quotes = text[begin..].iter().filter(|byte| **byte == b'"').count();
            is_quoted ^= is_csv && quotes % 2 == 1;
            let is_whole = text.last() == Some(&b'\n');
            if text.len() as u64 >= RECORD_BYTES_MAX && (is_quoted || !is_whole) {
                bail!("it is over {RECORD_BYTES_MAX} bytes");
            }
            if !is_quoted {
                return Ok(Some(text));
            }
        }
    }
}

/// What a line of JSON is. All of it is looked at here, so that a wrong one is told by its number.
fn json_line(text: &[u8]) -> anyhow::Result<Item> {
    #[derive(Deserialize)]
    struct Kind {
        message: Option<Box<RawValue>>,
        keyspace: Option<String>,
    }
    let raw: Box<RawValue> = serde_json::from_slice(text).context("it is not JSON")?;
    let kind: Kind = serde_json::from_str(raw.get()).context(LINES)?;
    match kind.message {
        Some(message) => {
            let line: MessageLine = serde_json::from_str(message.get()).context(LINES)?;
            line.into_message().context(LINES)?;
            Ok(Item::Message(message))
        }
        None => {
            let line: dump::Line = serde_json::from_str(raw.get()).context(LINES)?;
            line.into_entry().context(LINES)?;
            Ok(Item::Entry(raw, kind.keyspace))
        }
    }
}

/// What lines are allowed.
const LINES: &str = "a line is an object with `key` and `value` as `kvasir export` writes them, or \
                     `message`";

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, format: Format) -> Vec<Result<String, String>> {
        let mut records = match Records::begin(text.as_bytes(), format) {
            Ok(records) => records,
            Err(error) => return vec![Err(format!("{error:#}"))],
        };
        let mut found = Vec::new();
        loop {
            match records.next() {
                Ok(None) => return found,
                Ok(Some(Item::Entry(raw, _) | Item::Message(raw))) => {
                    found.push(Ok(format!("{} {}", records.begun(), raw.get())));
                }
                Err(error) => {
                    found.push(Err(format!("{} {error:#}", records.begun())));
                    return found;
                }
            }
        }
    }

    #[test]
    fn a_row_goes_on_over_line_feeds_between_quotes() {
        let text = "key,value\r\n\"[\"\"a\"\"]\",\"[1,\n\n2]\"\n\n\"[\"\"b\"\"]\",3";
        let found = all(text, Format::Csv);
        let lines: Vec<_> = found
            .iter()
            .map(|one| one.as_ref().unwrap().split(' ').next().unwrap())
            .collect();
        assert_eq!(lines, ["2", "6"]);
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number_with_what_is_allowed() {
        let good = r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"number","value":1}}"#;
        for (bad, word) in [
            ("{", "it is not JSON"),
            ("[1]", "a line is an object"),
            (
                r#"{"key":[{"type":"string","value":"a"}]}"#,
                "a line is an object",
            ),
            (r#"{"message":{"dueMs":1}}"#, "a line is an object"),
        ] {
            let found = all(&format!("{good}\n\n{bad}\n{good}\n"), Format::Jsonl);
            let error = found.last().unwrap().as_ref().unwrap_err();
            assert!(error.starts_with("3 ") && error.contains(word), "{error}");
        }
        let head = "key,value,versionstamp,expiresAt\n";
        let row = "\"[\"\"a\"\"]\",\"1\",,\n";
        for (bad, word) in [
            ("a,1,,", "an array of parts"),
            ("\"[\"\"a\"\"]\",x,,", "value"),
            ("\"[\"\"a\"\"]\",1,12,", "versionstamp"),
            ("\"[\"\"a\"\"]\",1,,soon", "expiresAt"),
            ("\"[\"\"a\"\"]\",1", "4 columns"),
            ("\"[\"\"a\"\"]\",\"1,,", "a quote is not closed"),
        ] {
            let found = all(&format!("{head}{row}{bad}\n"), Format::Csv);
            let error = found.last().unwrap().as_ref().unwrap_err();
            assert!(error.starts_with("3 ") && error.contains(word), "{error}");
        }
        for head in ["", "key\n", "a,b\n", "key,value,key\n"] {
            let error = all(head, Format::Csv).remove(0).unwrap_err();
            assert!(error.contains("column"), "{error}");
        }
    }

    #[test]
    fn a_record_has_a_longest_length() {
        let long = "x".repeat(usize::try_from(RECORD_BYTES_MAX).unwrap());
        let found = all(&long, Format::Jsonl);
        assert!(found[0].as_ref().unwrap_err().contains("is over"));
        let found = all(&format!("key,value\n\"{long}"), Format::Csv);
        assert!(found[0].as_ref().unwrap_err().contains("is over"));
    }
}
