//! Failures that testers ask for.

use super::*;
use kvasir_api::edgekv::settings::RehearsalSettings;

#[tokio::test]
async fn requests_over_the_rate_get_429() {
    let settings = Settings {
        auto_initialize: true,
        rehearsal: RehearsalSettings {
            requests_per_second_max: 2,
            ..RehearsalSettings::default()
        },
        ..Settings::default()
    };
    let kv = Kv::fresh(World::new(), settings).await;
    for _ in 0..2 {
        assert_eq!(kv.send("GET", STAGING, "").await.status, 200);
    }
    let answer = kv.send("GET", STAGING, "").await;
    check_error(&answer, 429, "EKV_9100", "too many requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
    kv.advance_seconds(1);
    assert_eq!(kv.send("GET", STAGING, "").await.status, 200);
}

#[tokio::test]
async fn every_third_request_times_out_and_does_nothing() {
    let settings = Settings {
        auto_initialize: true,
        rehearsal: RehearsalSettings {
            timeout_every: 3,
            ..RehearsalSettings::default()
        },
        ..Settings::default()
    };
    let kv = Kv::fresh(World::new(), settings).await;
    let path = format!("{STAGING}/default/groups/g/items/k");
    kv.put(&path, "one").await;
    kv.put(&path, "two").await;
    let answer = kv.send("PUT", &path, "three").await;
    check_error(&answer, 504, "EKV_0000", "The request timed out.");
    assert_eq!(kv.get(&path).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn eventual_consistency_can_be_rehearsed() {
    let settings = Settings {
        inconsistency_window_ms: 10_000,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    let path = format!("{STAGING}/default/groups/g/items/k");
    kv.put(&path, "x").await;
    assert_eq!(kv.get(&path).await, None);
    kv.advance_seconds(9);
    assert_eq!(kv.get(&path).await, None);
    kv.advance_seconds(1);
    assert_eq!(kv.get(&path).await.as_deref(), Some("x"));
}
