//! The routes: who may call them, what they do.

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kvasir_auth::rate::counted_address;

use super::error::{Failure, Fault};
use super::records::{self, Product, User};
use super::schema::normalised_email;
use super::sessions::Current;
use super::users::Role;
use super::wire::{
    self, LoggedIn, Login, OrderBody, PasswordChange, ProductBody, ProfileChange, Registration,
    Reset, Running, Sent, ShortUser,
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
), components(schemas(Failure<'static>, Fault)))]
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

/// A good session of somebody with the role `admin`.
struct Administrator;

impl FromRequestParts<Accounts> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Accounts) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        match caller.0.account.secrets.record.role {
            Role::Admin => Ok(Administrator),
            Role::User => Err(ApiError::forbidden("only administrators may do this")),
        }
    }
}

/// One of the attempts that an address has: whatever costs a password hash, or guesses one.
struct Attempt;

impl FromRequestParts<Accounts> for Attempt {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Accounts) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<RequestInfo>();
        // Requests that came past every listener are counted together.
        let unknown = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let address = counted_address(info.map_or(unknown, |info| info.client));
        let standing = state.0.attempts.take(&address);
        match standing.is_allowed {
            true => Ok(Attempt),
            false => Err(ApiError::too_many_requests(standing.retry_after_seconds())),
        }
    }
}

/// An attempt to register, while that is open to everybody.
struct Registering;

impl FromRequestParts<Accounts> for Registering {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Accounts) -> Result<Self, ApiError> {
        if !state.0.settings.registration {
            return Err(ApiError::forbidden("registration is switched off")
                .with_code("registration_closed"));
        }
        Attempt::from_request_parts(parts, state)
            .await
            .map(|Attempt| Registering)
    }
}

/// `GET /`: that the API runs; a browser is sent to the console.
#[utoipa::path(
    get, path = "/", tag = "accounts", security(()),
    responses(
        (status = 200, description = "the API runs", body = Running),
        (status = 303, description = "a browser is sent to the console"),
    )
)]
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
    let mut response = wire::answer(StatusCode::OK, &Running::default());
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// `POST /users`: registers a user.
#[utoipa::path(
    post, path = "/users", tag = "accounts", security(()), request_body = Registration,
    responses(
        (status = 201, description = "the user was made", body = ShortUser),
        (status = 400, description = "every invalid member"),
        (status = 403, description = "registration is switched off"),
        (status = 409, description = "the email is taken"),
        (status = 413, description = "the body is too large"),
        (status = 429, description = "too many attempts; see Retry-After"),
    )
)]
async fn register(
    State(accounts): State<Accounts>,
    _registering: Registering,
    Sent(body): Sent<Registration>,
) -> Result<Response, ApiError> {
    let users = &accounts.0.users;
    let user = users
        .create(&body.email, &body.password, body.name, Role::User)
        .await?;
    Ok(wire::answer(StatusCode::CREATED, &ShortUser::of(&user)))
}

/// `POST /login`: begins a session. Unknown email and wrong password look alike and take as long.
#[utoipa::path(
    post, path = "/login", tag = "accounts", security(()), request_body = Login,
    responses(
        (status = 200, description = "a session", body = LoggedIn),
        (status = 400, description = "every invalid member"),
        (status = 401, description = "unknown email or wrong password"),
        (status = 413, description = "the body is too large"),
        (status = 429, description = "too many attempts; see Retry-After"),
    )
)]
async fn login(
    State(accounts): State<Accounts>,
    _attempt: Attempt,
    Sent(body): Sent<Login>,
) -> Result<Response, ApiError> {
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
    let user = ShortUser::of(&account.user.record);
    Ok(wire::answer(StatusCode::OK, &LoggedIn { token, user }))
}

/// `POST /login/reset`: sets a new password with a one-time token from an administrator.
#[utoipa::path(
    post, path = "/login/reset", tag = "accounts", security(()), request_body = Reset,
    responses(
        (status = 204, description = "the password is set"),
        (status = 400, description = "the token is not valid any more, or the password is none"),
        (status = 413, description = "the body is too large"),
        (status = 429, description = "too many attempts; see Retry-After"),
    )
)]
async fn reset_password(
    State(accounts): State<Accounts>,
    _attempt: Attempt,
    Sent(body): Sent<Reset>,
) -> Result<StatusCode, ApiError> {
    accounts
        .0
        .users
        .finish_reset(&body.token, &body.password)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /logout`: ends the session at once.
#[utoipa::path(
    post, path = "/logout", tag = "accounts",
    responses(
        (status = 204, description = "the session is over"),
        (status = 401, description = "no valid session"),
    )
)]
async fn logout(State(accounts): State<Accounts>, caller: Caller) -> Result<StatusCode, ApiError> {
    accounts.0.sessions.end(&caller.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /profile`: the user behind the session.
#[utoipa::path(
    get, path = "/profile", tag = "accounts",
    responses(
        (status = 200, description = "the user", body = User),
        (status = 401, description = "no valid session"),
    )
)]
async fn profile(caller: Caller) -> Response {
    wire::answer(StatusCode::OK, &caller.0.account.user.record)
}

/// `PATCH /profile`: changes name or email.
#[utoipa::path(
    patch, path = "/profile", tag = "accounts", request_body = ProfileChange,
    responses(
        (status = 200, description = "the user as it is now", body = User),
        (status = 400, description = "every invalid member"),
        (status = 401, description = "no valid session"),
        (status = 409, description = "the email is taken, or somebody else changed the account"),
        (status = 413, description = "the body is too large"),
    )
)]
async fn change_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
    Sent(body): Sent<ProfileChange>,
) -> Result<Response, ApiError> {
    let user = accounts
        .0
        .users
        .rename(caller.id(), body.email.as_deref(), body.name)
        .await?;
    Ok(wire::answer(StatusCode::OK, &user))
}

