//! Bodies about access tokens.

use std::collections::BTreeMap;

use jiff::civil::Date;
use kvasir_kv::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::{self, TOKEN_BYTES_MAX, is_name};
use super::{boolean, instant};
use crate::edgekv::error;
use crate::edgekv::tokens::{Permission, TokenKind, TokenRecord};
use crate::error::ApiError;

/// Most namespaces that one token names. The vendor's limit.
pub(in crate::edgekv) const PERMISSIONS_MAX: usize = 20;
/// Most EdgeWorker ids that one token names. The vendor's limit.
pub(in crate::edgekv) const EDGE_WORKERS_MAX: usize = 8;
/// Longest id of an EdgeWorker, in bytes. Real ones are short numbers.
const EDGE_WORKER_BYTES_MAX: usize = 32;

/// The word for all EdgeWorkers.
const ALL: &str = "all";

/// What tokens by reference say about their end.
const NEVER: &str = "9999-12-31";

/// Days between the refreshes that tokens by reference announce. Nothing hangs on it here: the
/// vendor exchanges the token behind the reference, and ours has none.
const REFRESH_MS: i64 = 90 * 24 * 3600 * 1000;

/// `POST /tokens`, unchecked.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::edgekv) struct TokenBody {
    #[schema(value_type = Option<String>)]
    name: Option<Value>,
    #[schema(value_type = Option<bool>)]
    allow_on_staging: Option<Value>,
    #[schema(value_type = Option<bool>)]
    allow_on_production: Option<Value>,
    #[schema(value_type = Option<String>)]
    expiry: Option<Value>,
    #[schema(value_type = Option<std::collections::BTreeMap<String, Vec<String>>>)]
    namespace_permissions: Option<Value>,
    #[schema(value_type = Option<Vec<String>>)]
    restrict_to_edge_worker_ids: Option<Value>,
    /// The same in the words of the vendor's command line.
    #[schema(value_type = Option<Vec<String>>)]
    restrict_to_ewids: Option<Value>,
}

/// A token as a request describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edgekv) struct TokenRequest {
    pub(in crate::edgekv) name: String,
    pub(in crate::edgekv) on_staging: bool,
    pub(in crate::edgekv) on_production: bool,
    /// The last day of a token by value; a token by reference has none.
    pub(in crate::edgekv) last_day: Option<Date>,
    pub(in crate::edgekv) permissions: BTreeMap<String, Vec<Permission>>,
    /// `None` for all.
    pub(in crate::edgekv) edge_workers: Option<Vec<String>>,
}

impl TryFrom<TokenBody> for TokenRequest {
    type Error = ApiError;

    fn try_from(body: TokenBody) -> Result<Self, ApiError> {
        let name = match body.name {
            Some(Value::String(name)) => name,
            _ => return Err(error::invalid("The name of the token must be specified.")),
        };
        check_name(&name)?;
        let on_staging = network_flag(body.allow_on_staging, "allowOnStaging")?;
        let on_production = network_flag(body.allow_on_production, "allowOnProduction")?;
        if !on_staging && !on_production {
            return Err(error::invalid(
                "The token must be allowed on staging, on production or on both.",
            ));
        }
        let edge_workers = body.restrict_to_edge_worker_ids.or(body.restrict_to_ewids);
        Ok(TokenRequest {
            name,
            on_staging,
            on_production,
            last_day: last_day(body.expiry)?,
            permissions: permissions(body.namespace_permissions)?,
            edge_workers: edge_worker_ids(edge_workers)?,
        })
    }
}

/// Checks the name of a token, in a path or a body.
pub(in crate::edgekv) fn check_name(name: &str) -> Result<(), ApiError> {
    if is_name(name, TOKEN_BYTES_MAX) {
        Ok(())
    } else {
        Err(error::invalid(
            "The name of a token must have 1 to 32 characters of A-Z a-z 0-9 _ or -.",
        ))
    }
}

fn network_flag(member: Option<Value>, name: &str) -> Result<bool, ApiError> {
    match member {
        None | Some(Value::Null) => Ok(false),
        Some(value) => {
            boolean(&value).ok_or_else(|| error::invalid(format!("{name} must be true or false.")))
        }
    }
}

