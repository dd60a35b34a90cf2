//! Bodies about namespaces and the database.

use kvasir_kv::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{boolean, whole_number};
use crate::edgekv::error;
use crate::edgekv::namespaces::{NamespacePolicy, NamespaceRecord};
use crate::error::ApiError;

use super::names::is_namespace;

/// Shortest retention besides 0 (for ever), in seconds: a day. The vendor's limit.
pub(in crate::edgekv) const RETENTION_SECONDS_MIN: u64 = 86_400;
/// Longest retention, in seconds: ten years. The vendor's limit.
pub(in crate::edgekv) const RETENTION_SECONDS_MAX: u64 = 315_360_000;

/// Where a namespace lies if its creator does not say.
pub(in crate::edgekv) const GEO_LOCATION_DEFAULT: &str = "US";

/// `POST .../namespaces` and `PUT .../namespaces/{namespace}`, unchecked.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::edgekv) struct NamespaceBody {
    #[schema(value_type = Option<String>)]
    namespace: Option<Value>,
    #[schema(value_type = Option<u64>)]
    retention_in_seconds: Option<Value>,
    #[schema(value_type = Option<String>)]
    geo_location: Option<Value>,
    #[schema(value_type = Option<u64>)]
    group_id: Option<Value>,
    data_access_policy: Option<Value>,
}

/// A namespace as a request describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edgekv) struct NamespaceRequest {
    pub(in crate::edgekv) namespace: String,
    pub(in crate::edgekv) retention_seconds: u64,
    pub(in crate::edgekv) geo_location: Option<String>,
    pub(in crate::edgekv) group_id: Option<u64>,
    pub(in crate::edgekv) restrict_data_access: Option<bool>,
}

impl TryFrom<NamespaceBody> for NamespaceRequest {
    type Error = ApiError;

    fn try_from(body: NamespaceBody) -> Result<Self, ApiError> {
        let namespace = match given(body.namespace) {
            Some(Value::String(name)) if is_namespace(&name) => name,
            Some(_) => {
                return Err(error::invalid(
                    "Namespace must have 1 to 32 characters of A-Z a-z 0-9 _ or - and must not begin with -.",
                ));
            }
            None => return Err(error::invalid("Namespace must be specified.")),
        };
        let retention_seconds = retention(given(body.retention_in_seconds))?;
        let geo_location = match given(body.geo_location) {
            None => None,
            Some(Value::String(code)) if is_geo_location(&code) => Some(code),
            Some(_) => {
                return Err(error::invalid(
                    "geoLocation must have 2 to 8 characters of A-Z.",
                ));
            }
        };
        let restrict_data_access = match given(body.data_access_policy) {
            None => None,
            Some(policy) => restriction(&policy)?,
        };
        Ok(NamespaceRequest {
            namespace,
            retention_seconds,
            geo_location,
            group_id: given(body.group_id).map(|id| group_id(&id)).transpose()?,
            restrict_data_access,
        })
    }
}

/// A member that is there; `null` counts as absent.
fn given(member: Option<Value>) -> Option<Value> {
    member.filter(|value| !value.is_null())
}

fn retention(member: Option<Value>) -> Result<u64, ApiError> {
    let Some(value) = member else {
        return Err(error::invalid("Retention period must be specified."));
    };
    match whole_number(&value) {
        Some(0) => Ok(0),
        Some(seconds) if (RETENTION_SECONDS_MIN..=RETENTION_SECONDS_MAX).contains(&seconds) => {
            Ok(seconds)
        }
        _ => Err(error::invalid(format!(
            "Retention period must be 0 or {RETENTION_SECONDS_MIN} to {RETENTION_SECONDS_MAX} seconds."
        ))),
    }
}

fn is_geo_location(code: &str) -> bool {
    (2..=8).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn group_id(value: &Value) -> Result<u64, ApiError> {
    whole_number(value).ok_or_else(|| error::invalid("groupId must be an integer from 0 on."))
}

fn restriction(policy: &Value) -> Result<Option<bool>, ApiError> {
    let flag = policy_flag(policy, "restrictDataAccess")?;
    match policy {
        Value::Object(_) => Ok(flag),
        _ => Err(error::invalid("dataAccessPolicy must be an object.")),
    }
}

fn policy_flag(policy: &Value, name: &str) -> Result<Option<bool>, ApiError> {
    match policy.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => boolean(value)
            .map(Some)
            .ok_or_else(|| error::invalid(format!("{name} must be true or false."))),
    }
}

