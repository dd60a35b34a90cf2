//! The figures of a run: printed as a table, written as JSON.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::load::Done;

/// One comparison.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Requests per second of ours, median of the rounds.
    pub(crate) ours_per_second: f64,
    /// The same of what it is compared with.
    pub(crate) theirs_per_second: f64,
    /// Median of the rounds' ratios, ours by theirs.
    pub(crate) ratio: f64,
    /// What the ratio is meant to reach, if something is promised.
    pub(crate) goal: Option<f64>,
    /// Median and slowest hundredth of ours, in microseconds.
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
}

/// A figure that is no ratio.
#[derive(Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<f64>,
}

/// All figures of a run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) figures: Vec<Figure>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Report {
    /// Adds a comparison from rounds of (ours, theirs) that ran one after the other.
    pub(crate) fn compare(&mut self, name: &str, goal: Option<f64>, rounds: &[(Done, Done)]) {
        let of = |pick: &dyn Fn(&(Done, Done)) -> f64| median(rounds.iter().map(pick).collect());
        let row = Row {
            name: name.to_owned(),
            ours_per_second: of(&|round| round.0.per_second),
            theirs_per_second: of(&|round| round.1.per_second),
            ratio: of(&|round| round.0.per_second / round.1.per_second),
            goal,
            p50_micros: of(&|round| round.0.p50_micros as f64) as u64,
            p99_micros: of(&|round| round.0.p99_micros as f64) as u64,
        };
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// Adds a figure that is no ratio.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str, goal: Option<f64>) {
        let goal_text = goal.map_or(String::new(), |goal| format!("  (at most {goal:.2})"));
        println!("{name:<58} {value:>10.2} {unit}{goal_text}");
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            goal,
        });
    }

    /// Writes the report.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        println!("written to {}", path.display());
        Ok(())
    }
}

impl Row {
    fn line(&self) -> String {
        let verdict = match self.goal {
            None => String::new(),
            Some(goal) if self.ratio >= goal => format!("  (goal {goal}, reached)"),
            Some(goal) => format!("  (goal {goal}, MISSED)"),
        };
        format!(
            "{:<58} {:>9.0}/s  against {:>9.0}/s  ratio {:>5.2}{verdict}",
            self.name, self.ours_per_second, self.theirs_per_second, self.ratio
        )
    }
}
