//! Entity tags and conditional requests.

use super::*;

const NEVER: &str = "\"00000000000000000001\"";

#[tokio::test]
async fn an_unchanged_entry_is_304_without_a_body() {
    let app = app();
    let stamp = app.stored("/kv/a", "1").await;
    let tag = format!("\"{stamp}\"");
    for value in [
        tag.clone(),
        format!("W/{tag}"),
        format!("{NEVER}, {tag}"),
        "*".to_owned(),
    ] {
        let answer = app
            .send("GET", "/kv/a", &[("if-none-match", &value)], "")
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (304, ""),
            "{value}"
        );
        assert_eq!(answer.header("etag"), Some(&*tag));
        assert_eq!(answer.header("content-type"), None);
    }
    let answer = app
        .send("GET", "/kv/a", &[("if-none-match", NEVER)], "")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "1"));
    let answer = app
        .send("GET", "/kv/b", &[("if-none-match", "*")], "")
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn reads_can_insist_on_a_version() {
    let app = app();
    let stamp = app.stored("/kv/a", "1").await;
    let tag = format!("\"{stamp}\"");
    let answer = app.send("GET", "/kv/a", &[("if-match", &tag)], "").await;
    assert_eq!(answer.status, 200);
    let answer = app.send("GET", "/kv/a", &[("if-match", NEVER)], "").await;
    assert_problem(&answer, 412, "precondition_failed", "If-Match");
}

#[tokio::test]
async fn a_conditional_put_is_stored_only_if_the_condition_holds() {
    let app = app();
    let stamp = app.stored("/kv/a", "1").await;
    let tag = format!("\"{stamp}\"");
    let weak = format!("W/{tag}");
    let list = format!("{NEVER}, {tag}");
    let cases: [(&str, &str, &str, u16); 12] = [
        ("/kv/a", "if-none-match", "*", 412),
        ("/kv/a", "if-match", NEVER, 412),
        ("/kv/a", "if-match", "\"no versionstamp\"", 412),
        ("/kv/a", "if-match", &weak, 412),
        ("/kv/a", "if-none-match", &tag, 412),
        ("/kv/none", "if-match", &tag, 412),
        ("/kv/none", "if-match", "*", 412),
        ("/kv/new", "if-none-match", "*", 200),
        ("/kv/new2", "if-none-match", &tag, 200),
        ("/kv/a", "if-none-match", NEVER, 200),
        ("/kv/new", "if-match", "*", 200),
        ("/kv/new", "if-match", &list, 412),
    ];
    for (target, name, value, status) in cases {
        let headers = [JSON, (name, value)];
        let answer = app.send("PUT", target, &headers, r#"{"value":2}"#).await;
        assert_eq!(answer.status, status, "{target} {name}: {value}");
        if status == 412 {
            assert_problem(&answer, 412, "precondition_failed", "nothing was changed");
        }
    }
    let stamp = app.stored("/kv/a", "3").await;
    let list = format!("{NEVER}, \"{stamp}\"");
    for (tags, status) in [(&list, 200), (&list, 412)] {
        let headers = [JSON, ("if-match", &**tags)];
        let answer = app.send("PUT", "/kv/a", &headers, r#"{"value":4}"#).await;
        assert_eq!(answer.status, status, "the first write changes the version");
    }
    assert_eq!(app.kv_get("/kv/none").await.status, 404);
}

#[tokio::test]
async fn a_conditional_delete_removes_only_that_version() {
    let app = app();
    let stamp = app.stored("/kv/a", "1").await;
    let answer = app
        .send("DELETE", "/kv/a", &[("if-match", NEVER)], "")
        .await;
    assert_problem(&answer, 412, "precondition_failed", "nothing was changed");
    assert_eq!(app.kv_get("/kv/a").await.status, 200);
    let tag = format!("\"{stamp}\"");
    let answer = app.send("DELETE", "/kv/a", &[("if-match", &tag)], "").await;
    assert_eq!(answer.text(), r#"{"ok":true,"existed":true}"#);
    let answer = app.send("DELETE", "/kv/a", &[("if-match", "*")], "").await;
    assert_eq!(answer.status, 412);
}

#[tokio::test]
async fn of_many_first_writers_one_wins() {
    let app = app();
    let writers = (0..32).map(|writer| {
        let app = app.clone();
        tokio::spawn(async move {
            let headers = [JSON, ("if-none-match", "*")];
            let body = format!(r#"{{"value":{writer}}}"#);
            app.send("PUT", "/kv/once", &headers, body)
                .await
                .status
                .as_u16()
        })
    });
    let mut statuses = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        statuses.push(writer.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 31);
}

#[tokio::test]
async fn what_is_no_list_of_tags_is_refused() {
    let app = app();
    app.stored("/kv/a", "1").await;
    for (method, name, value) in [
        ("GET", "if-none-match", "abc"),
        ("GET", "if-match", "\"abc"),
        ("PUT", "if-match", ""),
        ("DELETE", "if-match", "*, *"),
    ] {
        let answer = app
            .send(method, "/kv/a", &[JSON, (name, value)], r#"{"value":1}"#)
            .await;
        assert_problem(&answer, 400, "bad_request", &format!("the header {name}"));
    }
}