/// `PUT /auth/namespaces/{namespace}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(in crate::edgekv) struct ReauthorizeBody {
    #[serde(rename = "groupId")]
    #[schema(value_type = u64)]
    group_id: Option<Value>,
}

impl ReauthorizeBody {
    pub(in crate::edgekv) fn group_id(self) -> Result<u64, ApiError> {
        match given(self.group_id) {
            Some(id) => group_id(&id),
            None => Err(error::invalid("groupId must be specified.")),
        }
    }
}

/// Who may read a database's data, as `PUT /initialize` and `PUT /auth/database` give it. Kept and
/// answered; nothing here is restricted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct DatabasePolicy {
    pub(in crate::edgekv) allow_namespace_policy_override: bool,
    pub(in crate::edgekv) restrict_data_access: bool,
}

/// The body around a [`DatabasePolicy`], unchecked.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::edgekv) struct DatabaseBody {
    #[schema(value_type = Option<DatabasePolicy>)]
    data_access_policy: Option<Value>,
}

impl DatabaseBody {
    pub(in crate::edgekv) fn policy(self) -> Result<Option<DatabasePolicy>, ApiError> {
        let Some(policy) = given(self.data_access_policy) else {
            return Ok(None);
        };
        if !policy.is_object() {
            return Err(error::invalid("dataAccessPolicy must be an object."));
        }
        let flag = |name| policy_flag(&policy, name).map(Option::unwrap_or_default);
        Ok(Some(DatabasePolicy {
            allow_namespace_policy_override: flag("allowNamespacePolicyOverride")?,
            restrict_data_access: flag("restrictDataAccess")?,
        }))
    }
}

/// `{"scheduledDeleteTime":...}`, as an answer and as the body of `PUT .../scheduled-delete`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct ScheduleBody {
    #[schema(value_type = Option<String>)]
    scheduled_delete_time: Option<Value>,
}

impl ScheduleBody {
    pub(in crate::edgekv) fn at(self) -> Result<UnixMillis, ApiError> {
        let time = match given(self.scheduled_delete_time) {
            Some(Value::String(text)) => text.parse::<jiff::Timestamp>().ok(),
            _ => None,
        };
        time.map(|time| UnixMillis(time.as_millisecond()))
            .ok_or_else(|| {
                error::invalid("scheduledDeleteTime must be a time such as 2026-01-02T03:04:05Z.")
            })
    }
}

/// An answered schedule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct ScheduleView {
    pub(in crate::edgekv) scheduled_delete_time: String,
}

/// The namespace object: the seed's three members, and what was given beyond.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct NamespaceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PolicyView, required = false)]
    data_access_policy: Option<PolicyView>,
    geo_location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    group_id: Option<u64>,
    namespace: &'a str,
    retention_in_seconds: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct PolicyView {
    policy_type: &'static str,
    restrict_data_access: bool,
}

impl<'a> NamespaceView<'a> {
    pub(in crate::edgekv) fn new(name: &'a str, record: &'a NamespaceRecord) -> NamespaceView<'a> {
        NamespaceView {
            data_access_policy: record.policy.map(
                |NamespacePolicy {
                     restrict_data_access,
                     inherited,
                 }| PolicyView {
                    policy_type: if inherited { "inherited" } else { "overridden" },
                    restrict_data_access,
                },
            ),
            geo_location: &record.geo_location,
            group_id: record.group_id,
            namespace: name,
            retention_in_seconds: record.retention_seconds,
        }
    }
}

/// The status object of the database.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::edgekv) struct StatusView<'a> {
    account_status: &'static str,
    cpcode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DatabasePolicy>)]
    data_access_policy: Option<Option<DatabasePolicy>>,
    production_status: &'static str,
    staging_status: &'static str,
}

impl<'a> StatusView<'a> {
    /// Initialised; the policy is shown if one was ever given.
    pub(in crate::edgekv) fn initialized(
        cpcode: &'a str,
        policy: Option<DatabasePolicy>,
    ) -> StatusView<'a> {
        StatusView {
            account_status: "INITIALIZED",
            cpcode: Some(cpcode),
            data_access_policy: policy.map(Some),
            production_status: "INITIALIZED",
            staging_status: "INITIALIZED",
        }
    }

    /// Nothing is there yet, and the members without a value are null.
    pub(in crate::edgekv) fn uninitialized() -> StatusView<'static> {
        StatusView {
            account_status: "UNINITIALIZED",
            cpcode: None,
            data_access_policy: Some(None),
            production_status: "UNINITIALIZED",
            staging_status: "UNINITIALIZED",
        }
    }
}
