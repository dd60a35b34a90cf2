//! The description of all routes against the routers themselves (OBS-9).
//!
//! axum tells nobody its routes but in its `Debug` text: each path with the `Allow` header of its
//! methods. Should that text change with another version of axum, these tests say so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvasir_api::openapi::{self, Document};
use kvasir_api::{Dialect, accounts, admin, classworks, deno, edgekv, kopano, rest};
use kvasir_auth::Passwords;
use serde_json::Value as Json;

use crate::support::World;

type Routes = BTreeMap<String, BTreeSet<String>>;

fn dialect(world: &World, name: &'static str, base: &str) -> Arc<dyn Dialect> {
    let passwords = Passwords::new(1);
    let keyspace = match name {
        "edgekv" | "kopano" | "classworks" => name,
        _ => "default",
    };
    let ctx = world.ctx(name, base, keyspace);
    match name {
        "admin" => Arc::new(admin::Admin::new(ctx, passwords)),
        "rest" => Arc::new(rest::Rest::new(ctx, rest::Settings::default())),
        "edgekv" => Arc::new(edgekv::EdgeKv::new(ctx, edgekv::Settings::default())),
        "kopano" => Arc::new(kopano::Kopano::new(ctx, kopano::Settings::default()).unwrap()),
        "deno" => Arc::new(deno::Deno::new(ctx, deno::Settings::default())),
        "classworks" => {
            let settings = classworks::Settings::default();
            Arc::new(classworks::Classworks::new(ctx, settings, passwords))
        }
        "accounts" => Arc::new(accounts::Accounts::new(
            ctx,
            accounts::Settings::default(),
            passwords,
        )),
        other => panic!("no dialect {other}"),
    }
}

/// All dialects at their usual mounts.
fn dialects(world: &World) -> Vec<Arc<dyn Dialect>> {
    let usual = [
        ("admin", "/_"),
        ("rest", "/kv"),
        ("edgekv", ""),
        ("kopano", "/api/kvs/v1"),
        ("deno", ""),
        ("classworks", "/classworks"),
        ("accounts", ""),
    ];
    let mounted = usual.iter();
    mounted
        .map(|(name, base)| dialect(world, name, base))
        .collect()
}

/// The paths of a router with their methods, without those that come by themselves.
fn routed(dialect: &dyn Dialect) -> Routes {
    let text = format!("{:?}", dialect.routes());
    let (routes, _) = text.split_once("fallback_router").unwrap();
    let (methods, paths) = routes.split_once("node: Node").unwrap();
    let mut by_id = BTreeMap::new();
    for route in methods.split("RouteId(").skip(1) {
        let (id, rest) = route.split_once(')').unwrap();
        let allow = rest.split_once("allow_header: Bytes(b\"");
        let allow = allow.and_then(|(_, rest)| rest.split_once('"'));
        let (allow, _) = allow.unwrap_or_else(|| panic!("a route without methods: {route}"));
        let methods = allow.split(',').filter(|name| !is_implied(name));
        by_id.insert(id, methods.map(str::to_owned).collect::<BTreeSet<_>>());
    }
    let mut routes = Routes::new();
    for path in paths.split("RouteId(").skip(1) {
        let (id, rest) = path.split_once(')').unwrap();
        let path = rest.split('"').nth(1).unwrap().replace("{*", "{");
        routes.insert(path, by_id[id].clone());
    }
    assert!(!routes.is_empty(), "{text}");
    routes
}

fn is_implied(method: &str) -> bool {
    matches!(method, "HEAD" | "OPTIONS")
}

fn described(dialect: &dyn Dialect) -> Routes {
    let mut routes = Routes::new();
    for (path, item) in &dialect.openapi().paths.paths {
        let methods = openapi::operations(item).map(|(method, _)| method.to_owned());
        routes.insert(path.clone(), methods.collect());
    }
    routes
}

/// Paths that are another name of a described one.
fn without_other_names(mut routes: Routes) -> Routes {
    // One entry whose key is the word, as `/kv/{keypath}` says; only the POST is a route of its own.
    if let Some(methods) = routes.get_mut("/kv/_atomic") {
        methods.retain(|method| method == "POST");
    }
    // With and without the slash at its end.
    routes.remove("/kv/");
    routes
}

