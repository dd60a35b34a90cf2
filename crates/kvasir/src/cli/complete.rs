//! `completion` and `man`: what shells and `man` know about this command, made from the command
//! line itself.
//!
//! Names of contexts and keys are completed from the live server by the hidden verb `__complete`,
//! which the scripts of all five shells ask. It answers within [`LIVE_MAX`] or not at all.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use clap_complete::Shell as Known;
use futures_util::StreamExt;
use reqwest::Method;

use super::client::{Target, block_on};
use super::context;
use super::data::{joined_path, kv_path, listed_path, split_path};
use super::output::{Form, Printer};
use crate::exit::Failure;

/// Longest time that somebody who pressed Tab waits; CLI-10 of the operator's contract.
const LIVE_MAX: Duration = Duration::from_millis(150);

/// Keys that are looked at for one completion.
const KEYS_MAX: usize = 1000;

/// Words that are offered.
const WORDS_MAX: usize = 100;

/// Print the completion of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir completion bash
  kvasir completion fish > kvasir.fish

Exit codes: 0 done, 2 usage")]
pub(super) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    Power,
    Nushell,
}

/// Print the manual page, or write the pages of all verbs into a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir man
  kvasir man --out man1

Exit codes: 0 done, 1 failed, 2 usage")]
pub(super) struct Man {
    /// Folder for all pages, made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a shell asks while somebody types.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "\
Examples:
  kvasir __complete key users.
  kvasir __complete context

Exit codes: 0, also if nothing was found in time"
)]
pub(super) struct Complete {
    kind: Kind,
    #[arg(default_value = "")]
    begun: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Key,
    Context,
}

/// Bash: the function that clap makes goes on to be asked, except for words that only a server or
/// the contexts know.
const BASH: &str = r#"
_kvasir_live() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} kind=
    if [[ $prev == --context ]]; then kind=context
    elif [[ $cur != -* && $prev != -* ]]; then
        case ${COMP_WORDS[1]} in
            get|put|set|rm|delete|ls|list|tree|count|touch|watch) [[ $COMP_CWORD -eq 2 ]] && kind=key ;;
            context) [[ $COMP_CWORD -eq 3 && ${COMP_WORDS[2]} != add ]] && kind=context ;;
        esac
    fi
    if [[ -n $kind ]]; then
        local IFS=$'\n'
        COMPREPLY=($(kvasir __complete "$kind" "$cur" 2>/dev/null))
        [[ $kind == key && ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *. ]] && compopt -o nospace
        return 0
    fi
    _kvasir "$@"
}
complete -F _kvasir_live -o bashdefault -o default kvasir
"#;

const ZSH: &str = r#"
functions[_kvasir_static]=$functions[_kvasir]
_kvasir() {
    local kind=
    if [[ ${words[CURRENT-1]} == --context ]]; then kind=context
    elif [[ ${words[CURRENT]} != -* && ${words[CURRENT-1]} != -* ]]; then
        case ${words[2]} in
            get|put|set|rm|delete|ls|list|tree|count|touch|watch) (( CURRENT == 3 )) && kind=key ;;
            context) (( CURRENT == 4 )) && [[ ${words[3]} != add ]] && kind=context ;;
        esac
    fi
    if [[ -n $kind ]]; then
        compadd -S '' -- ${(f)"$(kvasir __complete $kind "${words[CURRENT]}" 2>/dev/null)"}
    else
        _kvasir_static "$@"
    fi
}
"#;

const FISH: &str = r#"
complete -c kvasir -n "__fish_seen_subcommand_from get put set rm delete ls list tree count touch watch" -f -a "(kvasir __complete key (commandline -ct) 2>/dev/null)"
complete -c kvasir -n "__fish_seen_subcommand_from context; and __fish_seen_subcommand_from use test rm" -f -a "(kvasir __complete context (commandline -ct) 2>/dev/null)"
complete -c kvasir -l context -x -a "(kvasir __complete context (commandline -ct) 2>/dev/null)"
"#;

