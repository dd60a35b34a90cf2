//! The end of namespaces: line 81.

use super::*;
use kvasir_kv::{Key, KeyRange, RangeRead, SnapshotRead};
use kvasir_testkit::{DEADLINE, within};

const SCHEDULE: &str = "/edgekv/v1/networks/staging/namespaces/marketing/status/scheduled-delete";
const MISSING: &str = "The requested namespace does not exist.";

impl Kv {
    /// How many entries of a namespace the store holds still.
    async fn left(&self, prefix: &[&str]) -> usize {
        let range = KeyRange::below(&Key::from_strings(prefix));
        let read = SnapshotRead::range(RangeRead::new(range, 10_000));
        let snapshot = self.app.world.keyspace("edgekv").read(read).await.unwrap();
        snapshot.ranges[0].entries.len()
    }
}

#[tokio::test]
async fn deleting_at_once_removes_all_items_and_frees_the_name() {
    let kv = Kv::with_marketing().await;
    kv.create_namespace(STAGING, "marketing2", 0).await;
    kv.create_namespace(PRODUCTION, "marketing", 0).await;
    for n in 0..30 {
        kv.put(&country(&n.to_string()), "x").await;
    }
    kv.put(&format!("{}?sandboxId=s1", country("DE")), "x")
        .await;
    let others = [
        format!("{STAGING}/marketing2/groups/g/items/k"),
        format!("{PRODUCTION}/marketing/groups/g/items/k"),
    ];
    for other in &others {
        kv.put(other, "x").await;
    }
    let path = format!("{STAGING}/marketing?sync=true");
    check_json(
        &kv.send("DELETE", &path, "").await,
        200,
        json!({
            "description": "Namespace 'marketing' was successfully deleted.",
            "id": "123456",
            "operationPerformed": "DELETED",
        }),
    );
    assert_eq!(kv.left(&["staging", "marketing"]).await, 0);
    assert_eq!(kv.left(&["sandbox", "marketing"]).await, 0);
    let answer = kv.send("GET", &format!("{STAGING}/marketing"), "").await;
    check_error(&answer, 400, "EKV_9000", MISSING);
    for other in &others {
        assert!(kv.get(other).await.is_some(), "{other}");
    }
    kv.create_namespace(STAGING, "marketing", 0).await;
    assert_eq!(kv.get(&country("1")).await, None);
}

#[tokio::test]
async fn what_is_not_there_or_the_default_cannot_be_deleted() {
    let kv = Kv::new().await;
    for (network, capability) in [
        (STAGING, "DELETE_STAGING_NAMESPACE"),
        (PRODUCTION, "DELETE_NAMESPACE"),
    ] {
        for query in ["", "?sync=true"] {
            let answer = kv
                .send("DELETE", &format!("{network}/none{query}"), "")
                .await;
            let detail = format!(
                "That resource does not exist or you are missing the '{capability}' permission for it."
            );
            check_error(&answer, 400, "EKV_1002", &detail);
            let answer = kv
                .send("DELETE", &format!("{network}/default{query}"), "")
                .await;
            check_error(
                &answer,
                400,
                "EKV_2000",
                "The default namespace cannot be deleted.",
            );
        }
    }
}

#[tokio::test]
async fn a_scheduled_deletion_can_be_seen_moved_and_cancelled() {
    let kv = Kv::with_marketing().await;
    let nothing = "No current scheduled delete for marketing. Must first schedule the delete before modifying it.";
    let move_to = async |time: &str| {
        kv.send_json("PUT", SCHEDULE, json!({"scheduledDeleteTime": time}))
            .await
    };
    for method in ["GET", "DELETE"] {
        check_error(
            &kv.send(method, SCHEDULE, "").await,
            400,
            "EKV_9000",
            nothing,
        );
    }
    check_error(
        &move_to("2026-02-01T00:00:00Z").await,
        400,
        "EKV_9000",
        nothing,
    );

    let scheduled = json!({"scheduledDeleteTime": "2026-01-05T03:04:05.000Z"});
    let path = format!("{STAGING}/marketing");
    check_json(&kv.send("DELETE", &path, "").await, 202, scheduled.clone());
    kv.advance_seconds(10);
    check_json(&kv.send("DELETE", &path, "").await, 202, scheduled.clone());
    let answer = kv.send("GET", SCHEDULE, "").await;
    check_json(&answer, 200, scheduled);
    assert_eq!(answer.header("retry-after"), Some("259190"));

    let answer = move_to("2026-01-02T04:00:00.350Z").await;
    check_json(
        &answer,
        200,
        json!({"scheduledDeleteTime": "2026-01-02T04:00:00.350Z"}),
    );
    assert_eq!(answer.header("retry-after"), Some("3346"));
    for bad in ["2026-01-02T03:04:05Z", "1999-01-01T00:00:00Z", "soon", ""] {
        assert_eq!(move_to(bad).await.status, 400, "{bad}");
    }

    // Until then everything works as before.
    kv.put(&country("DE"), "x").await;
    assert_eq!(kv.send("DELETE", SCHEDULE, "").await.status, 204);
    check_error(
        &kv.send("GET", SCHEDULE, "").await,
        400,
        "EKV_9000",
        nothing,
    );
    kv.advance_seconds(365 * 24 * 3600);
    assert!(kv.get(&country("DE")).await.is_some());
}

