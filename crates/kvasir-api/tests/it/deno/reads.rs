//! Snapshot reads: checklist 13 to 25.

use bytes::Bytes;
use kvasir_api::deno::messages as proto;
use kvasir_kv::{AtomicWrite, Key, Mutation, Value};
use prost::Message;

use super::client::{BYTES, Client, LE64, V8, below, key, one, put, range, set};

async fn filled(count: usize) -> Client {
    let client = Client::new().await;
    let sets = (0..count).map(|n| put(&key(&["k", &format!("{n:04}")]), "v"));
    client.apply(sets.collect()).await;
    client
}

fn names(output: &proto::ReadRangeOutput) -> Vec<String> {
    let last = |key: &Bytes| {
        let parts = Key::new(key.clone()).parts().unwrap();
        match parts.last() {
            Some(kvasir_kv::Part::String(text)) => text.clone(),
            other => panic!("{other:?}"),
        }
    };
    output.values.iter().map(|entry| last(&entry.key)).collect()
}

#[tokio::test]
async fn an_absent_key_is_an_empty_success() {
    let client = Client::new().await;
    let output = client.read(vec![one(&key(&["a"]))]).await;

    assert_eq!(output.status, proto::SR_SUCCESS);
    assert!(output.read_is_strongly_consistent);
    assert!(!output.read_disabled);
    assert_eq!(output.ranges, [proto::ReadRangeOutput::default()]);
}

#[tokio::test]
async fn older_versions_get_the_flags_they_know() {
    let two = Client {
        version: "2",
        ..Client::new().await
    };
    let output = two.read(vec![]).await;
    assert_eq!(output.status, 0);
    assert!(output.read_is_strongly_consistent);
}

#[tokio::test]
async fn no_ranges_and_inverted_ranges_are_empty_successes() {
    let client = filled(2).await;
    assert_eq!(client.read(vec![]).await.ranges, []);
    let (a, b) = (key(&["k", "0000"]), key(&["k", "0001"]));
    for ranges in [vec![range(&b, &a, 5)], vec![range(&a, &a, 5)]] {
        let output = client.read(ranges).await;
        assert_eq!(output.ranges[0].values, []);
        assert_eq!(output.status, proto::SR_SUCCESS);
    }
}

#[tokio::test]
async fn the_start_is_in_and_the_end_is_out_in_both_directions() {
    let client = filled(5).await;
    let mut ranges = vec![range(&key(&["k", "0001"]), &key(&["k", "0003"]), 10); 2];
    ranges[1].reverse = true;
    let output = client.read(ranges).await;
    assert_eq!(names(&output.ranges[0]), ["0001", "0002"]);
    assert_eq!(names(&output.ranges[1]), ["0002", "0001"]);
}

#[tokio::test]
async fn the_limit_counts_from_the_end_that_is_read_first() {
    let client = filled(5).await;
    let mut ranges = vec![below(&key(&["k"]), 2); 2];
    ranges[1].reverse = true;
    let output = client.read(ranges).await;
    assert_eq!(names(&output.ranges[0]), ["0000", "0001"]);
    assert_eq!(names(&output.ranges[1]), ["0004", "0003"]);
}

#[tokio::test]
async fn ten_ranges_and_a_thousand_entries_are_the_most() {
    let client = filled(1000).await;
    let output = client.read(vec![below(&key(&["k"]), 100); 10]).await;
    assert_eq!(output.ranges.len(), 10);
    assert!(output.ranges.iter().all(|range| range.values.len() == 100));
    let output = client.read(vec![below(&key(&["k"]), 1000)]).await;
    assert_eq!(output.ranges[0].values.len(), 1000);

    for too_much in [
        vec![below(&key(&["k"]), 1); 11],
        vec![below(&key(&["k"]), 1001)],
        vec![below(&key(&["k"]), 501), below(&key(&["k"]), 500)],
        vec![below(&key(&["k"]), i32::MAX); 10],
        vec![below(&key(&["k"]), 0)],
        vec![below(&key(&["k"]), -1)],
    ] {
        assert_eq!(client.read_status(too_much).await, 400);
    }
}

#[tokio::test]
async fn bounds_of_2049_bytes_are_the_longest() {
    let client = Client::new().await;
    let bound = |len: usize| Bytes::from(vec![2; len]);
    assert_eq!(
        client
            .read_status(vec![range(&bound(2049), &bound(2049), 1)])
            .await,
        200
    );
    assert_eq!(
        client.read_status(vec![range(&bound(2050), &[], 1)]).await,
        400
    );
    assert_eq!(
        client
            .read_status(vec![range(&bound(1), &bound(2050), 1)])
            .await,
        400
    );
}

