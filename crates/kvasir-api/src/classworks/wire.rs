//! What requests ask and how answers are written. No store, no rules.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use kvasir_kv::{Entry, UnixMillis, Versionstamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer};

use crate::error::ApiError;
use crate::time::rfc3339_millis;

use super::error;

/// Rows of a page if the client does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// Most rows of a page. More is taken as this.
pub const LIMIT_MAX: usize = 10_000;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What `encodeURIComponent` leaves as it is, besides letters and digits.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A text as JavaScript's `encodeURIComponent` writes it.
pub(super) fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// The JSON of one of our own answers.
pub(super) fn to_json(answer: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(answer).expect("answers have text keys and no failing parts");
    json.into()
}

/// 200 with JSON text.
pub(super) fn json_bytes(json: Bytes) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// 200 with one of our own answers.
pub(super) fn json(answer: &impl Serialize) -> Response {
    json_bytes(to_json(answer))
}

/// A moment as answers show it: `2025-05-24T12:41:41.007Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) UnixMillis);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339_millis(self.0))
    }
}

/// What is known about a key.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksMetadata)]
pub(super) struct Metadata<'a> {
    #[serde(rename = "creatorIp")]
    pub(super) creator_ip: &'a str,
    #[serde(rename = "createdAt")]
    #[schema(value_type = String)]
    pub(super) created_at: Stamp,
    #[serde(rename = "updatedAt")]
    #[schema(value_type = String)]
    pub(super) updated_at: Stamp,
}

impl Metadata<'_> {
    pub(super) fn of(entry: &Entry) -> Metadata<'_> {
        Metadata {
            creator_ip: creator_of(entry),
            created_at: Stamp(entry.created_at()),
            updated_at: Stamp(entry.versionstamp.time()),
        }
    }
}

/// Address of the last writer; empty where another dialect wrote, as in the original's column.
pub(super) fn creator_of(entry: &Entry) -> &str {
    let creator = entry.meta.as_ref().and_then(|meta| meta.creator.as_deref());
    creator.unwrap_or_default()
}

/// A key with its metadata: an item of a list, and the answer of `/metadata`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksItem)]
pub(super) struct Item<'a> {
    pub(super) namespace: &'a str,
    pub(super) key: &'a str,
    pub(super) metadata: Metadata<'a>,
}

/// The answer of `GET /:namespace`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksItemList)]
pub(super) struct ItemList<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) total_rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) load_more: Option<String>,
}

/// The answer of `GET /:namespace/_keys`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksKeyList)]
pub(super) struct KeyList<'a> {
    pub(super) keys: Vec<&'a str>,
    pub(super) total_rows: usize,
    pub(super) current_page: CurrentPage,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) load_more: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksCurrentPage)]
pub(super) struct CurrentPage {
    pub(super) limit: usize,
    pub(super) skip: u64,
    pub(super) count: usize,
}

/// The answer of `POST /:namespace/:key`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksWritten)]
pub(super) struct Written<'a> {
    pub(super) namespace: &'a str,
    pub(super) key: &'a str,
    pub(super) created: bool,
    #[serde(rename = "updatedAt")]
    #[schema(value_type = String)]
    pub(super) updated_at: Stamp,
}

/// Order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SortBy {
    Key,
    CreatedAt,
    UpdatedAt,
    CreatorIp,
    /// All keys of a list have the same one, so this is the order by key.
    Namespace,
}

impl SortBy {
    const ALL: [SortBy; 5] = [
        SortBy::Key,
        SortBy::CreatedAt,
        SortBy::UpdatedAt,
        SortBy::CreatorIp,
        SortBy::Namespace,
    ];

    fn name(self) -> &'static str {
        match self {
            SortBy::Key => "key",
            SortBy::CreatedAt => "createdAt",
            SortBy::UpdatedAt => "updatedAt",
            SortBy::CreatorIp => "creatorIp",
            SortBy::Namespace => "namespace",
        }
    }
}

