//! OBS-3: every query of the dashboard and every rule gives an answer once what it tells of has happened.
//!
//! A query is taken apart into its selectors. Each must find series on a running server, with the
//! labels that it selects by, sums by and shows; what it takes the rate of must have risen, and what it
//! shows as it is must be a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use serde_json::{Value as Json, json};

use crate::{options, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/monitoring");

/// Labels that whoever scrapes adds, or that are the edges of a histogram.
const NOT_OURS: [&str; 3] = ["instance", "job", "le"];

/// What a rule waits for and a healthy server does not do: that there is such a series is all that can
/// be seen.
const NEVER: [&str; 7] = [
    "kvasir_store_no_space_total",
    "kvasir_store_corrupt_records_total",
    "kvasir_store_outcome_unknown_total",
    "kvasir_store_follower_overflows_total",
    "kvasir_config_reloads_total",
    "kvasir_http_requests_total",
    "kvasir_http_rejected_total",
];

/// One series of a scrape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

/// `name{label="value",…}`, as metrics and queries write it; matchers keep their operator in front.
fn series(text: &str) -> Series {
    let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
    let mut labels = BTreeMap::new();
    for pair in rest.trim_end_matches('}').split("\",") {
        let pair = pair.trim_end_matches('"');
        if let Some((label, value)) = pair.split_once('=') {
            let value = value.trim_start_matches(['~', '"']);
            labels.insert(label.to_owned(), value.to_owned());
        }
    }
    let name = name.to_owned();
    Series { name, labels }
}

async fn scrape(server: &TestServer) -> BTreeMap<Series, f64> {
    let answer = http_client().get(server.url("/metrics")).send().await;
    let text = answer.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (series(name), value.parse().unwrap())
        })
        .collect()
}

/// What a query asks of one metric.
#[derive(Debug)]
struct Asked {
    selector: Series,
    /// Whether it takes the rate or the increase.
    is_rate: bool,
}

