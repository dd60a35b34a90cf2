//! Two tenants who own something in every dialect, behind one public address.

use std::sync::Arc;

use kvasir_api::accounts::users::Role;
use kvasir_api::accounts::{self, Accounts};
use kvasir_api::admin::Admin;
use kvasir_api::classworks::{self, Classworks};
use kvasir_api::deno::{self, Deno};
use kvasir_api::edgekv::{self, EdgeKv};
use kvasir_api::kopano::{self, Kopano};
use kvasir_api::rest::{self, Rest};
use kvasir_api::{Dialect, classworks::RateLimit};
use kvasir_auth::edgegrid::signature::{content_hash, data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Client, Clients, Scheme};
use kvasir_auth::{AccessSettings, Passwords, RateSettings};
use kvasir_kv::{Clock, Entry, Key, KeyRange, Limits, Value};
use kvasir_testkit::oidc::{Algorithm, Issuer};
use secrecy::SecretString;
use serde_json::json;

use crate::support::{Answer, App, World};

/// Who asks.
pub(super) const OWN: &str = "aaa";
/// Whose things these are.
pub(super) const FOREIGN: &str = "bbb";
/// Nobody's.
pub(super) const NOBODY: &str = "ccc";

/// Stands in everything that belongs to [`FOREIGN`].
pub(super) const SEALED: &str = "sealed-of-bbb";

const EDGEGRID_SECRET: &str = "a3Zhc2lyLWxvY2FsLXNlY3JldA==";
const PASSWORD: &str = "correct horse battery";

pub(super) struct Estate {
    pub(super) world: World,
    /// Over a public address, so that being local is no credential.
    pub(super) app: App,
    pub(super) dialects: Vec<Arc<dyn Dialect>>,
    pub(super) issuer: Issuer,
    /// A session of [`OWN`] in the accounts dialect.
    pub(super) session: String,
    pub(super) foreign_user: String,
    pub(super) foreign_order: String,
    /// Values of EdgeKV access tokens for the namespaces of [`OWN`].
    pub(super) edge_token: String,
}

impl Estate {
    pub(super) async fn new() -> Estate {
        let rates = RateSettings {
            requests_per_second_per_address: 0,
            requests_per_second_per_token: 0,
            ..RateSettings::default()
        };
        let settings = AccessSettings {
            rates,
            ..AccessSettings::default()
        };
        let world = World::with(Limits::default(), settings);
        let issuer = Issuer::start().await;
        let kopano = kopano::Settings {
            issuer: Some(issuer.url()),
            ..kopano::Settings::default()
        };
        let kopano = Kopano::new(world.ctx("kopano", "/api/kvs/v1", "kopano"), kopano).unwrap();
        let kopano = Arc::new(kopano);
        tokio::spawn(Arc::clone(&kopano).background());
        let provider = Arc::clone(kopano.provider().unwrap());
        kvasir_testkit::within(kvasir_testkit::DEADLINE, "the keys", provider.ready()).await;

        let passwords = Passwords::new(2);
        let accounts = accounts::Settings {
            attempts_per_minute: 1_000_000,
            ..accounts::Settings::default()
        };
        let accounts = Accounts::new(
            world.ctx("accounts", "", "default"),
            accounts,
            passwords.clone(),
        );
        let accounts = Arc::new(accounts);
        let classworks = classworks::Settings {
            rate_limit: RateLimit::Off,
            ..classworks::Settings::default()
        };
        let edgekv = edgekv::Settings {
            auto_initialize: true,
            ..edgekv::Settings::default()
        };
        let dialects: Vec<Arc<dyn Dialect>> = vec![
            Arc::new(Admin::new(
                world.ctx("admin", "/_", "default"),
                passwords.clone(),
            )),
            Arc::new(Rest::new(
                world.ctx("rest", "/kv", "default"),
                rest::Settings::default(),
            )),
            Arc::new(EdgeKv::new(world.ctx("edgekv", "", "edgekv"), edgekv)),
            kopano,
            Arc::new(Deno::new(
                world.ctx("deno", "", "default"),
                deno::Settings::default(),
            )),
            Arc::new(Classworks::new(
                world.ctx("classworks", "/classworks", "classworks"),
                classworks,
                passwords,
            )),
            accounts.clone(),
        ];
        let app = world.app(dialects.clone()).on_public_address();
        let mut estate = Estate {
            world,
            app,
            dialects,
            issuer,
            session: String::new(),
            foreign_user: String::new(),
            foreign_order: String::new(),
            edge_token: String::new(),
        };
        estate.furnish(&accounts).await;
        estate
    }

