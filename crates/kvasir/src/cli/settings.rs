//! Settings as flags.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{Config, Kind, Sources, special};

/// The command with a flag for every setting. Only the short ones are shown in its help.
pub(super) fn with_flags(command: Command) -> Command {
    let settings = Config::settings();
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
            Arg::new(setting.path.clone())
                .long(setting.path.clone())
                .value_name(value)
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .hide(true)
        });
    command.args(hidden)
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
    let full = settings
        .iter()
        .filter_map(|setting| Some((&*setting.path, &*setting.path, typed(&setting.path)?)));
    let short = special::FLAGS
        .iter()
        .filter_map(|alias| Some((alias.path, alias.name, typed(alias.name)?)));
    full.chain(short)
        .map(|(path, name, values)| (path.to_owned(), format!("--{name}"), values))
        .collect()
}
