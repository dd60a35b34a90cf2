//! Bodies of requests and answers, with their schemas and limits.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalogue::List;
use super::records::{INTEGER_MAX, Order, OrderItem, User};
use super::schema::{self, Kind, Rule, optional, required};
use super::users::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use crate::body;
use crate::error::ApiError;

/// Largest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most lines of an order.
pub(super) const ORDER_ITEMS_MAX: usize = 100;

/// Most pieces of one product in an order.
pub(super) const QUANTITY_MAX: u64 = 1_000_000;

const NAME: Kind = Kind::Text { min: 0, max: 200 };
const PASSWORD: Kind = Kind::Text {
    min: PASSWORD_CHARS_MIN,
    max: PASSWORD_CHARS_MAX,
};
/// A password that is only compared may have any length.
const GIVEN_PASSWORD: Kind = Kind::Text {
    min: 0,
    max: BODY_BYTES_MAX,
};
const ID: Kind = Kind::Text { min: 1, max: 200 };

/// A body with a schema.
pub(super) trait Checked: serde::de::DeserializeOwned {
    const SCHEMA: &'static [Rule];
}

/// `POST /users`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct Registration {
    pub(super) email: String,
    pub(super) password: String,
    pub(super) name: Option<String>,
}

impl Checked for Registration {
    const SCHEMA: &'static [Rule] = &[
        required("email", Kind::Email),
        required("password", PASSWORD),
        optional("name", NAME),
    ];
}

/// `POST /login`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct Login {
    pub(super) email: String,
    pub(super) password: String,
}

impl Checked for Login {
    // The email's form is not checked: an address that could not exist is just unknown.
    const SCHEMA: &'static [Rule] = &[
        required("email", GIVEN_PASSWORD),
        required("password", GIVEN_PASSWORD),
    ];
}

/// `POST /login/reset`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct Reset {
    pub(super) token: String,
    pub(super) password: String,
}

impl Checked for Reset {
    const SCHEMA: &'static [Rule] = &[required("token", ID), required("password", PASSWORD)];
}

/// `PATCH /profile`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct ProfileChange {
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
}

impl Checked for ProfileChange {
    const SCHEMA: &'static [Rule] = &[optional("email", Kind::Email), optional("name", NAME)];
}

/// `POST /profile/password`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PasswordChange {
    pub(super) current_password: String,
    pub(super) new_password: String,
}

impl Checked for PasswordChange {
    const SCHEMA: &'static [Rule] = &[
        required("currentPassword", GIVEN_PASSWORD),
        required("newPassword", PASSWORD),
    ];
}

/// `POST /products` and `PUT /products/{id}`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct ProductBody {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) price: u64,
    pub(super) category: Option<String>,
}

impl Checked for ProductBody {
    const SCHEMA: &'static [Rule] = &[
        optional("id", ID),
        required("name", Kind::Text { min: 1, max: 200 }),
        required(
            "price",
            Kind::Integer {
                min: 0,
                max: INTEGER_MAX,
            },
        ),
        optional("category", NAME),
    ];
}

/// `POST /orders`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct OrderBody {
    pub(super) items: Vec<OrderItem>,
}

impl Checked for OrderBody {
    const SCHEMA: &'static [Rule] = &[required(
        "items",
        Kind::List {
            min: 1,
            max: ORDER_ITEMS_MAX,
            of: &[
                required("productId", ID),
                required(
                    "quantity",
                    Kind::Integer {
                        min: 1,
                        max: QUANTITY_MAX,
                    },
                ),
            ],
        },
    )];
}

/// Reads and checks a body.
///
/// # Errors
///
/// 413 over [`BODY_BYTES_MAX`], 400 for anything but JSON, 400 with every fault of the schema.
pub(super) async fn read<T: Checked>(headers: &HeaderMap, content: Body) -> Result<T, ApiError> {
    let content = body::read(headers, content, BODY_BYTES_MAX).await?;
    let json: serde_json::Value = serde_json::from_slice(&content)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    schema::check(&json, T::SCHEMA)?;
    serde_json::from_value(json)
        .map_err(|error| ApiError::bad_request(format!("the body is not valid: {error}")))
}

/// A JSON answer.
pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers are plain data");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What registration and login tell of a user.
pub(super) fn short_user(user: &User) -> serde_json::Value {
    json!({ "id": user.id, "email": user.email })
}

/// The product list.
pub(super) fn products(list: List) -> Response {
    let (x_cache, body) = match list {
        List::Cached(list) => ("hit", Body::from(list)),
        List::Fresh(list) => ("miss", Body::from(list)),
        List::Large(pages) => ("miss", array(pages)),
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json"),
        ("x-cache", x_cache),
    ];
    (headers, body).into_response()
}

/// Orders, as an array that is sent while it is read.
pub(super) fn orders(
    pages: impl Stream<Item = Result<Vec<Order>, ApiError>> + Send + 'static,
) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], array(pages)).into_response()
}

/// A JSON array of the items of all pages. A failure in the middle breaks the connection off, which
/// clients notice.
fn array<T: Serialize + Send + 'static>(
    pages: impl Stream<Item = Result<Vec<T>, ApiError>> + Send + 'static,
) -> Body {
    /// How far the array is.
    #[derive(Clone, Copy, PartialEq)]
    enum Place {
        Start,
        Inside,
        End,
    }
    let begun = (Box::pin(pages), Place::Start);
    Body::from_stream(stream::unfold(begun, |(mut pages, mut place)| async move {
        if place == Place::End {
            return None;
        }
        match pages.next().await {
            Some(Ok(items)) => {
                let mut out = Vec::new();
                for item in items {
                    out.push(if place == Place::Start { b'[' } else { b',' });
                    place = Place::Inside;
                    serde_json::to_writer(&mut out, &item).expect("memory takes every write");
                }
                Some((Ok(Bytes::from(out)), (pages, place)))
            }
            Some(Err(error)) => Some((
                Err(std::io::Error::other(format!("{error:?}"))),
                (pages, Place::End),
            )),
            None => {
                let end: &'static [u8] = if place == Place::Start { b"[]" } else { b"]" };
                Some((Ok(Bytes::from_static(end)), (pages, Place::End)))
            }
        }
    }))
}