    /// Gives both tenants something everywhere.
    async fn furnish(&mut self, accounts: &Accounts) {
        // While there are no tokens, this machine is its own administrator.
        let local = self.world.app(self.dialects.clone());
        for tenant in [OWN, FOREIGN] {
            let path = "/_/api/v1/databases";
            let body = json!({"name": tenant}).to_string();
            let headers = [("content-type", "application/json")];
            let answer = local.send("POST", path, &headers, body).await;
            assert!(answer.status.is_success(), "{}", answer.text());
        }
        for (tenant, word) in [(OWN, "own"), (FOREIGN, SEALED)] {
            let value = || Value::json(format!("\"{word}\""));
            let key = |parts: &[&str]| Key::from_strings(parts);
            self.world.put("default", key(&[tenant]), value()).await;
            self.world
                .put("default", key(&[tenant, "i"]), value())
                .await;
            self.world.put(tenant, key(&["k"]), value()).await;
            self.world
                .put("classworks", key(&[tenant, "k"]), value())
                .await;
            self.furnish_kopano(tenant, word).await;
            self.furnish_edgekv(tenant, word).await;
            let order = self.furnish_accounts(accounts, tenant, word).await;
            if tenant == FOREIGN {
                (self.foreign_user, self.foreign_order) = order;
            }
        }
        // Near what belongs to the first tenant, and not below it.
        for near in [
            "aaab",
            "AAA",
            "aaa\0x",
            "aa",
            "aaa.bbb",
            "aaa/bbb",
            "áaa",
            "ａａａ",
        ] {
            for keyspace in ["default", "classworks"] {
                let key = Key::from_strings([near, "bbb"]);
                let value = Value::json(format!("\"{SEALED}\""));
                self.world.put(keyspace, key, value).await;
            }
        }
    }

    pub(super) fn kopano_token(&self, user: &str, client: &str) -> String {
        let now = self.world.clock.now().0 / 1000;
        let mut claims = self.issuer.access_claims(user, client);
        claims["iat"] = json!(now);
        claims["exp"] = json!(now + 3600);
        self.issuer.key(Algorithm::Ps256).sign(&claims)
    }

    async fn furnish_kopano(&self, tenant: &str, word: &str) {
        let bearer = format!(
            "Bearer {}",
            self.kopano_token(&format!("user-{tenant}"), "app")
        );
        for key in [format!("c/{tenant}"), "c/i".to_owned()] {
            let path = format!("/api/kvs/v1/kv/user/{key}");
            let headers = [("authorization", &*bearer), ("content-type", "text/plain")];
            let answer = self.app.send("PUT", &path, &headers, word.to_owned()).await;
            assert_eq!(answer.status, 200);
        }
    }

    async fn furnish_edgekv(&mut self, tenant: &str, word: &str) {
        let clients = Clients::new(
            self.world.system.clone(),
            Arc::new(self.world.clock.clone()),
        );
        let client = Client {
            client_token: format!("akab-client-{tenant}"),
            access_token: format!("akab-access-{tenant}"),
            secret: Some(SecretString::from(EDGEGRID_SECRET)),
            name: tenant.to_owned(),
            created_at: self.world.now(),
        };
        clients.add(&client).await.unwrap();
        let namespaces = "/edgekv/v1/networks/staging/namespaces";
        let body = json!({"namespace": tenant, "retentionInSeconds": 0}).to_string();
        let answer = self
            .signed(tenant, "POST", namespaces, "application/json", &body)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let item = format!("{namespaces}/{tenant}/groups/g/items/i");
        let answer = self.signed(tenant, "PUT", &item, "text/plain", word).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = json!({
            "name": format!("token-{tenant}"), "allowOnStaging": true, "allowOnProduction": true,
            "expiry": "2026-12-31", "namespacePermissions": {tenant: ["r", "w", "d"]},
        });
        let tokens = "/edgekv/v1/tokens";
        let body = body.to_string();
        let answer = self
            .signed(tenant, "POST", tokens, "application/json", &body)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if tenant == OWN {
            self.edge_token = answer.json()["value"].as_str().unwrap().to_owned();
        }
    }