#[tokio::test]
async fn all_ranges_of_a_read_come_from_one_snapshot() {
    let client = Client::new().await;
    let (a, b) = (key(&["a"]), key(&["z"]));
    client
        .apply(vec![set(&a, LE64, vec![0; 8]), set(&b, LE64, vec![0; 8])])
        .await;
    let writer = {
        let client = client.clone();
        let (a, b) = (a.clone(), b.clone());
        tokio::spawn(async move {
            for n in 1..=200u64 {
                let bytes = n.to_le_bytes().to_vec();
                client
                    .apply(vec![set(&a, LE64, bytes.clone()), set(&b, LE64, bytes)])
                    .await;
            }
        })
    };
    for _ in 0..200 {
        let output = client.read(vec![one(&a), one(&b)]).await;
        assert_eq!(
            output.ranges[0].values[0].value,
            output.ranges[1].values[0].value
        );
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(
        client.get(&a).await.unwrap().value,
        200u64.to_le_bytes().to_vec()
    );
}

#[tokio::test]
async fn values_of_all_encodings_and_keys_that_are_no_tuples_return_byte_for_byte() {
    let client = Client::new().await;
    let keys = [
        Bytes::from_static(&[0xfe, 0, 1]),
        Bytes::from_static(&[0]),
        Bytes::new(),
        key(&["a"]),
    ];
    let values: [(i32, &[u8]); 4] = [
        (V8, &[0xff, 15, 0x5c, 0, 1, 2]),
        (LE64, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (BYTES, &[]),
        (BYTES, &[0xff, 16]),
    ];
    for key in &keys {
        for (encoding, data) in values {
            client.apply(vec![set(key, encoding, data)]).await;
            let entry = client.get(key).await.unwrap();
            assert_eq!(entry.key, key);
            assert_eq!(entry.value, data);
            assert_eq!(entry.encoding, encoding);
            assert_eq!(entry.versionstamp.len(), 10);
        }
    }
}

#[tokio::test]
async fn damaged_messages_are_refused_and_unknown_fields_are_not() {
    let client = Client::new().await;
    for method in ["snapshot_read", "atomic_write", "watch"] {
        for body in [
            &b"\x0a"[..],
            &b"\x0a\xff\xff\xff\xff\x0f"[..],
            &b"\x0a\x05\x0a"[..],
            &b"not protobuf"[..],
            &b"\x0b"[..],
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        ] {
            let answer = client.raw(method, body.to_vec()).await;
            assert_eq!(answer.status, 400, "{method} {body:?}");
            assert!(answer.text().contains("protobuf"), "{}", answer.text());
        }
    }
    let mut body = proto::SnapshotRead {
        ranges: vec![one(&key(&["a"]))],
    }
    .encode_to_vec();
    // Field 99 with a string, field 98 with a number.
    body.extend([0x9a, 0x06, 1, b'x', 0x90, 0x06, 7]);
    assert_eq!(client.raw("snapshot_read", body).await.status, 200);
}

#[tokio::test]
async fn a_body_over_two_mebibytes_is_413() {
    let client = Client::new().await;
    let body = vec![0x0a; 2 * 1024 * 1024 + 1];
    assert_eq!(client.raw("snapshot_read", body).await.status, 413);
}

#[tokio::test]
async fn values_of_other_dialects_that_do_not_fit_are_refused_and_not_cut_off() {
    let client = Client::new().await;
    let mut write = AtomicWrite::new();
    for n in 0..20 {
        let key = Key::from_strings(["big", &n.to_string()]);
        write = write.push(Mutation::set(key, Value::bytes(vec![n; 1024 * 1024])));
    }
    for _ in 0..5 {
        // Five times the same 20 MiB.
        client
            .world()
            .keyspace("default")
            .commit(write.clone())
            .await
            .unwrap();
    }
    let ranges = |count: usize| vec![below(&key(&["big"]), 20); count];
    assert_eq!(client.read_status(ranges(3)).await, 200);
    let body = proto::SnapshotRead { ranges: ranges(10) }.encode_to_vec();
    let answer = client.raw("snapshot_read", body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("read fewer entries"));
}

/// A name with an escape in it goes through the router, a plain one past it.
#[tokio::test]
async fn the_data_path_answers_alike_past_the_router_and_through_it() {
    let direct = filled(2).await;
    let mut routed = direct.clone();
    routed.endpoint = "/kv-connect/%64efault".to_owned();
    let mut stranger = direct.clone();
    stranger.token = "no token".to_owned();
    let mut strange_and_routed = routed.clone();
    strange_and_routed.token = stranger.token.clone();

    let ranges = vec![one(&key(&["k", "0001"])), below(&key(&["k"]), 10)];
    let read = proto::SnapshotRead { ranges }.encode_to_vec();
    let check = proto::AtomicWrite {
        checks: vec![proto::Check {
            key: key(&["k", "0001"]),
            versionstamp: Bytes::new(),
        }],
        ..Default::default()
    };
    let write = check.encode_to_vec();
    for (one, other) in [(&direct, &routed), (&stranger, &strange_and_routed)] {
        for (method, body) in [
            ("snapshot_read", read.clone()),
            ("snapshot_read", b"\xff".to_vec()),
            ("atomic_write", write.clone()),
            ("atomic_write", b"\xff".to_vec()),
        ] {
            let answers = [
                one.raw(method, body.clone()).await,
                other.raw(method, body).await,
            ];
            let [direct, routed] = answers.map(|mut answer| {
                answer.headers.remove("x-request-id");
                // The router writes it, and the listener where there is none.
                answer.headers.remove("content-length");
                (answer.status, answer.headers, answer.body)
            });
            assert_eq!(direct, routed, "{method}");
        }
    }
}
