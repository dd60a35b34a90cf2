//! The command line: one file per group of verbs.
//!
//! Verbs that need settings take every one of them as a flag, `--limits.head 10s`. Those flags are
//! made from the settings themselves, so none can be forgotten.

pub(crate) mod admin;
mod audit;
mod backup;
mod below;
mod bench;
mod classworks;
pub(crate) mod client;
mod complete;
mod config;
pub(crate) mod context;
mod copy;
mod data;
mod db;
mod destroy;
mod dev_issuer;
mod doctor;
mod edgekv;
mod explain;
mod export;
mod frame;
mod health;
mod import;
mod import_batches;
mod import_csv;
mod import_denokv;
mod import_journal;
mod import_lines;
mod import_records;
mod look;
mod offline;
pub(crate) mod output;
mod progress;
mod restore;
mod rm;
mod serve;
pub(crate) mod settings;
mod shell;
mod slowlog;
mod store;
mod token;
mod trash;
mod txn;
mod ui;
mod user;
mod watch;

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Key-value database server that speaks the HTTP key-value APIs people already use.
///
/// Without a verb it serves with defaults: data in ./kvasir-data, http on 127.0.0.1:8000 and https
/// on 127.0.0.1:8443.
#[derive(Debug, Parser)]
#[command(name = "kvasir", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Serve),
    DevIssuer(dev_issuer::DevIssuerArgs),
    Get(data::Get),
    #[command(visible_alias = "set")]
    Put(data::Put),
    #[command(visible_alias = "delete")]
    Rm(rm::Rm),
    Trash(trash::TrashVerbs),
    #[command(visible_alias = "list")]
    Ls(data::Ls),
    Tree(below::Tree),
    Count(below::Count),
    Touch(txn::Touch),
    Txn(txn::Txn),
    Watch(watch::Watch),
    Token(token::Tokens),
    User(user::Users),
    Store(store::StoreVerbs),
    #[command(name = "edgekv")]
    EdgeKv(edgekv::EdgeKv),
    Db(db::Databases),
    Explain(explain::Explain),
    Export(export::Export),
    Backup(backup::Backups),
    Restore(restore::Restore),
    RestoreDrill(backup::RestoreDrill),
    Init(restore::Init),
    Classworks(classworks::Classworks),
    Config(config::ConfigVerbs),
    Health(health::Health),
    Doctor(doctor::Doctor),
    Copy(copy::Copy),
    Import(import::Import),
    Ui(ui::Ui),
    Slowlog(slowlog::Slowlog),
    Audit(audit::Audit),
    Stats(look::Stats),
    Top(look::Top),
    Bench(bench::Bench),
    Context(context::Contexts),
    Shell(shell::Shell),
    Completion(complete::Completion),
    Man(complete::Man),
    #[command(name = "__complete", hide = true)]
    Complete(complete::Complete),
}

/// Runs the command with these arguments, the first of which is its own name.
pub fn run(args: Vec<OsString>) -> Exit {
    let matches = match command_for(&args).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // A closed pipe is no reason to end differently.
            let _ = error.print();
            return match error.exit_code() {
                0 => Exit::Done,
                _ => Exit::Usage,
            };
        }
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()));
    match cli.and_then(|cli| dispatch(cli, &matches)) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            complain(&failure);
            failure.exit
        }
    }
}

fn command() -> clap::Command {
    command_for(&[])
}

