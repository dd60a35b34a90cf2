//! `/metrics`: what was measured lately, as numbers over time.
//!
//! The binary samples its own metrics into a [`Series`]; here they are shown. Prometheus keeps
//! history, this is for looking at a server that nobody scrapes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::{Extension, Router};
use kvasir_kv::UnixMillis;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::query::Query;

use super::{Administrator, ok};

/// Time between two samples, in milliseconds.
pub const EVERY_MS: i64 = 5_000;

/// Samples that are kept: half an hour.
pub const SAMPLES_MAX: usize = 360;

/// Metrics that are kept, each with its labels. What comes beyond is left out.
pub const NAMES_MAX: usize = 1_024;

/// A bounded history of all metrics of this process: at most 3 MiB.
#[derive(Debug, Default)]
pub struct Series(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Name with labels to its place in the samples.
    places: HashMap<String, usize>,
    names: Vec<String>,
    samples: VecDeque<(UnixMillis, Vec<f64>)>,
}

impl Series {
    /// Takes a sample from metrics in Prometheus' text form.
    pub fn take(&self, at: UnixMillis, text: &str) {
        let mut held = self.0.lock().expect("no panic while held");
        let mut values = vec![f64::NAN; held.names.len()];
        for line in text.lines() {
            let Some((name, value)) = read_line(line) else {
                continue;
            };
            match held.places.get(name) {
                Some(place) => values[*place] = value,
                None if held.names.len() < NAMES_MAX => {
                    let place = held.names.len();
                    held.places.insert(name.to_owned(), place);
                    held.names.push(name.to_owned());
                    values.push(value);
                }
                None => {}
            }
        }
        held.samples.push_back((at, values));
        if held.samples.len() > SAMPLES_MAX {
            held.samples.pop_front();
        }
    }

    fn shown(&self, wanted: &[&str], since: UnixMillis) -> SeriesInfo {
        let held = self.0.lock().expect("no panic while held");
        let is_wanted = |name: &str| {
            let base = name.split('{').next().unwrap_or_default();
            wanted.is_empty() || wanted.contains(&base)
        };
        let samples: Vec<_> = held.samples.iter().filter(|s| s.0 > since).collect();
        let named = held.names.iter().enumerate().filter(|(_, n)| is_wanted(n));
        SeriesInfo {
            every_ms: EVERY_MS,
            at: samples.iter().map(|sample| sample.0.0).collect(),
            series: named
                .map(|(place, name)| OneSeries {
                    name: name.clone(),
                    values: samples
                        .iter()
                        .map(|sample| sample.1.get(place).copied().filter(|v| v.is_finite()))
                        .collect(),
                })
                .collect(),
        }
    }
}

/// `name{labels} value`; comments are none, and what follows the value is not looked at.
fn read_line(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = match line.find('}') {
        Some(at) => at + 1,
        None => line.find(' ')?,
    };
    let (name, rest) = line.split_at(end);
    let value = rest.split_ascii_whitespace().next()?;
    Some((name, value.parse().ok()?))
}

/// Numbers over time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeriesInfo {
    /// Time between two samples.
    every_ms: i64,
    /// When the samples were taken, in milliseconds since 1970.
    at: Vec<i64>,
    series: Vec<OneSeries>,
}

/// One metric.
#[derive(Serialize, ToSchema)]
pub struct OneSeries {
    /// As Prometheus writes it, labels included.
    name: String,
    /// One for each sample; `null` where there was none.
    values: Vec<Option<f64>>,
}

/// The route of this noun.
pub(super) fn routes(series: Option<Arc<Series>>) -> Router<Ctx> {
    Router::new().route(
        "/metrics",
        axum::routing::get(self::series).layer(Extension(series)),
    )
}

/// `GET /_/api/v1/metrics`: the last half hour.
#[utoipa::path(
    get, path = "/_/api/v1/metrics", tag = "admin",
    params(
        ("names" = Option<String>, Query, description = "names without labels, separated by commas; all if left out"),
        ("since" = Option<i64>, Query, description = "only samples after this, in milliseconds since 1970"),
    ),
    responses(
        (status = 200, description = "numbers over time", body = SeriesInfo),
        (status = 404, description = "metrics are switched off", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn series(
    State(_ctx): State<Ctx>,
    _administrator: Administrator,
    Extension(series): Extension<Option<Arc<Series>>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let series = series.ok_or_else(|| ApiError::not_found("metrics are switched off"))?;
    let names = query.text("names")?.unwrap_or_default();
    let names: Vec<_> = names.split(',').filter(|name| !name.is_empty()).collect();
    let since = query.parsed("since", "a time in milliseconds")?;
    Ok(ok(series.shown(&names, UnixMillis(since.unwrap_or(0)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_by_name_and_bounded() {
        let series = Series::default();
        for at in 0..SAMPLES_MAX as i64 + 5 {
            let text = format!("# HELP a A\na_total{{x=\"1 2\"}} {at}\nb 0.5 # comment\n");
            series.take(UnixMillis(at), &text);
        }
        let shown = series.shown(&["a_total"], UnixMillis(0));
        assert_eq!(shown.at.len(), SAMPLES_MAX);
        assert_eq!(shown.series.len(), 1);
        assert_eq!(shown.series[0].name, "a_total{x=\"1 2\"}");
        assert_eq!(shown.series[0].values.last(), Some(&Some(364.0)));
        assert_eq!(series.shown(&[], UnixMillis(363)).series.len(), 2);
        assert_eq!(series.shown(&[], UnixMillis(363)).at, [364]);
    }

    #[test]
    fn names_beyond_the_limit_are_left_out() {
        let series = Series::default();
        let text: String = (0..=NAMES_MAX).map(|i| format!("m{i} 1\n")).collect();
        series.take(UnixMillis(1), &text);
        assert_eq!(series.shown(&[], UnixMillis(0)).series.len(), NAMES_MAX);
    }
}
