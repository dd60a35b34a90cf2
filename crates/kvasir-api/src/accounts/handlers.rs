//! The routes: who may call them, what they do.

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kvasir_auth::rate::counted_address;
use serde_json::json;

use super::records::{self, Product};
use super::schema::normalised_email;
use super::sessions::Current;
use super::users::Role;
use super::wire::{
    self, Login, OrderBody, PasswordChange, ProductBody, ProfileChange, Registration, Reset,
};
use super::{Accounts, orders};
use crate::error::ApiError;
use crate::request::{RequestInfo, bearer};

/// First segments of the paths that this dialect serves.
pub(super) const FIRST_SEGMENTS: [&str; 6] =
    ["users", "login", "logout", "profile", "products", "orders"];

/// Describes the routes; compared with the router by the tests.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    root,
    register,
    login,
    reset_password,
    logout,
    profile,
    change_profile,
    change_password,
    delete_profile,
    list_products,
    get_product,
    create_product,
    replace_product,
    delete_product,
    place_order,
    list_orders,
    get_order
))]
pub(super) struct Description;

pub(super) fn routes(accounts: &Accounts) -> Router {
    let base = &accounts.0.ctx.base;
    let at = |path: &str| format!("{base}{path}");
    Router::new()
        .route(&at("/"), taking("GET, HEAD, OPTIONS", get(root)))
        .route(&at("/users"), taking("POST, OPTIONS", post(register)))
        .route(&at("/login"), taking("POST, OPTIONS", post(login)))
        .route(
            &at("/login/reset"),
            taking("POST, OPTIONS", post(reset_password)),
        )
        .route(&at("/logout"), taking("POST, OPTIONS", post(logout)))
        .route(
            &at("/profile"),
            taking(
                "GET, HEAD, PATCH, DELETE, OPTIONS",
                get(profile).patch(change_profile).delete(delete_profile),
            ),
        )
        .route(
            &at("/profile/password"),
            taking("POST, OPTIONS", post(change_password)),
        )
        .route(
            &at("/products"),
            taking(
                "GET, HEAD, POST, OPTIONS",
                get(list_products).post(create_product),
            ),
        )
        .route(
            &at("/products/{id}"),
            taking(
                "GET, HEAD, PUT, DELETE, OPTIONS",
                get(get_product).put(replace_product).delete(delete_product),
            ),
        )
        .route(
            &at("/orders"),
            taking(
                "GET, HEAD, POST, OPTIONS",
                get(list_orders).post(place_order),
            ),
        )
        .route(
            &at("/orders/{id}"),
            taking("GET, HEAD, OPTIONS", get(get_order)),
        )
        .with_state(accounts.clone())
}

/// A path's methods, with `OPTIONS` answered by what it takes.
fn taking(allow: &'static str, methods: MethodRouter<Accounts>) -> MethodRouter<Accounts> {
    methods.options(move || async move { [(header::ALLOW, HeaderValue::from_static(allow))] })
}

/// A good session.
struct Caller(Current);

impl Caller {
    fn id(&self) -> &str {
        &self.0.account.user.record.id
    }

    fn require_admin(&self) -> Result<(), ApiError> {
        match self.0.account.secrets.record.role {
            Role::Admin => Ok(()),
            Role::User => Err(ApiError::forbidden("only administrators may do this")),
        }
    }
}

impl FromRequestParts<Accounts> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Accounts) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(|| ApiError::unauthorized("log in first"))?;
        let current = state.0.sessions.find(token).await?;
        current
            .map(Caller)
            .ok_or_else(|| ApiError::unauthorized("the session is not valid"))
    }
}

/// The client's address, as far as limits tell addresses apart.
struct Address(std::net::IpAddr);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let info = parts.extensions.get::<RequestInfo>();
        // Requests that came past every listener are counted together.
        let unknown = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        Ok(Address(counted_address(
            info.map_or(unknown, |info| info.client),
        )))
    }
}

impl Accounts {
    /// Refuses an address with too many attempts.
    fn count_attempt(&self, address: &Address) -> Result<(), ApiError> {
        let standing = self.0.attempts.take(&address.0);
        if standing.is_allowed {
            Ok(())
        } else {
            Err(ApiError::too_many_requests(standing.retry_after_seconds()))
        }
    }
}

