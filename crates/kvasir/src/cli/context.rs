//! `kvasir context …`: servers by name, so that verbs need no address and no token.
//!
//! `contexts.json` in the user's configuration folder holds names, addresses, databases and which
//! one is selected. A credential lies in a file of its own beside it that only its owner may read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Client, block_on};
use super::output::{Form, Printer};
use crate::exit::{Exit, Failure};
use crate::replace::replace;

/// Longest token that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Contexts at most, so that a file that is something else is noticed.
const CONTEXTS_MAX: usize = 1000;

/// Name servers, and choose the one that verbs talk to.
///
/// A verb takes the first of: its own --server or --context, KVASIR_SERVER or KVASIR_CONTEXT, the
/// server that holds --data, the selected context, a server in ./kvasir-data, http://127.0.0.1:8000.
/// A verb on keys works on the first of: its --db, KVASIR_DATABASE, the context's database, `default`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context add local http://127.0.0.1:8000
  kvasir context ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such context, 4 denied, 6 unreachable")]
pub(super) struct Contexts {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    Use(Use),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Test(Test),
    Rm(Rm),
}

/// Add or replace a context. A token is read from standard input or a file, never from arguments,
/// which other users can see.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context add local http://127.0.0.1:8000
  kvasir context add live https://kv.example.com --db shop --token-file token.txt

Exit codes: 0 done, 1 failed, 2 usage")]
struct Add {
    /// Its name: letters, digits, - and _
    name: String,
    /// Address of the server
    server: String,
    /// File to read the token from; - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Database that verbs on keys work on [default: `default`]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// Select it as well
    #[arg(long)]
    select: bool,
    #[command(flatten)]
    form: Form,
}

/// Select the context that verbs use.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context use local
  kvasir context use local --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such context")]
struct Use {
    /// Its name
    name: String,
    #[command(flatten)]
    form: Form,
}

/// List contexts. Tokens are not shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context ls
  kvasir context ls -o csv

Exit codes: 0 done, 1 failed")]
struct Ls {
    #[command(flatten)]
    form: Form,
}

/// Ask the server of a context whether it is ready, and what the token may do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context test
  kvasir context test local --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such context, 4 denied, 6 unreachable")]
struct Test {
    /// Its name [default: the selected one]
    name: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// Remove a context and its credential.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir context rm local
  kvasir context rm live --json

Exit codes: 0 done, 1 failed, 2 usage, 3 no such context")]
struct Rm {
    /// Its name
    name: String,
    #[command(flatten)]
    form: Form,
}

/// What the file holds.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Stored {
    selected: Option<String>,
    contexts: BTreeMap<String, Named>,
}

/// One context.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// Address of the server.
    pub(crate) server: String,
    /// Database that verbs on keys work on; none for `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<String>,
    /// File with the token, if there is one.
    pub(crate) credential: Option<PathBuf>,
}

/// The user's contexts.
#[derive(Debug)]
pub(crate) struct Known {
    folder: PathBuf,
    stored: Stored,
}

impl Known {
    /// Those of the user who runs the command; none without a home.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not as it should be.
    #[expect(
        clippy::disallowed_methods,
        reason = "where a user's files lie is said by the environment"
    )]
    pub(crate) fn read() -> Result<Option<Known>, Failure> {
        let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
                Some(home) => Path::new(&home).join(".config"),
                None => return Ok(None),
            },
        };
        let folder = folder.join("kvasir");
        let file = folder.join("contexts.json");
        let stored = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged; mend or remove it", file.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Stored::default(),
            Err(error) => {
                return Err(anyhow::Error::new(error)
                    .context(format!("cannot read {}", file.display()))
                    .into());
            }
        };
        Ok(Some(Known { folder, stored }))
    }

    fn require() -> Result<Known, Failure> {
        Known::read()?
            .ok_or_else(|| Failure::usage("contexts need a place: set HOME or XDG_CONFIG_HOME"))
    }

    /// The context of a name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn named(&self, name: &str) -> Result<&Named, Failure> {
        self.stored.contexts.get(name).ok_or_else(|| {
            let names: Vec<_> = self.names().collect();
            let known = match &names[..] {
                [] => "there are none yet; `kvasir context add` makes one".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            Failure::new(
                Exit::NotFound,
                format!("no context is called {name}; {known}"),
            )
        })
    }

    /// The selected context.
    pub(crate) fn selected(&self) -> Option<&Named> {
        self.stored.contexts.get(self.stored.selected.as_ref()?)
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.contexts.keys().map(String::as_str)
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.stored).context("cannot write JSON")?;
        write_private(&self.folder, &self.folder.join("contexts.json"), &text)
    }

    fn credential_file(&self, name: &str) -> PathBuf {
        self.folder.join("credentials").join(name)
    }
}

/// Replaces a file, which only its owner may read.
fn write_private(folder: &Path, file: &Path, content: &[u8]) -> anyhow::Result<()> {
    for folder in [Some(folder), file.parent()].into_iter().flatten() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    replace(file, content, 0o600)
}

fn checked_name(name: &str) -> Result<(), Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(Failure::usage(
            "the name of a context consists of 1 to 64 letters, digits, - and _",
        )),
    }
}

