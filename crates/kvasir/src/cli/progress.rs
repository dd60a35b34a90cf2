//! How far long work is: a bar on a terminal, nothing in a pipe, lines of JSON on request.
//!
//! All of it goes to standard error, so an answer on standard output stays what it is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends within this shows no bar; CLI-7 of the operator's contract.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// Longest silence between two lines of JSON.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// `--progress`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ProgressForm {
    /// How to show progress: a bar on a terminal and nothing otherwise, one line of JSON a second,
    /// or nothing
    #[arg(long, value_enum, value_name = "FORM", default_value = "auto")]
    progress: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// A bar on a terminal, nothing otherwise.
    Auto,
    /// One line of JSON a second.
    Json,
    /// Nothing.
    Never,
}

impl ProgressForm {
    /// Nothing is shown.
    pub(crate) fn never() -> ProgressForm {
        ProgressForm {
            progress: Shown::Never,
        }
    }
}

/// Progress of one piece of work.
pub(crate) struct Progress {
    unit: &'static str,
    done: u64,
    total: Option<u64>,
    shape: Shape,
}

enum Shape {
    /// With the moment of the beginning; not drawn yet for so long.
    Bar(ProgressBar, Instant),
    /// With the moment of the last line.
    Lines(Option<Instant>),
    Nothing,
}

impl Progress {
    /// Begins at `done` of `total` things that are called `unit`; without a total there is no end in
    /// sight.
    pub(crate) fn begin(
        form: ProgressForm,
        unit: &'static str,
        done: u64,
        total: impl Into<Option<u64>>,
    ) -> Progress {
        let total = total.into();
        let shape = match form.progress {
            Shown::Json => Shape::Lines(None),
            Shown::Auto if std::io::stderr().is_terminal() => {
                let hidden = ProgressDrawTarget::hidden();
                let bar = ProgressBar::with_draw_target(total, hidden);
                let bar = bar.with_style(style(unit, total.is_some()));
                bar.set_position(done);
                Shape::Bar(bar, Instant::now())
            }
            Shown::Auto | Shown::Never => Shape::Nothing,
        };
        let mut progress = Progress {
            unit,
            done,
            total,
            shape,
        };
        progress.show(false);
        progress
    }

    /// So many are done now.
    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        self.show(false);
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, more: u64) {
        self.set(self.done.saturating_add(more));
    }

    /// Shows the last state, whether or not it is the end. A bar gives its place to the answer.
    pub(crate) fn end(mut self) {
        self.show(true);
        if let Shape::Bar(bar, _) = &self.shape {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, is_last: bool) {
        let (done, total) = (self.done, self.total);
        match &mut self.shape {
            Shape::Nothing => {}
            Shape::Bar(bar, began) => {
                if bar.is_hidden() && began.elapsed() >= BAR_AFTER {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_position(done);
            }
            Shape::Lines(last) => {
                let now = Instant::now();
                let is_due = last.is_none_or(|last| now - last >= LINE_EVERY);
                if is_due || is_last {
                    *last = Some(now);
                    let line = serde_json::json!({"done": done, "total": total, "unit": self.unit});
                    // Nobody reading is no reason to stop working.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }
}

fn style(unit: &str, has_end: bool) -> ProgressStyle {
    let template = match has_end {
        true => format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left"),
        false => format!("{{spinner}} {{pos}} {unit}, {{per_sec}}, {{elapsed}}"),
    };
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
