//! Listings of groups and of their items: lines 56 to 59.

use super::*;
use kvasir_kv::{Key, Part, Value as Stored};

#[track_caller]
fn check_listing(answer: &Answer, names: &[&str]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/json;charset=utf-8")
    );
    assert_eq!(body_of(answer), json!(names));
}

#[tokio::test]
async fn a_listing_is_a_plain_array_of_keys() {
    let kv = Kv::with_marketing().await;
    for key in ["US", "DE", "GB"] {
        kv.put(&country(key), "x").await;
    }
    check_listing(&kv.send("GET", COUNTRIES, "").await, &["DE", "GB", "US"]);
    kv.send("DELETE", &country("GB"), "").await;
    check_listing(&kv.send("GET", COUNTRIES, "").await, &["DE", "US"]);
}

#[tokio::test]
async fn a_listing_has_at_most_one_hundred_keys_and_can_be_continued() {
    let kv = Kv::with_marketing().await;
    let keys: Vec<String> = (0..105).map(|n| format!("k{n:03}")).collect();
    for key in &keys {
        kv.put(&country(key), "x").await;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (query, expected) in [
        ("", &keys[..100]),
        ("?maxItems=5", &keys[..5]),
        ("?maxItems=1", &keys[..1]),
        ("?maxItems=100", &keys[..100]),
        ("?maxItems=101", &keys[..100]),
        ("?maxItems=99999999999999999999999", &keys[..100]),
        ("?after=k099", &keys[100..]),
        ("?after=k0995&maxItems=2", &keys[100..102]),
        ("?after=k104", &[]),
    ] {
        check_listing(
            &kv.send("GET", &format!("{COUNTRIES}{query}"), "").await,
            expected,
        );
    }
    for bad in ["0", "-1", "x", "", "1.5"] {
        let answer = kv
            .send("GET", &format!("{COUNTRIES}?maxItems={bad}"), "")
            .await;
        check_error(
            &answer,
            400,
            "EKV_2000",
            "maxItems must be a positive integer.",
        );
    }
}

/// The values of a group are far more than is read at once.
#[tokio::test]
async fn a_group_of_large_values_is_listed_whole() {
    let kv = Kv::with_marketing().await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
    for key in &keys {
        kv.put(&country(key), &"x".repeat(200_000)).await;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    check_listing(&kv.send("GET", COUNTRIES, "").await, &keys);
}

#[tokio::test]
async fn an_empty_group_is_404() {
    let kv = Kv::with_marketing().await;
    let empty = "The requested group is empty or not found.";
    check_error(&kv.send("GET", COUNTRIES, "").await, 404, "EKV_9000", empty);
    kv.put(&country("DE"), "x").await;
    kv.send("DELETE", &country("DE"), "").await;
    check_error(&kv.send("GET", COUNTRIES, "").await, 404, "EKV_9000", empty);
}

#[tokio::test]
async fn groups_come_and_go_with_their_items() {
    let kv = Kv::with_marketing().await;
    let groups = format!("{STAGING}/marketing/groups");
    check_error(
        &kv.send("GET", &groups, "").await,
        404,
        "EKV_9000",
        "There are no groups.",
    );
    for (group, items) in [("b", 30), ("a", 1), ("a-b", 2), ("c", 1)] {
        for n in 0..items {
            kv.put(&format!("{groups}/{group}/items/{n}"), "x").await;
        }
    }
    kv.put(&format!("{STAGING}/default/groups/other/items/k"), "x")
        .await;
    check_listing(&kv.send("GET", &groups, "").await, &["a", "a-b", "b", "c"]);
    check_listing(
        &kv.send("GET", &format!("{groups}?maxGroups=2"), "").await,
        &["a", "a-b"],
    );
    kv.send("DELETE", &format!("{groups}/c/items/0"), "").await;
    check_listing(&kv.send("GET", &groups, "").await, &["a", "a-b", "b"]);
    let answer = kv.send("GET", &format!("{groups}?maxGroups=0"), "").await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "maxGroups must be a positive integer.",
    );
}

#[tokio::test]
async fn keys_that_another_dialect_wrote_do_not_break_a_listing() {
    let kv = Kv::with_marketing().await;
    let parts = |last: Part| Key::from_parts(&["staging".into(), "marketing".into(), last]);
    kv.app
        .world
        .put("edgekv", parts(Part::Bool(true)), Stored::json("1"))
        .await;
    kv.app
        .world
        .put("edgekv", parts(Part::Number(1.0)), Stored::json("1"))
        .await;
    let deep = Key::from_strings(["staging", "marketing", "countries", "DE", "more"]);
    kv.app.world.put("edgekv", deep, Stored::json("1")).await;
    kv.put(&country("DE"), "x").await;
    let groups = format!("{STAGING}/marketing/groups");
    check_listing(&kv.send("GET", &groups, "").await, &["countries"]);
    check_listing(&kv.send("GET", COUNTRIES, "").await, &["DE"]);
}
