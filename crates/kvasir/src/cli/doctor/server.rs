//! What only the server knows: tokens and backups.

use kvasir_kv::UnixMillis;
use reqwest::Method;
use serde_json::Value as Json;

use super::super::admin::Administration;
use super::super::client::Target;
use super::finding::{Finding, State};
use crate::exit::{Exit, Failure};

/// From this age on a token should be replaced, in days.
const TOKEN_DAYS_MAX: i64 = 365;
/// From this age on a backup is too old, in days.
const BACKUP_DAYS_MAX: i64 = 7;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Asks the server, or the data folder if none runs.
pub(super) async fn ask(target: &Target, now: UnixMillis) -> Vec<Finding> {
    let unknown = |error: Failure| {
        let remedy = "start the server, or name it with --server and a token for it";
        let what = format!("cannot be asked: {error}");
        vec![
            Finding::of("token age", State::Unknown, what.clone(), remedy),
            Finding::of("backup age", State::Unknown, what, remedy),
        ]
    };
    let server = match Administration::reach(target).await {
        Ok(server) => server,
        Err(error) => return unknown(error),
    };
    let tokens = server.call(Method::GET, "/tokens", None).await;
    let backups = server.call(Method::GET, "/backups", None).await;
    let left = server.leave().await;
    match (tokens, left) {
        (Ok(tokens), Ok(())) => vec![judge_tokens(&tokens, now), judge_backups(backups, now)],
        (Err(error), _) | (_, Err(error)) => unknown(error),
    }
}

/// Days since a moment that an answer names.
fn days_since(moment: &Json, now: UnixMillis) -> Option<i64> {
    let moment: jiff::Timestamp = moment.as_str()?.parse().ok()?;
    Some((now.0 - moment.as_millisecond()).div_euclid(DAY_MS))
}

fn judge_tokens(answer: &Json, now: UnixMillis) -> Finding {
    const CHECK: &str = "token age";
    let tokens: Vec<&Json> = answer["tokens"].as_array().into_iter().flatten().collect();
    let is_old = |token: &&&Json| {
        let days = days_since(&token["createdAt"], now);
        days.is_some_and(|days| days >= TOKEN_DAYS_MAX)
    };
    let old: Vec<&str> = tokens
        .iter()
        .filter(is_old)
        .map(|token| {
            token["name"]
                .as_str()
                .or(token["id"].as_str())
                .unwrap_or("?")
        })
        .collect();
    if old.is_empty() {
        let what = format!(
            "none of {} is older than {TOKEN_DAYS_MAX} days",
            tokens.len()
        );
        return Finding::good(CHECK, what);
    }
    Finding::of(
        CHECK,
        State::Warning,
        format!("older than {TOKEN_DAYS_MAX} days: {}", old.join(", ")),
        "`kvasir token create` a new one, give it to its users, `kvasir token revoke` the old one",
    )
}

fn judge_backups(answer: Result<Json, Failure>, now: UnixMillis) -> Finding {
    const CHECK: &str = "backup age";
    let never = |what: &str| {
        let remedy = "take one with `kvasir backup create`, and have more taken with `kvasir backup schedule`";
        Finding::of(CHECK, State::Warning, what, remedy)
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.exit == Exit::NotFound => return never("no backup is known"),
        Err(error) => {
            let remedy = "look into the server's log";
            return Finding::of(CHECK, State::Unknown, error.to_string(), remedy);
        }
    };
    let backups = answer["backups"].as_array().into_iter().flatten();
    match backups
        .filter_map(|backup| days_since(&backup["createdAt"], now))
        .min()
    {
        None => never("no backup is known"),
        Some(days) if days < BACKUP_DAYS_MAX => {
            Finding::good(CHECK, format!("the last one is {days} days old"))
        }
        Some(days) => never(&format!("the last one is {days} days old")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> UnixMillis {
        let now: jiff::Timestamp = "2026-12-31T00:00:00Z".parse().unwrap();
        UnixMillis(now.as_millisecond())
    }

    #[test]
    fn tokens_of_a_year_are_named() {
        let tokens = |created: &str| json!({"tokens": [{"name": "ci", "createdAt": created}]});
        let judged = judge_tokens(&tokens("2025-12-31T00:00:00Z"), now());
        assert_eq!(judged.state, State::Warning);
        assert!(judged.what.ends_with("ci"), "{}", judged.what);
        assert!(judged.remedy.unwrap().contains("`kvasir token revoke`"));
        let judged = judge_tokens(&tokens("2026-01-01T00:00:00Z"), now());
        assert_eq!(judged.state, State::Good);
    }

    #[test]
    fn the_newest_backup_counts() {
        let backups = |times: &[&str]| {
            let backups: Vec<Json> = times.iter().map(|at| json!({"createdAt": at})).collect();
            judge_backups(Ok(json!({"backups": backups})), now()).state
        };
        assert_eq!(
            backups(&["2026-01-01T00:00:00Z", "2026-12-25T00:00:00Z"]),
            State::Good
        );
        assert_eq!(backups(&["2026-12-24T00:00:00Z"]), State::Warning);
        assert_eq!(backups(&[]), State::Warning);
        let missing = Err(Failure::new(Exit::NotFound, "no such route"));
        let judged = judge_backups(missing, now());
        assert_eq!(judged.state, State::Warning);
        assert!(judged.remedy.unwrap().contains("`kvasir backup create`"));
    }
}
