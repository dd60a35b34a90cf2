//! The accounts dialect against its contract, line by line.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use futures_util::future::join_all;
use http::StatusCode;
use kvasir_api::accounts::users::Role;
use kvasir_api::accounts::{Accounts, Settings};
use kvasir_auth::Passwords;
use kvasir_kv::{Encoding, Key, Value as Stored};
use serde_json::{Value, json};

use crate::support::{Answer, App, World};

const PASSWORD: &str = "correct horse";

struct Shop {
    world: World,
    app: App,
    accounts: Arc<Accounts>,
}

impl Shop {
    fn new() -> Shop {
        Shop::with(Settings::default())
    }

    fn with(settings: Settings) -> Shop {
        let world = World::new();
        let ctx = world.ctx("accounts", "", "default");
        let accounts = Arc::new(Accounts::new(ctx, settings, Passwords::new(2)));
        Shop {
            app: world.app(vec![Arc::clone(&accounts) as _]),
            world,
            accounts,
        }
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.app.send(method, path, &headers, body).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, &Value::Null).await
    }

    async fn register(&self, email: &str) -> String {
        let body = json!({"email": email, "password": PASSWORD, "name": "Alex"});
        let answer = self.send("POST", "/users", "", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn try_login(&self, email: &str, password: &str) -> Answer {
        let body = json!({"email": email, "password": password});
        self.send("POST", "/login", "", &body).await
    }

    async fn login(&self, email: &str) -> String {
        let answer = self.try_login(email, PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    async fn admin(&self) -> String {
        let users = self.accounts.users();
        users
            .create("admin@example.com", PASSWORD, None, Role::Admin)
            .await
            .unwrap();
        self.login("admin@example.com").await
    }

    async fn product(&self, admin: &str, id: &str, price: u64) {
        let body = json!({"id": id, "name": "Coffee Mug", "price": price, "category": "kitchen"});
        let answer = self.send("POST", "/products", admin, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    async fn order(&self, token: &str, items: &Value) -> Answer {
        self.send("POST", "/orders", token, &json!({ "items": items }))
            .await
    }

    /// A record past the dialect.
    async fn record(&self, parts: &[&str]) -> Option<Value> {
        let entry = self.world.get("default", &Key::from_strings(parts)).await?;
        Some(serde_json::from_slice(&entry.value.bytes).unwrap())
    }
}

#[tokio::test]
async fn the_root_tells_programs_that_it_runs_and_browsers_where_the_console_is() {
    let shop = Shop::new();
    let answer = shop.get("/", "").await;
    assert_eq!(answer.text(), r#"{"message":"API is running"}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let browser = [("accept", "text/html,application/xhtml+xml")];
    let answer = shop.app.send("GET", "/", &browser, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, Some("/_/"))
    );
}

#[tokio::test]
async fn registration_writes_the_articles_records_without_the_password() {
    let shop = Shop::new();
    let body = json!({"email": " Alex@Example.com ", "password": PASSWORD, "name": "Alex", "x": 1});
    let answer = shop.send("POST", "/users", "", &body).await;
    assert_eq!(answer.status, 201);
    let user = answer.json();
    let id = user["id"].as_str().unwrap();
    assert_eq!(user, json!({"id": id, "email": "alex@example.com"}));
    assert_eq!(
        shop.record(&["users", id]).await.unwrap(),
        json!({"id": id, "email": "alex@example.com", "name": "Alex", "createdAt": "2026-01-02T03:04:05.000Z"})
    );
    assert_eq!(
        shop.record(&["users_by_email", "alex@example.com"]).await,
        Some(json!(id))
    );
    let secrets = shop
        .world
        .system
        .get(&Key::from_strings(["users", id]))
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(secrets.value.bytes.to_vec()).unwrap();
    assert!(text.contains("$argon2id$") && !text.contains(PASSWORD));
}

#[tokio::test]
async fn every_fault_of_a_registration_is_named_at_once() {
    let shop = Shop::new();
    let body = json!({"email": "nobody", "password": "short", "name": 7});
    let answer = shop.send("POST", "/users", "", &body).await;
    assert_eq!(answer.status, 400);
    let request_id = answer.header("x-request-id").unwrap();
    assert_eq!(
        answer.json(),
        json!({"errors": [
            {"path": ["email"], "code": "invalid_string", "message": "Invalid email"},
            {"path": ["password"], "code": "too_small", "message": "String must contain at least 8 character(s)"},
            {"path": ["name"], "code": "invalid_type", "message": "Expected string, received number"},
        ], "requestId": request_id})
    );
    for bad in ["", "{", "[]", "null", "\"x\"", "{\"email\":\"\u{0}\"}"] {
        let answer = shop.app.send("POST", "/users", &[], bad.to_owned()).await;
        assert_eq!(answer.status, 400, "{bad:?}");
    }
    let long = json!({"email": "a@b.example", "password": "x".repeat(257)});
    assert_eq!(shop.send("POST", "/users", "", &long).await.status, 400);
    let deep = "[".repeat(60_000);
    assert_eq!(shop.app.send("POST", "/users", &[], deep).await.status, 400);
    for (characters, status) in [(7, 400), (8, 201), (256, 201)] {
        // Of two bytes each: characters count.
        let email = format!("p{characters}@example.com");
        let body = json!({"email": email, "password": "ü".repeat(characters)});
        let answer = shop.send("POST", "/users", "", &body).await;
        assert_eq!(answer.status, status, "{characters} characters");
    }
}

#[tokio::test]
async fn bodies_end_at_64_kib() {
    let shop = Shop::new();
    let body = |bytes: usize| {
        let frame = r#"{"email":"x","password":""}"#.len();
        format!(
            r#"{{"email":"x","password":"{}"}}"#,
            "p".repeat(bytes - frame)
        )
    };
    let send = |bytes| shop.app.send("POST", "/login", &[], body(bytes));
    assert_eq!(send(64 * 1024).await.status, 401);
    let answer = send(64 * 1024 + 1).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["error"].as_str().unwrap().contains("65536"));
}

#[tokio::test]
async fn of_64_simultaneous_registrations_of_one_email_exactly_one_wins() {
    let shop = Shop::new();
    let answers = join_all((0..64).map(|n| {
        let email = if n % 2 == 0 {
            "same@example.com"
        } else {
            "SAME@example.com"
        };
        let body = json!({"email": email, "password": PASSWORD});
        let shop = &shop;
        async move { shop.send("POST", "/users", "", &body).await }
    }))
    .await;
    let count = |status: u16| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(201), count(409)), (1, 63));
    let lost = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(lost.json()["error"], "User already exists");
}

#[tokio::test]
async fn login_gives_a_pinned_token_and_a_session_row_that_expires_with_it() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let answer = shop.try_login("ALEX@example.com", PASSWORD).await;
    let login = answer.json();
    assert_eq!(
        login["user"],
        json!({"id": id, "email": "alex@example.com"})
    );
    let token = login["token"].as_str().unwrap();
    let mut parts = token.split('.').map(|part| {
        serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap())
    });
    assert_eq!(parts.next().unwrap().unwrap()["alg"], "HS256");
    let claims = parts.next().unwrap().unwrap();
    assert_eq!(
        (&claims["sub"], &claims["userId"]),
        (&json!(id), &json!(id))
    );
    assert_eq!(claims["email"], "alex@example.com");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        86_400
    );
    assert!(claims["jti"].is_string());

    let profile = shop.get("/profile", token).await;
    assert_eq!(
        profile.json(),
        json!({"id": id, "email": "alex@example.com", "name": "Alex", "createdAt": "2026-01-02T03:04:05.000Z"})
    );
    shop.world.clock.advance_ms(86_400_000 - 1);
    assert_eq!(shop.get("/profile", token).await.status, 200);
    shop.world.clock.advance_ms(1);
    assert_eq!(shop.get("/profile", token).await.status, 401);
}

