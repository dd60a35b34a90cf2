//! `kvasir bench`: how fast this server on this machine is, by this command over HTTP.
//!
//! The load comes from this process, which takes a part of the machine. Every figure stands beside
//! the durability mode and the size of the groups that shared a sync, because it means nothing
//! without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{Client, block_on};
use super::frame::Frame;
use super::look::Figures;
use super::output::Printer;
use super::progress::{Progress, ProgressForm};
use crate::exit::Failure;

/// Measure writes and reads of a server over HTTP, with small values below the key kvasir-bench.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir bench --time 1s
  kvasir bench --time 1s --clients 4 -o jsonl

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Bench {
    /// How long each figure is measured
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5s")]
    time: Duration,
    /// Requests at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Bytes of a value
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    bytes: u32,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: Frame,
}

/// Different keys that are written and read.
const KEYS: u64 = 10_000;

#[derive(Clone, Copy)]
enum Work {
    Write,
    Read,
}

/// How often the progress of a measurement is told.
const TOLD_EVERY: Duration = Duration::from_millis(250);

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = Arc::new(self.frame.target.client()?);
            let health = client
                .send(client.request(Method::GET, "/_/api/v1/health"))
                .await?;
            let health = health
                .bytes()
                .await
                .map_err(|error| client.unreachable(error))?;
            let health: Json = serde_json::from_slice(&health)?;
            let durability = match health["store"]["durable"].as_bool() {
                Some(true) => "strict: every answer after its sync",
                _ => "none: the store is not durable",
            };
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&[
                "work",
                "per second",
                "p50 ms",
                "p99 ms",
                "durability",
                "group",
            ])?;
            let looks = u64::try_from(self.time.as_millis() * 2).unwrap_or(u64::MAX);
            let mut progress = Progress::begin(self.progress, "ms", 0, looks);
            for (done, work) in [(1, Work::Write), (2, Work::Read)] {
                let before = Figures::of(&client).await?;
                let began = Instant::now();
                let mut measured = std::pin::pin!(self.measure(&client, work));
                let mut took = loop {
                    tokio::select! {
                        took = &mut measured => break took?,
                        () = tokio::time::sleep(TOLD_EVERY) => {
                            let now = u64::try_from(began.elapsed().as_millis());
                            progress.set(looks / 2 * (done - 1) + now.unwrap_or(u64::MAX));
                        }
                    }
                };
                let seconds = began.elapsed().as_secs_f64();
                let after = Figures::of(&client).await?;
                progress.set(looks / 2 * done);
                took.sort_unstable();
                let at = |share: f64| {
                    let place = (took.len() as f64 * share) as usize;
                    took.get(place.min(took.len().saturating_sub(1)))
                        .map_or(0.0, |took| took.as_secs_f64() * 1e3)
                };
                let (name, group) = match work {
                    Work::Write => ("write", after.mean_since(&before, "store_group_writes")),
                    Work::Read => ("read", 0.0),
                };
                let rate = took.len() as f64 / seconds;
                let row = json!({
                    "work": name, "perSecond": rate, "p50Ms": at(0.5), "p99Ms": at(0.99),
                    "durability": durability, "groupWrites": group, "clients": self.clients,
                    "valueBytes": self.bytes,
                });
                let group = match work {
                    Work::Write => format!("{group:.1} writes"),
                    Work::Read => "no sync".to_owned(),
                };
                let cells = [
                    name.to_owned(),
                    format!("{rate:.0}"),
                    format!("{:.2}", at(0.5)),
                    format!("{:.2}", at(0.99)),
                    durability.to_owned(),
                    group,
                ];
                printer.row(&row, &cells)?;
            }
            progress.end();
            let request = client.request(Method::DELETE, "/kv/kvasir-bench?list=true");
            client.send(request).await?;
            printer.end()
        })
    }

    /// The times that requests took.
    async fn measure(&self, client: &Arc<Client>, work: Work) -> Result<Vec<Duration>, Failure> {
        let next = Arc::new(AtomicU64::new(0));
        let until = Instant::now() + self.time;
        let body = format!("{{\"value\":\"{}\"}}", "x".repeat(self.bytes as usize));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..self.clients {
            let (client, next, body) = (client.clone(), next.clone(), body.clone());
            clients.spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let path = format!(
                        "/kv/kvasir-bench.{}",
                        next.fetch_add(1, Ordering::Relaxed) % KEYS
                    );
                    let request = match work {
                        Work::Read => client.request(Method::GET, &path),
                        Work::Write => client
                            .request(Method::PUT, &path)
                            .header("content-type", "application/json")
                            .body(body.clone()),
                    };
                    let began = Instant::now();
                    match client.send(request).await {
                        Ok(answer) => {
                            answer
                                .bytes()
                                .await
                                .map_err(|error| client.unreachable(error))?;
                        }
                        // Fewer keys were written than are read in this time.
                        Err(failure) if failure.exit == crate::exit::Exit::NotFound => {}
                        Err(failure) => return Err(failure),
                    }
                    took.push(began.elapsed());
                }
                Ok(took)
            });
        }
        let mut all = Vec::new();
        while let Some(joined) = clients.join_next().await {
            all.extend(joined.map_err(anyhow::Error::new)??);
        }
        Ok(all)
    }
}
