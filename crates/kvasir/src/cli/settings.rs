//! Settings as flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{Config, Kind, Sources, secrets, special};

/// The command with a flag for every setting. Only the short ones are shown in its help.
///
/// `named` are paths of settings whose names are the operator's choice, `mount.second.path`: those of
/// [`named_flags`].
pub(super) fn with_flags(command: Command, named: &[String]) -> Command {
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
    let named = named.iter().map(|path| hidden_flag(path, "TEXT"));
    command.args(hidden.chain(files).chain(named))
}

/// The flags among arguments that are settings with a name of the operator's choice. Nobody knows
/// them before they are typed.
pub(super) fn named_flags(args: &[OsString]) -> Vec<String> {
    let patterns = Config::settings();
    let patterns: Vec<&str> = patterns
        .iter()
        .map(|setting| setting.path.as_str())
        .filter(|path| path.contains('*'))
        .collect();
    let is_named = |path: &str| {
        let secret = path
            .strip_suffix("_file")
            .filter(|path| secrets::is_secret(path));
        let setting = secret.unwrap_or(path);
        patterns
            .iter()
            .any(|pattern| secrets::matches(pattern, setting))
    };
    let mut named = Vec::new();
    for arg in args {
        let flag = arg.to_str().and_then(|arg| arg.strip_prefix("--"));
        let path = flag.map(|flag| flag.split('=').next().unwrap_or_default());
        if let Some(path) = path.filter(|path| is_named(path))
            && !named.iter().any(|known| known == path)
        {
            named.push(path.to_owned());
        }
    }
    named
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
    let named = matches.ids().map(|id| id.as_str().to_owned());
    let named = named.filter(|id| {
        let setting = id.strip_suffix("_file").unwrap_or(id);
        let mut patterns = settings.iter().filter(|known| known.path.contains('*'));
        patterns.any(|known| secrets::matches(&known.path, setting))
    });
    let paths: Vec<String> = paths.into_iter().chain(named).collect();
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
