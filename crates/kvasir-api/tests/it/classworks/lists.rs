//! Lists: lines 53 to 67, 83, 84 and 115.

use serde_json::{Value, json};

use super::{NS, START_STAMP, Setup, refused};

fn keys(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("there are items");
    items
        .iter()
        .map(|item| item["key"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_unknown_namespace_is_empty_and_asking_makes_nothing() {
    let setup = Setup::new();
    let list = setup.get(&format!("/{NS}")).await;
    assert_eq!(
        (list.status.as_u16(), list.json()),
        (200, json!({"items": [], "total_rows": 0}))
    );
    let list = setup.get(&format!("/{NS}/_keys")).await.json();
    let page = json!({"limit": 100, "skip": 0, "count": 0});
    assert_eq!(
        list,
        json!({"keys": [], "total_rows": 0, "current_page": page})
    );
    setup.get(&format!("/{NS}/_info")).await;
    setup.get(&format!("/{NS}/k")).await;
    let stamp = setup.world.store.versionstamp().await.unwrap();
    assert_eq!(stamp, kvasir_kv::Versionstamp::ZERO, "nothing was written");
}

#[tokio::test]
async fn items_have_their_metadata_and_no_value() {
    let setup = Setup::new();
    setup.store(&format!("/{NS}/k"), "{\"secret\":1}").await;
    assert_eq!(
        setup.get(&format!("/{NS}")).await.json(),
        json!({
            "items": [{"namespace": NS, "key": "k", "metadata": {
                "creatorIp": "127.0.0.1", "createdAt": START_STAMP, "updatedAt": START_STAMP,
            }}],
            "total_rows": 1,
        })
    );
}

#[tokio::test]
async fn keys_come_in_the_order_of_their_bytes_or_the_other_way_round() {
    let setup = Setup::new();
    for key in [
        "b",
        "a",
        "B",
        "10",
        "2",
        "%C3%A9",
        "%F0%9F%98%80",
        "%EF%BF%BD",
        "a-",
    ] {
        setup.store(&format!("/{NS}/{key}"), "1").await;
    }
    let mut expected = ["b", "a", "B", "10", "2", "é", "😀", "\u{fffd}", "a-"];
    expected.sort_unstable();
    let ascending = setup.get(&format!("/{NS}")).await.json();
    assert_eq!(keys(&ascending), expected);
    expected.reverse();
    for query in [
        "sortDir=desc",
        "sortDir=DESC&sortBy=&limit=&skip=&x=y",
        "sortBy=namespace&sortDir=desc",
    ] {
        let descending = setup.get(&format!("/{NS}?{query}")).await.json();
        assert_eq!(keys(&descending), expected, "{query}");
    }
}

#[tokio::test]
async fn lists_are_sorted_by_time_and_writer_with_ties_by_key() {
    // Served beyond this machine, or the other client would be asked for a token.
    let setup = Setup::with(|settings| settings.serve_openly = true);
    let mut other = setup.app.clone();
    other.peer = ([10, 0, 0, 1], 1).into();
    for key in ["c", "a", "b"] {
        setup.store(&format!("/{NS}/{key}"), "1").await;
        setup.world.clock.advance_ms(10);
    }
    other.send("POST", &format!("/{NS}/c"), &[], "2").await;
    let sorted = async |query: &str| {
        let list = setup.get(&format!("/{NS}?{query}")).await.json();
        keys(&list).join("")
    };
    assert_eq!(sorted("sortBy=createdAt").await, "cab");
    assert_eq!(sorted("sortBy=createdAt&sortDir=desc").await, "bac");
    assert_eq!(sorted("sortBy=updatedAt").await, "abc");
    assert_eq!(sorted("sortBy=updatedAt&sortDir=desc").await, "cba");
    assert_eq!(sorted("sortBy=creatorIp").await, "cab");
    assert_eq!(sorted("sortBy=creatorIp&sortDir=desc").await, "bac");
    assert_eq!(
        sorted("sortBy=creatorIp&sortDir=desc&limit=1&skip=1").await,
        "a"
    );
}

#[tokio::test]
async fn following_load_more_visits_every_key_once() {
    let setup = Setup::new();
    for number in 0..130 {
        setup.store(&format!("/{NS}/k{number:03}"), "1").await;
    }
    let first = setup.get(&format!("/{NS}")).await.json();
    assert_eq!(keys(&first).len(), 100, "default_limit");
    assert_eq!(
        first["load_more"],
        format!("/{NS}?sortBy=key&sortDir=asc&limit=100&skip=100")
    );
    let all = setup.get(&format!("/{NS}?limit=1000")).await.json();
    assert_eq!((keys(&all).len(), all.get("load_more")), (130, None));

    let mut path = format!("/{NS}?limit=7&sortDir=desc&sortBy=createdAt");
    let mut seen = Vec::new();
    loop {
        let page = setup.get(&path).await.json();
        assert_eq!(page["total_rows"], 130);
        seen.extend(keys(&page).into_iter().map(str::to_owned));
        match page["load_more"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<_> = (0..130)
        .rev()
        .map(|number| format!("k{number:03}"))
        .collect();
    assert_eq!(seen, expected);
    let exact = setup.get(&format!("/{NS}?limit=65&skip=65")).await.json();
    assert_eq!(exact.get("load_more"), None, "nothing remains");
}

#[tokio::test]
async fn the_key_browser_gets_names_and_its_page() {
    let setup = Setup::new();
    for key in ["a", "b", "c"] {
        setup.store(&format!("/{NS}/{key}"), "1").await;
    }
    let list = setup
        .get(&format!(
            "/classworks/{NS}/_keys?limit=2&skip=0&sortDir=desc"
        ))
        .await;
    assert_eq!(
        list.json(),
        json!({
            "keys": ["c", "b"],
            "total_rows": 3,
            "current_page": {"limit": 2, "skip": 0, "count": 2},
            "load_more": format!("/classworks/{NS}/_keys?sortBy=key&sortDir=desc&limit=2&skip=2"),
        })
    );
}

#[tokio::test]
async fn wrong_parameters_are_refused_and_enormous_ones_are_not() {
    let setup = Setup::new();
    setup.store(&format!("/{NS}/k"), "1").await;
    for (query, message) in [
        ("sortBy=value", "无效的 sortBy 参数"),
        ("sortDir=up", "无效的 sortDir 参数"),
        ("limit=0", "无效的 limit 参数"),
        ("limit=-2", "无效的 limit 参数"),
        ("limit=2.7", "无效的 limit 参数"),
        ("limit=abc", "无效的 limit 参数"),
        ("skip=-1", "无效的 skip 参数"),
        ("limit=1&limit=2", "参数 limit 重复"),
    ] {
        for path in [format!("/{NS}?{query}"), format!("/{NS}/_keys?{query}")] {
            refused(&setup.get(&path).await, 400, message);
        }
    }
    let huge = "9".repeat(40);
    let list = setup
        .get(&format!("/{NS}?limit={huge}&skip={huge}"))
        .await
        .json();
    assert_eq!(list, json!({"items": [], "total_rows": 1}));
}

#[tokio::test]
async fn a_list_shows_every_write_that_was_acknowledged_also_by_other_dialects() {
    let setup = Setup::new();
    let path = format!("/{NS}?sortBy=updatedAt&sortDir=desc");
    let seen = async || {
        let list = setup.get(&path).await.json();
        (list["total_rows"].as_u64().unwrap(), keys(&list).join(""))
    };
    assert_eq!(seen().await, (0, String::new()));
    setup.store(&format!("/{NS}/a"), "1").await;
    assert_eq!(seen().await, (1, "a".into()));
    setup.world.clock.advance_ms(1);
    setup.store(&format!("/{NS}/b"), "1").await;
    assert_eq!(seen().await, (2, "ba".into()));
    setup.world.clock.advance_ms(1);
    setup.store(&format!("/{NS}/a"), "2").await;
    assert_eq!(seen().await, (2, "ab".into()));
    setup.delete(&format!("/{NS}/b")).await;
    assert_eq!(seen().await, (1, "a".into()));

    let key = kvasir_kv::Key::from_strings([NS, "c"]);
    setup.world.clock.advance_ms(1);
    setup
        .world
        .put("classworks", key, kvasir_kv::Value::json("3"))
        .await;
    let deeper = kvasir_kv::Key::from_strings([NS, "c", "d"]);
    setup
        .world
        .put("classworks", deeper, kvasir_kv::Value::json("3"))
        .await;
    assert_eq!(
        seen().await,
        (2, "ca".into()),
        "a deeper key is none of this dialect's"
    );

    // More changes than the store keeps for a follower: everything is read again.
    let many: serde_json::Map<_, _> = (0..5_000).map(|n| (format!("m{n}"), json!(n))).collect();
    let batch = Value::from(many).to_string();
    let answer = setup.post(&format!("/{NS}/_batchimport"), batch).await;
    assert_eq!(answer.json()["successful"], 5_000);
    assert_eq!(seen().await.0, 5_002);
}
