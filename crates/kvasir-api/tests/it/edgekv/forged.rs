//! Forty headers that are not what a signer makes, each consistently signed where that is possible.

use super::*;

const PATH: &str = "/edgekv/v1/networks/staging/namespaces";

#[tokio::test]
async fn forged_headers_are_refused_and_change_nothing() {
    let kv = Kv::new().await;
    let good = kv.signing();
    let (c, a) = (CLIENT_TOKEN, ACCESS_TOKEN);
    let t = good.timestamp.as_str();
    let scheme = "EG1-HMAC-SHA256";
    // What stands in front of `signature=`; the signature is the right one for exactly this text.
    let prefixes = [
        format!("{scheme} access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp={t};"),
        format!("{scheme} client_token=;access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token=;timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp=;nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp={t};nonce=;"),
        format!("{scheme} access_token={a};client_token={c};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};nonce=n;timestamp={t};"),
        format!("{scheme}  client_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme}\tclient_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme}client_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!(" {scheme} client_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("eg1-hmac-sha256 client_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("EG2-HMAC-SHA256 client_token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c}; access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp={t};nonce=n; "),
        format!("{scheme} Client_Token={c};access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token:{c};access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c},access_token={a},timestamp={t},nonce=n,"),
        format!("{scheme} client_token={c};access_token={a};timestamp={t};nonce=n;extra=1;"),
        format!(
            "{scheme} client_token={c};client_token={c};access_token={a};timestamp={t};nonce=n;"
        ),
        format!("{scheme} client_token=\"{c}\";access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp={t};nonce=n;;"),
        format!("{scheme} client_token={c};access_token={a};timestamp=20260102T03:04:05Z;nonce=n;"),
        format!("{scheme} client_token={c};access_token={a};timestamp=1767323045;nonce=n;"),
        format!(
            "{scheme} client_token={c};access_token={a};timestamp=20260102T04:04:05+0100;nonce=n;"
        ),
        format!("{scheme} client_token={c} ;access_token={a};timestamp={t};nonce=n;"),
        format!("{scheme} client_token={c}%00;access_token={a};timestamp={t};nonce=n;"),
        format!(
            "{scheme} client_token={};access_token={a};timestamp={t};nonce=n;",
            c.to_uppercase()
        ),
        format!("{scheme} client_token={c};access_token={a} ;timestamp={t};nonce=n;"),
        format!(
            "{scheme} client_token={c};access_token={a};timestamp={t};nonce={};",
            "n".repeat(2048)
        ),
    ];
    let mut forged: Vec<String> = prefixes
        .iter()
        .map(|prefix| good.complete(prefix, "POST", PATH, b"{}"))
        .collect();
    // What stands in place of the signature.
    let signed = good.signed_header();
    let whole = good.header("POST", PATH, b"{}");
    forged.extend([
        signed.clone(),
        format!("{signed}signature="),
        format!("{signed}signature=;"),
        format!("{whole};"),
        format!("{whole} "),
        format!("{whole}="),
        whole.replace("signature=", "Signature="),
        format!("{whole};nonce=m"),
        whole.trim_end_matches('=').to_owned(),
        format!("{signed}signature={}", "A".repeat(44)),
        format!("{signed}signature={}", whole.len()),
        scheme.to_owned(),
        format!("{scheme} "),
        String::new(),
    ]);
    assert!(forged.len() >= 40);

    for header in &forged {
        let answer = kv
            .app
            .send("POST", PATH, &[("authorization", header)], "{}")
            .await;
        // The one with trailing white space is a good header: HTTP strips it. In this process nothing
        // does, so that it must not be let in here either.
        assert!(
            matches!(answer.status.as_u16(), 400 | 401),
            "{}: {header}",
            answer.status
        );
        let kind = body_of(&answer)["type"].as_str().unwrap().to_owned();
        assert!(kind.contains("pep-authn"), "{kind}: {header}");
    }

    let twice = [
        ("authorization", whole.as_str()),
        ("authorization", whole.as_str()),
    ];
    let answer = kv.app.send("POST", PATH, &twice, "{}").await;
    check_gateway(&answer, 400, "Invalid authorization header");

    // None of them used up the nonce of the good one.
    let answer = kv
        .app
        .send("POST", PATH, &[("authorization", &whole)], "{}")
        .await;
    check_error(&answer, 400, "EKV_2000", "Namespace must be specified.");
}

#[tokio::test]
async fn header_bytes_that_are_no_text_are_refused() {
    let kv = Kv::new().await;
    let mut header = kv.signing().header("GET", PATH, b"").into_bytes();
    header.push(0xff);
    let request = http::Request::builder()
        .uri(PATH)
        .header(
            "authorization",
            http::HeaderValue::from_bytes(&header).unwrap(),
        )
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = kv.app.open_request(request).await.into_answer().await;
    check_gateway(&answer, 400, "Invalid authorization header");
}
