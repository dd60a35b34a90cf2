//! What REST and Deno see of each other: checklist 58 and 59, and V8 formats.

use kvasir_api::deno::Settings;
use kvasir_api::v8json;
use kvasir_kv::{Key, Value};

use super::client::{Client, LE64, V8, key, mutation, set, site_with, v8_number};
use crate::support::World;
use kvasir_api::deno::messages as proto;

#[tokio::test]
async fn json_is_v8_for_deno_with_the_same_versionstamp() {
    let client = Client::new().await;
    let name = Key::from_strings(["a"]);
    let json = Value::json(r#"{"n":1,"list":[true,null,"ž"]}"#);
    let done = client.world().put("default", name.clone(), json).await;

    let entry = client.get(&key(&["a"])).await.unwrap();

    assert_eq!(entry.encoding, V8);
    assert_eq!(entry.value[..2], [0xff, 15]);
    assert_eq!(
        v8json::render(&Value::v8(entry.value)).text,
        r#"{"n":1,"list":[true,null,"ž"]}"#
    );
    assert_eq!(entry.versionstamp, done.versionstamp.as_bytes().to_vec());
    let stored = client.world().get("default", &name).await.unwrap();
    assert_eq!(
        stored.value.bytes, r#"{"n":1,"list":[true,null,"ž"]}"#,
        "reading changes nothing"
    );
}

#[tokio::test]
async fn numbers_of_either_dialect_can_be_summed_by_the_other() {
    let client = Client::new().await;
    let name = Key::from_strings(["n"]);
    client
        .world()
        .put("default", name.clone(), Value::json("41"))
        .await;
    client
        .apply(vec![mutation(
            proto::M_SUM,
            &key(&["n"]),
            V8,
            v8_number(1.0),
        )])
        .await;
    let stored = client.world().get("default", &name).await.unwrap();
    assert_eq!(v8json::render(&stored.value).text, "42");
}

#[tokio::test]
async fn format_16_is_stored_as_15_unless_switched_off() {
    let world = World::new();
    let newer = [0xff, 16, b'I', 2];
    let client = Client::of(&site_with(&world, Settings::default())).await;
    client
        .apply(vec![set(&key(&["a"]), V8, newer.to_vec())])
        .await;
    assert_eq!(
        client.get(&key(&["a"])).await.unwrap().value,
        vec![0xff, 15, b'I', 2]
    );
    // Only V8 values are V8 values.
    client
        .apply(vec![set(&key(&["b"]), 3, newer.to_vec())])
        .await;
    assert_eq!(
        client.get(&key(&["b"])).await.unwrap().value,
        newer.to_vec()
    );

    let exact = Settings {
        v8_compat: false,
        ..Settings::default()
    };
    let client = Client::of(&site_with(&world, exact)).await;
    client
        .apply(vec![set(&key(&["a"]), V8, newer.to_vec())])
        .await;
    assert_eq!(
        client.get(&key(&["a"])).await.unwrap().value,
        newer.to_vec()
    );
}

#[tokio::test]
async fn large_values_of_other_dialects_are_read_in_full() {
    let client = Client::new().await;
    let text = format!("\"{}\"", "x".repeat(500_000));
    client
        .world()
        .put("default", Key::from_strings(["a"]), Value::json(text))
        .await;
    let entry = client.get(&key(&["a"])).await.unwrap();
    assert_eq!(entry.value.len(), 2 + 1 + 3 + 500_000);
}

#[tokio::test]
async fn a_u64_of_another_dialect_is_a_kv_u64() {
    let client = Client::new().await;
    client
        .world()
        .put("default", Key::from_strings(["a"]), Value::u64(7))
        .await;
    let entry = client.get(&key(&["a"])).await.unwrap();
    assert_eq!(
        (entry.encoding, entry.value),
        (LE64, 7u64.to_le_bytes().to_vec().into())
    );
}