/// The command with the flags of settings, also of those that only these arguments name.
fn command_for(args: &[OsString]) -> clap::Command {
    let named = settings::named_flags(args);
    let with_flags = |command| settings::with_flags(command, &named);
    Cli::command()
        .mut_subcommand("serve", with_flags)
        .mut_subcommand("config", |config| {
            config
                .mut_subcommand("show", with_flags)
                .mut_subcommand("check", with_flags)
        })
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> Result<(), Failure> {
    let of_verb = matches.subcommand().map(|(_, matches)| matches);
    match cli.verb {
        None => serve::serve(&settings::sources(None, None)),
        Some(Verb::Serve(serve)) => serve.run(of_verb),
        Some(Verb::DevIssuer(args)) => args.run(),
        Some(Verb::Get(get)) => get.run(),
        Some(Verb::Put(put)) => put.run(),
        Some(Verb::Rm(rm)) => rm.run(),
        Some(Verb::Trash(trash)) => trash.run(),
        Some(Verb::Ls(ls)) => ls.run(),
        Some(Verb::Watch(watch)) => watch.run(),
        Some(Verb::Classworks(classworks)) => classworks.run(),
        Some(Verb::Token(token)) => token.run(),
        Some(Verb::User(user)) => user.run(),
        Some(Verb::Store(store)) => store.run(),
        Some(Verb::EdgeKv(edgekv)) => edgekv.run(),
        Some(Verb::Db(db)) => db.run(),
        Some(Verb::Explain(explain)) => explain.run(),
        Some(Verb::Export(export)) => export.run(),
        Some(Verb::Backup(backup)) => backup.run(),
        Some(Verb::Restore(restore)) => restore.run(),
        Some(Verb::RestoreDrill(drill)) => drill.run(),
        Some(Verb::Init(init)) => init.run(),
        Some(Verb::Config(config)) => config.run(of_verb),
        Some(Verb::Health(health)) => health.run(),
        Some(Verb::Doctor(doctor)) => doctor.run(),
        Some(Verb::Copy(copy)) => copy.run(),
        Some(Verb::Import(import)) => import.run(),
        Some(Verb::Ui(ui)) => ui.run(),
        Some(Verb::Slowlog(slowlog)) => slowlog.run(),
        Some(Verb::Audit(audit)) => audit.run(),
        Some(Verb::Tree(tree)) => tree.run(),
        Some(Verb::Count(count)) => count.run(),
        Some(Verb::Touch(touch)) => touch.run(),
        Some(Verb::Txn(txn)) => txn.run(),
        Some(Verb::Stats(stats)) => stats.run(),
        Some(Verb::Top(top)) => top.run(),
        Some(Verb::Bench(bench)) => bench.run(),
        Some(Verb::Context(context)) => context.run(),
        Some(Verb::Shell(shell)) => shell.run(),
        Some(Verb::Completion(completion)) => completion.run(),
        Some(Verb::Man(man)) => man.run(),
        Some(Verb::Complete(complete)) => complete.run(),
    }
}

#[expect(clippy::print_stderr, reason = "diagnostics go to standard error")]
fn complain(failure: &Failure) {
    eprintln!("kvasir: {failure}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the help of a verb and those below it lacks.
    fn lacks(command: &clap::Command, path: &str) -> Vec<String> {
        let about = command.get_about().map(ToString::to_string);
        let help = command.get_after_help().or(command.get_after_long_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let examples = help
            .lines()
            .filter(|line| line.starts_with("  ") && line.contains("kvasir "));
        let mut lacks = Vec::new();
        for (what, is_there) in [
            ("a purpose", about.is_some_and(|about| !about.is_empty())),
            (
                "examples",
                help.contains("Examples:") && examples.count() >= 2,
            ),
            ("exit codes", help.contains("Exit codes:")),
        ] {
            if !is_there {
                lacks.push(format!("{path} lacks {what}"));
            }
        }
        for verb in command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
        {
            lacks.extend(self::lacks(verb, &format!("{path} {}", verb.get_name())));
        }
        lacks
    }

    #[test]
    fn every_verb_tells_its_purpose_two_examples_and_its_exit_codes() {
        let command = command();
        let verbs = command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help");
        let lacks: Vec<String> = verbs
            .flat_map(|verb| lacks(verb, verb.get_name()))
            .collect();
        assert!(lacks.is_empty(), "{lacks:#?}");
    }

    #[test]
    fn every_setting_has_a_flag_on_the_verbs_that_take_settings() {
        let paths: Vec<String> = crate::config::Config::settings()
            .iter()
            .map(|setting| setting.path.replace('*', "second"))
            .collect();
        let args: Vec<OsString> = paths
            .iter()
            .map(|path| format!("--{path}").into())
            .collect();
        let command = command_for(&args);
        let config = command.find_subcommand("config").unwrap();
        for verb in [
            command.find_subcommand("serve").unwrap(),
            config.find_subcommand("show").unwrap(),
            config.find_subcommand("check").unwrap(),
        ] {
            for path in &paths {
                let has_flag = verb.get_arguments().any(|arg| arg.get_long() == Some(path));
                assert!(has_flag, "{} has no --{path}", verb.get_name());
            }
        }
        // What is no setting stays an unknown flag.
        for typed in ["--mount.a.nothing", "--mount", "--mount.a.b.path"] {
            assert_eq!(settings::named_flags(&[typed.into()]), Vec::<String>::new());
        }
        assert_eq!(
            settings::named_flags(&["--mount.a.path=/x".into()]),
            ["mount.a.path"]
        );
    }

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        command().debug_assert();
    }
}
