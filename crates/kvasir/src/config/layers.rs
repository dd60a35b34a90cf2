//! The four sources of settings, laid over each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::decode::Node;
use super::schema::Setting;
use super::{Config, ConfigError, DEFAULT_TOML, secrets, special};

/// Prefix of our variables.
const VARIABLE_PREFIX: &str = "KVASIR_";

/// Ending of a setting that names a file which holds a secret.
const FILE_ENDING: &str = "_file";

/// Stands in front of the names of credentials that come from one folder, as the service unit of the
/// package loads them (`LoadCredential=kvasir:/etc/kvasir/credentials`).
const CREDENTIAL_PREFIX: &str = "kvasir_";

/// Suggestions are made for names at least this similar, on the scale of Jaro and Winkler.
const SIMILAR: f64 = 0.8;

/// What the process was given. Printed without values, among which are secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Flags of settings: the setting's path, the flag as typed, its values.
    pub flags: Vec<(String, String, Vec<String>)>,
    /// Folder in which the service manager leaves credentials.
    pub credentials: Option<PathBuf>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        let flags: Vec<_> = self.flags.iter().map(|(path, ..)| path).collect();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("variables", &variables)
            .field("flags", &flags)
            .field("credentials", &self.credentials)
            .finish()
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A place in the file; line and column count from 1.
    File {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// A credential of the service manager.
    Credential(PathBuf),
    /// A variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line, column } => {
                write!(f, "{}:{line}:{column}", file.display())
            }
            Origin::Credential(file) => write!(f, "credential {}", file.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub struct Found {
    /// The value.
    pub given: Given,
    /// Where it came from.
    pub origin: Origin,
    /// The file that held it, for a secret that has a file of its own.
    pub file: Option<PathBuf>,
}

/// A value as it was given. It may be a secret, so `Debug` does not show it.
#[derive(Clone)]
pub enum Given {
    /// With a type, from a file.
    Typed(toml::Value),
    /// As text.
    Text(String),
    /// As several texts, from a flag that was repeated.
    Texts(Vec<String>),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<given>")
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Typed(toml::Value::String(text)) | Given::Text(text) => f.write_str(text),
            Given::Typed(value) => write!(f, "{value}"),
            Given::Texts(texts) => f.write_str(&texts.join(",")),
        }
    }
}

/// Every value that was given, the strongest for each setting.
#[derive(Clone, Debug)]
pub struct Layers {
    pub(super) values: BTreeMap<String, Found>,
    settings: Vec<Setting>,
}