fn last_day(member: Option<Value>) -> Result<Option<Date>, ApiError> {
    let refused = || error::invalid("expiry must be a date such as 2026-12-31.");
    let text = match member {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(refused()),
    };
    match text.trim() {
        "" => Ok(None),
        // A date has ten characters; what else the parser takes for one is none here.
        text if text.len() == 10 => text.parse().map(Some).map_err(|_| refused()),
        text => text
            .parse::<jiff::Timestamp>()
            .map(|at| Some(jiff::tz::TimeZone::UTC.to_datetime(at).date()))
            .map_err(|_| refused()),
    }
}

fn permissions(member: Option<Value>) -> Result<BTreeMap<String, Vec<Permission>>, ApiError> {
    let refused = || {
        error::invalid(
            "namespacePermissions must name 1 to 20 namespaces, each with some of \"r\", \"w\" and \"d\".",
        )
    };
    let Some(Value::Object(members)) = member else {
        return Err(refused());
    };
    if !(1..=PERMISSIONS_MAX).contains(&members.len()) {
        return Err(refused());
    }
    let mut permissions = BTreeMap::new();
    for (namespace, letters) in members {
        let Value::Array(letters) = letters else {
            return Err(refused());
        };
        if !names::is_namespace(&namespace) || letters.is_empty() {
            return Err(refused());
        }
        let mut given = Vec::new();
        for letter in letters {
            let permission = letter.as_str().and_then(Permission::from_letter);
            let permission = permission.ok_or_else(refused)?;
            if !given.contains(&permission) {
                given.push(permission);
            }
        }
        permissions.insert(namespace, given);
    }
    Ok(permissions)
}

fn edge_worker_ids(member: Option<Value>) -> Result<Option<Vec<String>>, ApiError> {
    let refused = || error::invalid("restrictToEdgeWorkerIds must be a list of at most 8 ids.");
    let ids = match member {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text == ALL => return Ok(None),
        Some(Value::Array(ids)) => ids,
        Some(_) => return Err(refused()),
    };
    if ids.len() > EDGE_WORKERS_MAX {
        return Err(refused());
    }
    let ids: Option<Vec<String>> = ids
        .into_iter()
        .map(|id| match id {
            Value::String(id) => Some(id),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        })
        .collect();
    let ids = ids.ok_or_else(refused)?;
    if ids.iter().any(|id| !is_name(id, EDGE_WORKER_BYTES_MAX)) {
        return Err(refused());
    }
    let all = ids.is_empty() || ids.iter().any(|id| id == ALL);
    Ok((!all).then_some(ids))
}

/// A token by value: the seed's four members.
#[derive(Debug, Serialize)]
struct ByValue<'a> {
    expiry: String,
    name: &'a str,
    uuid: &'a str,
    value: &'a str,
}

/// A token by reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ByReference<'a> {
    allow_on_production: bool,
    allow_on_staging: bool,
    cpcode: &'a str,
    expiry: &'static str,
    issue_date: String,
    latest_refresh_date: Option<String>,
    name: &'a str,
    namespace_permissions: &'a BTreeMap<String, Vec<Permission>>,
    next_scheduled_refresh_date: String,
    restrict_to_edge_worker_ids: Vec<&'a str>,
    token_activation_status: &'static str,
    uuid: &'a str,
}

/// An element of the list of tokens.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct TokenSummary {
    expiry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issue_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_refresh_date: Option<Option<String>>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_scheduled_refresh_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_activation_status: Option<&'static str>,
    uuid: String,
}

/// What becomes of a token: nothing is pending here.
const ACTIVE: &str = "COMPLETE";

/// What `POST /tokens` and `GET /tokens/{name}` answer.
pub(in crate::edgekv) fn token_view(record: &TokenRecord, cpcode: &str) -> serde_json::Value {
    let view = match &record.kind {
        TokenKind::Value { value, last_day } => serde_json::to_value(ByValue {
            expiry: last_day.to_string(),
            name: &record.name,
            uuid: &record.uuid,
            value,
        }),
        TokenKind::Reference { .. } => serde_json::to_value(ByReference {
            allow_on_production: record.on_production,
            allow_on_staging: record.on_staging,
            cpcode,
            expiry: NEVER,
            issue_date: instant(UnixMillis(record.issued_at_ms)),
            latest_refresh_date: refreshed(record).map(instant),
            name: &record.name,
            namespace_permissions: &record.permissions,
            next_scheduled_refresh_date: next_refresh(record),
            restrict_to_edge_worker_ids: match &record.edge_workers {
                None => vec![ALL],
                Some(ids) => ids.iter().map(String::as_str).collect(),
            },
            token_activation_status: ACTIVE,
            uuid: &record.uuid,
        }),
    };
    view.expect("strings, numbers and lists are JSON")
}