#[tokio::test]
async fn unknown_email_and_wrong_password_look_alike() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let without_id = |answer: Answer| {
        let mut json = answer.json();
        json.as_object_mut().unwrap().remove("requestId");
        (answer.status, json)
    };
    let unknown = without_id(shop.try_login("nobody@example.com", PASSWORD).await);
    let wrong = without_id(shop.try_login("alex@example.com", "wrong horse").await);
    let odd = without_id(shop.try_login("no email at all", PASSWORD).await);
    assert_eq!(
        unknown,
        (
            StatusCode::UNAUTHORIZED,
            json!({"error": "Invalid email or password"})
        )
    );
    assert_eq!((&wrong, &odd), (&unknown, &unknown));
}

#[tokio::test]
async fn forged_tokens_and_tokens_without_a_row_are_refused() {
    let settings = Settings {
        jwt_secret: Some("a secret of the test".into()),
        ..Settings::default()
    };
    let shop = Shop::with(settings);
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let now = shop.world.now().0 / 1000;
    let claims = json!({"sub": id, "userId": id, "email": "alex@example.com", "iat": now, "exp": now + 60, "jti": "x"});
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let signature = token.rsplit_once('.').unwrap().1;
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims));
    let swapped = format!(
        "{}.{}.{signature}",
        part(&json!({"alg": "RS256"})),
        part(&claims)
    );
    let without_row = kvasir_auth::jwt::Hs256::new(b"a secret of the test")
        .sign(&claims)
        .unwrap();
    let guessed = kvasir_auth::jwt::Hs256::new(b"dev-secret")
        .sign(&claims)
        .unwrap();
    for token in [
        "",
        "x",
        &unsigned,
        &swapped,
        &without_row,
        &guessed,
        &format!("{token}x"),
    ] {
        for path in ["/profile", "/orders", "/orders/x"] {
            let answer = shop.get(path, token).await;
            assert_eq!(answer.status, 401, "{path} {token}");
            assert!(answer.header("www-authenticate").is_some());
            assert!(answer.json()["error"].is_string() && answer.json()["requestId"].is_string());
        }
    }
    assert_eq!(shop.get("/profile", &token).await.status, 200);
}

