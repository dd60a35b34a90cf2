//! One client for each dialect that does what programs mostly do with it, over HTTP.
//!
//! [`Speaker::write_and_read`] goes through every dialect's main routes on an empty store;
//! [`Speaker::read_again`] finds what it left, through whichever server it is asked.

use bytes::Bytes;
use kvasir_api::deno::messages::{
    self as deno, AtomicWrite, AtomicWriteOutput, KvValue, Mutation, ReadRange, SnapshotRead,
    SnapshotReadOutput,
};
use kvasir_auth::edgegrid::signature::{content_hash, data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Scheme, edgerc};
use kvasir_kv::{Clock, Key};
use kvasir_store::SystemClock;
use kvasir_testkit::oidc::Issuer;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, ServerOptions, TestServer, eventually};
use prost::Message;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

const NAMESPACE: &str = "11111111-2222-4333-8444-555555555555";
const EDGE_ITEM: &str =
    "/edgekv/v1/networks/staging/namespaces/marketing/groups/countries/items/us";
const PASSWORD: &str = "correct horse battery";

/// The six clients. What they know (tokens, credentials) holds for all nodes over one store.
pub(crate) struct Speaker {
    http: Client,
    issuer: Issuer,
    edgerc: String,
    session: String,
}

/// Settings that all dialects need to be served.
pub(crate) fn with_issuer(options: ServerOptions, issuer: &Issuer) -> ServerOptions {
    options.set("kopano.issuer", &issuer.url())
}

