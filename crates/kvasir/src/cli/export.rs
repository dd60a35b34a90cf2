//! `kvasir export`: a database as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use kvasir_api::dump::Line;
use kvasir_kv::keyspace::Cursor;
use reqwest::Method;

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use crate::exit::Failure;

/// How much of a file's end is looked at first for its last line, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// Write a database as JSON lines, one entry each.
///
/// The lines are those of the kv-utils package for Deno, with further members where it would lose
/// something; `kvasir import` restores every entry to the byte. Messages in queues are not in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir export shop.jsonl --db shop
  kvasir export - | gzip > default.jsonl.gz

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Export {
    /// File to write, which must not be there yet; - for standard output
    file: PathBuf,
    /// Which database
    #[arg(long, value_name = "NAME", default_value = "default")]
    db: String,
    /// Go on behind the last whole line of FILE
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    target: Target,
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (mut out, cursor): (Box<dyn Write>, _) = if self.file == Path::new("-") {
            if self.resume {
                return Err(Failure::usage("standard output cannot be resumed"));
            }
            (Box::new(std::io::stdout().lock()), None)
        } else if self.resume {
            let (file, cursor) = reopen(&self.file)?;
            (Box::new(file), cursor)
        } else {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&self.file);
            let name = self.file.display();
            let file = file.with_context(|| {
                format!("cannot write {name}; use --resume to go on with a file that is there")
            })?;
            (Box::new(file), None)
        };
        block_on(async {
            let server = Administration::reach(&self.target).await?;
            let written = self.write(&server, &mut out, cursor).await;
            server.leave().await?;
            written
        })
    }

    async fn write(
        &self,
        server: &Administration,
        out: &mut dyn Write,
        mut cursor: Option<String>,
    ) -> Result<(), Failure> {
        let mut out = BufWriter::new(out);
        let progress = ProgressBar::new_spinner().with_message("entries written");
        let path = format!("/databases/{}/entries", segment(&self.db));
        loop {
            let page = match &cursor {
                None => path.clone(),
                Some(cursor) => format!("{path}?cursor={}", segment(cursor)),
            };
            let page = server.call(Method::GET, &page, None).await?;
            for entry in page["entries"].as_array().into_iter().flatten() {
                writeln!(out, "{entry}").context("cannot write the export")?;
                progress.inc(1);
            }
            // A page is whole in the file before the next one is asked for.
            out.flush().context("cannot write the export")?;
            progress.set_message(format!("{} entries written", progress.position()));
            match page["cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        progress.finish_and_clear();
        report(progress.position(), &self.file);
        Ok(())
    }
}

#[expect(clippy::print_stderr, reason = "standard output may be the export")]
fn report(entries: u64, file: &Path) {
    eprintln!("exported {entries} entries to {}", file.display());
}

/// Opens a file that was cut off at any byte, cuts it behind its last whole line, and says where to
/// go on.
fn reopen(path: &Path) -> anyhow::Result<(File, Option<String>)> {
    let shown = path.display();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {shown}"))?;
    let (end, last) = last_line(&mut file).with_context(|| format!("cannot read {shown}"))?;
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    let Some(last) = last else {
        return Ok((file, None));
    };
    let line: Line = serde_json::from_slice(&last)
        .with_context(|| format!("the last line of {shown} is not one of an export"))?;
    let entry = line.into_entry().context("the last line is damaged")?;
    Ok((file, Some(Cursor(entry.key).to_string())))
}

/// Where the last whole line ends, and what it says.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<Vec<u8>>)> {
    let len = file.metadata()?.len();
    let mut window = TAIL_BYTES;
    loop {
        let from = len.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        Read::by_ref(file).take(len - from).read_to_end(&mut tail)?;
        let is_all = from == 0;
        match tail.iter().rposition(|byte| *byte == b'\n') {
            None if is_all => return Ok((0, None)),
            None => {}
            Some(end) => {
                let begin = tail[..end].iter().rposition(|byte| *byte == b'\n');
                match begin {
                    None if !is_all => {}
                    begin => {
                        let begin = begin.map_or(0, |newline| newline + 1);
                        let line = tail[begin..end].to_vec();
                        return Ok((from + end as u64 + 1, Some(line)));
                    }
                }
            }
        }
        window = window.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_behind_its_last_whole_line() {
        let long = "x".repeat(200_000);
        for (text, end, line) in [
            ("", 0, None),
            ("cut off", 0, None),
            ("one\n", 4, Some("one")),
            ("one\ntwo\ncut", 8, Some("two")),
            (&format!("one\n{long}\ncut"), 200_005, Some(long.as_str())),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let (at, found) = last_line(&mut file).unwrap();
            assert_eq!(at, end);
            assert_eq!(found.as_deref(), line.map(str::as_bytes));
        }
    }
}