impl Layers {
    /// Reads all sources, the weakest first.
    ///
    /// # Errors
    ///
    /// For names that are no settings, files that cannot be read, and secrets given twice.
    pub(super) fn gather(sources: &Sources, settings: &[Setting]) -> Result<Layers, ConfigError> {
        let mut layers = Layers {
            values: BTreeMap::new(),
            settings: settings.to_vec(),
        };
        layers.add_toml(DEFAULT_TOML, None)?;
        if let Some(file) = &sources.file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| ConfigError::new(file.display(), error.to_string()))?;
            layers.add_toml(&text, Some(file))?;
        }
        layers.add_credentials(sources.credentials.as_deref())?;
        layers.add_variables(&sources.variables)?;
        for (path, flag, values) in &sources.flags {
            let origin = Origin::Flag(flag.clone());
            layers.known(path, &origin)?;
            let given = match &values[..] {
                [value] => Given::Text(value.clone()),
                values => Given::Texts(values.to_vec()),
            };
            layers.add(path, given, origin)?;
        }
        layers.read_secret_files()?;
        Ok(layers)
    }

    /// The settings that the values make.
    pub(super) fn decode(&self) -> Result<Config, ConfigError> {
        let given = self
            .values
            .iter()
            .filter(|(_, found)| found.origin != Origin::Default)
            .map(|(path, found)| (path.as_str(), found));
        Ok(serde::Deserialize::deserialize(Node::tree(given))?)
    }

    /// Every setting, or value of one whose name is up to the operator, with what is in force;
    /// `None` for one that has no value. Secrets are shown as `<set>`.
    pub fn effective(&self) -> Vec<(String, Option<String>, Origin)> {
        let mut rows = Vec::new();
        for setting in &self.settings {
            let mut given = self
                .values
                .iter()
                .filter(|(path, _)| secrets::matches(&setting.path, path))
                .peekable();
            if given.peek().is_none() && !setting.path.contains('*') {
                rows.push((setting.path.clone(), None, Origin::Default));
            }
            for (path, found) in given {
                let shown = match found.given.to_string() {
                    shown if shown.is_empty() => None,
                    _ if secrets::is_secret(path) => Some("<set>".to_owned()),
                    shown => Some(shown),
                };
                rows.push((path.clone(), shown, found.origin.clone()));
            }
        }
        rows
    }

    /// Where the value of a setting came from.
    pub fn origin(&self, path: &str) -> Origin {
        let found = self.values.get(path);
        found.map_or(Origin::Default, |found| found.origin.clone())
    }

    /// Settings whose values differ from those of `other`.
    pub fn differences(&self, other: &Layers) -> Vec<String> {
        let value = |layers: &Layers, path: &String| {
            let found = layers.values.get(path);
            found.map(|found| found.given.to_string())
        };
        let mut paths: Vec<&String> = self.values.keys().chain(other.values.keys()).collect();
        paths.sort();
        paths.dedup();
        paths
            .into_iter()
            .filter(|path| value(self, path) != value(other, path))
            .cloned()
            .collect()
    }

    /// Takes over the values of these settings, and where the others of the same value stand now.
    pub fn take_over(&mut self, paths: &[String], from: &Layers) {
        for path in paths {
            match from.values.get(path) {
                Some(found) => self.values.insert(path.clone(), found.clone()),
                None => self.values.remove(path),
            };
        }
        for (path, found) in &mut self.values {
            if let Some(now) = from.values.get(path)
                && now.given.to_string() == found.given.to_string()
            {
                found.origin = now.origin.clone();
            }
        }
    }

    fn add(&mut self, path: &str, given: Given, origin: Origin) -> Result<(), ConfigError> {
        // A secret and its file, wherever they come from, contradict each other.
        let other = match path.strip_suffix(FILE_ENDING) {
            Some(secret) if secrets::is_secret(secret) => Some(secret.to_owned()),
            _ if secrets::is_secret(path) => Some(format!("{path}{FILE_ENDING}")),
            _ => None,
        };
        let twice = other.and_then(|other| self.values.get(&other));
        if let Some(twice) = twice.filter(|twice| twice.origin != Origin::Default) {
            return Err(ConfigError::new(
                &origin,
                format!("{path} is also given by {}; leave one out", twice.origin),
            ));
        }
        let before = self.values.get(path).map(|found| &found.origin);
        let is_credential = |origin: &Origin| matches!(origin, Origin::Credential(_));
        if let Some(before) = before.filter(|before| **before != Origin::Default)
            && (is_credential(before) || is_credential(&origin))
        {
            return Err(ConfigError::new(
                &origin,
                format!("{path} is also given by {before}; leave one out"),
            ));
        }
        let found = Found {
            given,
            origin,
            file: None,
        };
        self.values.insert(path.to_owned(), found);
        Ok(())
    }

    /// Refuses a path that is no setting.
    fn known(&self, path: &str, origin: &Origin) -> Result<(), ConfigError> {
        if self.is_known(path) {
            return Ok(());
        }
        let what = match self.similar(path) {
            Some(similar) => format!("{path} is no setting; did you mean {similar}?"),
            None => {
                format!("{path} is no setting; `kvasir config default` prints all of them")
            }
        };
        Err(ConfigError::new(origin, what))
    }

    fn is_known(&self, path: &str) -> bool {
        let is_setting = |path: &str| {
            let mut settings = self.settings.iter();
            settings.any(|setting| secrets::matches(&setting.path, path))
        };
        is_setting(path)
            || path
                .strip_suffix(FILE_ENDING)
                .is_some_and(|secret| secrets::is_secret(secret) && is_setting(secret))
    }

    fn similar(&self, path: &str) -> Option<&str> {
        let rated = self.settings.iter().map(|setting| {
            let similarity = strsim::jaro_winkler(&setting.path, path);
            (similarity, setting.path.as_str())
        });
        rated
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, path)| path)
    }

    /// Adds a file's values; without a name they are the defaults.
    fn add_toml(&mut self, text: &str, file: Option<&Path>) -> Result<(), ConfigError> {
        let place = |offset: usize| match file {
            None => Origin::Default,
            Some(file) => {
                let before = text.get(..offset).unwrap_or(text);
                let line_start = before.rfind('\n').map_or(0, |at| at + 1);
                Origin::File {
                    file: file.to_owned(),
                    line: before.matches('\n').count() + 1,
                    column: before[line_start..].chars().count() + 1,
                }
            }
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            ConfigError::new(place(at), error.message())
        })?;
        let mut values = Vec::new();
        flatten("", table.get_ref(), &mut values);
        for (path, offset, value) in values {
            let origin = place(offset);
            if file.is_some() {
                self.known(&path, &origin)?;
            }
            self.add(&path, Given::Typed(value), origin)?;
        }
        Ok(())
    }

    fn add_credentials(&mut self, folder: Option<&Path>) -> Result<(), ConfigError> {
        let Some(folder) = folder else {
            return Ok(());
        };
        let names: Vec<String> = self
            .settings
            .iter()
            .filter(|setting| secrets::is_secret(&setting.path) && !setting.path.contains('*'))
            .map(|setting| setting.path.clone())
            .collect();
        for path in names {
            // A folder that the service manager hands over as a whole puts its id in front.
            let names = [path.clone(), format!("{CREDENTIAL_PREFIX}{path}")];
            for file in names.iter().map(|name| folder.join(name)) {
                if !file.is_file() {
                    continue;
                }
                let text = secrets::read(&path, &file)?;
                self.add(&path, Given::Text(text), Origin::Credential(file))?;
            }
        }
        Ok(())
    }

    fn add_variables(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        self.add_packaged(variables)?;
        // A variable that is set to nothing says nothing, as in the programs that these are from.
        let is_said = |value: &str| !value.is_empty();
        let special = special::VARIABLES.iter().filter_map(|alias| {
            variables.iter().find_map(|(name, value)| {
                if name == alias.name && is_said(value) {
                    Some((name, alias.path.to_owned(), value))
                } else if name.strip_suffix("_FILE") == Some(alias.name) {
                    Some((name, format!("{}{FILE_ENDING}", alias.path), value))
                } else {
                    None
                }
            })
        });
        let special: Vec<_> = special.filter(|(_, path, _)| self.is_known(path)).collect();
        for (name, path, value) in special {
            let origin = Origin::Variable(name.clone());
            self.add(&path, Given::Text(value.clone()), origin)?;
        }
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            // Every setting lies in a section; other variables of ours are none, such as those
            // of the client verbs.
            if !rest.contains("__") {
                continue;
            }
            let path = rest.to_ascii_lowercase().replace("__", ".");
            let origin = Origin::Variable(name.clone());
            self.known(&path, &origin)?;
            self.add(&path, Given::Text(value.clone()), origin)?;
        }
        Ok(())
    }

    fn add_packaged(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        let (own, _) = special::PACKAGED.split_at(special::PACKAGED_OWN);
        let is_ours = |name: &str| own.iter().any(|alias| alias.name == name);
        if !variables.iter().any(|(name, _)| is_ours(name)) {
            return Ok(());
        }
        for alias in special::PACKAGED {
            // What the replaced daemon's own variables say is stronger.
            let stronger = |(name, value): &(String, String)| {
                let mut known = special::VARIABLES.iter();
                !value.is_empty()
                    && known.any(|other| other.path == alias.path && other.name == name)
            };
            let found = variables.iter().find(|(name, _)| name == alias.name);
            let Some((name, value)) = found.filter(|(_, value)| !value.is_empty()) else {
                continue;
            };
            if variables.iter().any(stronger) {
                continue;
            }
            let value = match alias.path {
                "log.level" => special::packaged_level(value),
                _ => value,
            };
            let origin = Origin::Variable(name.clone());
            self.add(alias.path, Given::Text(value.to_owned()), origin)?;
        }
        Ok(())
    }

    /// Puts the contents of secret files in the place of their names.
    fn read_secret_files(&mut self) -> Result<(), ConfigError> {
        let files: Vec<_> = self
            .values
            .iter()
            .filter_map(|(path, found)| {
                let secret = path.strip_suffix(FILE_ENDING)?;
                secrets::is_secret(secret).then(|| (secret.to_owned(), found.clone()))
            })
            .collect();
        for (secret, found) in files {
            let file = PathBuf::from(found.given.to_string());
            let text = secrets::read(&found.origin.to_string(), &file)?;
            self.values.remove(&format!("{secret}{FILE_ENDING}"));
            let found = Found {
                given: Given::Text(text),
                origin: found.origin,
                file: Some(file),
            };
            self.values.insert(secret, found);
        }
        Ok(())
    }
}

/// The values of a table with their paths and where they begin. Tables inside arrays stay values.
fn flatten(prefix: &str, table: &DeTable<'_>, out: &mut Vec<(String, usize, toml::Value)>) {
    for (name, value) in table {
        let path = match prefix {
            "" => name.get_ref().to_string(),
            prefix => format!("{prefix}.{}", name.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(table) => flatten(&path, table, out),
            value => out.push((path, name.span().start, typed(value))),
        }
    }
}

fn typed(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        // Beyond 64 bits nothing is a setting; as text it is refused with its digits shown.
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => toml::Value::String(number.as_str().to_owned()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => toml::Value::Float(number),
            Err(_) => toml::Value::String(number.as_str().to_owned()),
        },
        DeValue::Boolean(value) => toml::Value::Boolean(*value),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(items) => {
            toml::Value::Array(items.iter().map(|item| typed(item.get_ref())).collect())
        }
        DeValue::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), typed(value.get_ref())))
                .collect(),
        ),
    }
}
