//! `/_/openapi.json` of a running server: what it lists is served, and the page that shows it.

use serde_json::Value as Json;

use crate::server;

#[tokio::test]
async fn every_described_operation_is_served_and_no_other_method_is() {
    let server = server().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(server.url("/_/openapi.json")).send().await;
    let api: Json = serde_json::from_slice(&answer.unwrap().bytes().await.unwrap()).unwrap();
    let paths = api["paths"].as_object().unwrap();
    for own in [
        "/healthz", "/readyz", "/metrics", "/_/", "/_/docs", "/kv", "/",
    ] {
        assert!(paths.contains_key(own), "{own}");
    }
    for (path, item) in paths {
        // Words that no pattern of another path swallows; lists of streams end by themselves.
        let target = path
            .replace("{network}", "staging")
            .replace("{namespace}", "5b5e8c3e-0000-4000-8000-000000000001")
            .replace(['{', '}'], "");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let is_described = item.get(method.to_lowercase()).is_some();
            let url = server.url(&target);
            let request = client.request(method.parse().unwrap(), url).body("~");
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let code = answer.headers().get("x-kvasir-error");
            let code = code.and_then(|code| code.to_str().ok()).unwrap_or_default();
            let detail = format!("{method} {path}: {status} {code}");
            if is_described {
                assert_ne!(status, 405, "{detail}");
                assert!(
                    status < 500 || status == 501 || path.contains("/kvs/"),
                    "{detail}"
                );
            } else {
                // Keys may be called like routes, and other methods of the root are another dialect's.
                // Whoever watches Kopano's process may ask with any method.
                let elsewhere = ["/kv/_atomic", "/db/{database}", "/health-check"];
                let is_ours = !elsewhere.contains(&path.as_str());
                // Kopano asks its provider, which is not configured, before it looks at the method.
                let is_refused = matches!(status, 400 | 401 | 403 | 404 | 405)
                    || status == 503 && path.contains("/kvs/");
                assert!(is_refused || !is_ours, "{detail}");
            }
        }
    }
}

#[tokio::test]
async fn the_description_is_shown_by_a_page_that_loads_nothing_from_elsewhere() {
    let server = server().await;
    let answer = reqwest::get(server.url("/_/docs")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    let page = answer.text().await.unwrap();
    assert!(!page.contains("//"), "{page}");
    for file in page
        .split("=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        if !file.starts_with("assets/") {
            continue;
        }
        let answer = reqwest::get(server.url(&format!("/_/{file}")))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{file}");
        let text = answer.text().await.unwrap();
        assert!(
            !text.contains("http:") && !text.contains("https:") || file.ends_with("svg"),
            "{file}"
        );
    }
}
