//! The records, their keys, and reading them whoever wrote them.

use kvasir_kv::{Entry, Key, KeyRange, UnixMillis, Value, Versionstamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::time::rfc3339_millis;
use crate::v8json;

/// Largest integer that every JSON reader keeps exact; prices and totals end here.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// `["users", id]`.
pub fn user_key(id: &str) -> Key {
    Key::from_strings(["users", id])
}

/// `["users_by_email", email]`, with the email normalised.
pub fn email_key(email: &str) -> Key {
    Key::from_strings(["users_by_email", email])
}

/// `["sessions", digest]`.
pub fn session_key(digest: &str) -> Key {
    Key::from_strings(["sessions", digest])
}

/// `["products", id]`.
pub fn product_key(id: &str) -> Key {
    Key::from_strings(["products", id])
}

/// Every product.
pub fn products() -> KeyRange {
    KeyRange::below(&Key::from_strings(["products"]))
}

/// `["orders", id]`.
pub fn order_key(id: &str) -> Key {
    Key::from_strings(["orders", id])
}

/// `["users", user, "orders", id]`.
pub fn user_order_key(user: &str, id: &str) -> Key {
    Key::from_strings(["users", user, "orders", id])
}

/// Every order of a user, as `["users", user, "orders", ...]`.
pub fn user_orders(user: &str) -> KeyRange {
    KeyRange::below(&Key::from_strings(["users", user, "orders"]))
}

/// The last part of a key, if it is a string and the key has `parts` parts.
pub fn last_string(key: &Key, parts: usize) -> Option<String> {
    let decoded = key.parts().ok().filter(|decoded| decoded.len() == parts)?;
    match decoded.into_iter().next_back()? {
        kvasir_kv::Part::String(text) => Some(text),
        _ => None,
    }
}

/// A user, as Deno programs and REST see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The id, a UUID for users made here.
    pub id: String,
    /// The email, normalised.
    pub email: String,
    /// The name, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub name: Option<String>,
    /// When the user was made, as RFC 3339 text.
    #[serde(default)]
    pub created_at: String,
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Product {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The price in minor units, such as cents.
    pub price: u64,
    /// The category, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub category: Option<String>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The id.
    pub id: String,
    /// Who ordered.
    pub user_id: String,
    /// What.
    pub items: Vec<OrderItem>,
    /// The sum of price times quantity, in minor units.
    pub total: u64,
    /// `pending`, until some other program says otherwise.
    pub status: String,
    /// When it was placed, as RFC 3339 text.
    #[serde(default)]
    pub created_at: String,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderItem {
    /// The product.
    #[schema(min_length = 1, max_length = 200)]
    pub product_id: String,
    /// How many.
    #[schema(minimum = 1, maximum = 1000000)]
    pub quantity: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Whose.
    pub user_id: String,
    /// When it began, as RFC 3339 text.
    pub created_at: String,
    /// When it was last used, as RFC 3339 text, to the minute or so.
    pub last_active: String,
}

/// A record as it is stored.
pub fn stored(record: &impl Serialize) -> Value {
    Value::json(serde_json::to_vec(record).expect("records are plain data"))
}

/// A record, if the entry holds one of that shape, whichever program wrote it.
pub fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    let text = v8json::render(&entry.value).text;
    let mut json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    flatten_dates(&mut json);
    serde_json::from_value(json).ok()
}

/// The stored record with the members of `record` in it. What other programs keep beside them stays
/// as it is, also where JSON has no word for it.
pub fn changed(entry: &Entry, record: &impl Serialize) -> Value {
    let members = serde_json::to_value(record).expect("records are plain data");
    let text = v8json::render(&entry.value).text;
    let stored = serde_json::from_slice::<serde_json::Map<_, _>>(&text);
    let (Ok(mut stored), serde_json::Value::Object(members)) = (stored, members) else {
        return self::stored(record);
    };
    for (name, value) in members {
        // A time that another program keeps as a date stays one.
        let is_date = stored
            .get(&name)
            .is_some_and(|old| is_date(old) && date_text(old) == value);
        if !is_date {
            stored.insert(name, value);
        }
    }
    let text = serde_json::to_vec(&stored).expect("JSON is JSON");
    v8json::parse(&text.into()).unwrap_or_else(|_| self::stored(record))
}

fn is_date(json: &serde_json::Value) -> bool {
    json.get(v8json::MARKER).is_some() && json["type"] == "Date"
}

fn date_text(date: &serde_json::Value) -> serde_json::Value {
    json!(date["value"].as_str().unwrap_or_default())
}

/// Deno programs store `new Date()` for times: take the text of such a date.
fn flatten_dates(json: &mut serde_json::Value) {
    for member in json
        .as_object_mut()
        .into_iter()
        .flat_map(|object| object.values_mut())
    {
        if is_date(member) {
            *member = date_text(member);
        }
    }
}

/// RFC 3339 text with milliseconds, as JavaScript writes it.
pub fn timestamp(at: UnixMillis) -> String {
    rfc3339_millis(at)
}

/// The moment of such a text.
pub fn moment(text: &str) -> Option<UnixMillis> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|at| UnixMillis(at.as_millisecond()))
}

/// A record and the versionstamp it was read at.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The record.
    pub record: T,
    /// Its versionstamp.
    pub versionstamp: Versionstamp,
}

/// The record of an entry with its versionstamp.
pub fn found<T: serde::de::DeserializeOwned>(entry: Option<Entry>) -> Option<Found<T>> {
    let entry = entry?;
    Some(Found {
        record: read(&entry)?,
        versionstamp: entry.versionstamp,
    })
}
