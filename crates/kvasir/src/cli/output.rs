//! How verbs answer: a table on a terminal, tab-separated text in a pipe, or what `-o` asks for.

use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::exit::Failure;

/// Rows of a table that are kept to find the widths of its columns. Further rows are printed with
/// the widths found by then.
const TABLE_ROWS: usize = 200;

/// Widest column of a table, in characters; longer cells push the rest of their row aside.
const COLUMN_MAX: usize = 60;

/// `-o` and `--json`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Form {
    /// Form of the answer [default: table on a terminal, tab-separated text otherwise]
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Output>,
    /// Short for -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for people.
    Table,
    /// One JSON text.
    Json,
    /// One JSON text a line.
    Jsonl,
    /// The bytes of a value, or the first column, and nothing else.
    Raw,
    /// Comma-separated values with a header.
    Csv,
}

/// Writes one verb's answer.
pub(crate) struct Printer {
    form: Option<Output>,
    out: BufWriter<Stdout>,
    rows: u64,
    kept: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Printer {
    pub(crate) fn new(form: &Form) -> Printer {
        let on_terminal = std::io::stdout().is_terminal();
        let asked = if form.json {
            Some(Output::Json)
        } else {
            form.output
        };
        Printer {
            form: asked.or(on_terminal.then_some(Output::Table)),
            out: BufWriter::new(std::io::stdout()),
            rows: 0,
            kept: Vec::new(),
            widths: Vec::new(),
        }
    }

    /// Whether the exact bytes of a value are wanted.
    pub(crate) fn is_raw(&self) -> bool {
        self.form == Some(Output::Raw)
    }

    /// Exactly these bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out
            .write_all(bytes)
            .and_then(|()| self.out.flush())
            .or_else(ignore_closed_pipe)
    }

    /// An answer that is one thing: JSON for programs, a line for people.
    pub(crate) fn one(
        &mut self,
        json: &dyn Display,
        line: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self.form {
            Some(Output::Json | Output::Jsonl) => json.to_string(),
            _ => line(),
        };
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Begins an answer of rows.
    pub(crate) fn begin(&mut self, columns: &[&str]) -> Result<(), Failure> {
        match self.form {
            Some(Output::Json) => self.write("["),
            Some(Output::Csv) => self.csv(columns),
            Some(Output::Table) => {
                let heads = columns.iter().map(|column| column.to_uppercase()).collect();
                self.kept.push(heads);
                Ok(())
            }
            Some(Output::Jsonl | Output::Raw) | None => Ok(()),
        }
    }

    /// One row, as JSON and as cells.
    pub(crate) fn row(&mut self, json: &dyn Display, cells: &[String]) -> Result<(), Failure> {
        self.rows += 1;
        match self.form {
            Some(Output::Json) => {
                let comma = if self.rows > 1 { ",\n" } else { "\n" };
                self.write(&format!("{comma}{json}"))
            }
            Some(Output::Jsonl) => self.write(&format!("{json}\n")),
            Some(Output::Raw) => self.write(&format!("{}\n", cells[0])),
            Some(Output::Csv) => self.csv(cells),
            Some(Output::Table) => {
                let cells = cells.iter().map(|cell| printable(cell)).collect();
                self.kept.push(cells);
                if self.kept.len() >= TABLE_ROWS {
                    self.print_kept()?;
                }
                Ok(())
            }
            None => {
                let cells: Vec<_> = cells.iter().map(|cell| printable(cell)).collect();
                self.write(&format!("{}\n", cells.join("\t")))
            }
        }
    }

    /// Shows what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.print_kept()?;
        self.out.flush().or_else(ignore_closed_pipe)
    }

    /// Ends an answer of rows.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        if self.form == Some(Output::Json) {
            self.write(if self.rows > 0 { "\n]\n" } else { "]\n" })?;
        }
        self.flush()
    }

    fn print_kept(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.kept);
        for row in &rows {
            self.widths.resize(row.len(), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(COLUMN_MAX));
            }
        }
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                line += &format!("{cell:width$}  ");
            }
            self.write(&format!("{}\n", line.trim_end()))?;
        }
        Ok(())
    }

    fn csv<S: AsRef<[u8]>>(&mut self, cells: &[S]) -> Result<(), Failure> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(cells).context("cannot write CSV")?;
        let line = writer.into_inner().context("cannot write CSV")?;
        self.out.write_all(&line).or_else(ignore_closed_pipe)
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out
            .write_all(text.as_bytes())
            .or_else(ignore_closed_pipe)
    }
}

/// A cell without characters that would break its row or speak to the terminal.
fn printable(cell: &str) -> String {
    cell.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

/// A reader that has seen enough, such as `head`, is no failure.
fn ignore_closed_pipe(error: std::io::Error) -> Result<(), Failure> {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::from(
            anyhow::Error::new(error).context("cannot write to standard output"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cannot_speak_to_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\tc\n"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}"
        );
    }
}