impl Speaker {
    /// Starts the identity provider that the server is to be told of by [`with_issuer`].
    pub(crate) async fn new() -> Speaker {
        Speaker {
            http: http_client(),
            issuer: Issuer::start().await,
            edgerc: String::new(),
            session: String::new(),
        }
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Every dialect's main routes, on a store that nobody has used.
    pub(crate) async fn write_and_read(&mut self, server: &TestServer) {
        self.rest(server).await;
        self.deno(server).await;
        self.accounts(server).await;
        self.kopano(server).await;
        self.edgekv(server).await;
        self.classworks(server).await;
        self.admin(server).await;
        self.read_again(server).await;
    }

    /// What was left by [`Speaker::write_and_read`].
    pub(crate) async fn read_again(&self, server: &TestServer) {
        let (status, text) = self.send(server, Method::GET, "/kv/shop.mug", None).await;
        assert_eq!((status, text.as_str()), (200, r#"{"price":12}"#));
        assert_eq!(
            self.deno_get(server, "counter").await,
            [7, 0, 0, 0, 0, 0, 0, 0]
        );
        let profile = self
            .http
            .get(server.url("/profile"))
            .bearer_auth(&self.session)
            .send()
            .await
            .unwrap();
        assert_eq!(json_of(profile, 200).await["email"], "ann@example.com");
        let document = self
            .kopano_send(server, Method::GET, "recents/a", None)
            .await;
        assert_eq!(json_of(document, 200).await["value"], json!({"n": 1}));
        let item = self.edgekv_send(server, Method::GET, EDGE_ITEM, "").await;
        assert_eq!(text_of(item, 200).await, "hello");
        let path = format!("/classworks/{NAMESPACE}/config");
        let (status, text) = self.send(server, Method::GET, &path, None).await;
        assert_eq!((status, json(&text)), (200, json!({"a": [1]})));
    }

    async fn send(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, String) {
        let mut request = self.http.request(method, server.url(path));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    }

    async fn rest(&self, server: &TestServer) {
        let put = |path, body| self.send(server, Method::PUT, path, Some(body));
        assert_eq!(put("/kv/shop.cup", json!({"value": 1})).await.0, 200);
        assert_eq!(
            put("/kv/shop.mug", json!({"value": {"price": 12}})).await.0,
            200
        );
        let brief = json!({"value": 2, "ttl": 300});
        assert_eq!(put("/kv/shop.brief", brief).await.0, 200);
        let (status, list) = self
            .send(server, Method::GET, "/kv/shop?list=true&values=false", None)
            .await;
        assert!(
            status == 200 && list.contains("shop.cup"),
            "{status} {list}"
        );
        let (status, _) = self
            .send(server, Method::DELETE, "/kv/shop.cup", None)
            .await;
        assert!(status < 300);
        for gone in ["/kv/shop.cup", "/kv/shop.brief"] {
            eventually(DEADLINE, "the entry is gone", || async move {
                let (status, _) = self.send(server, Method::GET, gone, None).await;
                (status == 404).then_some(())
            })
            .await;
        }
    }

    /// The exchange, then one call of the data path.
    async fn deno_call(&self, server: &TestServer, method: &str, body: Vec<u8>) -> Bytes {
        let asked = json!({"supportedVersions": [1, 2, 3]}).to_string();
        let exchange = self
            .http
            .post(server.url("/"))
            .bearer_auth("any")
            .header("content-type", "application/json")
            .body(asked)
            .send()
            .await
            .unwrap();
        let metadata = json_of(exchange, 200).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let endpoint = text(&metadata["endpoints"][0]["url"]);
        let url = match endpoint.strip_prefix('/') {
            Some(path) => server.url(&format!("/{path}/{method}")),
            None => format!("{endpoint}/{method}"),
        };
        let response = self
            .http
            .post(url)
            .bearer_auth(text(&metadata["token"]))
            .header("x-denokv-version", "3")
            .header("x-denokv-database-id", text(&metadata["databaseId"]))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.bytes().await.unwrap()
    }

    async fn deno(&self, server: &TestServer) {
        let mutation = |kind, name: &str, encoding, data: &'static [u8]| Mutation {
            key: Key::from_strings([name]).into_bytes(),
            value: Some(KvValue {
                data: Bytes::from_static(data),
                encoding,
            }),
            mutation_type: kind,
            ..Mutation::default()
        };
        const LE64: i32 = 2;
        const BYTES: i32 = 3;
        for addend in [b"\x03\0\0\0\0\0\0\0", b"\x04\0\0\0\0\0\0\0"] {
            let write = AtomicWrite {
                mutations: vec![
                    mutation(deno::M_SET, "blob", BYTES, b"blob"),
                    mutation(deno::M_SUM, "counter", LE64, addend),
                ],
                ..AtomicWrite::default()
            };
            let answer = self
                .deno_call(server, "atomic_write", write.encode_to_vec())
                .await;
            let output = AtomicWriteOutput::decode(answer).unwrap();
            assert_eq!(output.status, deno::AW_SUCCESS);
            assert_eq!(output.versionstamp.len(), 10);
        }
        assert_eq!(self.deno_get(server, "blob").await, b"blob");
    }

    async fn deno_get(&self, server: &TestServer, name: &str) -> Vec<u8> {
        let start = Key::from_strings([name]).into_bytes();
        let mut end = start.to_vec();
        end.push(0);
        let read = SnapshotRead {
            ranges: vec![ReadRange {
                start,
                end: end.into(),
                limit: 1,
                reverse: false,
            }],
        };
        let answer = self
            .deno_call(server, "snapshot_read", read.encode_to_vec())
            .await;
        let output = SnapshotReadOutput::decode(answer).unwrap();
        output.ranges[0].values[0].value.to_vec()
    }

    async fn accounts(&mut self, server: &TestServer) {
        let user = json!({"email": "ann@example.com", "password": PASSWORD, "name": "Ann"});
        let (status, text) = self.send(server, Method::POST, "/users", Some(user)).await;
        assert_eq!(status, 201, "{text}");
        let login = json!({"email": "ann@example.com", "password": PASSWORD});
        let (status, text) = self.send(server, Method::POST, "/login", Some(login)).await;
        assert_eq!(status, 200, "{text}");
        self.session = json(&text)["token"].as_str().unwrap().to_owned();
        let (status, _) = self.send(server, Method::GET, "/products", None).await;
        assert_eq!(status, 200);
    }

    async fn kopano_send(
        &self,
        server: &TestServer,
        method: Method,
        key: &str,
        body: Option<&'static str>,
    ) -> Response {
        let token = self.issuer.access_token("ann", "meet");
        let mut request = self
            .http
            .request(method, server.url(&format!("/api/kvs/v1/kv/user/{key}")))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        request.send().await.unwrap()
    }

    async fn kopano(&self, server: &TestServer) {
        // The provider's keys are fetched after the start.
        eventually(DEADLINE, "the provider's keys are known", || async {
            let put = self.kopano_send(server, Method::PUT, "recents/a", Some("{\"n\":1}"));
            (put.await.status() == 200).then_some(())
        })
        .await;
        let put = self.kopano_send(server, Method::PUT, "recents/b", Some("2"));
        assert_eq!(put.await.status(), 200);
        let listed = self.kopano_send(server, Method::GET, "recents?recurse=1", None);
        let listed = json_of(listed.await, 200).await;
        assert_eq!(listed.as_array().unwrap().len(), 2);
        let deleted = self.kopano_send(server, Method::DELETE, "recents/b", None);
        assert_eq!(deleted.await.status(), 200);
    }

    /// A signed request, with the credential that the server left in its folder.
    async fn edgekv_send(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: &str,
    ) -> Response {
        let member = |name| edgerc::member(&self.edgerc, "default", name).unwrap();
        let now = jiff::Timestamp::from_millisecond(SystemClock.now().0).unwrap();
        let now = now.strftime("%Y%m%dT%H:%M:%S+0000").to_string();
        let signed = format!(
            "EG1-HMAC-SHA256 client_token={};access_token={};timestamp={now};nonce={};",
            member("client_token"),
            member("access_token"),
            uuid::Uuid::new_v4()
        );
        let host = server.addr().to_string();
        let hash = content_hash(method.as_str(), body.as_bytes());
        let data = data_to_sign(method.as_str(), Scheme::Http, &host, path, &hash, &signed);
        let key = signing_key(member("client_secret"), &now);
        self.http
            .request(method, server.url(path))
            .header(
                "authorization",
                format!("{signed}signature={}", sign(&key, &data)),
            )
            .header(
                "content-type",
                if body.starts_with('{') {
                    "application/json"
                } else {
                    "text/plain"
                },
            )
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    async fn edgekv(&mut self, server: &TestServer) {
        self.edgerc = std::fs::read_to_string(server.data().join("edgegrid/.edgerc")).unwrap();
        let initialize = self.edgekv_send(server, Method::PUT, "/edgekv/v1/initialize", "");
        assert_eq!(initialize.await.status(), 201);
        let namespaces = "/edgekv/v1/networks/staging/namespaces";
        let body = json!({"namespace": "marketing", "retentionInSeconds": 0}).to_string();
        let created = self
            .edgekv_send(server, Method::POST, namespaces, &body)
            .await;
        assert_eq!(created.status(), 200, "{}", created.text().await.unwrap());
        let put = self.edgekv_send(server, Method::PUT, EDGE_ITEM, "hello");
        assert_eq!(put.await.status(), 200);
        let items = EDGE_ITEM.strip_suffix("/items/us").unwrap();
        let listed = self.edgekv_send(server, Method::GET, items, "").await;
        assert_eq!(json_of(listed, 200).await, json!(["us"]));
    }

    async fn classworks(&self, server: &TestServer) {
        let path = format!("/classworks/{NAMESPACE}/config");
        let (status, text) = self
            .send(server, Method::POST, &path, Some(json!({"a": [1]})))
            .await;
        assert_eq!(status, 200, "{text}");
        let list = format!("/classworks/{NAMESPACE}");
        let (status, text) = self.send(server, Method::GET, &list, None).await;
        assert!(status == 200 && text.contains("config"), "{status} {text}");
    }

    async fn admin(&self, server: &TestServer) {
        let (status, text) = self
            .send(server, Method::GET, "/_/api/v1/databases", None)
            .await;
        assert!(status == 200 && text.contains("default"), "{status} {text}");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn text_of(response: Response, status: u16) -> String {
    let found = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    text
}

async fn json_of(response: Response, status: u16) -> Value {
    json(&text_of(response, status).await)
}
