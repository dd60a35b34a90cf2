//! Settings, passwords and batches: lines 85 to 100.

use kvasir_api::classworks::layout::{self, AccessType, Device};
use kvasir_kv::UnixMillis;
use serde_json::{Value, json};

use super::{NS, Setup, encoded, refused};
use crate::support::Answer;

const WRONG_HEADER: &str = "设备密码验证失败";
const WRONG: &str = "密码错误";

async fn with_password(
    setup: &Setup,
    method: &str,
    path: &str,
    password: &str,
    body: &str,
) -> Answer {
    let password = encoded(password);
    let headers = [("x-namespace-password", &*password)];
    setup
        .app
        .send(method, path, &headers, body.to_owned())
        .await
}

fn info(name: Option<&str>, access: &str, has_password: bool) -> Value {
    json!({"uuid": NS, "name": name, "accessType": access, "hasPassword": has_password})
}

#[tokio::test]
async fn a_name_that_was_put_is_there_at_the_next_look() {
    let setup = Setup::new();
    let path = format!("/{NS}/_info");
    assert_eq!(setup.get(&path).await.json(), info(None, "PUBLIC", false));
    let answer = setup.put(&path, &json!({"name": "高一1班"})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, info(Some("高一1班"), "PUBLIC", false))
    );
    assert_eq!(
        setup.get(&path).await.json(),
        info(Some("高一1班"), "PUBLIC", false)
    );
    for keeps in [
        json!({}),
        json!({"name": ""}),
        json!({"name": null, "accessType": ""}),
    ] {
        let answer = setup.put(&path, &keeps).await;
        assert_eq!(answer.json()["name"], "高一1班");
    }
    refused(
        &setup.put(&path, &json!({"accessType": "OPEN"})).await,
        400,
        "无效的 accessType",
    );
    refused(
        &setup.put(&path, &json!({"name": 5})).await,
        400,
        "请提供有效的JSON值",
    );
    refused(
        &setup.put(&path, &json!(["x"])).await,
        400,
        "请提供有效的JSON值",
    );
    let longest = "x".repeat(1024);
    assert_eq!(
        setup.put(&path, &json!({"name": longest})).await.status,
        200
    );
    refused(
        &setup.put(&path, &json!({"name": longest + "x"})).await,
        400,
        "name 过长",
    );
    let check = setup.get(&format!("/{NS}/_check")).await.json();
    assert_eq!(
        (&check["status"], &check["uuid"]),
        (&json!("success"), &json!(NS))
    );
    assert_eq!(
        setup.get(&format!("/{NS}")).await.json()["total_rows"],
        0,
        "no keys"
    );
}

#[tokio::test]
async fn without_a_password_a_namespace_is_public_whatever_was_set() {
    let setup = Setup::new();
    let path = format!("/{NS}/_info");
    let answer = setup.put(&path, &json!({"accessType": "PRIVATE"})).await;
    assert_eq!(answer.json()["accessType"], "PUBLIC");
    setup.store(&format!("/{NS}/k"), "1").await;
    assert_eq!(setup.get(&format!("/{NS}/k")).await.status, 200);
}