/// PowerShell: stands at the beginning of the script block that clap makes.
const POWERSHELL: &str = r#"
    $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    $place = if ($wordToComplete) { $words.Count - 1 } else { $words.Count }
    $kind = $null
    if ($words[$place - 1] -eq '--context') { $kind = 'context' }
    elseif (-not "$wordToComplete".StartsWith('-')) {
        $keyed = 'get', 'put', 'set', 'rm', 'delete', 'ls', 'list', 'tree', 'count', 'touch', 'watch'
        if ($place -eq 2 -and $words[1] -in $keyed) { $kind = 'key' }
        if ($place -eq 3 -and $words[1] -eq 'context' -and $words[2] -ne 'add') { $kind = 'context' }
    }
    if ($kind) {
        return @(kvasir __complete $kind "$wordToComplete" 2>$null | ForEach-Object {
            [CompletionResult]::new($_, $_, [CompletionResultType]::ParameterValue, $_)
        })
    }
"#;

/// Where [`POWERSHELL`] goes: behind the parameters of the block.
const POWERSHELL_PLACE: &str = "param($wordToComplete, $commandAst, $cursorPosition)\n";

/// nushell: completers that the arguments of the module name.
const NUSHELL: &str = r#"
  def "nu-complete kvasir live keys" [context: string] {
    do { ^kvasir __complete key ($context | split row " " | last) } | complete | get stdout | lines
  }

  def "nu-complete kvasir live contexts" [] {
    do { ^kvasir __complete context } | complete | get stdout | lines
  }
"#;

/// Commands of nushell whose first argument is a key.
const NUSHELL_KEYED: [&str; 8] = ["get", "put", "rm", "ls", "tree", "count", "touch", "watch"];

/// Commands of nushell whose first argument is a context.
const NUSHELL_CONTEXTS: [&str; 3] = ["context use", "context test", "context rm"];

impl Completion {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut command = super::command();
        let mut script = Vec::new();
        match self.shell {
            Shell::Nushell => clap_complete::generate(
                clap_complete_nushell::Nushell,
                &mut command,
                "kvasir",
                &mut script,
            ),
            Shell::Bash => {
                clap_complete::generate(Known::Bash, &mut command, "kvasir", &mut script)
            }
            Shell::Zsh => clap_complete::generate(Known::Zsh, &mut command, "kvasir", &mut script),
            Shell::Fish => {
                clap_complete::generate(Known::Fish, &mut command, "kvasir", &mut script)
            }
            Shell::Power => {
                clap_complete::generate(Known::PowerShell, &mut command, "kvasir", &mut script);
            }
        }
        let script = String::from_utf8_lossy(&script);
        let script = match self.shell {
            Shell::Bash => format!("{script}{BASH}"),
            Shell::Fish => format!("{script}{FISH}"),
            Shell::Zsh => live_zsh(&script),
            Shell::Power => live_powershell(&script),
            Shell::Nushell => live_nushell(&script),
        };
        Printer::new(&Form::default()).bytes(script.as_bytes())
    }
}

/// zsh runs the function at the end of its script, so what replaces it must come before.
fn live_zsh(script: &str) -> String {
    match script.rfind("\nif [ \"$funcstack[1]\" = \"_kvasir\" ]") {
        Some(end) => format!("{}{ZSH}{}", &script[..end], &script[end..]),
        None => format!("{script}{ZSH}"),
    }
}

fn live_powershell(script: &str) -> String {
    script.replacen(
        POWERSHELL_PLACE,
        &format!("{POWERSHELL_PLACE}{POWERSHELL}"),
        1,
    )
}

