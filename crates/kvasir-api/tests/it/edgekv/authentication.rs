//! EdgeGrid: lines 1 to 20 of the checklist.

use super::*;

const LIST: &str = "/edgekv/v1/networks/staging/namespaces?details=on";

/// The signatures that the published Python signer makes, as they are on the wire.
#[tokio::test]
async fn requests_signed_by_the_published_signer_are_let_in() {
    let kv = Kv::new().await;
    let send = async |method: &str, path: &str, body: Vec<u8>, nonce: &str, signature: &str| {
        let header = format!(
            "EG1-HMAC-SHA256 client_token={CLIENT_TOKEN};access_token={ACCESS_TOKEN};\
             timestamp=20260102T03:04:05+0000;nonce={nonce};signature={signature}"
        );
        kv.app
            .send(method, path, &[("authorization", &header)], body)
            .await
    };
    let nonce = "00000000-0000-4000-8000-000000000001";
    let answer = send(
        "GET",
        LIST,
        Vec::new(),
        nonce,
        "2KwT1P8k8CM431OBAAS3bmCSEPgM4h4gGkfJjhlD0K8=",
    )
    .await;
    assert_eq!(answer.status, 200);

    // The other vectors repeat the nonce, so each goes to a server that has not seen it.
    let kv = Kv::new().await;
    let mut app = kv.app.clone();
    app.host = "127.0.0.1:8080".to_owned();
    app.is_tls = false;
    let header = format!(
        "EG1-HMAC-SHA256 client_token={CLIENT_TOKEN};access_token={ACCESS_TOKEN};\
         timestamp=20260102T03:04:05+0000;nonce={nonce};\
         signature=hmBplJfUMLDX9ytnm7OKJKLSQjiS9bGwnHpH0lUgYR4="
    );
    let body = vec![b'a'; 131_073];
    let answer = app
        .send(
            "POST",
            "/edgekv/v1/tokens",
            &[("authorization", &header)],
            body,
        )
        .await;
    check_error(
        &answer,
        422,
        "EKV_2001",
        "The JSON request body contained a syntax error or duplicate attributes.",
    );
}

#[tokio::test]
async fn requests_without_a_signature_are_refused_by_the_gateway() {
    let kv = Kv::new().await;
    let answer = kv.app.send("GET", LIST, &[], "").await;
    check_gateway(&answer, 401, "Missing authorization header");
    let body = body_of(&answer);
    assert_eq!(body["instance"], format!("https://{HOST}{LIST}"));
    assert_eq!(body["method"], "GET");
    assert_eq!(body["serverIp"], "127.0.0.1");
    assert_eq!(body["clientIp"], "127.0.0.1");
    assert_eq!(body["requestTime"], "2026-01-02T03:04:05Z");
    assert_eq!(body["requestId"].as_str(), answer.header("x-trace-id"));
    assert_eq!(body.as_object().unwrap().len(), 10);

    for other in ["Bearer abc", "Basic dTpw", "EG1-HMAC-SHA512 client_token=c"] {
        let answer = kv
            .app
            .send("GET", LIST, &[("authorization", other)], "")
            .await;
        check_gateway(&answer, 401, "Missing authorization header");
    }
}

#[tokio::test]
async fn unknown_paths_need_a_signature_too() {
    let kv = Kv::new().await;
    let answer = kv.app.send("GET", "/edgekv/v1/nowhere", &[], "").await;
    check_gateway(&answer, 401, "Missing authorization header");
    let answer = kv.send("GET", "/edgekv/v1/nowhere", "").await;
    check_error(&answer, 404, "EKV_2000", "no such route");
}

#[tokio::test]
async fn wrong_secrets_and_altered_signatures_do_not_match() {
    let kv = Kv::new().await;
    let mut signing = kv.signing();
    signing.secret = "b3RoZXI=".to_owned();
    let answer = kv.send_signed(&signing, "GET", LIST, &[], "").await;
    check_gateway(&answer, 401, "The signature does not match");

    let good = kv.signing().header("GET", LIST, b"");
    let last = good.len() - 2;
    let flipped = if &good[last..=last] == "A" { "B" } else { "A" };
    let altered = format!("{}{flipped}=", &good[..last]);
    let answer = kv
        .app
        .send("GET", LIST, &[("authorization", &altered)], "")
        .await;
    check_gateway(&answer, 401, "The signature does not match");
}

