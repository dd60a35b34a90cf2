//! HTTP/1.1 and HTTP/2 on one port, in the clear and with TLS.

use http::Version;
use kvasir_testkit::raw::exchange;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use reqwest::{Certificate, Client, ClientBuilder, tls};

use crate::{options, server};

fn client() -> ClientBuilder {
    Client::builder().no_proxy().timeout(DEADLINE)
}

async fn version(client: ClientBuilder, url: String) -> Version {
    let client = client.build().unwrap();
    let response = client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.version()
}

fn authority(server: &TestServer) -> Certificate {
    let pem = std::fs::read(server.data().join("tls/ca.pem")).unwrap();
    Certificate::from_pem(&pem).unwrap()
}

#[tokio::test]
async fn one_port_speaks_both_versions_in_the_clear() {
    let server = server().await;
    let url = || server.url("/healthz");
    assert_eq!(version(client(), url()).await, Version::HTTP_11);
    let prior_knowledge = client().http2_prior_knowledge();
    assert_eq!(version(prior_knowledge, url()).await, Version::HTTP_2);
}

#[tokio::test]
async fn tls_offers_both_versions_of_http_and_of_tls() {
    let server = options().tls().start().await;
    let trusting = || client().tls_certs_only([authority(&server)]);
    let url = || server.tls_url("/healthz");
    assert_eq!(version(trusting(), url()).await, Version::HTTP_2);
    assert_eq!(
        version(trusting().http1_only(), url()).await,
        Version::HTTP_11
    );
    let old = trusting().max_tls_version(tls::Version::TLS_1_2);
    assert_eq!(version(old, url()).await, Version::HTTP_2);
    let new = trusting().min_tls_version(tls::Version::TLS_1_3);
    assert_eq!(version(new, url()).await, Version::HTTP_2);
}

#[tokio::test]
async fn every_dialect_is_served_over_tls_in_both_versions_of_http() {
    let server = options().tls().start().await;
    let namespace = "/0f8fad5b-d9cb-469f-a165-70867728950e";
    for http1_only in [false, true] {
        let client = client().tls_certs_only([authority(&server)]);
        let client = if http1_only {
            client.http1_only()
        } else {
            client
        };
        let client = client.build().unwrap();
        // What only that dialect answers: a status and a piece of the body.
        for (path, status, piece) in [
            ("/kv/none", 404, "urn:kvasir:error:not_found"),
            ("/", 200, "API is running"),
            ("/profile", 401, "log in first"),
            ("/api/kvs/v1/kv/a", 404, "404 page not found"),
            ("/edgekv/v1/initialize", 401, "pep-authn"),
            (
                "/staging/api/v1/namespaces/a/groups/b/items/c",
                400,
                "not initialized",
            ),
            (namespace, 200, "total_rows"),
            ("/_/api/v1/tokens", 200, "tokens"),
        ] {
            let answer = client.get(server.tls_url(path)).send().await.unwrap();
            let expected = if http1_only {
                Version::HTTP_11
            } else {
                Version::HTTP_2
            };
            assert_eq!(answer.version(), expected, "{path}");
            assert_eq!(answer.status(), status, "{path}");
            let body = answer.text().await.unwrap();
            assert!(body.contains(piece), "{path}: {body}");
        }
        let exchange = client
            .post(server.tls_url("/"))
            .header("content-type", "application/json")
            .header("authorization", "Bearer any")
            .body(r#"{"supportedVersions":[1,2,3]}"#);
        let answer = exchange.send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("databaseId"), "{answer}");
    }
}

#[tokio::test]
async fn the_local_authority_stays_over_a_restart() {
    let mut server = options().tls().start().await;
    let trusted = authority(&server);
    server.restart().await;
    let client = client().tls_certs_only([trusted]);
    let by_address = format!("https://{}/healthz", server.tls_addr());
    assert_eq!(version(client, by_address).await, Version::HTTP_2);
}

#[tokio::test]
async fn a_changed_certificate_is_taken_over_while_serving() {
    let folder = tempfile::TempDir::new().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
    };
    let first = write();
    let server = options()
        .tls()
        .set("tls.certificate", &certificate.to_string_lossy())
        .set("tls.key", &key.to_string_lossy())
        .start()
        .await;
    let reaches = async |trusted: &Certificate| {
        let client = client().tls_certs_only([trusted.clone()]).build().unwrap();
        client.get(server.tls_url("/healthz")).send().await.is_ok()
    };
    assert!(reaches(&first).await);
    // One connection that stays open: its pool holds no other, and no new one would be trusted.
    let open = client()
        .tls_certs_only([first.clone()])
        .http1_only()
        .pool_max_idle_per_host(1)
        .build()
        .unwrap();
    let ask = async |client: &Client| {
        let answer = client.get(server.tls_url("/healthz")).send().await;
        answer.unwrap().text().await.unwrap()
    };
    assert_eq!(ask(&open).await, "ok\n");
    let second = write();
    eventually(DEADLINE, "the new certificate is shown", async || {
        reaches(&second).await.then_some(())
    })
    .await;
    assert!(!reaches(&first).await);
    assert_eq!(ask(&open).await, "ok\n", "open connections stay");

    // A pair that does not belong together is not taken over.
    let stray = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, stray.cert.pem()).unwrap();
    eventually(DEADLINE, "the server says that it kept the old one", || {
        let is_said = server.stderr().contains("kept the certificate");
        async move { is_said.then_some(()) }
    })
    .await;
    assert!(reaches(&second).await);
    assert_eq!(ask(&open).await, "ok\n");
}

#[tokio::test]
async fn broken_requests_get_an_answer_and_harm_nobody() {
    let server = server().await;
    let head = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: ";
    for (request, status) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        (format!("{head}{}\r\n\r\n", "a".repeat(20 * 1024)), 200),
        (format!("{head}{}\r\n\r\n", "a".repeat(40 * 1024)), 431),
    ] {
        assert_eq!(exchange(server.addr(), &request).await.status, status);
    }
    assert_eq!(
        version(client(), server.url("/healthz")).await,
        Version::HTTP_11
    );
}