/// `GET /`: that the API runs; a browser is sent to the console.
#[utoipa::path(get, path = "/", tag = "accounts", responses((status = 200), (status = 303)))]
async fn root(headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return (
            StatusCode::SEE_OTHER,
            [(header::LOCATION, "/_/"), (header::VARY, "Accept")],
        )
            .into_response();
    }
    let mut response = wire::answer(StatusCode::OK, &json!({ "message": "API is running" }));
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// `POST /users`: registers a user.
#[utoipa::path(post, path = "/users", tag = "accounts", request_body = Registration,
    responses((status = 201), (status = 400), (status = 403), (status = 409), (status = 413), (status = 429)))]
async fn register(
    State(accounts): State<Accounts>,
    address: Address,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    if !accounts.0.settings.registration {
        return Err(ApiError::forbidden("registration is switched off"));
    }
    accounts.count_attempt(&address)?;
    let body: Registration = wire::read(&headers, content).await?;
    let users = &accounts.0.users;
    let user = users
        .create(&body.email, &body.password, body.name, Role::User)
        .await?;
    Ok(wire::answer(StatusCode::CREATED, &wire::short_user(&user)))
}

/// `POST /login`: begins a session. Unknown email and wrong password look alike and take as long.
#[utoipa::path(post, path = "/login", tag = "accounts", request_body = Login,
    responses((status = 200), (status = 400), (status = 401), (status = 413), (status = 429)))]
async fn login(
    State(accounts): State<Accounts>,
    address: Address,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    accounts.count_attempt(&address)?;
    let body: Login = wire::read(&headers, content).await?;
    // Unknown texts are counted too, cut short so that the table stays small.
    let counted =
        normalised_email(&body.email).unwrap_or_else(|| body.email.chars().take(64).collect());
    let failures = &accounts.0.failures;
    let standing = failures.look(&counted);
    if !standing.is_allowed {
        return Err(ApiError::too_many_requests(standing.retry_after_seconds()));
    }
    let Some(account) = accounts
        .0
        .users
        .authenticate(&body.email, &body.password)
        .await?
    else {
        failures.take(&counted);
        return Err(ApiError::unauthorized("Invalid email or password"));
    };
    failures.forgive(&counted);
    let token = accounts.0.sessions.begin(&account).await?;
    let user = wire::short_user(&account.user.record);
    Ok(wire::answer(
        StatusCode::OK,
        &json!({ "token": token, "user": user }),
    ))
}

/// `POST /login/reset`: sets a new password with a one-time token from an administrator.
#[utoipa::path(post, path = "/login/reset", tag = "accounts", request_body = Reset,
    responses((status = 204), (status = 400), (status = 413), (status = 429)))]
async fn reset_password(
    State(accounts): State<Accounts>,
    address: Address,
    headers: HeaderMap,
    content: Body,
) -> Result<StatusCode, ApiError> {
    accounts.count_attempt(&address)?;
    let body: Reset = wire::read(&headers, content).await?;
    accounts
        .0
        .users
        .finish_reset(&body.token, &body.password)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /logout`: ends the session at once.
#[utoipa::path(post, path = "/logout", tag = "accounts", responses((status = 204), (status = 401)))]
async fn logout(State(accounts): State<Accounts>, caller: Caller) -> Result<StatusCode, ApiError> {
    accounts.0.sessions.end(&caller.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /profile`: the user behind the session.
#[utoipa::path(get, path = "/profile", tag = "accounts", responses((status = 200), (status = 401)))]
async fn profile(caller: Caller) -> Response {
    wire::answer(StatusCode::OK, &caller.0.account.user.record)
}

/// `PATCH /profile`: changes name or email.
#[utoipa::path(patch, path = "/profile", tag = "accounts", request_body = ProfileChange,
    responses((status = 200), (status = 400), (status = 401), (status = 409), (status = 413)))]
async fn change_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let body: ProfileChange = wire::read(&headers, content).await?;
    let name = body.name.map(Some);
    let user = accounts
        .0
        .users
        .rename(caller.id(), body.email.as_deref(), name)
        .await?;
    Ok(wire::answer(StatusCode::OK, &user))
}

/// `POST /profile/password`: sets a new password; all other sessions end.
#[utoipa::path(post, path = "/profile/password", tag = "accounts", request_body = PasswordChange,
    responses((status = 204), (status = 400), (status = 401), (status = 413), (status = 429)))]