    async fn signed(
        &self,
        tenant: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> Answer {
        static NONCES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let nonce = NONCES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let at = jiff::Timestamp::from_millisecond(self.world.now().0).unwrap();
        let at = at.strftime("%Y%m%dT%H:%M:%S+0000").to_string();
        let signed = format!(
            "EG1-HMAC-SHA256 client_token=akab-client-{tenant};access_token=akab-access-{tenant};\
             timestamp={at};nonce=n-{nonce};"
        );
        let hash = content_hash(method, body.as_bytes());
        let data = data_to_sign(method, Scheme::Http, &self.app.host, path, &hash, &signed);
        let signature = sign(&signing_key(EDGEGRID_SECRET, &at), &data);
        let authorization = format!("{signed}signature={signature}");
        let headers = [("authorization", &*authorization), ("content-type", kind)];
        self.app.send(method, path, &headers, body.to_owned()).await
    }

    /// A user with an order; returns their ids, and keeps the session of [`OWN`].
    async fn furnish_accounts(
        &mut self,
        accounts: &Accounts,
        tenant: &str,
        word: &str,
    ) -> (String, String) {
        let users = accounts.users();
        let email = format!("{tenant}@example.com");
        let user = users
            .create(&email, PASSWORD, Some(word.to_owned()), Role::Admin)
            .await;
        let user = user.unwrap();
        let login = json!({"email": email, "password": PASSWORD});
        let answer = self.shop("POST", "/login", "", &login).await;
        let session = answer.json()["token"].as_str().unwrap().to_owned();
        let product = json!({"id": tenant, "name": "Mug", "price": 1, "category": "kitchen"});
        let answer = self.shop("POST", "/products", &session, &product).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let items = json!({"items": [{"productId": tenant, "quantity": 1}]});
        let answer = self.shop("POST", "/orders", &session, &items).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let order = answer.json()["id"].as_str().unwrap().to_owned();
        // From here on ordinary users.
        let demoted = users.change(&user.id, |secrets| secrets.role = Role::User);
        demoted.await.unwrap();
        if tenant == OWN {
            let answer = self.shop("POST", "/login", "", &login).await;
            self.session = answer.json()["token"].as_str().unwrap().to_owned();
        }
        (user.id, order)
    }

    async fn shop(
        &self,
        method: &str,
        path: &str,
        session: &str,
        body: &serde_json::Value,
    ) -> Answer {
        let bearer = format!("Bearer {session}");
        let mut headers = vec![("content-type", "application/json")];
        if !session.is_empty() {
            headers.push(("authorization", &bearer));
        }
        self.app
            .send(method, path, &headers, body.to_string())
            .await
    }

    /// What belongs to [`FOREIGN`], as the store has it.
    pub(super) async fn foreign_entries(&self) -> Vec<Entry> {
        use futures_util::StreamExt;
        let mut found = Vec::new();
        let mut pages = self
            .world
            .store
            .scan(KeyRange::starting_with(&Key::default()), false);
        while let Some(page) = pages.next().await {
            for entry in page.unwrap().entries {
                let holds = |text: &str| {
                    let text = text.as_bytes();
                    entry
                        .key
                        .as_bytes()
                        .windows(text.len())
                        .any(|part| part == text)
                };
                // Digests in keys are hexadecimal, and the name could be part of one.
                let key = entry.key.as_bytes();
                let is_named = key.windows(FOREIGN.len()).enumerate().any(|(at, part)| {
                    let beside = [at.checked_sub(1), Some(at + FOREIGN.len())];
                    let mut beside = beside.into_iter().flatten().filter_map(|at| key.get(at));
                    part == FOREIGN.as_bytes() && !beside.any(u8::is_ascii_hexdigit)
                });
                if (is_named || holds(&self.foreign_user) || holds(&self.foreign_order))
                    && !holds("user-aaa")
                {
                    found.push(entry);
                }
            }
        }
        found
    }
}
