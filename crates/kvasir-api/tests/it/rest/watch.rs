//! `GET …?watch=true`.

use super::*;
use kvasir_testkit::{DEADLINE, within};

async fn watching(app: &App) -> crate::support::Streamed {
    app.open("GET", "/kv/a?watch=true", &[], "").await
}

#[tokio::test]
async fn a_watch_tells_the_present_state_and_every_change() {
    let app = app();
    let mut events = watching(&app).await;
    assert_eq!(events.status, 200);
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["cache-control"], "no-store");
    let absent =
        r#"data: {"key":["a"],"path":"a","value":null,"versionstamp":null,"expiresAt":null}"#;
    assert_eq!(
        events.until("data:").await,
        format!("retry: 1000\n\n{absent}\n\n")
    );

    let stamp = app.stored("/kv/a", "[\n1]").await;
    assert_eq!(
        events.until("data:").await,
        format!(
            "id: {stamp}\ndata: {{\"key\":[\"a\"],\"path\":\"a\",\"value\":[ 1],\"versionstamp\":\"{stamp}\",\"expiresAt\":null}}\n\n"
        )
    );
    app.send("DELETE", "/kv/a", &[], "").await;
    assert_eq!(events.until("data:").await, format!("{absent}\n\n"));
}

#[tokio::test]
async fn expiry_is_a_change() {
    let app = app();
    app.kv_put("/kv/a", r#"{"value":1,"ttl":1000}"#).await;
    let mut events = watching(&app).await;
    assert!(events.until("data:").await.contains("\"value\":1"));
    app.world.clock.advance_ms(1_000);
    let swept = app
        .world
        .store
        .sweep(app.world.now(), 10.try_into().unwrap());
    swept.await.unwrap();
    assert!(
        events
            .until("data:")
            .await
            .contains("\"versionstamp\":null")
    );
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let app = app();
    let mut events = watching(&app).await;
    events.until("data:").await;
    for _ in 0..3 {
        let beat = tokio::spawn(async move {
            let text = events.until("heartbeat").await;
            (text, events)
        });
        // The stream registers its wait when it is polled, so time moves until it is heard.
        while !beat.is_finished() {
            app.world.clock.advance_ms(15_000);
            tokio::task::yield_now().await;
        }
        let (text, still) = beat.await.unwrap();
        assert_eq!(text, ": heartbeat\n\n");
        events = still;
    }
}

#[tokio::test]
async fn shutdown_ends_a_watch_cleanly() {
    let app = app();
    let mut events = watching(&app).await;
    events.until("data:").await;
    app.world.shutdown.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn too_many_watches_are_503_and_a_closed_one_makes_room() {
    let settings = Settings {
        watches_max: 1,
        ..Settings::default()
    };
    let app = app_over(&World::new(), settings);
    let first = watching(&app).await;
    let second = watching(&app).await.into_answer().await;
    assert_problem(&second, 503, "unavailable", "too many watches");
    assert_eq!(second.header("retry-after"), Some("1"));
    drop(first);
    assert_eq!(watching(&app).await.status, 200);
}

#[tokio::test]
async fn a_watch_needs_one_key() {
    let app = app();
    let answer = app.kv_get("/kv?watch=true").await;
    assert_problem(&answer, 400, "bad_request", "name a key");
    let answer = app.kv_get("/kv/a?watch=true&list=true").await;
    assert_problem(&answer, 400, "bad_request", "does not go with");
}

#[tokio::test]
async fn the_last_state_is_never_missed() {
    let app = app();
    let mut events = watching(&app).await;
    for value in 0..100 {
        app.stored("/kv/a", &value.to_string()).await;
    }
    let last = within(DEADLINE, "the last state", async {
        loop {
            if events.until("data:").await.contains("\"value\":99,") {
                break;
            }
        }
    });
    last.await;
}
