//! `kvasir shell`: verbs one after the other, with a history.

use std::io::{BufRead, IsTerminal};

use clap::{Args, FromArgMatches};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::context;
use crate::exit::{Exit, Failure};

/// Type verbs without `kvasir` in front, with editing and a history.
///
/// Words are separated by spaces; 'single' and "double" quotes and \ keep them together. In a pipe,
/// lines are read from standard input and the first one that fails ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo 'put a 1' | kvasir shell
  printf 'put a 1\\nget a\\n' | kvasir shell

Exit codes: 0 done, otherwise that of the line that failed")]
pub(super) struct Shell {}

impl Shell {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !std::io::stdin().is_terminal() {
            for line in std::io::stdin().lock().lines() {
                execute(&line?)?;
            }
            return Ok(());
        }
        let mut editor = DefaultEditor::new()?;
        let history = context::history_file();
        if let Some(file) = &history {
            // There is none at first.
            let _ = editor.load_history(file);
        }
        loop {
            match editor.readline("kvasir> ") {
                Ok(line) if matches!(line.trim(), "exit" | "quit") => break,
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    if let Err(failure) = execute(&line) {
                        super::complain(&failure);
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(file) = &history {
            // A history that cannot be kept is no failure of what was done.
            let _ = editor.save_history(file);
        }
        Ok(())
    }
}

fn execute(line: &str) -> Result<(), Failure> {
    let mut words = split(line)?;
    match words.first().map(String::as_str) {
        None => return Ok(()),
        Some(word) if word.starts_with('#') => return Ok(()),
        Some("shell" | "serve") => {
            return Err(Failure::usage("this verb does not run in the shell"));
        }
        Some("kvasir") => {}
        Some(_) => words.insert(0, "kvasir".to_owned()),
    }
    match super::command().try_get_matches_from(words) {
        Ok(matches) => {
            let cli = super::Cli::from_arg_matches(&matches);
            let cli = cli.map_err(|error| Failure::usage(error.to_string()))?;
            super::dispatch(cli, &matches)
        }
        Err(error) if error.exit_code() == 0 => {
            // Help. A closed pipe is no reason to end differently.
            let _ = error.print();
            Ok(())
        }
        Err(error) => Err(Failure::new(Exit::Usage, error.to_string())),
    }
}

/// The words of a line.
fn split(line: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some(open), char) if char == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars
                    .next()
                    .ok_or_else(|| Failure::usage("nothing follows the \\"))?;
                word.get_or_insert_default().push(next);
            }
            (None, char) if char.is_whitespace() => words.extend(word.take()),
            (_, char) => word.get_or_insert_default().push(char),
        }
    }
    if let Some(open) = quote {
        return Err(Failure::usage(format!("a closing {open} is missing")));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_falls_into_words_as_in_a_shell() {
        for (line, words) in [
            ("", &[][..]),
            ("  get   a ", &["get", "a"]),
            (r#"put a '{"b": 1}'"#, &["put", "a", r#"{"b": 1}"#]),
            (r#"put a "x \" y""#, &["put", "a", r#"x " y"#]),
            (r"get a\ b", &["get", "a b"]),
            ("put a ''", &["put", "a", ""]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert!(split("get 'a").is_err());
        assert!(split("get \\").is_err());
    }
}