#[tokio::test]
async fn unknown_tokens_of_a_client_are_request_errors() {
    let kv = Kv::new().await;
    let mut signing = kv.signing();
    signing.client_token = "akab-nobody".to_owned();
    let answer = kv.send_signed(&signing, "GET", LIST, &[], "").await;
    check_gateway(&answer, 400, "Invalid client token");

    let other = kv.clients().create("other").await.unwrap();
    for access_token in ["akab-nothing", &other.access_token] {
        let mut signing = kv.signing();
        signing.access_token = access_token.to_owned();
        let answer = kv.send_signed(&signing, "GET", LIST, &[], "").await;
        check_gateway(&answer, 400, "Invalid access token");
    }
}

#[tokio::test]
async fn a_revoked_client_is_inactive_with_the_next_request() {
    let kv = Kv::new().await;
    assert!(kv.clients().revoke(CLIENT_TOKEN).await.unwrap());
    let answer = kv.send("GET", LIST, "").await;
    check_gateway(&answer, 401, "Inactive client token");
    assert!(!kv.clients().revoke(CLIENT_TOKEN).await.unwrap());
    let listed = kv.clients().list().await.unwrap();
    assert!(listed.iter().all(|client| client.revoked));

    kv.advance_seconds(30 * 24 * 3600);
    let answer = kv.send("GET", LIST, "").await;
    check_gateway(&answer, 400, "Invalid client token");
}

#[tokio::test]
async fn timestamps_are_good_for_thirty_seconds_either_way() {
    let kv = Kv::new().await;
    let send = async |off_seconds: i64| {
        let mut signing = kv.signing();
        let now = kv.app.world.clock.now().0;
        signing.timestamp = timestamp(UnixMillis(now + off_seconds * 1000));
        kv.send_signed(&signing, "GET", LIST, &[], "").await
    };
    for good in [-30, -20, 0, 20, 30] {
        assert_eq!(send(good).await.status, 200, "{good}");
    }
    for bad in [-600, -31, 31, 600] {
        check_gateway(&send(bad).await, 400, "Invalid timestamp");
    }
    let mut signing = kv.signing();
    signing.timestamp = "2026-01-02T03:04:05Z".to_owned();
    let answer = kv.send_signed(&signing, "GET", LIST, &[], "").await;
    check_gateway(&answer, 400, "Invalid timestamp");
}

