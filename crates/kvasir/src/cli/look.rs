//! `stats` and `top`: what a server is doing, by its own figures.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::client::{Client, block_on};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Show what a server has counted and measured.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir stats
  kvasir stats store_ -o jsonl

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Stats {
    /// Only figures with this in their name [default: all but histograms' buckets]
    name: Option<String>,
    #[command(flatten)]
    frame: Frame,
}

/// Show what a server does per second, again and again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir top --count 1
  kvasir top --every 500ms --count 2 -o jsonl

Exit codes: 0 --count was reached, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Top {
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "2s")]
    every: Duration,
    /// End after so many rows
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    frame: Frame,
}

/// Figures by name with labels.
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Those of a server now.
    pub(super) async fn of(client: &Client) -> Result<Figures, Failure> {
        let request = client.request(Method::GET, "/_/api/v1/figures");
        let text = client.send(request).await?.text().await;
        let text = text.map_err(|error| client.unreachable(error))?;
        Ok(Figures::parse(&text))
    }

    fn parse(text: &str) -> Figures {
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        Figures(
            rows.filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                let name = name.strip_prefix("kvasir_").unwrap_or(name);
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect(),
        )
    }

    /// The sum of all series of a name.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let of_name = self.0.iter().filter(|(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        of_name.map(|(_, value)| value).sum()
    }

    /// The mean of a histogram between two looks.
    pub(super) fn mean_since(&self, before: &Figures, name: &str) -> f64 {
        let part = |part: &str| {
            let name = format!("{name}_{part}");
            self.sum(&name) - before.sum(&name)
        };
        let count = part("count");
        if count > 0.0 {
            part("sum") / count
        } else {
            0.0
        }
    }
}

impl Stats {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.target.client()?;
            let figures = Figures::of(&client).await?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&["figure", "value"])?;
            for (name, value) in &figures.0 {
                let is_wanted = match &self.name {
                    Some(part) => name.contains(part),
                    None => !name.contains("_bucket{"),
                };
                if is_wanted {
                    let json = json!({"figure": name, "value": value});
                    printer.row(&json, &[name.clone(), value.to_string()])?;
                }
            }
            printer.end()
        })
    }
}

impl Top {
    pub(super) fn run(self) -> Result<(), Failure> {
        const COLUMNS: [&str; 9] = [
            "requests/s",
            "errors/s",
            "commits/s",
            "group",
            "sync ms",
            "queue",
            "connections",
            "cpu %",
            "memory MiB",
        ];
        block_on(async {
            let client = self.frame.target.client()?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&COLUMNS)?;
            let mut before = Figures::of(&client).await?;
            let mut left = self.count.unwrap_or(u64::MAX);
            while left > 0 {
                let began = tokio::time::Instant::now();
                tokio::time::sleep(self.every).await;
                let now = Figures::of(&client).await?;
                let seconds = began.elapsed().as_secs_f64();
                let rate = |name: &str| (now.sum(name) - before.sum(name)) / seconds;
                let errors: f64 = now
                    .0
                    .iter()
                    .filter(|(name, _)| {
                        name.starts_with("http_requests_total") && name.contains("status=\"5xx\"")
                    })
                    .map(|(name, value)| value - before.0.get(name).unwrap_or(&0.0))
                    .sum();
                let values = [
                    rate("http_requests_total"),
                    errors / seconds,
                    rate("store_commits_total"),
                    now.mean_since(&before, "store_group_writes"),
                    now.mean_since(&before, "store_sync_seconds") * 1e3,
                    now.sum("store_queue_writes"),
                    now.sum("http_connections"),
                    rate("process_cpu_seconds_total") * 100.0,
                    now.sum("process_resident_memory_bytes") / f64::from(1 << 20),
                ];
                let rounded = values.map(|value| (value * 10.0).round() / 10.0);
                let members = COLUMNS.into_iter().zip(rounded);
                let json: BTreeMap<_, _> = members.collect();
                let cells = rounded.map(|value| value.to_string());
                printer.row(&json!(json), &cells)?;
                printer.flush()?;
                before = now;
                left -= 1;
            }
            printer.end()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_text_form() {
        let text = "# TYPE kvasir_a counter\nkvasir_a_total{x=\"1\"} 2\nkvasir_a_total{x=\"2\"} 3\nkvasir_b 1.5\n";
        let figures = Figures::parse(text);
        assert_eq!(figures.sum("a_total"), 5.0);
        assert_eq!(figures.sum("b"), 1.5);
        assert_eq!(figures.sum("a"), 0.0);
    }
}