#[test]
fn every_route_of_a_router_is_described_with_its_methods_and_the_reverse() {
    let world = World::new();
    for name in ["admin", "rest", "edgekv", "deno", "accounts"] {
        let base = match name {
            "admin" => "/_",
            "rest" => "/kv",
            _ => "",
        };
        let dialect = dialect(&world, name, base);
        let routed = without_other_names(routed(&*dialect));
        assert_eq!(described(&*dialect), routed, "{name}");
    }
}

#[test]
fn a_dialect_that_is_moved_is_described_where_it_is() {
    let world = World::new();
    for name in ["rest", "edgekv", "deno", "accounts", "admin"] {
        let dialect = dialect(&world, name, "/else/where");
        let routed = routed(&*dialect);
        for path in described(&*dialect).keys() {
            let is_there = routed.contains_key(path);
            assert!(
                path.starts_with("/else/where") && is_there,
                "{name}: {path}"
            );
        }
    }
    let kopano = dialect(&world, "kopano", "/else");
    assert!(described(&*kopano).contains_key("/else/kv/user/{key}"));
    assert!(described(&*kopano).contains_key("/health-check"));
}

#[test]
fn the_document_holds_together() {
    let world = World::new();
    let dialects = dialects(&world);
    let mut schemas: BTreeMap<String, Json> = BTreeMap::new();
    let mut twice = Vec::new();
    for dialect in &dialects {
        let api = serde_json::to_value(dialect.openapi()).unwrap();
        let own = api["components"]["schemas"].as_object();
        for (name, schema) in own.into_iter().flatten() {
            let before = schemas.insert(name.clone(), schema.clone());
            if before.is_some_and(|before| before != *schema) {
                twice.push(name.clone());
            }
        }
    }

    assert!(twice.is_empty(), "names of two different things: {twice:?}");

    let whole = openapi::whole(dialects.iter().map(|dialect| dialect.openapi()));
    let api = serde_json::to_value(&whole).unwrap();
    assert_eq!(api["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for (path, item) in &whole.paths.paths {
        for (method, operation) in openapi::operations(item) {
            count += 1;
            let id = operation.operation_id.clone().unwrap();
            assert!(ids.insert(id), "{method} {path}");
            let words = operation.summary.as_deref().unwrap_or_default();
            assert!(!words.is_empty(), "{method} {path} says what it is");
            let named = path.matches('{').count();
            let parameters = operation.parameters.iter().flatten();
            let in_path = parameters.filter(|one| {
                serde_json::to_value(one).unwrap()["in"] == "path"
                    && path.contains(&format!("{{{}}}", one.name))
            });
            assert_eq!(in_path.count(), named, "{method} {path}");
            for (status, response) in &operation.responses.responses {
                let response = serde_json::to_value(response).unwrap();
                assert_ne!(response["description"], "", "{method} {path} {status}");
            }
        }
    }
    assert!(count > 90, "{count} operations");
    every_reference_leads_somewhere(&api, &api);
}

fn every_reference_leads_somewhere(api: &Json, part: &Json) {
    match part {
        Json::Object(members) => {
            if let Some(Json::String(target)) = members.get("$ref") {
                let found = api.pointer(target.trim_start_matches('#'));
                assert!(found.is_some(), "{target}");
            }
            for member in members.values() {
                every_reference_leads_somewhere(api, member);
            }
        }
        Json::Array(items) => {
            for item in items {
                every_reference_leads_somewhere(api, item);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_served_without_a_credential() {
    let world = World::new();
    let document = Document::default();
    let ctx = world.ctx("admin", "/_", "default");
    let admin = admin::Admin::new(ctx, Passwords::new(1)).serving(document.clone());
    let admin: Arc<dyn Dialect> = Arc::new(admin);
    document.set(&openapi::whole([admin.openapi()]));
    let app = world.app(vec![admin]).on_public_address();
    let answer = app.send("GET", "/_/openapi.json", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.json()["paths"]["/_/api/v1/tokens"]["post"].is_object());
    assert!(answer.json()["paths"]["/_/openapi.json"]["get"].is_object());
    let answer = app.send("GET", "/_/api/v1/tokens", &[], "").await;
    assert_eq!(answer.status, 401, "what it describes stays closed");
}