#[tokio::test]
async fn a_nonce_works_once() {
    let kv = Kv::new().await;
    let signing = kv.signing();
    assert_eq!(
        kv.send_signed(&signing, "GET", LIST, &[], "").await.status,
        200
    );
    let replayed = kv.send_signed(&signing, "GET", LIST, &[], "").await;
    check_gateway(&replayed, 401, "Duplicate nonce");
    let other = kv.send_signed(&signing, "GET", STAGING, &[], "").await;
    check_gateway(&other, 401, "Duplicate nonce");

    // Remembered for twice the window and five seconds.
    let mut later = signing.clone();
    kv.advance_seconds(64);
    later.timestamp = timestamp(kv.app.world.clock.now());
    let answer = kv.send_signed(&later, "GET", LIST, &[], "").await;
    check_gateway(&answer, 401, "Duplicate nonce");
    kv.advance_seconds(1);
    later.timestamp = timestamp(kv.app.world.clock.now());
    assert_eq!(
        kv.send_signed(&later, "GET", LIST, &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_nonce() {
    let kv = Kv::new().await;
    let signing = kv.signing();
    let mut forged = signing.clone();
    forged.secret = "b3RoZXI=".to_owned();
    assert_eq!(
        kv.send_signed(&forged, "GET", LIST, &[], "").await.status,
        401
    );
    assert_eq!(
        kv.send_signed(&signing, "GET", LIST, &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn a_client_that_outruns_the_memory_for_nonces_has_to_wait() {
    let settings = Settings {
        nonces_per_client_max: 3,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await; // the first of three
    assert_eq!(kv.send("GET", LIST, "").await.status, 200);
    assert_eq!(kv.send("GET", LIST, "").await.status, 200);
    let answer = kv.send("GET", LIST, "").await;
    assert_eq!(answer.status, 429);
    assert_eq!(body_of(&answer)["errorCode"], "EKV_9100");
    assert_eq!(answer.header("retry-after"), Some("1"));
    kv.advance_seconds(65);
    assert_eq!(kv.send("GET", LIST, "").await.status, 200);
}

#[tokio::test]
async fn a_changed_post_body_has_no_effect() {
    let kv = Kv::new().await;
    let signed = br#"{"namespace":"a","retentionInSeconds":0}"#;
    let header = kv.signing().header("POST", STAGING, signed);
    let answer = kv
        .app
        .send(
            "POST",
            STAGING,
            &[("authorization", &header)],
            r#"{"namespace":"b","retentionInSeconds":0}"#,
        )
        .await;
    check_gateway(&answer, 401, "The signature does not match");
    let answer = kv.send("GET", STAGING, "").await;
    check_json(
        &answer,
        200,
        json!({"namespaces": [{"namespace": "default"}]}),
    );
}

#[tokio::test]
async fn path_query_and_method_are_signed() {
    let kv = Kv::new().await;
    for (method, path) in [
        (
            "GET",
            "/edgekv/v1/networks/production/namespaces?details=on",
        ),
        ("GET", "/edgekv/v1/networks/staging/namespaces?details=off"),
        ("GET", "/edgekv/v1/networks/staging/namespaces"),
        ("GET", "/edgekv/v1/networks/staging/namespaces?details=o%6E"),
        ("DELETE", LIST),
        ("HEAD", LIST),
    ] {
        let header = kv.signing().header("GET", LIST, b"");
        let answer = kv
            .app
            .send(method, path, &[("authorization", &header)], "")
            .await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn the_body_of_a_put_is_not_signed_but_a_bad_signature_stores_nothing() {
    let kv = Kv::with_marketing().await;
    let path = country("DE");
    let header = kv.signing().header("PUT", &path, b"one");
    let answer = kv
        .app
        .send("PUT", &path, &[("authorization", &header)], "two")
        .await;
    assert_eq!(
        answer.status, 200,
        "this is the protocol, and a reason for TLS"
    );

    let mut signing = kv.signing();
    signing.secret = "b3RoZXI=".to_owned();
    let answer = kv.send_signed(&signing, "PUT", &path, &[], "three").await;
    check_gateway(&answer, 401, "The signature does not match");
    assert_eq!(kv.get(&path).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn an_account_switch_key_is_signed_and_ignored() {
    let kv = Kv::new().await;
    let answer = kv
        .send("GET", "/edgekv/v1/initialize?accountSwitchKey=1-2345", "")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn clients_may_have_signed_another_scheme_or_default_port() {
    let kv = Kv::new().await;
    let mut signing = kv.signing();
    signing.scheme = Scheme::Http;
    assert_eq!(
        kv.send_signed(&signing, "GET", LIST, &[], "").await.status,
        200
    );

    let mut app = kv.app.clone();
    app.host = "KV.example".to_owned();
    for (host, expected) in [
        ("kv.example:443", 200),
        ("KV.example", 200),
        ("kv.example:444", 401),
        ("localhost:8443", 401),
    ] {
        let mut signing = kv.signing();
        signing.host = host.to_owned();
        let header = signing.header("GET", LIST, b"");
        let answer = app
            .send("GET", LIST, &[("authorization", &header)], "")
            .await;
        assert_eq!(answer.status, expected, "{host}");
    }
}

#[tokio::test]
async fn a_forwarded_host_counts_only_where_the_operator_says_so() {
    for (trust_forwarded_host, expected) in [(false, 401), (true, 200)] {
        let settings = Settings {
            trust_forwarded_host,
            ..Settings::default()
        };
        let kv = Kv::with(settings).await;
        let mut signing = kv.signing();
        signing.host = "kv.example".to_owned();
        let headers = [("x-forwarded-host", "kv.example")];
        let answer = kv.send_signed(&signing, "GET", LIST, &headers, "").await;
        assert_eq!(answer.status, expected);
    }
}

#[tokio::test]
async fn only_the_configured_schemes_are_tried() {
    let settings = Settings {
        schemes: vec![kvasir_api::edgekv::settings::SchemeName::Https],
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    let mut signing = kv.signing();
    signing.scheme = Scheme::Http;
    assert_eq!(
        kv.send_signed(&signing, "GET", LIST, &[], "").await.status,
        401
    );
}

#[tokio::test]
async fn a_post_body_over_the_limit_is_refused() {
    let kv = Kv::new().await;
    for (bytes, expected) in [(1024 * 1024, 422), (1024 * 1024 + 1, 413)] {
        let answer = kv
            .send("POST", "/edgekv/v1/tokens", vec![b'a'; bytes])
            .await;
        assert_eq!(answer.status, expected);
    }
}

#[tokio::test]
async fn credentials_have_a_limit_and_keep_their_secret_to_themselves() {
    let kv = Kv::new().await;
    let clients = kv.clients();
    for n in 1..kvasir_auth::edgegrid::clients::CLIENTS_MAX {
        clients.create(&n.to_string()).await.unwrap();
    }
    let over = clients.create("one more").await;
    assert!(matches!(over, Err(kvasir_kv::Error::TooMany { .. })));
    for bad in ["", "a\nb", &"a".repeat(101)] {
        assert!(clients.create(bad).await.is_err());
    }
    let client = clients.get(CLIENT_TOKEN).await.unwrap().unwrap();
    assert!(!format!("{client:?}").contains(SECRET));
}
