//! The route table of a dialect, read out of its router.

use http::Method;
use kvasir_api::Dialect;

use crate::support::App;

/// One path of a router, with the methods that it takes.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) dialect: &'static str,
    pub(super) path: String,
    pub(super) methods: Vec<Method>,
}

/// Paths of routes that answer for every path below them by code of their own.
const CATCH_ALL: &str = "__private__";

/// All routes of a dialect. `alone` is a site of nothing else.
pub(super) async fn routes(dialect: &dyn Dialect, alone: &App) -> Vec<Route> {
    let mut routes = Vec::new();
    for path in paths(&format!("{:?}", dialect.routes())) {
        let methods = methods(alone, &path).await;
        routes.push(Route {
            dialect: dialect.name(),
            path,
            methods,
        });
    }
    routes.sort_by(|a, b| a.path.cmp(&b.path));
    routes
}

/// The paths in the debugging form of a router, which lists them by number.
fn paths(debug: &str) -> Vec<String> {
    let own = debug.split("fallback_router:").next().unwrap();
    let mut paths = Vec::new();
    for piece in own.split("RouteId(").skip(1) {
        let Some((_, rest)) = piece.split_once("): \"") else {
            continue;
        };
        let path = rest.split('"').next().unwrap();
        if !path.contains(CATCH_ALL) {
            paths.push(path.to_owned());
        }
    }
    paths
}

/// What the `Allow` header says; all methods for routes that judge methods themselves.
async fn methods(alone: &App, path: &str) -> Vec<Method> {
    let path = filled(path, "x");
    let answer = alone.send("TRACE", &path, &[], "").await;
    let all = || vec!["GET", "PUT", "POST", "PATCH", "DELETE"];
    let allowed = match answer.header("allow") {
        Some(allow) => allow.split(',').map(str::trim).collect(),
        None => all(),
    };
    allowed
        .into_iter()
        .filter(|method| !matches!(*method, "HEAD" | "OPTIONS" | ""))
        .map(|method| method.parse().unwrap())
        .collect()
}

/// A path with its parameters replaced by `name`.
pub(super) fn filled(template: &str, name: &str) -> String {
    let segments = template.split('/').map(|segment| match segment {
        "{network}" => "staging",
        "{group}" => "g",
        "{item}" => "i",
        segment if segment.starts_with('{') => name,
        segment => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn paths_are_found_in_the_debugging_form_of_a_router() {
    let nested = axum::Router::new().route("/b/{c}", axum::routing::get(|| async {}));
    let router: axum::Router = axum::Router::new()
        .route("/a", axum::routing::put(|| async {}))
        .nest("/n", nested)
        .fallback(|| async {});
    let mut found = paths(&format!("{router:?}"));
    found.sort();
    assert_eq!(found, ["/a", "/n/b/{c}"]);
}