#[tokio::test]
async fn the_last_five_minutes_cannot_be_called_off() {
    let kv = Kv::with_marketing().await;
    kv.send("DELETE", &format!("{STAGING}/marketing"), "").await;
    kv.advance_seconds(72 * 3600 - 300);
    let answer = kv.send("DELETE", SCHEDULE, "").await;
    check_error(
        &answer,
        400,
        "EKV_9000",
        "A scheduled delete cannot be cancelled in its last 5 minutes.",
    );
}

#[tokio::test]
async fn a_namespace_is_gone_at_its_time_and_its_items_soon_after() {
    let kv = Kv::with_marketing().await;
    let token = kv.create_token("t", json!({})).await;
    let token = [("x-akamai-edgedb-auth", token["value"].as_str().unwrap())];
    kv.put(&country("DE"), "x").await;
    kv.send("DELETE", &format!("{STAGING}/marketing"), "").await;
    kv.advance_seconds(72 * 3600 - 1);
    assert!(kv.get(&country("DE")).await.is_some());
    kv.advance_seconds(1);

    // Nothing has been removed yet, and nobody sees it any more.
    assert_eq!(kv.left(&["staging", "marketing"]).await, 1);
    for (method, path) in [
        ("GET", country("DE")),
        ("PUT", country("DE")),
        ("GET", COUNTRIES.to_owned()),
        ("GET", format!("{STAGING}/marketing")),
        ("GET", SCHEDULE.to_owned()),
    ] {
        let answer = kv.send(method, &path, "x").await;
        check_error(&answer, 400, "EKV_9000", MISSING);
    }
    let data = "/staging/api/v1/namespaces/marketing/groups/countries/items/DE";
    let answer = kv.app.send("GET", data, &token, "").await;
    check_error(&answer, 400, "EKV_9000", MISSING);
    let listed = kv.send("GET", STAGING, "").await;
    check_json(
        &listed,
        200,
        json!({"namespaces": [{"namespace": "default"}]}),
    );

    let dialect: Arc<dyn Dialect> = kv.dialect.clone();
    let background = tokio::spawn(dialect.background());
    within(DEADLINE, "the items to be removed", async {
        while kv.left(&["staging", "marketing"]).await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    kv.app.world.shutdown.cancel();
    within(DEADLINE, "the background to end", background)
        .await
        .unwrap();
}

/// A server that stops in the middle leaves the rest to whoever comes next.
#[tokio::test]
async fn a_name_is_free_at_its_time_even_if_nobody_has_cleaned_up() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "old").await;
    kv.send("DELETE", &format!("{STAGING}/marketing"), "").await;
    kv.advance_seconds(72 * 3600);
    kv.create_namespace(STAGING, "marketing", 0).await;
    assert_eq!(kv.get(&country("DE")).await, None);
    assert_eq!(kv.left(&["staging", "marketing"]).await, 0);
}

#[tokio::test]
async fn no_item_outlives_a_namespace_that_is_deleted_at_the_same_time() {
    for _ in 0..20 {
        let kv = Arc::new(Kv::with_marketing().await);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..4 {
            let kv = Arc::clone(&kv);
            tasks.spawn(async move {
                for m in 0..5 {
                    let answer = kv.send("PUT", &country(&format!("{n}-{m}")), "x").await;
                    assert!(matches!(answer.status.as_u16(), 200 | 400));
                    tokio::task::yield_now().await;
                }
            });
        }
        let deleter = Arc::clone(&kv);
        tasks.spawn(async move {
            let path = format!("{STAGING}/marketing?sync=true");
            assert_eq!(deleter.send("DELETE", &path, "").await.status, 200);
        });
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert_eq!(kv.left(&["staging", "marketing"]).await, 0);
    }
}
