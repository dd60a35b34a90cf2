//! Atomic writes: checklist 26 to 50.

use std::collections::HashSet;

use bytes::Bytes;
use kvasir_api::deno::messages as proto;
use kvasir_kv::Part;

use super::client::{
    BYTES, Client, LE64, V8, check, delete, key, key_of, mutating, mutation, put, set, site,
    v8_bigint, v8_number,
};
use crate::support::{START, World};

fn checking(checks: Vec<proto::Check>) -> proto::AtomicWrite {
    proto::AtomicWrite {
        checks,
        ..Default::default()
    }
}

fn sum(key: &Bytes, encoding: i32, data: impl Into<Bytes>) -> proto::Mutation {
    mutation(proto::M_SUM, key, encoding, data)
}

fn le64(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

#[tokio::test]
async fn versionstamps_rise_and_all_entries_of_a_commit_share_one() {
    let client = Client::new().await;
    let mut last = Bytes::from_static(&[0; 10]);
    for _ in 0..5 {
        let stamp = client
            .apply(vec![put(&key(&["a"]), "1"), put(&key(&["b"]), "2")])
            .await;
        assert_eq!(stamp.len(), 10);
        assert!(stamp > last);
        for name in ["a", "b"] {
            assert_eq!(client.get(&key(&[name])).await.unwrap().versionstamp, stamp);
        }
        last = stamp;
    }
    let empty = client.write(proto::AtomicWrite::default()).await;
    assert_eq!(empty.status, proto::AW_SUCCESS);
    assert!(
        empty.versionstamp > last,
        "a write of nothing has one as well"
    );
}

#[tokio::test]
async fn checks_compare_versionstamps_and_absence() {
    let client = Client::new().await;
    let (a, b) = (key(&["a"]), key(&["b"]));
    let first = client.apply(vec![put(&a, "1")]).await;
    let second = client.apply(vec![put(&a, "2")]).await;

    for (check, passes) in [
        (check(&b, ""), true),
        (check(&a, ""), false),
        (check(&a, first.clone()), false),
        (check(&a, second.clone()), true),
        (check(&b, second.clone()), false),
    ] {
        let output = client.write(checking(vec![check])).await;
        let status = if passes {
            proto::AW_SUCCESS
        } else {
            proto::AW_CHECK_FAILURE
        };
        assert_eq!(output.status, status);
    }

    let output = client
        .write(proto::AtomicWrite {
            checks: vec![check(&a, ""), check(&a, second), check(&a, first)],
            mutations: vec![put(&b, "never")],
            ..Default::default()
        })
        .await;
    assert_eq!(output.status, proto::AW_CHECK_FAILURE);
    assert_eq!(output.failed_checks, [0, 2]);
    assert_eq!(output.versionstamp, "");
    assert_eq!(client.get(&b).await, None);

    client.refused(checking(vec![check(&a, vec![0; 9])])).await;
    client.refused(checking(vec![check(&a, vec![0; 11])])).await;
}

#[tokio::test]
async fn mutations_apply_in_order() {
    let client = Client::new().await;
    let (a, b) = (key(&["a"]), key(&["b"]));
    client
        .apply(vec![
            put(&a, "1"),
            put(&a, "2"),
            put(&b, "1"),
            delete(&b),
            delete(&a),
            put(&a, "3"),
        ])
        .await;
    assert_eq!(client.get(&a).await.unwrap().value, "3");
    assert_eq!(client.get(&b).await, None);
    client.apply(vec![delete(&b)]).await;
}

#[tokio::test]
async fn a_suffix_key_ends_in_the_versionstamp_of_its_commit() {
    let client = Client::new().await;
    let prefix = key(&["log"]);
    let stamp = client
        .apply(vec![mutation(
            proto::M_SET_SUFFIX_VERSIONSTAMPED_KEY,
            &prefix,
            BYTES,
            "x",
        )])
        .await;
    let hex = data_encoding::HEXLOWER.encode(&stamp);
    let entry = client.get(&key(&["log", &hex])).await.unwrap();
    assert_eq!(entry.value, "x");
    assert_eq!(entry.versionstamp, stamp);

    let longest = Bytes::from(vec![2; 2048]);
    client
        .apply(vec![mutation(
            proto::M_SET_SUFFIX_VERSIONSTAMPED_KEY,
            &longest,
            BYTES,
            "x",
        )])
        .await;
}

#[tokio::test]
async fn u64_sums_wrap_and_min_and_max_are_unsigned() {
    let client = Client::new().await;
    let a = key(&["a"]);
    for (kind, operand, result) in [
        (proto::M_SUM, 7, 7),
        (proto::M_SUM, u64::MAX, 6),
        (proto::M_MAX, u64::MAX, u64::MAX),
        (proto::M_MIN, 1 << 63, 1 << 63),
        (proto::M_MIN, 5, 5),
        (proto::M_MAX, 4, 5),
    ] {
        client
            .apply(vec![mutation(kind, &a, LE64, le64(operand))])
            .await;
        let entry = client.get(&a).await.unwrap();
        assert_eq!((entry.encoding, entry.value), (LE64, le64(result).into()));
    }
    for kind in [proto::M_MIN, proto::M_MAX] {
        let fresh = key(&["fresh", &kind.to_string()]);
        client
            .apply(vec![mutation(kind, &fresh, LE64, le64(3))])
            .await;
        assert_eq!(client.get(&fresh).await.unwrap().value, le64(3));
    }
}

#[tokio::test]
async fn u64_mutations_on_other_values_fail_with_the_known_sentences() {
    let client = Client::new().await;
    let a = key(&["a"]);
    client.apply(vec![set(&a, V8, v8_number(1.0))]).await;
    for (kind, name) in [
        (proto::M_SUM, "sum"),
        (proto::M_MIN, "min"),
        (proto::M_MAX, "max"),
    ] {
        let sentence = client
            .refused(mutating(vec![mutation(kind, &a, LE64, le64(1))]))
            .await;
        assert_eq!(
            sentence,
            format!("Failed to perform '{name}' mutation on a non-U64 value in the database")
        );
    }
    for (kind, name) in [(proto::M_MIN, "min"), (proto::M_MAX, "max")] {
        let operand = mutation(kind, &a, V8, v8_number(1.0));
        let sentence = client.refused(mutating(vec![operand])).await;
        assert_eq!(
            sentence,
            format!("Failed to perform '{name}' mutation on a non-U64 operand")
        );
    }
}

#[tokio::test]
async fn v8_sums_are_exact_for_bigints_and_doubles_for_numbers() {
    let client = Client::new().await;
    let (big, number, counter) = (key(&["big"]), key(&["number"]), key(&["counter"]));
    client.apply(vec![sum(&big, V8, v8_bigint(-5))]).await;
    client.apply(vec![sum(&big, V8, v8_bigint(12))]).await;
    assert_eq!(client.get(&big).await.unwrap().value, v8_bigint(7));

    // An integer of format 14, one of format 16, and a fraction.
    client
        .apply(vec![sum(&number, V8, vec![0xff, 14, b'I', 4])])
        .await;
    client
        .apply(vec![sum(&number, V8, vec![0xff, 16, b'I', 6])])
        .await;
    client.apply(vec![sum(&number, V8, v8_number(0.5))]).await;
    assert_eq!(client.get(&number).await.unwrap().value, v8_number(5.5));

    client.apply(vec![set(&counter, LE64, le64(3))]).await;
    client.apply(vec![sum(&counter, V8, v8_bigint(4))]).await;
    let entry = client.get(&counter).await.unwrap();
    assert_eq!((entry.encoding, entry.value), (LE64, le64(7).into()));

    for (target, operand, sentence) in [
        (&big, v8_number(1.0), "Cannot sum BigInt with Number"),
        (&number, v8_bigint(1), "Cannot sum Number with BigInt"),
        (&counter, v8_number(1.0), "Cannot sum KvU64 with Number"),
        (&counter, v8_bigint(-1), "Cannot sum KvU64 with BigInt"),
    ] {
        let refused = client
            .refused(mutating(vec![sum(target, V8, operand)]))
            .await;
        assert_eq!(refused, sentence);
    }
    client
        .refused(mutating(vec![sum(
            &number,
            V8,
            vec![0xff, 15, b'"', 1, b'a'],
        )]))
        .await;
    client
        .refused(mutating(vec![sum(&number, BYTES, vec![1])]))
        .await;
}

#[tokio::test]
async fn sums_keep_to_their_bounds() {
    let client = Client::new().await;
    let a = key(&["a"]);
    let bounded = |operand: i64, clamp: bool| proto::Mutation {
        sum_min: v8_bigint(0).into(),
        sum_max: v8_bigint(10).into(),
        sum_clamp: clamp,
        ..sum(&a, V8, v8_bigint(operand))
    };
    client.apply(vec![set(&a, V8, v8_bigint(5))]).await;
    client.apply(vec![bounded(50, true)]).await;
    assert_eq!(client.get(&a).await.unwrap().value, v8_bigint(10));
    client.apply(vec![bounded(-50, true)]).await;
    // V8's own way to write the bigint 0, with which the bound is equal.
    let zero = vec![0xff, 15, b'Z', 0];
    assert_eq!(client.get(&a).await.unwrap().value, zero);
    client.refused(mutating(vec![bounded(11, false)])).await;
    client.refused(mutating(vec![bounded(-1, false)])).await;
    assert_eq!(client.get(&a).await.unwrap().value, zero);

    let other_type = proto::Mutation {
        sum_min: v8_number(0.0).into(),
        ..sum(&a, V8, v8_bigint(1))
    };
    client.refused(mutating(vec![other_type])).await;
    let on_u64 = proto::Mutation {
        sum_clamp: true,
        ..sum(&key(&["u"]), LE64, le64(1))
    };
    client.refused(mutating(vec![on_u64])).await;
}

/// denokv 0.14 keeps the mutations before the refused one.
#[tokio::test]
async fn a_refused_mutation_leaves_no_trace_of_the_earlier_ones() {
    let client = Client::new().await;
    let (a, b) = (key(&["a"]), key(&["b"]));
    client.apply(vec![put(&b, "text")]).await;
    let before = client.get(&b).await;

    client
        .refused(mutating(vec![
            put(&a, "1"),
            put(&b, "2"),
            sum(&b, LE64, le64(1)),
        ]))
        .await;

    assert_eq!(client.get(&a).await, None);
    assert_eq!(client.get(&b).await, before);
}

#[tokio::test]
async fn parallel_increments_all_count_and_one_parallel_create_wins() {
    let client = Client::new().await;
    let (counter, only) = (key(&["counter"]), key(&["only"]));
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let (client, counter) = (client.clone(), counter.clone());
        tasks.push(tokio::spawn(async move {
            client.apply(vec![sum(&counter, LE64, le64(1))]).await
        }));
    }
    let mut stamps = HashSet::new();
    for task in tasks {
        stamps.insert(task.await.unwrap());
    }
    assert_eq!(stamps.len(), 200);
    assert_eq!(client.get(&counter).await.unwrap().value, le64(200));

    let mut tasks = Vec::new();
    for _ in 0..30 {
        let (client, only) = (client.clone(), only.clone());
        tasks.push(tokio::spawn(async move {
            let write = proto::AtomicWrite {
                checks: vec![check(&only, "")],
                mutations: vec![put(&only, "x")],
                ..Default::default()
            };
            client.write(write).await.status
        }));
    }
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap() == proto::AW_SUCCESS);
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn mutations_that_make_no_sense_are_refused() {
    let client = Client::new().await;
    let a = key(&["a"]);
    for kind in [0, 6, 42, -1] {
        client
            .refused(mutating(vec![mutation(kind, &a, BYTES, "x")]))
            .await;
    }
    for kind in [1, 3, 4, 5, 9] {
        let without_value = proto::Mutation {
            value: None,
            ..mutation(kind, &a, BYTES, "")
        };
        client.refused(mutating(vec![without_value])).await;
    }
    for encoding in [0, 4, 99, -1] {
        client.refused(mutating(vec![set(&a, encoding, "x")])).await;
    }
    for len in [0, 7, 9] {
        client
            .refused(mutating(vec![set(&a, LE64, vec![0; len])]))
            .await;
    }
    for expire_at_ms in [-2, i64::MIN] {
        let expiring = proto::Mutation {
            expire_at_ms,
            ..put(&a, "x")
        };
        client.refused(mutating(vec![expiring])).await;
    }
    assert_eq!(client.get(&a).await, None);
}