/// `POST /profile/password`: sets a new password; all other sessions end.
#[utoipa::path(
    post, path = "/profile/password", tag = "accounts", request_body = PasswordChange,
    responses(
        (status = 204, description = "the password is set"),
        (status = 400, description = "every invalid member"),
        (status = 401, description = "no valid session, or the current password is wrong"),
        (status = 413, description = "the body is too large"),
        (status = 429, description = "too many attempts; see Retry-After"),
    )
)]
async fn change_password(
    State(accounts): State<Accounts>,
    caller: Caller,
    _attempt: Attempt,
    Sent(body): Sent<PasswordChange>,
) -> Result<StatusCode, ApiError> {
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
#[utoipa::path(
    delete, path = "/profile", tag = "accounts",
    responses(
        (status = 204, description = "the account is gone"),
        (status = 401, description = "no valid session"),
    )
)]
async fn delete_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    accounts.0.users.delete(caller.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /products`: all products, at most 30 seconds old and never older than the last write.
#[utoipa::path(
    get, path = "/products", tag = "accounts", security(()),
    responses(
        (status = 200, description = "all products", body = Vec<Product>,
            headers(("X-Cache" = String, description = "`hit` or `miss`"))),
    )
)]
async fn list_products(State(accounts): State<Accounts>) -> Result<Response, ApiError> {
    Ok(wire::products(accounts.0.catalogue.list().await?))
}

/// `GET /products/{id}`.
#[utoipa::path(
    get, path = "/products/{id}", tag = "accounts", security(()),
    params(("id" = String, Path, description = "id of the product")),
    responses(
        (status = 200, description = "the product", body = Product),
        (status = 404, description = "no such product"),
    )
)]
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
#[utoipa::path(
    post, path = "/products", tag = "accounts", request_body = ProductBody,
    responses(
        (status = 201, description = "the product was made", body = Product),
        (status = 400, description = "every invalid member"),
        (status = 401, description = "no valid session"),
        (status = 403, description = "no administrator"),
        (status = 409, description = "the id is taken"),
        (status = 413, description = "the body is too large"),
    )
)]
async fn create_product(
    State(accounts): State<Accounts>,
    _administrator: Administrator,
    Sent(body): Sent<ProductBody>,
) -> Result<Response, ApiError> {
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
#[utoipa::path(
    put, path = "/products/{id}", tag = "accounts", request_body = ProductBody,
    params(("id" = String, Path, description = "id of the product")),
    responses(
        (status = 200, description = "the product as it is now", body = Product),
        (status = 400, description = "every invalid member"),
        (status = 401, description = "no valid session"),
        (status = 403, description = "no administrator"),
        (status = 404, description = "no such product"),
        (status = 413, description = "the body is too large"),
    )
)]
async fn replace_product(
    State(accounts): State<Accounts>,
    _administrator: Administrator,
    Path(id): Path<String>,
    Sent(body): Sent<ProductBody>,
) -> Result<Response, ApiError> {
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
#[utoipa::path(
    delete, path = "/products/{id}", tag = "accounts",
    params(("id" = String, Path, description = "id of the product")),
    responses(
        (status = 204, description = "the product is gone"),
        (status = 401, description = "no valid session"),
        (status = 403, description = "no administrator"),
        (status = 404, description = "no such product"),
    )
)]
async fn delete_product(
    State(accounts): State<Accounts>,
    _administrator: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if accounts.0.catalogue.delete(&id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_product())
    }
}

/// `POST /orders`: places an order at the stored prices.
#[utoipa::path(
    post, path = "/orders", tag = "accounts", request_body = OrderBody,
    responses(
        (status = 201, description = "the order", body = records::Order),
        (status = 400, description = "every invalid member, or an unknown product"),
        (status = 401, description = "no valid session"),
        (status = 409, description = "the account or a product is being changed; try again"),
        (status = 413, description = "the body is too large"),
    )
)]
async fn place_order(
    State(accounts): State<Accounts>,
    caller: Caller,
    Sent(body): Sent<OrderBody>,
) -> Result<Response, ApiError> {
    let inner = &accounts.0;
    let order = orders::place(&inner.users, &inner.catalogue, caller.id(), body.items).await?;
    Ok(wire::answer(StatusCode::CREATED, &order))
}

/// `GET /orders`: the caller's own orders.
#[utoipa::path(
    get, path = "/orders", tag = "accounts",
    responses(
        (status = 200, description = "the caller's orders", body = Vec<records::Order>),
        (status = 401, description = "no valid session"),
    )
)]
async fn list_orders(State(accounts): State<Accounts>, caller: Caller) -> Response {
    wire::orders(orders::list(&accounts.0.ctx.keyspace, caller.id()))
}

/// `GET /orders/{id}`: one of the caller's own orders; somebody else's does not exist.
#[utoipa::path(
    get, path = "/orders/{id}", tag = "accounts",
    params(("id" = String, Path, description = "id of the order")),
    responses(
        (status = 200, description = "the order", body = records::Order),
        (status = 401, description = "no valid session"),
        (status = 404, description = "no such order, or somebody else's"),
    )
)]
async fn get_order(
    State(accounts): State<Accounts>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let order = orders::get(&accounts.0.ctx.keyspace, caller.id(), &id).await?;
    let order = order.ok_or_else(|| ApiError::not_found("no such order"))?;
    Ok(wire::answer(StatusCode::OK, &order))
}
