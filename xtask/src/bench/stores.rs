//! `--store`: the same rows for several backends, side by side.

use std::sync::Arc;

use anyhow::{Context, Result};
use kvasir_testkit::databases::{Kind, Private};

use super::load::Call;
use super::process::Process;
use super::{Bench, VALUE_BYTES, load_http1, rest_put};

/// What SQLite's durable writes at 64 connections are to reach of the embedded engine's.
const SQLITE_GOAL: f64 = 0.4;

/// How many times their own rate at one connection database servers are to reach at 64.
const GROUP_GOAL: f64 = 8.0;

/// A server on one kind of store.
struct Candidate {
    name: String,
    server: Process,
    /// The database server behind it; ends with it.
    _database: Option<Private>,
}

impl Bench {
    /// All rows, one store after the other in every round.
    pub(super) async fn stores(&mut self) -> Result<()> {
        let mut candidates = vec![self.candidate("embedded")?.context("always there")?];
        for name in self.args.store.clone() {
            if name != "embedded"
                && let Some(candidate) = self.candidate(&name)?
            {
                candidates.push(candidate);
            }
        }
        let put = rest_put();
        let put_path = put(7).path;
        let get = Call::get(put_path).repeated();
        for candidate in &candidates {
            let warm_up = std::time::Duration::from_millis(500);
            // One connection writes the keys in turn, so the one that is read is among them.
            load_http1(candidate.server.addr, 1, warm_up, &put).await?;
            let first = Arc::clone(&put);
            let seventh: super::MakeCall = Arc::new(move |_| first(7));
            load_http1(candidate.server.addr, 1, warm_up / 5, &seventh).await?;
        }
        for (what, make) in [("durable PUT", put), ("GET", get)] {
            let mut alone = Vec::new();
            for connections in [1, 8, 64] {
                // By candidate, then by round.
                let mut figures = vec![Vec::new(); candidates.len()];
                for _ in 0..self.args.rounds {
                    for (place, candidate) in candidates.iter().enumerate() {
                        let addr = candidate.server.addr;
                        figures[place]
                            .push(load_http1(addr, connections, self.time(), &make).await?);
                    }
                }
                for (place, candidate) in candidates.iter().enumerate() {
                    let name = &candidate.name;
                    let rounds = |base: &[super::Done]| -> Vec<_> {
                        figures[place]
                            .iter()
                            .copied()
                            .zip(base.iter().copied())
                            .collect()
                    };
                    if place > 0 {
                        let is_goal =
                            what == "durable PUT" && connections == 64 && name == "sqlite";
                        let row =
                            format!("{what}, {connections} connections, {name} against embedded");
                        let goal = is_goal.then_some(SQLITE_GOAL);
                        self.report.compare(&row, goal, &rounds(&figures[0]));
                    }
                    if connections == 1 {
                        alone.push(figures[place].clone());
                    } else if what == "durable PUT" && connections == 64 {
                        let row = format!("{what}, 64 connections, {name} against itself at 1");
                        let goal = candidate._database.is_some().then_some(GROUP_GOAL);
                        self.report.compare(&row, goal, &rounds(&alone[place]));
                    }
                }
            }
        }
        println!("values of {VALUE_BYTES} bytes; every write durable before its answer");
        Ok(())
    }

    /// Starts a server on a fresh store; `None` if its database is not installed.
    fn candidate(&self, name: &str) -> Result<Option<Candidate>> {
        let data = self.data(&format!("store-{name}"));
        let file = format!("sqlite:{}", self.data("store.sqlite3").display());
        let database = match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            None => None,
            Some(kind) => {
                let Some(database) = Private::start(kind)? else {
                    println!("skipped: {name} is not installed");
                    return Ok(None);
                };
                println!("{name} is {}", database.version()?);
                Some(database)
            }
        };
        let url = match (&database, name) {
            (Some(database), _) => Some(database.url()),
            (None, "sqlite") => Some(file.as_str()),
            (None, "embedded") => None,
            (None, _) => anyhow::bail!("no store is called {name}"),
        };
        let more: Vec<&str> = url.into_iter().flat_map(|url| ["--store", url]).collect();
        let server = self.kvasir(&data, &more)?;
        Ok(Some(Candidate {
            name: name.to_owned(),
            server,
            _database: database,
        }))
    }
}
