//! One value: lines 1 to 38 and 104 to 108.

use serde_json::json;

use super::{NS, START_STAMP, Setup, no_such_key, refused};

const NOT_JSON: &str = "请提供有效的JSON值";

#[tokio::test]
async fn a_new_key_is_reported_as_created_and_an_old_one_as_not() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    for (body, created) in [(r#"{"a":1}"#, true), (r#"{"b":2}"#, false), ("{}", false)] {
        let answer = setup.store(&path, body).await;
        assert_eq!(
            answer.json(),
            json!({"namespace": NS, "key": "k", "created": created, "updatedAt": START_STAMP}),
            "a stopped clock does not matter: created_is_exact"
        );
        assert_eq!(setup.get(&path).await.text(), body, "replaces, get_value");
    }
}

#[tokio::test]
async fn answers_are_json_in_utf8() {
    let setup = Setup::new();
    let json = Some("application/json; charset=utf-8");
    let path = format!("/{NS}/k");
    assert_eq!(setup.store(&path, "{}").await.header("content-type"), json);
    for path in [path, format!("/{NS}"), format!("/{NS}/k/metadata")] {
        let answer = setup.get(&path).await;
        assert_eq!(answer.header("content-type"), json);
        assert_eq!(answer.header("x-powered-by"), None);
    }
}

#[tokio::test]
async fn metadata_tells_writer_creation_and_last_write() {
    // Served beyond this machine, or the other client would be asked for a token.
    let setup = Setup::with(|settings| settings.serve_openly = true);
    let path = format!("/{NS}/k");
    let metadata = format!("/{NS}/k/metadata");
    setup.store(&path, "{}").await;
    let made = setup.get(&metadata).await;
    assert_eq!(
        made.json(),
        json!({"namespace": NS, "key": "k", "metadata": {
            "creatorIp": "127.0.0.1", "createdAt": START_STAMP, "updatedAt": START_STAMP,
        }})
    );

    setup.world.clock.advance_ms(1_007);
    let mut other = setup.app.clone();
    other.peer = ([192, 0, 2, 9], 4_000).into();
    other
        .send(
            "POST",
            &path,
            &[("x-forwarded-for", "1.2.3.4, rubbish")],
            "[]",
        )
        .await;
    let updated = setup.get(&metadata).await.json();
    assert_eq!(
        updated["metadata"],
        json!({
            "creatorIp": "192.0.2.9",
            "createdAt": START_STAMP,
            "updatedAt": "2026-01-02T03:04:06.007Z",
        })
    );

    setup.world.clock.advance_ms(1_000);
    assert_eq!(setup.delete(&path).await.status, 204);
    assert_eq!(setup.store(&path, "1").await.json()["created"], true);
    let again = setup.get(&metadata).await.json();
    assert_eq!(
        again["metadata"]["createdAt"], "2026-01-02T03:04:07.007Z",
        "recreate"
    );
}

#[tokio::test]
async fn updated_at_never_goes_back_when_the_clock_does() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    let first = setup.store(&path, "1").await.json()["updatedAt"].clone();
    setup.world.clock.set(kvasir_kv::UnixMillis(1_000));
    let second = setup.store(&path, "2").await.json()["updatedAt"].clone();
    assert!(
        second.as_str() >= first.as_str(),
        "{second} is before {first}"
    );
}

#[tokio::test]
async fn a_deleted_key_is_gone() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    setup.store(&path, "{}").await;
    let answer = setup.delete(&path).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let message = no_such_key(NS, "k");
    refused(&setup.get(&path).await, 404, &message);
    refused(&setup.get(&format!("{path}/metadata")).await, 404, &message);
    refused(&setup.delete(&path).await, 404, &message);
}

#[tokio::test]
async fn every_json_value_comes_back_byte_for_byte() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    for value in [
        "[]",
        "{}",
        "null",
        "true",
        "-0.5e-3",
        "\"文本\"",
        r#"{"作业":{"语文":"背诵 ❤️ عربى"},"list":[1,[2,{"x":null}]]}"#,
        r#"{"z":1,"a":2,"m":3,"10":4,"2":5}"#,
        r#"{"__proto__":{"x":1},"password":"p","sitekey":"s","token":"t","success":false}"#,
        r#"[9007199254740993,12345678901234567890,1.10,1e400]"#,
        r#"{"a":1,"a":2}"#,
        r#"["\u0000","\ud83d\ude00"]"#,
    ] {
        setup.store(&path, value).await;
        let answer = setup.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, value));
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_and_nothing_is_stored() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    setup.store(&path, "[\"kept\"]").await;
    let deep = "[".repeat(129) + &"]".repeat(129);
    for body in [
        &b""[..],
        b"  ",
        b"{bad",
        b"{} x",
        b"NaN",
        b"a=1&b=2",
        b"[\"\xff\"]",
        br#"["\ud800"]"#,
        deep.as_bytes(),
    ] {
        refused(&setup.post(&path, body.to_vec()).await, 400, NOT_JSON);
    }
    let broken = setup.post(&path, "{\n \"a\" 1}").await.json();
    assert_eq!(broken["message"], format!("{NOT_JSON}（第 2 行第 6 列）"));
    assert_eq!(setup.get(&path).await.text(), "[\"kept\"]");
}

