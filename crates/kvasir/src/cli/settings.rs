//! Settings as flags.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{Config, Kind, Sources, secrets, special};

/// The command with a flag for every setting. Only the short ones are shown in its help.
pub(super) fn with_flags(command: Command) -> Command {
    let settings = Config::settings();
    let files = settings
        .iter()
        .filter(|setting| !setting.path.contains('*') && secrets::is_secret(&setting.path))
        .map(|setting| hidden_flag(&secrets::file_of(&setting.path), "FILE"));
    let hidden = settings
        .iter()
        .filter(|setting| !setting.path.contains('*'))
        .map(|setting| {
            let value = match setting.kind {
                Kind::Bool => "BOOL",
                Kind::Number => "NUMBER",
                Kind::Text => "TEXT",
                Kind::List => "LIST",
                Kind::OneOf(_) => "WORD",
            };
            hidden_flag(&setting.path, value)
        });
    command.args(hidden.chain(files))
}

fn hidden_flag(path: &str, value: &'static str) -> Arg {
    Arg::new(path.to_owned())
        .long(path.to_owned())
        .value_name(value)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .hide(true)
}

/// What the process was given: the flags of a verb, the environment, the file.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment is read"
)]
pub(super) fn sources(matches: Option<&ArgMatches>, file: Option<PathBuf>) -> Sources {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Sources {
        file,
        variables,
        flags: matches.map(flags).unwrap_or_default(),
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    }
}

/// The flags of settings that were typed: those of [`special::FLAGS`] and the full ones.
fn flags(matches: &ArgMatches) -> Vec<(String, String, Vec<String>)> {
    let typed = |id: &str| -> Option<Vec<String>> {
        let is_typed = matches.try_contains_id(id).ok()?
            && matches.value_source(id) == Some(ValueSource::CommandLine);
        let values = matches.get_many::<String>(id).filter(|_| is_typed)?;
        Some(values.cloned().collect())
    };
    let settings = Config::settings();
    let files = settings
        .iter()
        .filter(|setting| secrets::is_secret(&setting.path))
        .map(|setting| secrets::file_of(&setting.path));
    let paths: Vec<String> = settings
        .iter()
        .map(|setting| setting.path.clone())
        .chain(files)
        .collect();
    let full = paths
        .iter()
        .filter_map(|path| Some((path.as_str(), path.as_str(), typed(path)?)));
    let short = special::FLAGS
        .iter()
        .filter_map(|alias| Some((alias.path, alias.name, typed(alias.name)?)));
    full.chain(short)
        .map(|(path, name, values)| (path.to_owned(), format!("--{name}"), values))
        .collect()
}