/// Which rows of a list are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    pub(super) sort_by: SortBy,
    pub(super) descending: bool,
    pub(super) limit: usize,
    pub(super) skip: u64,
}

impl Default for ListQuery {
    fn default() -> Self {
        ListQuery {
            sort_by: SortBy::Key,
            descending: false,
            limit: LIMIT_DEFAULT,
            skip: 0,
        }
    }
}

impl ListQuery {
    /// Reads a query string. Empty values mean the default, unknown parameters nothing.
    ///
    /// # Errors
    ///
    /// 400 for values out of range and for a parameter given twice.
    pub(super) fn parse(query: Option<&str>) -> Result<ListQuery, ApiError> {
        let query = query.unwrap_or_default();
        let mut list = ListQuery::default();
        if let Some(name) = parameter(query, "sortBy")? {
            let found = SortBy::ALL.into_iter().find(|by| by.name() == name);
            list.sort_by = found.ok_or_else(|| {
                let all = SortBy::ALL.map(SortBy::name).join(", ");
                error::bad(format!("无效的 sortBy 参数，可用值: {all}"))
            })?;
        }
        if let Some(direction) = parameter(query, "sortDir")? {
            list.descending = match direction.to_ascii_lowercase().as_str() {
                "asc" => false,
                "desc" => true,
                _ => return Err(error::bad("无效的 sortDir 参数，可用值: asc, desc")),
            };
        }
        if let Some(text) = parameter(query, "limit")? {
            let limit = number(&text).filter(|limit| *limit > 0).ok_or_else(|| {
                error::bad(format!("无效的 limit 参数，应为 1 到 {LIMIT_MAX} 的整数"))
            })?;
            list.limit = usize::try_from(limit).map_or(LIMIT_MAX, |limit| limit.min(LIMIT_MAX));
        }
        if let Some(text) = parameter(query, "skip")? {
            list.skip =
                number(&text).ok_or_else(|| error::bad("无效的 skip 参数，应为不小于 0 的整数"))?;
        }
        Ok(list)
    }

    /// The path of the next page, if rows remain. `path` is the encoded path of this one.
    pub(super) fn load_more(&self, path: &str, total_rows: usize) -> Option<String> {
        let next = self.skip.saturating_add(self.limit as u64);
        (next < total_rows as u64).then(|| {
            let mut out = path.to_owned();
            let direction = if self.descending { "desc" } else { "asc" };
            let (by, limit) = (self.sort_by.name(), self.limit);
            write!(
                out,
                "?sortBy={by}&sortDir={direction}&limit={limit}&skip={next}"
            )
            .expect("writing to a text does not fail");
            out
        })
    }
}

