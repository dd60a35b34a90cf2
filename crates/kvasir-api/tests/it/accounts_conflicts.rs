//! Orders that meet concurrent changes: tried again a bounded number of times, then refused whole.

use std::sync::Arc;

use kvasir_api::accounts::{Accounts, Settings};
use kvasir_auth::Passwords;
use kvasir_kv::{Entry, Key, KeyRange, Keyspace, KeyspaceName, SnapshotRead, Value as Stored};
use serde_json::{Value, json};

use crate::contested::Contested;
use crate::support::{Answer, App, World};

/// Tries of one order, the first among them; `TRIES_MAX` in `accounts/orders.rs`.
const TRIES: u32 = 5;

const PASSWORD: &str = "correct horse";

/// A shop with one customer and one product, on a contested store.
struct Shop {
    world: World,
    app: App,
    store: Arc<Contested>,
    user: String,
    token: String,
}

impl Shop {
    async fn open() -> Shop {
        let (world, store) = Contested::world();
        let ctx = world.ctx("accounts", "", "default");
        let accounts = Accounts::new(ctx, Settings::default(), Passwords::new(2));
        let app = world.app(vec![Arc::new(accounts)]);
        let mut shop = Shop {
            world,
            app,
            store,
            user: String::new(),
            token: String::new(),
        };
        let credentials = json!({"email": "alex@example.com", "password": PASSWORD});
        let made = shop.post("/users", &credentials).await;
        shop.user = made.json()["id"].as_str().unwrap().to_owned();
        let login = shop.post("/login", &credentials).await;
        shop.token = login.json()["token"].as_str().unwrap().to_owned();
        let mug = json!({"id": "mug", "name": "Mug", "price": 1999, "category": "kitchen"});
        let key = Key::from_strings(["products", "mug"]);
        shop.world
            .put("default", key, Stored::json(mug.to_string()))
            .await;
        shop
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("content-type", "application/json")];
        if !self.token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        self.app
            .send("POST", path, &headers, body.to_string())
            .await
    }

    async fn order(&self) -> Answer {
        let items = json!({"items": [{"productId": "mug", "quantity": 2}]});
        self.post("/orders", &items).await
    }

    /// A key of the database as the store has it.
    fn stored(&self, parts: &[&str]) -> Key {
        let store = Arc::clone(&self.world.store);
        let data = Keyspace::new(store, KeyspaceName::default_database());
        data.stored_key(&Key::from_strings(parts))
    }

    /// Everything under the keys of orders, of all users together and of the one.
    async fn orders(&self) -> Vec<Entry> {
        let mut found = Vec::new();
        for prefix in [&["orders"][..], &["users", self.user.as_str(), "orders"]] {
            let range = KeyRange::below(&Key::from_strings(prefix));
            let read = SnapshotRead::range(kvasir_kv::RangeRead::new(range, 100));
            let read = self.world.keyspace("default").read(read).await.unwrap();
            found.extend(read.ranges.into_iter().flat_map(|range| range.entries));
        }
        found
    }
}

#[tokio::test]
async fn an_order_that_always_comes_too_late_is_tried_so_often_then_refused_and_changes_nothing() {
    let shop = Shop::open().await;
    for contested in [&["users", shop.user.as_str()][..], &["products", "mug"]] {
        let before = shop
            .world
            .get("default", &Key::from_strings(contested))
            .await;
        shop.store.contest(shop.stored(contested), None, u32::MAX);
        let answer = shop.order().await;
        assert_eq!(answer.status, 409, "{contested:?}: {}", answer.text());
        assert_eq!(shop.store.tries(), TRIES, "{contested:?}");
        assert_eq!(answer.header("x-kvasir-error"), Some("conflict"));
        let body = answer.json();
        assert!(
            body["error"].as_str().unwrap().contains("try again"),
            "{body}"
        );
        assert_eq!(body["requestId"].as_str(), answer.header("x-request-id"));
        assert_eq!(shop.orders().await, [], "nothing of the order is there");
        let after = shop
            .world
            .get("default", &Key::from_strings(contested))
            .await;
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(
            after.value, before.value,
            "only the rival wrote, and the same"
        );
    }
}

#[tokio::test]
async fn an_order_that_comes_in_time_at_last_is_placed_once() {
    let shop = Shop::open().await;
    let user = shop.stored(&["users", &shop.user]);
    shop.store.contest(user, None, TRIES - 1);
    let answer = shop.order().await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(shop.store.tries(), TRIES);
    assert_eq!(answer.json()["total"], 3998);
    // The order, and the mark below its user.
    assert_eq!(shop.orders().await.len(), 2);
}

#[tokio::test]
async fn a_price_that_changes_while_an_order_is_placed_is_read_anew() {
    let shop = Shop::open().await;
    let dearer = json!({"id": "mug", "name": "Mug", "price": 5000, "category": "kitchen"});
    let product = shop.stored(&["products", "mug"]);
    shop.store
        .contest(product, Some(Stored::json(dearer.to_string())), 1);
    let answer = shop.order().await;
    assert_eq!((answer.status.as_u16(), shop.store.tries()), (201, 2));
    assert_eq!(answer.json()["total"], 10_000);
}