/// The selectors of a query, and the labels that it sums by.
fn take_apart(query: &str) -> (Vec<Asked>, BTreeSet<String>) {
    let mut asked = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("kvasir_") {
        let before = &rest[..at];
        let is_rate = before.ends_with("rate(") || before.ends_with("increase(");
        let behind = &rest[at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut end = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
        if behind[end..].starts_with('{') {
            end += behind[end..].find('}').unwrap() + 1;
        }
        asked.push(Asked {
            selector: series(&behind[..end]),
            is_rate,
        });
        rest = &behind[end..];
    }
    let by = query.split("by (").skip(1);
    let by = by.flat_map(|part| part.split(')').next().unwrap().split(','));
    let by = by.map(|label| label.trim().to_owned()).collect();
    (asked, by)
}

/// What is wrong with a query, if something is: one of the dashboard with the labels that it shows, or
/// one of a rule, which shows none.
fn check(
    query: &str,
    shown: Option<&[String]>,
    before: &BTreeMap<Series, f64>,
    after: &BTreeMap<Series, f64>,
) -> Option<String> {
    let (asked, by) = take_apart(query);
    if asked.is_empty() {
        return Some(format!("{query} asks for nothing of ours"));
    }
    for Asked { selector, is_rate } in &asked {
        let is_ours = |label: &&String| !NOT_OURS.contains(&label.as_str());
        let is_never = shown.is_none() && NEVER.contains(&selector.name.as_str());
        let shown = shown.unwrap_or_default();
        let labels: Vec<_> = selector.labels.keys().chain(&by).chain(shown).collect();
        let found: Vec<_> = after
            .iter()
            .filter(|(series, _)| {
                series.name == selector.name
                    && labels
                        .iter()
                        .filter(|label| is_ours(label))
                        .all(|label| series.labels.contains_key(*label))
            })
            .filter(|(series, _)| {
                let mut exact = selector.labels.iter().filter(|(label, _)| is_ours(label));
                exact.all(|(label, value)| {
                    is_never || value.split('|').any(|one| series.labels[label] == one)
                })
            })
            .collect();
        if found.is_empty() {
            return Some(format!(
                "{query}: no series fits {selector:?} with {labels:?}"
            ));
        }
        let has_happened = |(series, now): &(&Series, &f64)| match is_rate {
            true => **now > before.get(*series).copied().unwrap_or(0.0),
            false => !now.is_nan(),
        };
        if !is_never && !found.iter().any(has_happened) {
            return Some(format!("{query}: {} has not moved", selector.name));
        }
    }
    None
}

/// The texts of all members of this name, wherever they are.
fn members(json: &Json, name: &str, found: &mut Vec<Json>) {
    match json {
        Json::Array(list) => list.iter().for_each(|one| members(one, name, found)),
        Json::Object(object) => {
            if object.contains_key(name) {
                found.push(json.clone());
            }
            object.values().for_each(|one| members(one, name, found));
        }
        _ => {}
    }
}

/// Lets everything happen of which dashboard and rules tell.
async fn live(server: &TestServer) {
    let client = http_client();
    let data = server.data().to_string_lossy().into_owned();
    let verb = async |args: &[&str]| run(&[args, &["--data", &data]].concat(), &[]).await.0;
    let put = async |key: &str, body: Json| {
        let put = client.put(server.url(&format!("/kv/{key}"))).json(&body);
        put.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("a", json!({"value": 1})).await, 200);
    assert_eq!(put("gone", json!({"value": 1, "ttl": 500})).await, 200);
    for path in ["/kv/a", "/kv/a", "/kv/b", "/nowhere"] {
        client.get(server.url(path)).send().await.unwrap();
    }
    assert_eq!(put("a", json!({"value": "x".repeat(2_000)})).await, 413);
    let foreign = client
        .get(server.url("/kv/a"))
        .header("host", "example.com");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let check = json!({"checks": [{"key": ["a"], "versionstamp": null}],
        "mutations": [{"type": "set", "key": ["a"], "value": 1}]});
    let conflict = client.post(server.url("/kv/_atomic")).json(&check);
    assert_eq!(conflict.send().await.unwrap().status(), 409);
    let watch = client.get(server.url("/kv/a?watch=true"));
    let mut watch = watch.send().await.unwrap();
    watch.chunk().await.unwrap();
    put("a", json!({"value": 2})).await;
    watch.chunk().await.unwrap();
    assert_eq!(verb(&["backup", "create"]).await, 0);
    assert_eq!(verb(&["restore-drill"]).await, 0);
    let folder = server.data().join("backups");
    let backup = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(backup.path()).unwrap();
    std::fs::write(backup.path(), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(verb(&["backup", "verify"]).await, 8);
    // From now on one is needed, and this is none.
    assert_eq!(verb(&["token", "create"]).await, 0);
    let wrong = client.get(server.url("/kv/a")).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    eventually(DEADLINE, "what expired is swept", || async {
        let swept = "kvasir_store_expired_swept_total";
        let now = scrape(server).await;
        let mut swept = now.iter().filter(|(series, _)| series.name == swept);
        swept.any(|(_, value)| *value > 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_and_of_the_rules_has_an_answer_when_it_happened() {
    let server = options()
        .set("limits.value_bytes", "1000")
        .set("slowlog.read", "1us")
        .set("slowlog.write", "1us")
        .start()
        .await;
    let before = scrape(&server).await;
    live(&server).await;
    // Figures of the process and of sizes are looked up every so often.
    let problems = || async {
        let after = scrape(&server).await;
        let mut problems = Vec::new();
        let dashboard = std::fs::read_to_string(format!("{FOLDER}/grafana-dashboard.json"));
        let dashboard: Json = serde_json::from_str(&dashboard.unwrap()).unwrap();
        let mut targets = Vec::new();
        members(&dashboard["panels"], "expr", &mut targets);
        assert!(targets.len() >= 30, "{} queries", targets.len());
        for target in &targets {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let shown = legend.split("{{").skip(1);
            let shown = shown.map(|part| part.split("}}").next().unwrap().trim().to_owned());
            let shown: Vec<_> = shown.collect();
            let query = target["expr"].as_str().unwrap();
            problems.extend(check(query, Some(&shown), &before, &after));
        }
        let rules = std::fs::read_to_string(format!("{FOLDER}/alerts.yml")).unwrap();
        let rules: Vec<_> = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("expr: "))
            .collect();
        assert!(rules.len() >= 15, "{} rules", rules.len());
        for rule in rules {
            problems.extend(check(rule, None, &before, &after));
        }
        problems
    };
    let mut last = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while tokio::time::Instant::now() < until {
        last = problems().await;
        if last.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{last:#?}");
}