#[tokio::test]
async fn a_generated_secret_is_kept_so_sessions_survive_a_restart() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let ctx = shop.world.ctx("accounts", "", "default");
    let again = Accounts::new(ctx, Settings::default(), Passwords::new(1));
    let app = shop.world.app(vec![Arc::new(again)]);
    let bearer = format!("Bearer {token}");
    let answer = app
        .send("GET", "/profile", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn logout_ends_the_session_at_once() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let (one, two) = (
        shop.login("alex@example.com").await,
        shop.login("alex@example.com").await,
    );
    let answer = shop.send("POST", "/logout", &one, &Value::Null).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (204, ""));
    assert_eq!(shop.get("/profile", &one).await.status, 401);
    assert_eq!(shop.get("/profile", &two).await.status, 200);
}

#[tokio::test]
async fn last_active_is_written_at_most_once_a_minute() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let digest = {
        use sha2::Digest;
        data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(token.as_bytes()))
    };
    let last = || async {
        shop.record(&["sessions", &digest]).await.unwrap()["lastActive"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    shop.world.clock.advance_ms(59_999);
    shop.get("/profile", &token).await;
    assert_eq!(last().await, "2026-01-02T03:04:05.000Z");
    shop.world.clock.advance_ms(1);
    shop.get("/profile", &token).await;
    assert_eq!(last().await, "2026-01-02T03:05:05.000Z");
    let row = shop
        .world
        .get("default", &Key::from_strings(["sessions", &digest]))
        .await
        .unwrap();
    assert_eq!(
        row.expires_at.unwrap().0,
        crate::support::START.0 + 86_400_000
    );
}

#[tokio::test]
async fn a_profile_can_change_its_name_and_email() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    shop.register("taken@example.com").await;
    let token = shop.login("alex@example.com").await;
    let change = |body: Value| {
        let (shop, token) = (&shop, &token);
        async move { shop.send("PATCH", "/profile", token, &body).await }
    };
    let answer = change(json!({"email": "New@example.com", "name": "A."})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["email"], "new@example.com");
    assert_eq!(
        change(json!({"email": "taken@example.com"})).await.status,
        409
    );
    assert_eq!(change(json!({"email": "nope"})).await.status, 400);
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        401
    );
    assert_eq!(
        shop.try_login("new@example.com", PASSWORD).await.status,
        200
    );
    shop.register("alex@example.com").await;
    assert_eq!(shop.get("/profile", &token).await.json()["name"], "A.");
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let (mine, other) = (
        shop.login("alex@example.com").await,
        shop.login("alex@example.com").await,
    );
    let body = |current: &str| json!({"currentPassword": current, "newPassword": "battery staple"});
    let answer = shop
        .send("POST", "/profile/password", &mine, &body("wrong horse"))
        .await;
    assert_eq!(answer.status, 401);
    let answer = shop
        .send("POST", "/profile/password", &mine, &body(PASSWORD))
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(shop.get("/profile", &mine).await.status, 200);
    assert_eq!(shop.get("/profile", &other).await.status, 401);
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        401
    );
    assert_eq!(
        shop.try_login("alex@example.com", "battery staple")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_that_logs_in() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let admin = shop.admin().await;
    shop.product(&admin, "mug", 1999).await;
    let token = shop.login("alex@example.com").await;
    shop.order(&token, &json!([{"productId": "mug", "quantity": 1}]))
        .await;
    assert_eq!(
        shop.send("DELETE", "/profile", &token, &Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(shop.get("/profile", &token).await.status, 401);
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        401
    );
    assert_eq!(shop.record(&["users", &id]).await, None);
    assert_eq!(
        shop.record(&["users_by_email", "alex@example.com"]).await,
        None
    );
    let below = kvasir_kv::KeyRange::below(&Key::from_strings(["users", &id]));
    let list = kvasir_kv::keyspace::List {
        range: below,
        limit: 10,
        reverse: false,
        cursor: None,
    };
    assert_eq!(
        shop.world
            .keyspace("default")
            .list(list)
            .await
            .unwrap()
            .entries,
        []
    );
    shop.register("alex@example.com").await;
}

#[tokio::test]
async fn products_are_read_by_anyone_and_written_by_administrators() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let user = shop.login("alex@example.com").await;
    let admin = shop.admin().await;
    let mug = json!({"id": "prod456", "name": "Coffee Mug", "price": 1999, "category": "kitchen"});
    for (method, path) in [
        ("POST", "/products"),
        ("PUT", "/products/prod456"),
        ("DELETE", "/products/prod456"),
    ] {
        assert_eq!(
            shop.send(method, path, "", &mug).await.status,
            401,
            "{method}"
        );
        assert_eq!(
            shop.send(method, path, &user, &mug).await.status,
            403,
            "{method}"
        );
    }
    let answer = shop.send("POST", "/products", &admin, &mug).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (201, mug.clone()));
    assert_eq!(
        shop.send("POST", "/products", &admin, &mug).await.status,
        409
    );
    assert_eq!(shop.get("/products/prod456", "").await.json(), mug);
    assert_eq!(
        shop.record(&["products", "prod456"]).await,
        Some(mug.clone())
    );
    let cheaper = json!({"name": "Coffee Mug", "price": 999});
    let answer = shop
        .send("PUT", "/products/prod456", &admin, &cheaper)
        .await;
    assert_eq!(
        answer.json(),
        json!({"id": "prod456", "name": "Coffee Mug", "price": 999})
    );
    assert_eq!(
        shop.send("PUT", "/products/none", &admin, &cheaper)
            .await
            .status,
        404
    );
    for bad in [
        json!(-1),
        json!(1.5),
        json!("1"),
        json!(9_007_199_254_740_992_u64),
        Value::Null,
    ] {
        let body = json!({"name": "x", "price": bad});
        let answer = shop.send("POST", "/products", &admin, &body).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.json()["errors"][0]["path"], json!(["price"]));
    }
    assert_eq!(
        shop.send("DELETE", "/products/prod456", &admin, &Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        shop.send("DELETE", "/products/prod456", &admin, &Value::Null)
            .await
            .status,
        404
    );
    assert_eq!(shop.get("/products/prod456", "").await.status, 404);
}

