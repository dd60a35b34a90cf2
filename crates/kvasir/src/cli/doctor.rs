//! `kvasir doctor`: what an operator would check by hand, each with a remedy.

mod finding;
mod folder;
mod machine;
mod server;

use clap::Args;
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use serde_json::json;

use self::finding::{Finding, State};
use super::client::block_on;
use super::frame::Frame;
use super::output::Printer;
use super::settings;
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// Check data folder, disk, clock, limits, certificates, tokens and backups, and say what to do.
///
/// Run it as the user that the server runs as, with the server running: what it knows is asked for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir doctor
  kvasir doctor --data /var/lib/kvasir --json

Exit codes: 0 nothing is wrong, 1 something is, 2 usage")]
pub(super) struct Doctor {
    #[command(flatten)]
    frame: Frame,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut sources = settings::sources(None, None);
        if let Some(folder) = &self.frame.target.data {
            let folder = folder.to_string_lossy().into_owned();
            let flag = ("server.data".to_owned(), "--data".to_owned(), vec![folder]);
            sources.flags.push(flag);
        }
        let (config, _) = Config::load(&sources)?;
        let data = config.server.data.clone();
        let now = SystemClock.now();
        let mut findings = folder::rights(&data);
        findings.push(folder::space(&data));
        findings.push(folder::sync(&data));
        findings.push(machine::file_limit(config.limits.connections));
        findings.push(machine::clock(&data, now));
        findings.extend(folder::certificates(&config, now));
        findings.extend(block_on(async {
            Ok(server::ask(&self.frame.target, now).await)
        })?);
        findings.push(machine::swap());
        self.print(&findings)?;
        match findings
            .iter()
            .filter(|found| found.state == State::Bad)
            .count()
        {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Failed, "one thing is wrong")),
            count => Err(Failure::new(
                Exit::Failed,
                format!("{count} things are wrong"),
            )),
        }
    }

    fn print(&self, findings: &[Finding]) -> Result<(), Failure> {
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["state", "check", "what", "remedy"])?;
        for found in findings {
            let remedy = found.remedy.clone().unwrap_or_default();
            let row = json!({
                "check": found.check, "state": found.state.name(), "what": found.what, "remedy": found.remedy,
            });
            let cells = [
                found.state.name().to_owned(),
                found.check.to_owned(),
                found.what.clone(),
                remedy,
            ];
            printer.row(&row, &cells)?;
        }
        printer.end()
    }
}