#[tokio::test]
async fn every_limit_holds_at_its_boundary() {
    let client = Client::new().await;
    let a = key(&["a"]);
    let long = |len: usize| Bytes::from(vec![3; len]);
    client.apply(vec![set(&a, BYTES, vec![0; 65_536])]).await;
    client
        .refused(mutating(vec![set(&a, BYTES, vec![0; 65_537])]))
        .await;
    client.apply(vec![put(&long(2048), "x")]).await;
    client.refused(mutating(vec![put(&long(2049), "x")])).await;
    client.refused(mutating(vec![delete(&long(2049))])).await;
    client.write(checking(vec![check(&long(2049), "")])).await;
    client.refused(checking(vec![check(&long(2050), "")])).await;

    client
        .write(checking(vec![check(&key(&["none"]), ""); 100]))
        .await;
    client
        .refused(checking(vec![check(&key(&["none"]), ""); 101]))
        .await;
    client.apply(vec![put(&a, "x"); 1000]).await;
    client.refused(mutating(vec![put(&a, "x"); 1001])).await;

    // 819,200 bytes: twelve values of 64 KiB, one of the rest, their keys.
    let short = Bytes::from_static(b"k");
    let rest = |len: usize| {
        let mut mutations = vec![set(&short, BYTES, vec![0; 65_536]); 12];
        mutations.push(set(&short, BYTES, vec![0; len]));
        mutating(mutations)
    };
    let left = 819_200 - 12 * 65_536 - 13;
    assert_eq!(client.write(rest(left)).await.status, proto::AW_SUCCESS);
    client.refused(rest(left + 1)).await;
}