#[tokio::test]
async fn the_product_list_is_cached_and_any_write_to_products_invalidates_it_at_once() {
    let shop = Shop::new();
    let admin = shop.admin().await;
    let list = || async {
        let answer = shop.get("/products", "").await;
        (
            answer.header("x-cache").unwrap().to_owned(),
            answer.json().as_array().unwrap().len(),
        )
    };
    assert_eq!(list().await, ("miss".into(), 0));
    assert_eq!(list().await, ("hit".into(), 0));
    shop.product(&admin, "a", 1).await;
    assert_eq!(list().await, ("miss".into(), 1));
    assert_eq!(list().await, ("hit".into(), 1));
    // As a Deno program or REST would, past this dialect.
    let other = Stored::json(r#"{"id":"b","name":"B","price":2}"#);
    shop.world
        .put("default", Key::from_strings(["products", "b"]), other)
        .await;
    assert_eq!(list().await, ("miss".into(), 2));
    shop.world
        .put(
            "default",
            Key::from_strings(["orders", "x"]),
            Stored::json("1"),
        )
        .await;
    assert_eq!(list().await, ("hit".into(), 2));
    shop.world.clock.advance_ms(30_000);
    assert_eq!(list().await, ("miss".into(), 2));
}

#[tokio::test]
async fn records_of_other_shapes_are_passed_over() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    for (id, value) in [
        ("number", Stored::json("1")),
        ("bytes", Stored::bytes(vec![0xff])),
        ("broken", Stored::v8(vec![0xff, 15, b'o'])),
        ("counter", Stored::u64(7)),
        (
            "other-id",
            Stored::json(r#"{"id":"x","name":"n","price":1}"#),
        ),
        (
            "negative",
            Stored::json(r#"{"id":"negative","name":"n","price":-1}"#),
        ),
        (
            "huge",
            Stored::json(r#"{"id":"huge","name":"n","price":9007199254740992}"#),
        ),
    ] {
        shop.world
            .put(
                "default",
                Key::from_strings(["products", id]),
                value.clone(),
            )
            .await;
        shop.world
            .put("default", Key::from_strings(["users", id]), value.clone())
            .await;
        shop.world
            .put("default", Key::from_strings(["orders", id]), value.clone())
            .await;
        shop.world
            .put(
                "default",
                Key::from_strings(["users_by_email", &format!("{id}@x.example")]),
                value,
            )
            .await;
        assert_eq!(
            shop.get(&format!("/products/{id}"), "").await.status,
            404,
            "{id}"
        );
        assert_eq!(
            shop.get(&format!("/orders/{id}"), &token).await.status,
            404,
            "{id}"
        );
        assert_eq!(
            shop.try_login(&format!("{id}@x.example"), PASSWORD)
                .await
                .status,
            401,
            "{id}"
        );
        let answer = shop
            .order(&token, &json!([{"productId": id, "quantity": 1}]))
            .await;
        assert_eq!(answer.status, 400, "{id}");
    }
    assert_eq!(shop.get("/products", "").await.text(), "[]");
}

#[tokio::test]
async fn orders_take_their_prices_from_the_store() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let admin = shop.admin().await;
    shop.product(&admin, "mug", 1999).await;
    shop.product(&admin, "tea", 1).await;
    let token = shop.login("alex@example.com").await;
    let items = json!([{"productId": "mug", "quantity": 2}, {"productId": "tea", "quantity": 1}]);
    let answer = shop.order(&token, &items).await;
    assert_eq!(answer.status, 201);
    let order = answer.json();
    let order_id = order["id"].as_str().unwrap();
    assert_eq!(
        order,
        json!({"id": order_id, "userId": id, "items": items, "total": 3999, "status": "pending", "createdAt": "2026-01-02T03:04:05.000Z"})
    );
    assert_eq!(
        shop.record(&["orders", order_id]).await,
        Some(order.clone())
    );
    let mark = shop.record(&["users", &id, "orders", order_id]).await;
    assert_eq!(mark, Some(json!({"status": "pending"})));
    assert_eq!(
        shop.get(&format!("/orders/{order_id}"), &token)
            .await
            .json(),
        order
    );
    assert_eq!(shop.get("/orders", &token).await.json(), json!([order]));

    shop.register("eve@example.com").await;
    let eve = shop.login("eve@example.com").await;
    assert_eq!(shop.get("/orders", &eve).await.text(), "[]");
    let theirs = shop.get(&format!("/orders/{order_id}"), &eve).await;
    let none = shop.get("/orders/none", &eve).await;
    assert_eq!((theirs.status.as_u16(), none.status.as_u16()), (404, 404));
    assert_eq!(theirs.json()["error"], none.json()["error"]);
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    let shop = Shop::new();
    shop.register("alex@example.com").await;
    let admin = shop.admin().await;
    shop.product(&admin, "gold", 9_007_199_254_740_991).await;
    let token = shop.login("alex@example.com").await;
    for (items, expected) in [
        (json!([]), json!(["items"])),
        (json!("x"), json!(["items"])),
        (
            json!([{"productId": "gold"}]),
            json!(["items", 0, "quantity"]),
        ),
        (
            json!([{"productId": "gold", "quantity": 0}]),
            json!(["items", 0, "quantity"]),
        ),
        (
            json!([{"productId": "gold", "quantity": 1.5}]),
            json!(["items", 0, "quantity"]),
        ),
        (
            json!([{"productId": "gold", "quantity": 1_000_001}]),
            json!(["items", 0, "quantity"]),
        ),
        (
            json!([{"productId": 1, "quantity": 1}]),
            json!(["items", 0, "productId"]),
        ),
    ] {
        let answer = shop.order(&token, &items).await;
        assert_eq!(answer.status, 400, "{items}");
        assert_eq!(answer.json()["errors"][0]["path"], expected);
    }
    let many: Vec<Value> = vec![json!({"productId": "gold", "quantity": 1}); 101];
    assert_eq!(shop.order(&token, &json!(many)).await.status, 400);
    let unknown = shop
        .order(&token, &json!([{"productId": "none", "quantity": 1}]))
        .await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["error"]),
        (400, &json!("Unknown product \"none\""))
    );
    let overflow = shop
        .order(&token, &json!([{"productId": "gold", "quantity": 2}]))
        .await;
    assert_eq!(overflow.status, 400);
    let most = shop
        .order(&token, &json!([{"productId": "gold", "quantity": 1}]))
        .await;
    assert_eq!(most.status, 201);
    assert_eq!(
        shop.get("/orders", &token)
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn many_orders_come_as_one_array() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    for n in 0..1200 {
        let order_id = format!("o{n:04}");
        let order =
            json!({"id": order_id, "userId": id, "items": [], "total": n, "status": "pending"});
        let keys = [
            vec!["orders", &order_id],
            vec!["users", &id, "orders", &order_id],
        ];
        for key in keys {
            let value = Stored::json(order.to_string());
            shop.world
                .put("default", Key::from_strings(key), value)
                .await;
        }
    }
    let orders = shop.get("/orders", &token).await.json();
    let orders = orders.as_array().unwrap();
    assert_eq!(orders.len(), 1200);
    assert!(
        orders
            .iter()
            .enumerate()
            .all(|(n, order)| order["total"] == n)
    );
}

#[tokio::test]
async fn known_paths_name_their_methods() {
    let shop = Shop::new();
    for (method, path, allow) in [
        ("GET", "/users", "POST"),
        ("DELETE", "/login", "POST"),
        ("PUT", "/logout", "POST"),
        ("POST", "/profile", "GET,HEAD,PATCH,DELETE"),
        ("PATCH", "/products", "GET,HEAD,POST"),
        ("POST", "/products/x", "GET,HEAD,PUT,DELETE"),
        ("DELETE", "/orders", "GET,HEAD,POST"),
        ("DELETE", "/", "GET,HEAD"),
    ] {
        let answer = shop.send(method, path, "", &Value::Null).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        let allowed: Vec<&str> = answer
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::trim)
            .collect();
        for method in allow.split(',') {
            assert!(allowed.contains(&method), "{path}: {allowed:?}");
        }
        assert!(answer.json()["error"].is_string());
        let options = shop.send("OPTIONS", path, "", &Value::Null).await;
        assert_eq!(options.status, 200);
        for method in allow.split(',') {
            assert!(options.header("allow").unwrap().contains(method), "{path}");
        }
    }
    for path in ["/users/x/y", "/login/x", "/orders/a/b"] {
        let answer = shop.get(path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn too_many_failures_for_one_email_are_429_until_time_passes() {
    let shop = Shop::with(Settings {
        failures_per_minute: 3,
        ..Settings::default()
    });
    shop.register("alex@example.com").await;
    for _ in 0..3 {
        assert_eq!(
            shop.try_login("alex@example.com", "wrong horse")
                .await
                .status,
            401
        );
    }
    let answer = shop.try_login("Alex@example.com", PASSWORD).await;
    assert_eq!(answer.status, 429);
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    shop.world.clock.advance_ms(60_000);
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        200
    );
}

#[tokio::test]
async fn too_many_attempts_from_one_address_are_429() {
    let shop = Shop::with(Settings {
        attempts_per_minute: 2,
        ..Settings::default()
    });
    let body = json!({"email": "x", "password": "y"});
    for _ in 0..2 {
        assert_eq!(shop.send("POST", "/users", "", &body).await.status, 400);
    }
    assert_eq!(shop.send("POST", "/users", "", &body).await.status, 429);
    assert_eq!(shop.send("POST", "/login", "", &body).await.status, 429);
}

#[tokio::test]
async fn a_reset_token_works_once_and_for_an_hour() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let session = shop.login("alex@example.com").await;
    let reset = |token: String, password: &str| {
        let body = json!({"token": token, "password": password});
        let shop = &shop;
        async move {
            shop.send("POST", "/login/reset", "", &body)
                .await
                .status
                .as_u16()
        }
    };
    let token = shop.accounts.users().begin_reset(&id).await.unwrap();
    assert_eq!(reset(token.clone(), "short").await, 400);
    assert_eq!(reset("guess".into(), "battery staple").await, 400);
    assert_eq!(reset(token.clone(), "battery staple").await, 204);
    assert_eq!(reset(token, "another password").await, 400);
    assert_eq!(shop.get("/profile", &session).await.status, 401);
    assert_eq!(
        shop.try_login("alex@example.com", "battery staple")
            .await
            .status,
        200
    );
    let late = shop.accounts.users().begin_reset(&id).await.unwrap();
    shop.world.clock.advance_ms(60 * 60 * 1000);
    assert_eq!(reset(late, "battery staple").await, 400);
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let users = shop.accounts.users();
    users
        .change(&id, |secrets| secrets.disabled = true)
        .await
        .unwrap();
    assert_eq!(shop.get("/profile", &token).await.status, 401);
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        401
    );
    users
        .change(&id, |secrets| secrets.disabled = false)
        .await
        .unwrap();
    assert_eq!(
        shop.get("/profile", &token).await.status,
        401,
        "ended sessions stay ended"
    );
    assert_eq!(
        shop.try_login("alex@example.com", PASSWORD).await.status,
        200
    );
}