#[tokio::test]
async fn json_is_taken_whatever_the_content_type_says_but_not_in_another_charset() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    for content_type in [
        "application/json",
        "application/json; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        let headers = [("content-type", content_type)];
        let answer = setup.app.send("POST", &path, &headers, r#"{"a":1}"#).await;
        assert_eq!(answer.status, 200, "{content_type}");
        assert_eq!(setup.get(&path).await.text(), r#"{"a":1}"#);
    }
    let headers = [("content-type", "application/json; charset=gbk")];
    let answer = setup.app.send("POST", &path, &headers, "{}").await;
    refused(&answer, 415, "不支持的 charset");
    let headers = [("content-encoding", "zstd")];
    let answer = setup.app.send("POST", &path, &headers, "{}").await;
    refused(&answer, 415, "不支持的 Content-Encoding");
}

#[tokio::test]
async fn a_value_at_the_limit_is_taken_and_a_larger_one_is_not() {
    let setup = Setup::with(|settings| settings.value_bytes_max = 1000);
    let path = format!("/{NS}/k");
    let value = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    setup.store(&path, &value(1000)).await;
    refused(&setup.post(&path, value(1001)).await, 413, "请求体过大");

    // Answered from the announced length, before anything has come.
    let never = axum::body::Body::from_stream(futures_util::stream::pending::<
        Result<bytes::Bytes, std::convert::Infallible>,
    >());
    let headers = [("content-length", "1001")];
    let answer = setup.app.send("POST", &path, &headers, never).await;
    refused(&answer, 413, "请求体过大");

    let usual = Setup::new();
    usual.store(&path, &value(500_000)).await;
    usual.store(&path, &value(1024 * 1024)).await;
    refused(
        &usual.post(&path, value(1024 * 1024 + 1)).await,
        413,
        "请求体过大",
    );
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    setup.store(&path, r#"{"a":1}"#).await;
    for path in [
        path,
        format!("/{NS}"),
        format!("/{NS}/none"),
        "/check".to_owned(),
    ] {
        let get = setup.get(&path).await;
        let head = setup.app.send("HEAD", &path, &[], "").await;
        assert_eq!(head.status, get.status);
        assert!(head.body.is_empty());
        for name in ["content-type", "etag"] {
            assert_eq!(head.header(name), get.header(name));
        }
        let length = get.body.len().to_string();
        assert_eq!(head.header("content-length"), Some(&*length), "{path}");
    }
}

#[tokio::test]
async fn a_known_version_is_not_sent_again_until_the_value_changes() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    setup.store(&path, "1").await;
    let tag = setup.get(&path).await.header("etag").unwrap().to_owned();
    let headers = [("if-none-match", &*tag)];
    let same = setup.app.send("GET", &path, &headers, "").await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    assert_eq!(same.header("etag"), Some(&*tag));
    setup.store(&path, "2").await;
    let changed = setup.app.send("GET", &path, &headers, "").await;
    assert_eq!((changed.status.as_u16(), changed.text()), (200, "2"));
}

#[tokio::test]
async fn a_write_may_depend_on_the_version() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    let first = setup.store(&path, "1").await;
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(setup.get(&path).await.header("etag"), Some(&*tag));

    let send = async |name: &str, value: &str, method: &str| {
        setup.app.send(method, &path, &[(name, value)], "2").await
    };
    refused(
        &send("if-none-match", "*", "POST").await,
        412,
        "数据已被修改",
    );
    assert_eq!(send("if-match", &tag, "POST").await.status, 200);
    refused(&send("if-match", &tag, "POST").await, 412, "数据已被修改");
    refused(&send("if-match", &tag, "DELETE").await, 412, "数据已被修改");
    assert_eq!(send("if-match", "*", "DELETE").await.status, 204);
    refused(&send("if-match", "*", "POST").await, 412, "数据已被修改");
    assert_eq!(send("if-none-match", "*", "POST").await.status, 200);
}

#[tokio::test]
async fn other_methods_are_refused_with_what_is_allowed() {
    let setup = Setup::new();
    let check = async |method: &str, path: &str, allow: &str| {
        let path = format!("/{NS}{path}");
        let answer = setup.app.send(method, &path, &[], "{}").await;
        refused(&answer, 405, &format!("找不到路径: {path}"));
        assert_eq!(answer.header("allow"), Some(allow));
    };
    check("PATCH", "/k", "GET, HEAD, POST, DELETE").await;
    check("PUT", "/k", "GET, HEAD, POST, DELETE").await;
    check("POST", "", "GET, HEAD, DELETE").await;
    check("POST", "/k/metadata", "GET, HEAD").await;
    check("GET", "/_password", "POST, DELETE").await;
    check("DELETE", "/_info", "GET, HEAD, PUT").await;
}