/// An empty element is two bytes on the wire; a million of them must not become memory.
#[tokio::test]
async fn a_million_empty_elements_are_refused_before_they_are_built() {
    let client = Client::new().await;
    for (method, field) in [
        ("snapshot_read", 0x0a),
        ("watch", 0x0a),
        ("atomic_write", 0x0a),
        ("atomic_write", 0x12),
        ("atomic_write", 0x1a),
    ] {
        let answer = client.raw(method, [field, 0].repeat(1_000_000)).await;
        assert_eq!(answer.status, 400, "{method} {field:x}");
        assert!(
            answer.text().contains("over the limit"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn an_entry_is_there_before_its_expiry_and_gone_right_after() {
    let client = Client::new().await;
    let a = key(&["a", "b"]);
    let expiring = |at: i64| proto::Mutation {
        expire_at_ms: at,
        ..put(&a, "x")
    };
    let stamp = client.apply(vec![expiring(START.0 + 1000)]).await;
    client.world().clock.advance_ms(999);
    assert!(client.get(&a).await.is_some());
    assert_eq!(client.list(&["a"]).await.len(), 1);
    client.world().clock.advance_ms(1);
    assert!(client.get(&a).await.is_none());
    assert_eq!(client.list(&["a"]).await.len(), 0);
    let output = client.write(checking(vec![check(&a, stamp)])).await;
    assert_eq!(output.status, proto::AW_CHECK_FAILURE);
    let output = client.write(checking(vec![check(&a, "")])).await;
    assert_eq!(output.status, proto::AW_SUCCESS);

    let now = client.world().now().0;
    for forever in [put(&a, "x"), expiring(0), expiring(-1)] {
        client.apply(vec![expiring(now + 5_000)]).await;
        client.apply(vec![forever]).await;
        client.world().clock.advance_ms(10_000);
        assert!(client.get(&a).await.is_some());
    }
    client.apply(vec![expiring(1)]).await;
    assert!(client.get(&a).await.is_none(), "a time that is past");
}

#[tokio::test]
async fn a_sum_removes_the_expiry() {
    let client = Client::new().await;
    let a = key(&["a"]);
    let expiring = proto::Mutation {
        expire_at_ms: START.0 + 1000,
        ..set(&a, LE64, le64(1))
    };
    client.apply(vec![expiring]).await;
    client.apply(vec![sum(&a, LE64, le64(1))]).await;
    client.world().clock.advance_ms(60_000);
    assert_eq!(client.get(&a).await.unwrap().value, le64(2));
}

#[tokio::test]
async fn another_client_sees_an_acknowledged_write_at_once() {
    let world = World::new();
    let (one, other) = (
        Client::of(&site(&world)).await,
        Client::of(&site(&world)).await,
    );
    let mixed = key_of(&[Part::Number(1.0), Part::BigInt(1.into()), Part::Bool(false)]);
    for n in 0..20u64 {
        one.apply(vec![set(&mixed, LE64, le64(n))]).await;
        assert_eq!(other.get(&mixed).await.unwrap().value, le64(n));
    }
}