#[tokio::test]
async fn registration_can_be_switched_off() {
    let shop = Shop::with(Settings {
        registration: false,
        ..Settings::default()
    });
    let body = json!({"email": "alex@example.com", "password": PASSWORD});
    assert_eq!(shop.send("POST", "/users", "", &body).await.status, 403);
}

#[tokio::test]
async fn a_deno_programs_user_record_with_a_date_is_understood() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    // What `kv.set(["users", id], {..., createdAt: new Date(0)})` stores.
    let json = json!({
        "id": id, "email": "alex@example.com", "passwordHash": "ignored",
        "createdAt": {"type": "Date", "value": "1970-01-01T00:00:00.000Z", "$kvasir": 1}
    });
    let value = kvasir_api::v8json::parse(&json.to_string().into()).unwrap();
    assert_eq!(value.encoding, Encoding::V8);
    shop.world
        .put("default", Key::from_strings(["users", &id]), value)
        .await;
    let profile = shop.get("/profile", &token).await.json();
    assert_eq!(
        profile,
        json!({"id": id, "email": "alex@example.com", "createdAt": "1970-01-01T00:00:00.000Z"})
    );
}

#[tokio::test]
async fn changing_a_profile_keeps_what_other_programs_store_in_the_record() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let json = json!({
        "id": id, "email": "alex@example.com", "points": 7,
        "createdAt": {"type": "Date", "value": "1970-01-01T00:00:00.000Z", "$kvasir": 1}
    });
    let value = kvasir_api::v8json::parse(&json.to_string().into()).unwrap();
    let key = Key::from_strings(["users", &id]);
    shop.world.put("default", key.clone(), value).await;
    let change = json!({"name": "Alex J.", "email": "new@example.com"});
    let answer = shop.send("PATCH", "/profile", &token, &change).await;
    assert_eq!(answer.status, 200);
    let stored = shop.world.get("default", &key).await.unwrap().value;
    assert_eq!(stored.encoding, Encoding::V8, "the date is still one");
    let shown: Value = serde_json::from_slice(&kvasir_api::v8json::render(&stored).text).unwrap();
    assert_eq!(shown["points"], 7);
    assert_eq!(shown["createdAt"]["type"], "Date");
    assert_eq!(shown["name"], "Alex J.");
    assert_eq!(shown["email"], "new@example.com");
}