/// Names the completers where an argument is a key or a context.
fn live_nushell(script: &str) -> String {
    let mut live = String::with_capacity(script.len() + NUSHELL.len());
    // What the first argument of the command at hand is.
    let mut argument = None;
    for line in script.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("export extern ") {
            let name = rest.trim_end_matches(" [").trim_matches('"');
            let verb = name.strip_prefix("kvasir ").unwrap_or_default();
            argument = match verb {
                verb if NUSHELL_KEYED.contains(&verb) => Some("keys"),
                verb if NUSHELL_CONTEXTS.contains(&verb) => Some("contexts"),
                _ => None,
            };
        }
        let text = line.trim_start();
        // nushell knows no flag with a dot in its name.
        let flag = text.split([':', ' ', '(']).next().unwrap_or_default();
        if flag.starts_with("--") && flag.contains('.') {
            continue;
        }
        let is_context = text.starts_with("--context: string");
        let is_argument = [
            "key: string",
            "prefix?: string",
            "name: string",
            "name?: string",
        ]
        .iter()
        .any(|form| text.starts_with(form));
        let live_kind = match is_context {
            true => Some("contexts"),
            false => argument.take_if(|_| is_argument),
        };
        match live_kind {
            Some(kind) => {
                let completer = format!(": string@\"nu-complete kvasir live {kind}\"");
                live.push_str(&line.replacen(": string", &completer, 1));
            }
            None => live.push_str(line),
        }
        live.push('\n');
        if line == "module completions {" {
            live.push_str(NUSHELL);
        }
    }
    live
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let command = super::command();
        match &self.out {
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command)
                    .render(&mut page)
                    .context("cannot write the page")?;
                Printer::new(&Form::default()).bytes(&page)
            }
            Some(folder) => {
                let shown = folder.display();
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot create {shown}"))?;
                clap_mangen::generate_to(command, folder)
                    .with_context(|| format!("cannot write into {shown}"))?;
                Ok(())
            }
        }
    }
}

impl Complete {
    /// Says what it finds in time, and nothing about what went wrong: nobody asked.
    pub(super) fn run(self) -> Result<(), Failure> {
        let words = match self.kind {
            Kind::Context => context::Known::read()?
                .map(|known| known.names().map(str::to_owned).collect())
                .unwrap_or_default(),
            Kind::Key => block_on(async {
                let words = tokio::time::timeout(LIVE_MAX, self.keys()).await;
                Ok(words.ok().and_then(Result::ok).unwrap_or_default())
            })?,
        };
        let mut out = std::io::stdout().lock();
        for word in words.iter().filter(|word| word.starts_with(&self.begun)) {
            // A shell that has gone does not need them any more.
            let _ = writeln!(out, "{word}");
        }
        Ok(())
    }

    /// Keys and prefixes that go on from what is there, to the next dot.
    async fn keys(&self) -> Result<Vec<String>, Failure> {
        let client = self.target.client_on(None)?;
        let parent = self.begun.rfind('.').map(|dot| &self.begun[..dot]);
        let path = match parent {
            None => format!("/kv?list=true&values=false&limit={KEYS_MAX}"),
            Some(parent) => {
                format!(
                    "{}?list=true&values=false&limit={KEYS_MAX}",
                    kv_path(parent)
                )
            }
        };
        let request = client
            .request(Method::GET, &path)
            .header("accept", "application/x-ndjson");
        let mut lines = client.lines(client.send(request).await?);
        let depth = parent.map_or(0, |parent| split_path(parent).len());
        let mut words: Vec<String> = Vec::new();
        while let Some(line) = lines.next().await {
            let key = listed_path(&line?)?;
            let parts = split_path(&key);
            let Some(next) = parts.get(depth) else {
                continue;
            };
            let lead = parent
                .map(|parent| format!("{parent}."))
                .unwrap_or_default();
            let end = if parts.len() > depth + 1 { "." } else { "" };
            let word = format!("{lead}{}{end}", joined_path([next.as_str()]));
            if words.last() != Some(&word) && !words.contains(&word) {
                words.push(word);
            }
            if words.len() >= WORDS_MAX {
                break;
            }
        }
        Ok(words)
    }
}
