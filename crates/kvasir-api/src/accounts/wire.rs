//! Bodies of requests and answers, with their schemas and limits.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};

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
    #[schema(format = "email")]
    pub(super) email: String,
    #[schema(min_length = 8, max_length = 256)]
    pub(super) password: String,
    #[schema(value_type = String, required = false, max_length = 200)]
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
    #[schema(min_length = 1, max_length = 200)]
    pub(super) token: String,
    #[schema(min_length = 8, max_length = 256)]
    pub(super) password: String,
}

impl Checked for Reset {
    const SCHEMA: &'static [Rule] = &[required("token", ID), required("password", PASSWORD)];
}

/// `PATCH /profile`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct ProfileChange {
    #[schema(value_type = String, required = false, format = "email")]
    pub(super) email: Option<String>,
    #[schema(value_type = String, required = false, max_length = 200)]
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
    #[schema(min_length = 8, max_length = 256)]
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
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200)]
    pub(super) id: Option<String>,
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    /// In minor units, such as cents.
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub(super) price: u64,
    #[schema(value_type = String, required = false, max_length = 200)]
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
    #[schema(min_items = 1, max_items = 100)]
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

/// A body that was read and checked.
///
/// The rejection is 413 over [`BODY_BYTES_MAX`], 400 for what is no JSON, and 400 with every fault of the schema.
pub(super) struct Sent<T>(pub(super) T);

impl<S: Sync, T: Checked> FromRequest<S> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, content) = request.into_parts();
        let content = body::read(&parts.headers, content, BODY_BYTES_MAX).await?;
        let json: serde_json::Value = serde_json::from_slice(&content)
            .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
        schema::check(&json, T::SCHEMA)?;
        let body = serde_json::from_value(json);
        body.map(Sent)
            .map_err(|error| ApiError::bad_request(format!("the body is not valid: {error}")))
    }
}

/// A JSON answer.
pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers are plain data");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `GET /`.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Running {
    message: &'static str,
}

impl Default for Running {
    fn default() -> Self {
        Running {
            message: "API is running",
        }
    }
}

/// What registration and login tell of a user.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ShortUser {
    id: String,
    email: String,
}

impl ShortUser {
    pub(super) fn of(user: &User) -> ShortUser {
        ShortUser {
            id: user.id.clone(),
            email: user.email.clone(),
        }
    }
}

/// A new session.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct LoggedIn {
    /// For `Authorization: Bearer`.
    pub(super) token: String,
    pub(super) user: ShortUser,
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