impl Contexts {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::Use(select) => select.run(),
            Verb::Ls(ls) => ls.run(),
            Verb::Test(test) => test.run(),
            Verb::Rm(rm) => rm.run(),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        checked_name(&self.name)?;
        let is_url = ["http://", "https://"]
            .iter()
            .any(|scheme| self.server.starts_with(scheme));
        if !is_url {
            return Err(Failure::usage(format!(
                "{} is no address such as http://127.0.0.1:8000",
                self.server
            )));
        }
        if let Some(name) = &self.db {
            let parsed: Result<kvasir_kv::KeyspaceName, _> = name.parse();
            parsed.map_err(|error| Failure::usage(format!("--db: {error}")))?;
        }
        let mut known = Known::require()?;
        if !known.stored.contexts.contains_key(&self.name)
            && known.stored.contexts.len() >= CONTEXTS_MAX
        {
            return Err(Failure::usage(format!(
                "there are {CONTEXTS_MAX} contexts already"
            )));
        }
        let credential = match &self.token_file {
            None => None,
            Some(file) => {
                let token = read_token(file)?;
                let place = known.credential_file(&self.name);
                write_private(&known.folder, &place, token.as_bytes())?;
                Some(place)
            }
        };
        let server = self.server.trim_end_matches('/').to_owned();
        let named = Named {
            server,
            database: self.db.clone(),
            credential,
        };
        known.stored.contexts.insert(self.name.clone(), named);
        if self.select || known.stored.selected.is_none() {
            known.stored.selected = Some(self.name.clone());
        }
        known.write()?;
        let selected = known.stored.selected.as_deref() == Some(&self.name);
        let answer = json!({"context": self.name, "server": self.server, "database": self.db, "selected": selected});
        Printer::new(&self.form).one(&answer, || {
            let note = if selected { ", which is selected" } else { "" };
            format!("added {}{note}", self.name)
        })
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            // Whoever types it wants to know that somebody waits.
            let _ = write!(std::io::stderr(), "Token: ");
        }
        std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("{} holds no token", file.display()))),
        token => Ok(token.to_owned()),
    }
}

impl Use {
    fn run(self) -> Result<(), Failure> {
        let mut known = Known::require()?;
        let server = known.named(&self.name)?.server.clone();
        known.stored.selected = Some(self.name.clone());
        known.write()?;
        let answer = json!({"context": self.name, "server": server});
        Printer::new(&self.form).one(&answer, || format!("verbs talk to {server} now"))
    }
}

impl Ls {
    fn run(self) -> Result<(), Failure> {
        let known = Known::require()?;
        let mut printer = Printer::new(&self.form);
        printer.begin(&["context", "server", "database", "credential", "selected"])?;
        for (name, named) in &known.stored.contexts {
            let selected = known.stored.selected.as_ref() == Some(name);
            let has_credential = named.credential.is_some();
            let json = json!({
                "context": name,
                "server": named.server,
                "database": named.database,
                "credential": has_credential,
                "selected": selected,
            });
            let yes = |is| if is { "yes" } else { "" }.to_owned();
            let cells = [
                name.clone(),
                named.server.clone(),
                named.database.clone().unwrap_or_default(),
                yes(has_credential),
                yes(selected),
            ];
            printer.row(&json, &cells)?;
        }
        printer.end()
    }
}

impl Test {
    fn run(self) -> Result<(), Failure> {
        let known = Known::require()?;
        let named = match &self.name {
            Some(name) => known.named(name)?,
            None => known.selected().ok_or_else(|| {
                Failure::new(
                    Exit::NotFound,
                    "no context is selected; `kvasir context use` does",
                )
            })?,
        };
        let client = named.client()?;
        block_on(async {
            client.send(client.request(Method::GET, "/readyz")).await?;
            let who = client
                .send(client.request(Method::GET, "/_/api/v1/whoami"))
                .await?;
            let who = who
                .bytes()
                .await
                .map_err(|error| client.unreachable(error))?;
            let who: serde_json::Value =
                serde_json::from_slice(&who).context("the server's answer is not JSON")?;
            let id = who["principal"]
                .as_str()
                .or(who["id"].as_str())
                .unwrap_or("somebody");
            let answer = json!({"server": client.base(), "ready": true, "whoami": who});
            Printer::new(&self.form).one(&answer, || {
                format!("{} is ready and knows you as {id}", client.base())
            })
        })
    }
}

impl Rm {
    fn run(self) -> Result<(), Failure> {
        let mut known = Known::require()?;
        known.named(&self.name)?;
        let removed = known.stored.contexts.remove(&self.name);
        if known.stored.selected.as_ref() == Some(&self.name) {
            known.stored.selected = None;
        }
        known.write()?;
        if let Some(file) = removed.and_then(|removed| removed.credential) {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(anyhow::Error::new(error)
                        .context(format!("cannot remove {}", file.display()))
                        .into());
                }
                _ => {}
            }
        }
        let answer = json!({"context": self.name});
        Printer::new(&self.form).one(&answer, || format!("removed {}", self.name))
    }
}

impl Named {
    /// A client of it, with its credential.
    ///
    /// # Errors
    ///
    /// If the credential cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(self.server.clone(), self.token()?)
    }

    /// Its credential.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn token(&self) -> Result<Option<SecretString>, Failure> {
        let Some(file) = &self.credential else {
            return Ok(None);
        };
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the credential {}", file.display()))?;
        Ok(Some(text.trim().into()))
    }
}

/// Where the shell keeps its history.
pub(super) fn history_file() -> Option<PathBuf> {
    let known = Known::read().ok()??;
    let folder = &known.folder;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .ok()?;
    Some(folder.join("history"))
}