#[tokio::test]
async fn a_user_that_another_program_registered_gets_a_password_by_a_reset() {
    let shop = Shop::new();
    // As the article's registration writes it, with the email as it was typed.
    let record = Stored::json(
        r#"{"id":"u1","email":"Deno@Example.com","passwordHash":"plain","createdAt":"x"}"#,
    );
    let put = async |parts: &[&str], value| {
        let key = Key::from_strings(parts);
        shop.world.put("default", key, value).await;
    };
    put(&["users", "u1"], record).await;
    put(
        &["users_by_email", "Deno@Example.com"],
        Stored::json(r#""u1""#),
    )
    .await;
    let login = shop.try_login("deno@example.com", "plain").await;
    assert_eq!(
        login.status, 401,
        "what stands in the record is no password"
    );

    let users = shop.accounts.users();
    for name in ["u1", "Deno@Example.com"] {
        assert_eq!(users.id_of(name).await.unwrap().as_deref(), Some("u1"));
    }
    assert_eq!(users.id_of("u2").await.unwrap(), None);
    assert_eq!(users.id_of("eve@example.com").await.unwrap(), None);
    let reset = users.begin_reset("u1").await.unwrap();
    let body = json!({"token": reset, "password": PASSWORD});
    assert_eq!(
        shop.send("POST", "/login/reset", "", &body).await.status,
        204
    );
    let token = shop.login("deno@example.com").await;
    assert_eq!(shop.get("/profile", &token).await.json()["id"], "u1");
    assert_eq!(
        shop.record(&["users", "u1"]).await.unwrap()["passwordHash"],
        "plain",
        "the other program's record is as it was"
    );

    // Somebody else has the email here: nobody is taken over.
    shop.register("taken@example.com").await;
    put(
        &["users", "u2"],
        Stored::json(r#"{"id":"u2","email":"TAKEN@example.com"}"#),
    )
    .await;
    let reset = users.begin_reset("u2").await.unwrap();
    let body = json!({"token": reset, "password": PASSWORD});
    assert_eq!(
        shop.send("POST", "/login/reset", "", &body).await.status,
        409
    );
}

#[tokio::test]
async fn of_two_simultaneous_uses_of_a_reset_token_one_wins() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.accounts.users().begin_reset(&id).await.unwrap();
    let use_it = |password: &str| {
        let body = json!({"token": token, "password": password});
        let shop = &shop;
        async move {
            shop.send("POST", "/login/reset", "", &body)
                .await
                .status
                .as_u16()
        }
    };
    let (one, other) = tokio::join!(use_it("first password"), use_it("second password"));
    let mut statuses = [one, other];
    statuses.sort_unstable();
    assert_eq!(statuses[0], 204, "{statuses:?}");
    assert!(matches!(statuses[1], 400 | 409), "{statuses:?}");
}

/// A small generator of JSON; the same seed gives the same values.
struct Shapes(u64);

impl Shapes {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }

    /// Members that records have, with values that they should not.
    fn json(&mut self, depth: u32) -> Value {
        const MEMBERS: [&str; 14] = [
            "id",
            "email",
            "name",
            "price",
            "category",
            "userId",
            "items",
            "productId",
            "quantity",
            "total",
            "status",
            "createdAt",
            "lastActive",
            "$kvasir",
        ];
        match self.below(if depth == 0 { 7 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1 << 31)),
            3 => json!(-1.5e308),
            4 => json!(u64::MAX),
            5 => json!("alex@example.com"),
            6 => json!("\u{0}\u{ffff}'\"<"),
            7 => (0..self.below(4)).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let members = (0..self.below(8)).map(|_| {
                    let name = MEMBERS[self.below(MEMBERS.len() as u64) as usize];
                    (name.to_owned(), self.json(depth - 1))
                });
                Value::Object(members.collect())
            }
        }
    }

    fn value(&mut self) -> Stored {
        let json = self.json(3).to_string();
        match self.below(6) {
            0 => Stored::bytes(json.into_bytes()),
            1 => Stored::u64(self.below(u64::MAX)),
            2 => Stored::v8(json.into_bytes()),
            3 => kvasir_api::v8json::parse(&json.clone().into()).unwrap_or(Stored::json("{}")),
            _ => Stored::json(json),
        }
    }
}