impl From<TokenRecord> for TokenSummary {
    fn from(record: TokenRecord) -> TokenSummary {
        let is_reference = matches!(record.kind, TokenKind::Reference { .. });
        TokenSummary {
            expiry: match &record.kind {
                TokenKind::Value { last_day, .. } => last_day.to_string(),
                TokenKind::Reference { .. } => NEVER.to_owned(),
            },
            issue_date: is_reference.then(|| instant(UnixMillis(record.issued_at_ms))),
            latest_refresh_date: is_reference.then(|| refreshed(&record).map(instant)),
            next_scheduled_refresh_date: is_reference.then(|| next_refresh(&record)),
            token_activation_status: is_reference.then_some(ACTIVE),
            name: record.name,
            uuid: record.uuid,
        }
    }
}

fn refreshed(record: &TokenRecord) -> Option<UnixMillis> {
    match record.kind {
        TokenKind::Reference { refreshed_at_ms } => refreshed_at_ms.map(UnixMillis),
        TokenKind::Value { .. } => None,
    }
}

fn next_refresh(record: &TokenRecord) -> String {
    let last = refreshed(record).map_or(record.issued_at_ms, |at| at.0);
    instant(UnixMillis(last.saturating_add(REFRESH_MS)))
}

/// What revoking answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::edgekv) struct RevokedView<'a> {
    pub(in crate::edgekv) name: &'a str,
    pub(in crate::edgekv) uuid: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_expiry_is_a_date_or_a_time_and_nothing_else() {
        let day =
            |text: &str| last_day(Some(json!(text))).map(|day| day.map(|day| day.to_string()));
        assert_eq!(day("2021-06-30").unwrap().as_deref(), Some("2021-06-30"));
        assert_eq!(
            day("2027-01-20T00:00:00Z").unwrap().as_deref(),
            Some("2027-01-20")
        );
        assert_eq!(
            day("2027-01-20T23:30:00-01:00").unwrap().as_deref(),
            Some("2027-01-21")
        );
        assert_eq!(day("").unwrap(), None);
        for bad in [
            "tomorrow",
            "2021-13-01",
            "2021-02-30",
            "30.06.2021",
            "20210630",
            "2021-6-30",
        ] {
            assert!(day(bad).is_err(), "{bad}");
        }
        assert!(last_day(Some(json!(20_210_630))).is_err());
    }

    #[test]
    fn permissions_are_letters_for_namespaces() {
        let read = |value| permissions(Some(value));
        assert_eq!(
            read(json!({"default": ["w", "r", "w"]})).unwrap()["default"],
            [Permission::Write, Permission::Read]
        );
        let many = |count: usize| -> Value {
            (0..count)
                .map(|n| (format!("n{n}"), json!(["r"])))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        assert!(read(many(PERMISSIONS_MAX)).is_ok());
        for bad in [
            many(PERMISSIONS_MAX + 1),
            json!({}),
            json!([]),
            json!("default"),
            json!({"default": []}),
            json!({"default": "r"}),
            json!({"default": ["x"]}),
            json!({"default": ["rw"]}),
            json!({"bad name": ["r"]}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(permissions(None).is_err());
    }

    #[test]
    fn edge_workers_are_all_or_at_most_eight() {
        let read = |value| edge_worker_ids(Some(value));
        assert_eq!(read(json!(["all"])).unwrap(), None);
        assert_eq!(read(json!([])).unwrap(), None);
        assert_eq!(read(json!(["12", 34])).unwrap().unwrap(), ["12", "34"]);
        assert!(read(json!(vec!["1"; EDGE_WORKERS_MAX])).is_ok());
        assert!(read(json!(vec!["1"; EDGE_WORKERS_MAX + 1])).is_err());
        assert!(read(json!("12")).is_err());
        assert!(read(json!([true])).is_err());
    }
}