/// `{"a":1}`, and nine mebibytes of one letter in quotes, as brotli.
const BROTLI_SMALL: &str = "0b03807b2261223a317d03";
const BROTLI_LARGE: &str = "cbffff3ff8a544f0e2b24000f7fecf0c0080c02f21528a1c1601dcbd7f00";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn brotli(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[tokio::test]
async fn compressed_bodies_are_taken_and_the_limit_counts_what_comes_out() {
    let setup = Setup::new();
    let path = format!("/{NS}/k");
    let send = async |encoding: &str, body: Vec<u8>| {
        let headers = [("content-encoding", encoding)];
        setup.app.send("POST", &path, &headers, body).await
    };
    for (round, (encoding, body)) in [
        ("gzip", gzip(r#"{"a":1}"#)),
        ("X-GZIP", gzip(r#"{"a":1}"#)),
        ("deflate", deflate(r#"{"a":1}"#)),
        ("br", brotli(BROTLI_SMALL)),
        ("identity", br#"{"a":1}"#.to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        setup.store(&path, &round.to_string()).await;
        assert_eq!(send(encoding, body).await.status, 200, "{encoding}");
        assert_eq!(setup.get(&path).await.text(), r#"{"a":1}"#, "{encoding}");
    }

    setup.store(&path, "\"kept\"").await;
    let limit = kvasir_api::classworks::VALUE_BYTES_DEFAULT;
    let of_bytes = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (encoding, body) in [
        ("gzip", gzip(&of_bytes(limit + 1))),
        ("deflate", deflate(&of_bytes(limit + 1))),
        ("br", brotli(BROTLI_LARGE)),
    ] {
        assert!(body.len() < 20_000);
        refused(&send(encoding, body).await, 413, "请求体过大");
    }
    for (encoding, mut body) in [
        ("gzip", gzip(r#"{"a":1}"#)),
        ("deflate", deflate(r#"{"a":1}"#)),
        ("br", brotli(BROTLI_SMALL)),
    ] {
        refused(
            &send(encoding, b"{\"a\":1}".to_vec()).await,
            400,
            "请求体的压缩数据无效",
        );
        body.truncate(body.len() - 1);
        refused(&send(encoding, body).await, 400, "请求体的压缩数据无效");
    }
    for encoding in ["zstd", "gzip, br", "gzip,gzip"] {
        refused(
            &send(encoding, gzip("1")).await,
            415,
            "不支持的 Content-Encoding",
        );
    }
    assert_eq!(setup.get(&path).await.text(), "\"kept\"");
    assert_eq!(send("gzip", gzip(&of_bytes(limit))).await.status, 200);

    let batch = format!("/{NS}/_batchimport");
    let headers = [("content-encoding", "gzip")];
    let batch = setup.app.send("POST", &batch, &headers, gzip(r#"{"b":2}"#));
    assert_eq!(batch.await.json()["successful"], 1);
}

/// Checks `creator_ip_list` and `creator_ip_rubbish`.
#[tokio::test]
async fn the_writers_address_comes_from_trusted_proxies_only() {
    // Served beyond this machine, or the other client would be asked for a token.
    let setup = Setup::with(|settings| settings.serve_openly = true);
    let path = format!("/{NS}/k");
    let creator = async |app: &crate::support::App, forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded), ("x-real-ip", "9.9.9.9")];
        let answer = app.send("POST", &path, &headers, "1").await;
        assert_eq!(answer.status, 200);
        let metadata = setup.get(&format!("{path}/metadata")).await.json();
        metadata["metadata"]["creatorIp"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (forwarded, expected) in [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4, 5.6.7.8", "5.6.7.8"),
        ("1.2.3.4, 5.6.7.8, 127.0.0.1", "5.6.7.8"),
        ("1.2.3.4,::ffff:127.0.0.1", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("rubbish", "127.0.0.1"),
        ("1.2.3.4, rubbish", "127.0.0.1"),
        ("<script>", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
    ] {
        assert_eq!(
            creator(&setup.app, forwarded).await,
            expected,
            "{forwarded}"
        );
    }
    let mut stranger = setup.app.clone();
    stranger.peer = ([192, 0, 2, 9], 1).into();
    assert_eq!(creator(&stranger, "1.2.3.4").await, "192.0.2.9");

    // What counts for limits is not what programs on this machine say about themselves.
    let limited = Setup::with(|settings| {
        settings.rate_limit = kvasir_api::classworks::RateLimit::On;
        settings.writes_per_minute = 1;
    });
    for (address, status) in [("1.1.1.1", 200), ("2.2.2.2", 429)] {
        let headers = [("x-forwarded-for", address)];
        let answer = limited.app.send("POST", &path, &headers, "1").await;
        assert_eq!(answer.status, status);
    }
}
