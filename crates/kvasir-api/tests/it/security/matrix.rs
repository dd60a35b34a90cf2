//! SEC-1 and SEC-6: kinds of credentials, every route, own, foreign and near names.
//!
//! A route that has no row here makes the test fail: say what a request to it looks like.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request};
use kvasir_api::deno::messages as proto;
use kvasir_kv::Key;
use prost::Message;

use super::credentials::{self, Credential};
use super::estate::{Estate, FOREIGN, NOBODY, OWN, SEALED};
use super::table::{Route, filled, routes};
use crate::support::{Answer, Streamed};

/// Names as they stand in a path. The first is one's own, the second somebody else's, the third
/// nobody's, the others try to be one and pass for another.
const NAMES: &[&str] = &[
    OWN,
    FOREIGN,
    NOBODY,
    "aaab",
    "AAA",
    "aa",
    "aaa%00x",
    "aaa%2Ebbb",
    "aaa%2Fbbb",
    "aaa%2F..%2Fbbb",
    "..%2Fbbb",
    "aaa%5C..%5Cbbb",
    "%62%62%62",
    "%2562bb",
    "bbb%2F",
    "bbb%20",
    "bbb%00",
    "./bbb",
    "aaa/../bbb",
    "%2e%2e/bbb",
    "b%CC%81bb",
    "%C3%A1aa",
    "%EF%BD%81%EF%BD%81%EF%BD%81",
    "*",
    "%25",
];

/// How many of the names are tried where a route is for the operator's own credential alone.
const NAMES_OF_OPERATORS: usize = 6;

/// So many hexadecimal digits in a row are an id that differs from answer to answer.
const ID_DIGITS_MIN: usize = 16;

/// What goes behind a path, and the body.
struct Form {
    query: String,
    kind: &'static str,
    body: Bytes,
}