/// A parameter of a query string; `None` if it is absent or empty.
///
/// # Errors
///
/// 400 if it is given twice.
pub(super) fn parameter(query: &str, name: &str) -> Result<Option<String>, ApiError> {
    let mut found = None;
    for (other, value) in form_urlencoded::parse(query.as_bytes()) {
        if other != name {
            continue;
        }
        if found.is_some() {
            return Err(error::bad(format!("参数 {name} 重复")));
        }
        found = Some(value.into_owned());
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// A whole number of any length; what does not fit is the largest one that does.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The entity tag of an entry: its versionstamp, since every write makes a new one.
pub(super) fn etag(versionstamp: Versionstamp) -> HeaderValue {
    HeaderValue::try_from(format!("\"{versionstamp}\"")).expect("hexadecimal digits in quotes")
}

/// What a client says about versions, in `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`: any version.
    Any,
    /// These. Tags that are none of ours cannot match and are left out.
    These(Vec<Versionstamp>),
}

impl Tags {
    /// Reads a header; `None` if it is absent.
    pub(super) fn read(headers: &HeaderMap, name: header::HeaderName) -> Option<Tags> {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek()?;
        let mut tags = Vec::new();
        for value in values.filter_map(|value| value.to_str().ok()) {
            for tag in value.split(',').map(str::trim) {
                if tag == "*" {
                    return Some(Tags::Any);
                }
                let tag = tag.strip_prefix("W/").unwrap_or(tag);
                tags.extend(tag.trim_matches('"').parse::<Versionstamp>().ok());
            }
        }
        Some(Tags::These(tags))
    }

    /// Whether the version is among them.
    pub(super) fn hold(&self, versionstamp: Versionstamp) -> bool {
        match self {
            Tags::Any => true,
            Tags::These(tags) => tags.contains(&versionstamp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<ListQuery, u16> {
        ListQuery::parse(Some(query)).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn list_parameters_have_defaults_and_bounds() {
        let default = ListQuery::default();
        assert_eq!(parse(""), Ok(default));
        assert_eq!(parse("sortBy=&sortDir=&limit=&skip=&x=1&x=2"), Ok(default));
        let wanted = ListQuery {
            sort_by: SortBy::UpdatedAt,
            descending: true,
            limit: 7,
            skip: 3,
        };
        assert_eq!(
            parse("sortBy=updatedAt&sortDir=DESC&limit=7&skip=3"),
            Ok(wanted)
        );
        assert_eq!(parse("limit=10000").unwrap().limit, LIMIT_MAX);
        assert_eq!(parse("limit=10001").unwrap().limit, LIMIT_MAX);
        let huge = "9".repeat(50);
        assert_eq!(parse(&format!("limit={huge}")).unwrap().limit, LIMIT_MAX);
        assert_eq!(parse(&format!("skip={huge}")).unwrap().skip, u64::MAX);
        for bad in [
            "limit=0",
            "limit=-1",
            "limit=2.7",
            "limit=2abc",
            "limit=1e3",
            "limit=abc",
            "limit=%201",
            "limit=+1",
            "skip=-1",
            "skip=x",
            "sortBy=value",
            "sortBy=KEY",
            "sortDir=up",
            "limit=1&limit=2",
            "skip=0&skip=0",
            "sortBy=key&sortBy=",
        ] {
            assert_eq!(parse(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn there_is_more_only_while_rows_remain() {
        let query = ListQuery {
            sort_by: SortBy::CreatedAt,
            descending: true,
            limit: 4,
            skip: 2,
        };
        assert_eq!(
            query.load_more("/ns", 7).as_deref(),
            Some("/ns?sortBy=createdAt&sortDir=desc&limit=4&skip=6")
        );
        assert_eq!(query.load_more("/ns", 6), None);
        let far = ListQuery {
            skip: u64::MAX,
            ..query
        };
        assert_eq!(far.load_more("/ns", 7), None);
    }

    #[test]
    fn stamps_are_utc_with_milliseconds() {
        let text = |millis| serde_json::to_string(&Stamp(UnixMillis(millis))).unwrap();
        assert_eq!(text(1_748_090_501_007), r#""2025-05-24T12:41:41.007Z""#);
        assert_eq!(text(0), r#""1970-01-01T00:00:00.000Z""#);
        assert_eq!(text(i64::MAX), r#""9999-12-31T23:59:59.999Z""#);
        assert_eq!(text(-1), r#""1970-01-01T00:00:00.000Z""#);
    }

    #[test]
    fn components_are_encoded_as_javascript_does() {
        assert_eq!(
            encode_component("a b/?#ü!'()*"),
            "a%20b%2F%3F%23%C3%BC!'()*"
        );
    }

    #[test]
    fn tags_are_compared_whatever_their_strength() {
        let stamp = Versionstamp::new(5, 1);
        let tags = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            Tags::read(&headers, header::IF_NONE_MATCH).unwrap()
        };
        assert!(tags(format!("\"{stamp}\"")).hold(stamp));
        assert!(tags(format!("\"x\", W/\"{stamp}\"")).hold(stamp));
        assert!(tags("*".into()).hold(stamp));
        assert!(!tags("\"x\"".into()).hold(stamp));
        assert_eq!(Tags::read(&HeaderMap::new(), header::IF_MATCH), None);
    }
}