#[tokio::test]
async fn no_record_of_whatever_shape_under_the_articles_keys_causes_a_500() {
    let shop = Shop::new();
    let id = shop.register("alex@example.com").await;
    let token = shop.login("alex@example.com").await;
    let digest = {
        use sha2::Digest;
        data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(token.as_bytes()))
    };
    let seed = shop.world.now().0.unsigned_abs();
    let mut shapes = Shapes(seed);
    let keep: Vec<(Key, Stored)> = {
        let mut keep = Vec::new();
        for parts in [
            vec!["users", &id],
            vec!["users_by_email", "alex@example.com"],
            vec!["sessions", &digest],
        ] {
            let key = Key::from_strings(&parts);
            let entry = shop.world.get("default", &key).await.unwrap();
            keep.push((key, entry.value));
        }
        keep
    };
    for round in 0..300 {
        let keys = [
            vec!["products", "p"],
            vec!["products", "p", "deeper"],
            vec!["orders", "o"],
            vec!["users", &id, "orders", "o"],
            vec!["users", &id, "orders", "o", "deeper"],
            vec!["users", "other"],
            vec!["users_by_email", "other@example.com"],
        ];
        for parts in keys {
            let value = shapes.value();
            shop.world
                .put("default", Key::from_strings(&parts), value)
                .await;
        }
        // Now and then the caller's own records too.
        let broken = shapes.below(6) as usize;
        if let Some((key, _)) = keep.get(broken) {
            shop.world.put("default", key.clone(), shapes.value()).await;
        }
        let order = json!({"items": [{"productId": "p", "quantity": 1}]});
        let requests = [
            ("GET", "/products", Value::Null),
            ("GET", "/products/p", Value::Null),
            ("GET", "/profile", Value::Null),
            ("GET", "/orders", Value::Null),
            ("GET", "/orders/o", Value::Null),
            ("POST", "/orders", order),
            ("PATCH", "/profile", json!({"name": "x"})),
        ];
        for (method, path, body) in requests {
            let answer = shop.send(method, path, &token, &body).await;
            assert!(
                answer.status.as_u16() < 500,
                "round {round}: {method} {path}: {}",
                answer.text()
            );
            answer.json();
        }
        if round % 50 == 0 {
            for email in ["other@example.com", "alex@example.com"] {
                let answer = shop.try_login(email, PASSWORD).await;
                assert!(answer.status.as_u16() < 500, "{}", answer.text());
            }
            let _ = shop
                .accounts
                .users()
                .id_of("other@example.com")
                .await
                .unwrap();
            shop.world.clock.advance_ms(3_600_000 / 4);
        }
        for (key, value) in &keep {
            shop.world.put("default", key.clone(), value.clone()).await;
        }
    }
}