#[tokio::test]
async fn the_hint_is_for_everybody() {
    let setup = Setup::new();
    let path = format!("/{NS}/_hint");
    assert_eq!(setup.get(&path).await.json(), json!({"passwordHint": null}));
    let answer = setup.put(&path, &json!({"hint": "老师的猫"})).await;
    assert_eq!(
        answer.json(),
        json!({"message": "密码提示已更新", "passwordHint": "老师的猫"})
    );
    setup.protect(NS, "pw").await;
    assert_eq!(
        setup.get(&path).await.json(),
        json!({"passwordHint": "老师的猫"})
    );
    refused(
        &setup.put(&path, &json!({"hint": null})).await,
        401,
        WRONG_HEADER,
    );
    let answer = with_password(&setup, "PUT", &path, "pw", r#"{"hint":null}"#).await;
    assert_eq!(answer.json()["passwordHint"], Value::Null);
}

#[tokio::test]
async fn a_password_guards_writing_and_in_private_reading_too() {
    let setup = Setup::new();
    setup.store(&format!("/{NS}/k"), "1").await;
    setup.protect(NS, "密码 1").await;
    let reading = [
        ("GET", "/k"),
        ("GET", ""),
        ("GET", "/_keys"),
        ("GET", "/k/metadata"),
        ("GET", "/_info"),
    ];
    let writing = [
        ("POST", "/k", "2"),
        ("DELETE", "/k", ""),
        ("DELETE", "", ""),
        ("POST", "/_batchimport", r#"{"x":1}"#),
        ("PUT", "/_info", "{}"),
        ("PUT", "/_hint", "{}"),
        ("POST", "/_password", r#"{"password":"x"}"#),
        ("DELETE", "/_password", ""),
        ("POST", "/k", r#"{"password":"密码 1"}"#),
    ];
    for (method, rest) in reading {
        let answer = setup
            .app
            .send(method, &format!("/{NS}{rest}"), &[], "")
            .await;
        assert_eq!(answer.status, 200, "{method} {rest} is open in PROTECTED");
    }
    let path = |rest: &str| format!("/{NS}{rest}");
    for (method, rest, body) in writing {
        refused(
            &setup.app.send(method, &path(rest), &[], body).await,
            401,
            WRONG_HEADER,
        );
    }
    for wrong in ["密码 2", ""] {
        refused(
            &with_password(&setup, "POST", &path("/k"), wrong, "2").await,
            401,
            WRONG_HEADER,
        );
    }
    let plain = [("x-namespace-password", "plain text!")];
    refused(
        &setup.app.send("POST", &path("/k"), &plain, "2").await,
        401,
        WRONG_HEADER,
    );
    assert_eq!(
        setup.get(&path("/k")).await.text(),
        "1",
        "nothing got through"
    );

    let make_private = r#"{"accessType":"PRIVATE"}"#;
    let answer = with_password(&setup, "PUT", &path("/_info"), "密码 1", make_private).await;
    assert_eq!(answer.json(), info(None, "PRIVATE", true));
    for (method, rest) in reading {
        let answer = setup.app.send(method, &path(rest), &[], "").await;
        refused(&answer, 401, WRONG_HEADER);
        let answer = with_password(&setup, method, &path(rest), "密码 1", "").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        setup.get(&path("/_check")).await.status,
        200,
        "open in any case"
    );
    let query = data_encoding::BASE64URL_NOPAD.encode("密码 1".as_bytes());
    assert_eq!(
        setup
            .get(&path(&format!("/k?password={query}")))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_password_is_checked_changed_and_removed() {
    let setup = Setup::new();
    let (check, change) = (format!("/{NS}/_checkpassword"), format!("/{NS}/_password"));
    let checked = setup.post(&check, r#"{"password":"any"}"#).await;
    assert_eq!(checked.json()["hasPassword"], false);
    for bad in [r#"{"password":""}"#, "{}", r#"{"password":5}"#] {
        refused(&setup.post(&change, bad).await, 400, "新密码格式无效");
    }
    setup.protect(NS, "first").await;
    assert_eq!(
        setup.get(&format!("/{NS}/_info")).await.json(),
        info(None, "PROTECTED", true)
    );
    let checked = setup.post(&check, r#"{"password":"first"}"#).await.json();
    let mut expected = info(None, "PROTECTED", true);
    expected["status"] = json!("success");
    assert_eq!(checked, expected);
    refused(
        &setup.post(&check, r#"{"password":"other"}"#).await,
        401,
        WRONG,
    );
    refused(&setup.post(&check, "{}").await, 401, WRONG);

    let body = |old: &str| json!({"password": "second", "oldPassword": old}).to_string();
    refused(&setup.post(&change, body("first")).await, 401, WRONG_HEADER);
    refused(
        &with_password(&setup, "POST", &change, "first", &body("other")).await,
        401,
        WRONG,
    );
    let changed = with_password(&setup, "POST", &change, "first", &body("first")).await;
    assert_eq!(changed.json(), json!({"message": "密码已成功修改"}));
    refused(
        &setup.post(&check, r#"{"password":"first"}"#).await,
        401,
        WRONG,
    );
    refused(
        &with_password(&setup, "DELETE", &change, "first", "").await,
        401,
        WRONG_HEADER,
    );
    let removed = with_password(&setup, "DELETE", &change, "second", "").await;
    assert_eq!(removed.json(), json!({"message": "密码已成功移除"}));
    assert_eq!(
        setup.get(&format!("/{NS}/_info")).await.json(),
        info(None, "PUBLIC", false)
    );
    setup.store(&format!("/{NS}/k"), "1").await;
}

#[tokio::test]
async fn guessing_a_password_is_limited_by_address() {
    // Served beyond this machine, or the other client would be asked for a token.
    let setup = Setup::with(|settings| settings.serve_openly = true);
    setup.protect(NS, "pw").await;
    let check = format!("/{NS}/_checkpassword");
    for _ in 0..20 {
        refused(&setup.post(&check, r#"{"password":"x"}"#).await, 401, WRONG);
    }
    let answer = setup.post(&check, r#"{"password":"pw"}"#).await;
    refused(&answer, 429, "请求过于频繁");
    assert_eq!(answer.header("retry-after"), Some("30"));
    let mut other = setup.app.clone();
    other.peer = ([192, 0, 2, 1], 1).into();
    let answer = other
        .send("POST", &check, &[], r#"{"password":"pw"}"#)
        .await;
    assert_eq!(answer.status, 200);
    setup.world.clock.advance_ms(30_000);
    assert_eq!(setup.post(&check, r#"{"password":"pw"}"#).await.status, 200);
}

#[tokio::test]
async fn a_hash_of_the_original_works_and_is_made_anew_at_the_first_success() {
    let setup = Setup::new();
    // What the original stores: bcrypt of cost 8 over the percent-encoded password.
    let device = Device {
        name: Some("旧班级".into()),
        set_access_type: AccessType::Protected,
        password: Some(bcrypt::hash("%E5%AF%86%E7%A0%81", 8).unwrap()),
        password_hint: Some("hint".into()),
        ..Device::default()
    };
    let entry = layout::device_entry(NS, &device, UnixMillis(1_700_000_000_000));
    let value = layout::value_entry(
        layout::value_key(NS, "k"),
        "[1]",
        "1.2.3.4",
        UnixMillis(1_600_000_000_000),
        UnixMillis(1_700_000_000_000),
    );
    let system = &setup.world.system;
    let stored = kvasir_kv::Entry {
        key: system.stored_key(&entry.key),
        ..entry
    };
    let data = setup.world.keyspace("classworks");
    let value = kvasir_kv::Entry {
        key: data.stored_key(&value.key),
        ..value
    };
    setup.world.store.ingest(vec![stored, value]).await.unwrap();

    let metadata = setup.get(&format!("/{NS}/k/metadata")).await.json();
    assert_eq!(
        metadata["metadata"],
        json!({
            "creatorIp": "1.2.3.4",
            "createdAt": "2020-09-13T12:26:40.000Z",
            "updatedAt": "2023-11-14T22:13:20.000Z",
        })
    );
    assert_eq!(
        setup.get(&format!("/{NS}/_info")).await.json(),
        info(Some("旧班级"), "PROTECTED", true)
    );
    let path = format!("/{NS}/k");
    refused(
        &with_password(&setup, "POST", &path, "密碼", "1").await,
        401,
        WRONG_HEADER,
    );
    assert_eq!(
        with_password(&setup, "POST", &path, "密码", "1")
            .await
            .status,
        200
    );
    let entry = system.get(&layout::device_key(NS)).await.unwrap().unwrap();
    let renewed = Device::read(&entry.value).unwrap().password.unwrap();
    assert!(renewed.starts_with("$argon2id$"), "{renewed}");
    assert_eq!(
        with_password(&setup, "POST", &path, "密码", "2")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_batch_writes_its_good_keys_and_names_the_bad_ones() {
    let setup = Setup::new();
    let path = format!("/{NS}/_batchimport");
    setup.store(&format!("/{NS}/old"), "0").await;
    let body = r#"{"old": [1.50], "new": {"z":1,"a":2}, "": 1, "_keys": 2, "null": null}"#;
    let answer = setup.post(&path, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "namespace": NS,
            "total": 5,
            "successful": 3,
            "failed": 2,
            "results": [
                {"key": "old", "created": false},
                {"key": "new", "created": true},
                {"key": "null", "created": true},
            ],
            "errors": [
                {"key": "", "error": "键名不能为空"},
                {"key": "_keys", "error": "'_keys' 是保留字，不能用作键名"},
            ],
        })
    );
    assert_eq!(setup.get(&format!("/{NS}/old")).await.text(), "[1.50]");
    assert_eq!(
        setup.get(&format!("/{NS}/new")).await.text(),
        r#"{"z":1,"a":2}"#
    );
    for bad in ["", "{}", "[]", "[{\"a\":1}]", "1", "{bad"] {
        refused(&setup.post(&path, bad).await, 400, "请提供有效的JSON数据");
    }
    let all_bad = setup.post(&path, r#"{"_info":1}"#).await.json();
    assert_eq!(
        (&all_bad["successful"], &all_bad["failed"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn a_batch_has_its_limits() {
    let setup = Setup::with(|settings| {
        settings.value_bytes_max = 10;
        settings.batch_bytes_max = 300_000;
    });
    let path = format!("/{NS}/_batchimport");
    let answer = setup
        .post(&path, r#"{"a":"12345678","b":"123456789"}"#)
        .await
        .json();
    assert_eq!(answer["results"], json!([{"key": "a", "created": true}]));
    assert_eq!(
        answer["errors"],
        json!([{"key": "b", "error": "请求体过大"}])
    );
    let batch = |count: usize| {
        let keys: Vec<_> = (0..count).map(|number| format!("\"{number}\":1")).collect();
        format!("{{{}}}", keys.join(","))
    };
    assert_eq!(
        setup.post(&path, batch(10_000)).await.json()["successful"],
        10_000
    );
    refused(&setup.post(&path, batch(10_001)).await, 400, "键过多");
    let large = format!("{{\"a\":1}}{}", " ".repeat(300_000 - 7));
    assert_eq!(setup.post(&path, large.clone()).await.status, 200);
    refused(&setup.post(&path, large + " ").await, 413, "请求体过大");
}

#[tokio::test]
async fn a_namespace_is_emptied_but_its_settings_stay() {
    let setup = Setup::new();
    let path = format!("/{NS}");
    refused(
        &setup.delete(&path).await,
        404,
        &format!("未找到命名空间 '{NS}'"),
    );
    let batch: serde_json::Map<_, _> = (0..1_200).map(|n| (n.to_string(), json!(n))).collect();
    setup
        .post(
            &format!("{path}/_batchimport"),
            Value::from(batch).to_string(),
        )
        .await;
    setup.store("/classworks/other/k", "1").await;
    setup.protect(NS, "pw").await;
    refused(&setup.delete(&path).await, 401, WRONG_HEADER);
    let answer = with_password(&setup, "DELETE", &path, "pw", "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert_eq!(
        setup.get(&path).await.json(),
        json!({"items": [], "total_rows": 0})
    );
    assert_eq!(setup.get("/classworks/other/k").await.text(), "1");
    refused(
        &setup.post(&format!("{path}/k"), "1").await,
        401,
        WRONG_HEADER,
    );
}

#[tokio::test]
async fn a_read_only_link_shows_a_namespace_and_changes_nothing() {
    let setup = Setup::with(|settings| settings.read_only_links = true);
    let path = format!("/{NS}");
    setup.store(&format!("{path}/k"), "1").await;
    let answer = setup
        .put(&format!("{path}/_info"), &json!({"readOnlyLink": true}))
        .await
        .json();
    let link = answer["readOnlyLink"].as_str().unwrap().to_owned();
    assert_eq!(
        setup.get(&format!("{path}/_info")).await.json(),
        info(None, "PUBLIC", false)
    );
    setup.protect(NS, "pw").await;
    with_password(
        &setup,
        "PUT",
        &format!("{path}/_info"),
        "pw",
        r#"{"accessType":"PRIVATE"}"#,
    )
    .await;

    refused(&setup.get(&format!("{path}/k")).await, 401, WRONG_HEADER);
    assert_eq!(setup.get(&format!("/{link}/k")).await.text(), "1");
    for answer in [
        setup.get(&format!("/{link}")).await,
        setup.get(&format!("/{link}/_info")).await,
    ] {
        assert_eq!(answer.status, 200);
        assert!(
            !answer.text().contains(NS),
            "the link does not tell the namespace"
        );
    }
    let message = "此链接为只读";
    for (method, rest, body) in [
        ("POST", "/k", "2"),
        ("DELETE", "/k", ""),
        ("DELETE", "", ""),
        ("PUT", "/_info", "{}"),
        ("POST", "/_batchimport", "{}"),
        ("POST", "/_password", "{}"),
        ("DELETE", "/_password", ""),
        ("POST", "/_checkpassword", "{}"),
    ] {
        let headers = [("x-namespace-password", &*encoded("pw"))];
        let answer = setup
            .app
            .send(method, &format!("/{link}{rest}"), &headers, body)
            .await;
        refused(&answer, 403, message);
    }
    let revoke = r#"{"readOnlyLink":false}"#;
    with_password(&setup, "PUT", &format!("{path}/_info"), "pw", revoke).await;
    assert_eq!(setup.get(&format!("/{link}/k")).await.status, 404);
    let unasked = Setup::new();
    let answer = unasked
        .put(&format!("{path}/_info"), &json!({"readOnlyLink": true}))
        .await;
    refused(&answer, 400, "此服务器未启用只读链接");
}