fn form(query: impl Into<String>, kind: &'static str, body: impl Into<Bytes>) -> Form {
    Form {
        query: query.into(),
        kind,
        body: body.into(),
    }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const PROTOBUF: &str = "application/x-protobuf";

/// The requests that a route gets about a name. Panics where the matrix has no row.
fn forms(route: &Route, method: &Method, name: &str) -> Vec<Form> {
    let plain = |kind, body: &'static str| vec![form("", kind, body)];
    let method = method.as_str();
    match (route.dialect, route.path.as_str()) {
        // All of it is for administrators, whatever the body.
        ("admin", _) => plain(JSON, "{}"),
        ("rest", path) => rest_forms(path, method, name),
        ("deno", path) => deno_forms(path),
        ("edgekv", _) => match method {
            "GET" | "DELETE" => plain(TEXT, ""),
            _ => vec![
                form(
                    "",
                    JSON,
                    r#"{"namespace":"bbb","retentionInSeconds":0,"name":"bbb"}"#,
                ),
                form("?sandboxId=x", TEXT, "overwritten"),
            ],
        },
        ("kopano", "/health-check") => plain(TEXT, ""),
        ("kopano", _) => match method {
            "GET" => ["", "?raw=1", "?recurse=1"]
                .map(|query| form(query, TEXT, ""))
                .into(),
            "PUT" => vec![
                form("", TEXT, "overwritten"),
                form(
                    "?batch=1",
                    JSON,
                    r#"[{"key":"bbb","value":1,"content_type":"application/json"}]"#,
                ),
            ],
            _ => plain(TEXT, ""),
        },
        ("accounts", path) => match (method, path) {
            ("GET" | "DELETE", _) => plain(TEXT, ""),
            (_, "/login" | "/login/reset") => plain(JSON, "{}"),
            (_, "/users") => plain(JSON, r#"{"email":"bbb@example.com","password":"short"}"#),
            (_, "/logout") => Vec::new(),
            (_, "/orders") => plain(JSON, r#"{"items":[{"productId":"none","quantity":1}]}"#),
            (_, "/profile" | "/profile/password" | "/products" | "/products/{id}") => {
                plain(JSON, r#"{"role":"admin","email":"bbb@example.com"}"#)
            }
            (method, path) => panic!("the matrix has no row for {method} {path}"),
        },
        ("classworks", path) => classworks_forms(path, method),
        (dialect, path) => panic!("the matrix has no row for {method} {path} of {dialect}"),
    }
}

fn rest_forms(path: &str, method: &str, name: &str) -> Vec<Form> {
    let key = format!("key=%5B%22{name}%22%5D");
    let queries: &[&str] = match (path, method) {
        ("/kv" | "/kv/", "GET") => &[
            "?{key}",
            "?{key}&list=true",
            "?{key}&list=true&trash=true",
            "?list=true",
            "?{key}&watch=true",
        ],
        ("/kv" | "/kv/", _) => &["?{key}"],
        ("/kv/_atomic" | "/kv/{*keypath}", "GET") => {
            &["", "?list=true", "?meta=true", "?watch=true"]
        }
        ("/kv/{*keypath}", "DELETE") => &[
            "",
            "?list=true",
            "?list=true&trash=true",
            "?list=true&trash=0123456789ab",
        ],
        ("/kv/_atomic" | "/kv/{*keypath}", _) => &[""],
        (path, method) => panic!("the matrix has no row for {method} {path}"),
    };
    let body = match method {
        "PUT" => r#"{"value":"overwritten"}"#.to_owned(),
        "POST" => {
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            let key = serde_json::to_string(&[&name]).unwrap();
            format!(r#"{{"mutations":[{{"type":"set","key":{key},"value":1}}]}}"#)
        }
        _ => String::new(),
    };
    let of_query = |query: &&str| form(query.replace("{key}", &key), JSON, body.clone());
    queries.iter().map(of_query).collect()
}

fn deno_forms(path: &str) -> Vec<Form> {
    let everything = proto::ReadRange {
        start: Bytes::new(),
        end: Bytes::from_static(&[0xff]),
        limit: 100,
        reverse: false,
    };
    let key = Key::from_strings(["pwned"]).into_bytes();
    let one = |kind, body: Vec<u8>| vec![form("", kind, body)];
    match path.rsplit('/').next().unwrap() {
        "" | "{database}" => vec![
            form("", JSON, r#"{"supportedVersions":[1,2,3]}"#),
            form("", JSON, r#"{"value":1}"#),
        ],
        "snapshot_read" => one(PROTOBUF, {
            let ranges = vec![everything];
            proto::SnapshotRead { ranges }.encode_to_vec()
        }),
        "atomic_write" => one(PROTOBUF, {
            let value = proto::KvValue {
                data: Bytes::from_static(b"overwritten"),
                encoding: 3,
            };
            let set = proto::Mutation {
                key,
                value: Some(value),
                mutation_type: 1,
                ..proto::Mutation::default()
            };
            let mutations = vec![set];
            proto::AtomicWrite {
                mutations,
                ..proto::AtomicWrite::default()
            }
            .encode_to_vec()
        }),
        "watch" => one(PROTOBUF, {
            let keys = vec![proto::WatchKey { key }];
            proto::Watch { keys }.encode_to_vec()
        }),
        "pull" | "stream" => one(JSON, b"{}".to_vec()),
        "ack" | "fail" | "extend" => one(JSON, br#"{"receipts":["bbb"]}"#.to_vec()),
        path => panic!("the matrix has no row for {path} of deno"),
    }
}

fn classworks_forms(path: &str, method: &str) -> Vec<Form> {
    let plain = |body: &'static str| vec![form("", JSON, body)];
    match (method, path) {
        ("GET", _) => ["", "?sitekey=bbb", "?password=YmJi"]
            .map(|query| form(query, JSON, ""))
            .into(),
        ("DELETE", _) => plain(""),
        (_, "/classworks/{namespace}/_batchimport") => plain(r#"{"k":"overwritten"}"#),
        (_, "/classworks/{namespace}/_info") => plain(r#"{"name":"overwritten"}"#),
        (_, "/classworks/{namespace}/_hint") => plain(r#"{"hint":"overwritten"}"#),
        (_, "/classworks/{namespace}/_password" | "/classworks/{namespace}/_checkpassword") => {
            plain(r#"{"password":"overwritten"}"#)
        }
        _ => plain("\"overwritten\""),
    }
}

/// The Classworks dialect takes its paths apart itself, so its table stands here. Line for line
/// what `allowed` in its handlers says.
const CLASSWORKS: &[(&str, &[&str])] = &[
    ("/classworks", &["GET"]),
    ("/classworks/check", &["GET"]),
    ("/classworks/uuid", &["GET"]),
    ("/classworks/{namespace}", &["GET", "DELETE"]),
    ("/classworks/{namespace}/k", &["GET", "POST", "DELETE"]),
    ("/classworks/{namespace}/k/metadata", &["GET"]),
    ("/classworks/{namespace}/_info", &["GET", "PUT"]),
    ("/classworks/{namespace}/_check", &["GET"]),
    ("/classworks/{namespace}/_hint", &["GET", "PUT"]),
    ("/classworks/{namespace}/_keys", &["GET"]),
    ("/classworks/{namespace}/_password", &["POST", "DELETE"]),
    ("/classworks/{namespace}/_checkpassword", &["POST"]),
    ("/classworks/{namespace}/_batchimport", &["POST"]),
];

impl Estate {
    /// The route tables of all dialects.
    async fn routes(&self) -> Vec<Route> {
        let mut all = Vec::new();
        for dialect in &self.dialects {
            let alone = self.world.app(vec![dialect.clone()]);
            let found = routes(&**dialect, &alone).await;
            assert_eq!(found.is_empty(), dialect.name() == "classworks");
            all.extend(found);
        }
        for (path, methods) in CLASSWORKS {
            let trace = self.world.app(self.dialects.clone());
            let answer = trace.send("TRACE", &filled(path, OWN), &[], "").await;
            let mut allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
            allowed.retain(|method| *method != "HEAD");
            assert_eq!(&allowed, methods, "{path}");
            all.push(Route {
                dialect: "classworks",
                path: (*path).to_owned(),
                methods: methods
                    .iter()
                    .map(|method| method.parse().unwrap())
                    .collect(),
            });
        }
        all
    }

    /// The path of a route for a name.
    fn path(&self, route: &Route, name: &str) -> String {
        match (route.dialect, route.path.as_str()) {
            ("kopano", path) if path.ends_with("{*path}") => {
                path.replace("{*path}", &format!("kv/user/c/{name}"))
            }
            ("accounts", "/orders/{id}") if name == FOREIGN => {
                format!("/orders/{}", self.foreign_order)
            }
            ("accounts", "/orders/{id}") if name == NOBODY => {
                "/orders/00000000-0000-4000-8000-00000000cccc".to_owned()
            }
            (_, path) => filled(path, name),
        }
    }

    /// Asks, and reads no more of a stream than its beginning.
    async fn ask(
        &self,
        credential: &Credential,
        method: &Method,
        target: &str,
        form: &Form,
        database: &str,
    ) -> Option<Answer> {
        let uri = target.parse::<http::Uri>().ok()?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in &credential.headers {
            request = request.header(name, value);
        }
        request = request
            .header("content-type", form.kind)
            .header("x-denokv-version", "3");
        if let Ok(database) = http::HeaderValue::from_str(database) {
            request = request.header("x-denokv-database-id", database);
        }
        let request = request.body(form.body.clone().into()).ok()?;
        let mut streamed = self.app.open_request(request).await;
        let is_stream = ["/watch", "/stream", "watch=true"]
            .iter()
            .any(|word| target.contains(word));
        if !(is_stream && streamed.status == 200) {
            return Some(streamed.into_answer().await);
        }
        let body = beginning(&mut streamed).await;
        Some(Answer {
            status: streamed.status,
            headers: streamed.headers,
            body,
        })
    }
}

/// What a stream says without anything happening.
async fn beginning(streamed: &mut Streamed) -> Bytes {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    let mut said = Vec::new();
    for _ in 0..20 {
        match streamed.body.frame().now_or_never() {
            Some(Some(Ok(frame))) => said.extend(frame.into_data().unwrap_or_default()),
            Some(_) => break,
            // Whatever feeds the stream gets its turn.
            None => tokio::task::yield_now().await,
        }
    }
    said.into()
}

/// An answer without what differs from request to request and from name to name: status, code, and
/// the body with ids and names taken out.
fn blurred(answer: &Answer, name: &str) -> (u16, Option<String>, String) {
    let text = String::from_utf8_lossy(&answer.body);
    let (mut out, mut run) = (String::new(), String::new());
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() || letter == '-' {
            run.push(letter);
            continue;
        }
        out.push_str(if run.len() >= ID_DIGITS_MIN {
            "#"
        } else {
            &run
        });
        run.clear();
        out.push(letter);
    }
    let code = answer.header("x-kvasir-error").map(str::to_owned);
    (answer.status.as_u16(), code, out.replace(name, "NAME"))
}

fn holds(answer: &Answer, text: &str) -> bool {
    let found = |bytes: &[u8]| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    found(&answer.body) || answer.headers.values().any(|value| found(value.as_bytes()))
}

/// What is wrong with an answer.
fn judged(route: &Route, name: &str, answer: &Answer, base64: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = answer.status.as_u16();
    if status >= 500 {
        wrong.push(format!("status {status}"));
    }
    if holds(answer, SEALED) || holds(answer, base64) {
        wrong.push(format!("shows {:?}", String::from_utf8_lossy(&answer.body)));
    }
    // Two routes tell callers about themselves, and let them log in. A slash leads elsewhere.
    let is_about_oneself = ["/whoami", "/session"]
        .iter()
        .any(|end| route.path.ends_with(end));
    let is_refused = matches!(status, 401 | 403) || name.contains('/') && status == 404;
    // The description of the routes beside it is no secret.
    let is_function = route.dialect == "admin" && route.path.starts_with("/_/api/v1/");
    if is_function && !is_about_oneself && !is_refused {
        wrong.push(format!("status {status} for an administrator's function"));
    }
    wrong
}

#[tokio::test]
async fn no_credential_reaches_what_belongs_to_somebody_else() {
    let estate = Estate::new().await;
    let credentials = credentials::all(&estate).await;
    let routes = estate.routes().await;
    let before = estate.foreign_entries().await;
    assert!(before.len() > 20, "{} entries", before.len());
    let base64 = data_encoding::BASE64.encode(SEALED.as_bytes());

    let (mut asked, mut faults) = (0, Vec::new());
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    for route in &routes {
        for method in &route.methods {
            // Without a parameter a name is only in the query, if anywhere.
            let has_name = route.path.contains('{') || route.dialect == "rest";
            let is_for_operators = route.dialect == "admin" || route.path.starts_with("/edgekv/");
            let names = match (has_name, is_for_operators) {
                (true, false) => NAMES,
                (true, true) => &NAMES[..NAMES_OF_OPERATORS],
                (false, _) => &NAMES[..1],
            };
            for credential in &credentials {
                let mut seen = BTreeMap::new();
                for name in names {
                    let path = estate.path(route, name);
                    for (place, form) in forms(route, method, name).iter().enumerate() {
                        let target = format!("{path}{}", form.query);
                        let asked_for = format!("{method} {target} with {}", credential.kind);
                        let answer = estate.ask(credential, method, &target, form, name).await;
                        let Some(answer) = answer else { continue };
                        asked += 1;
                        if answer.status.is_success() && *name == OWN {
                            *reached.entry(route.dialect).or_default() += 1;
                        }
                        let mut wrong = judged(route, name, &answer, &base64);
                        // Products are for everybody to see.
                        let is_public = route.path == "/products/{id}" && method == Method::GET;
                        if [FOREIGN, NOBODY].contains(name) && !is_public {
                            let blurred = blurred(&answer, name);
                            let first = seen.entry(place).or_insert_with(|| blurred.clone());
                            if *first != blurred {
                                wrong.push(format!("{blurred:?} differs from {first:?}"));
                            }
                        }
                        faults.extend(wrong.iter().map(|fault| format!("{asked_for}: {fault}")));
                    }
                }
            }
        }
    }
    let some = faults
        .iter()
        .take(40)
        .map(String::as_str)
        .collect::<Vec<_>>();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        some.join("\n")
    );
    assert!(asked >= 5_000, "{asked} requests");
    assert_eq!(
        before,
        estate.foreign_entries().await,
        "something was changed"
    );
    // The matrix is not green because nothing works at all.
    for dialect in ["rest", "deno", "classworks", "kopano", "accounts", "edgekv"] {
        assert!(
            reached.contains_key(dialect),
            "nothing of {dialect}: {reached:?}"
        );
    }
}