async fn change_password(
    State(accounts): State<Accounts>,
    address: Address,
    caller: Caller,
    headers: HeaderMap,
    content: Body,
) -> Result<StatusCode, ApiError> {
    accounts.count_attempt(&address)?;
    let body: PasswordChange = wire::read(&headers, content).await?;
    let users = &accounts.0.users;
    let email = &caller.0.account.user.record.email;
    if users
        .authenticate(email, &body.current_password)
        .await?
        .is_none()
    {
        return Err(ApiError::unauthorized("the current password is wrong"));
    }
    users
        .set_password(caller.id(), &body.new_password, Some(&caller.0.digest))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /profile`: deletes the account with its sessions.
#[utoipa::path(delete, path = "/profile", tag = "accounts", responses((status = 204), (status = 401)))]
async fn delete_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    accounts.0.users.delete(caller.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /products`: all products, at most 30 seconds old and never older than the last write.
#[utoipa::path(get, path = "/products", tag = "accounts", responses((status = 200, body = Vec<Product>)))]
async fn list_products(State(accounts): State<Accounts>) -> Result<Response, ApiError> {
    Ok(wire::products(accounts.0.catalogue.list().await?))
}

/// `GET /products/{id}`.
#[utoipa::path(get, path = "/products/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, body = Product), (status = 404)))]
async fn get_product(
    State(accounts): State<Accounts>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let product = accounts
        .0
        .catalogue
        .get(&id)
        .await?
        .ok_or_else(no_product)?;
    Ok(wire::answer(StatusCode::OK, &product.record))
}

fn no_product() -> ApiError {
    ApiError::not_found("no such product")
}

/// `POST /products`: adds a product; administrators only.
#[utoipa::path(post, path = "/products", tag = "accounts", request_body = ProductBody,
    responses((status = 201, body = Product), (status = 400), (status = 401), (status = 403), (status = 409), (status = 413)))]
async fn create_product(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    caller.require_admin()?;
    let body: ProductBody = wire::read(&headers, content).await?;
    let id = body.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let product = Product {
        id,
        name: body.name,
        price: body.price,
        category: body.category,
    };
    if accounts.0.catalogue.create(&product).await? {
        Ok(wire::answer(StatusCode::CREATED, &product))
    } else {
        Err(ApiError::new(
            StatusCode::CONFLICT,
            "product_exists",
            "Product already exists",
        ))
    }
}

/// `PUT /products/{id}`: replaces a product; administrators only.
#[utoipa::path(put, path = "/products/{id}", tag = "accounts", params(("id" = String, Path)), request_body = ProductBody,
    responses((status = 200, body = Product), (status = 400), (status = 401), (status = 403), (status = 404), (status = 413)))]
async fn replace_product(
    State(accounts): State<Accounts>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    caller.require_admin()?;
    let body: ProductBody = wire::read(&headers, content).await?;
    if body.id.as_ref().is_some_and(|named| *named != id) {
        return Err(ApiError::bad_request(
            "the id in the body is not the one in the path",
        ));
    }
    let product = Product {
        id,
        name: body.name,
        price: body.price,
        category: body.category,
    };
    if accounts.0.catalogue.replace(&product).await? {
        Ok(wire::answer(StatusCode::OK, &product))
    } else {
        Err(no_product())
    }
}

/// `DELETE /products/{id}`; administrators only.
#[utoipa::path(delete, path = "/products/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 204), (status = 401), (status = 403), (status = 404)))]
async fn delete_product(
    State(accounts): State<Accounts>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_admin()?;
    if accounts.0.catalogue.delete(&id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_product())
    }
}

/// `POST /orders`: places an order at the stored prices.
#[utoipa::path(post, path = "/orders", tag = "accounts", request_body = OrderBody,
    responses((status = 201, body = records::Order), (status = 400), (status = 401), (status = 409), (status = 413)))]
async fn place_order(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let body: OrderBody = wire::read(&headers, content).await?;
    let inner = &accounts.0;
    let order = orders::place(&inner.users, &inner.catalogue, caller.id(), body.items).await?;
    Ok(wire::answer(StatusCode::CREATED, &order))
}

/// `GET /orders`: the caller's own orders.
#[utoipa::path(get, path = "/orders", tag = "accounts",
    responses((status = 200, body = Vec<records::Order>), (status = 401)))]
async fn list_orders(State(accounts): State<Accounts>, caller: Caller) -> Response {
    wire::orders(orders::list(&accounts.0.ctx.keyspace, caller.id()))
}

/// `GET /orders/{id}`: one of the caller's own orders; somebody else's does not exist.
#[utoipa::path(get, path = "/orders/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, body = records::Order), (status = 401), (status = 404)))]
async fn get_order(
    State(accounts): State<Accounts>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let order = orders::get(&accounts.0.ctx.keyspace, caller.id(), &id).await?;
    let order = order.ok_or_else(|| ApiError::not_found("no such order"))?;
    Ok(wire::answer(StatusCode::OK, &order))
}
