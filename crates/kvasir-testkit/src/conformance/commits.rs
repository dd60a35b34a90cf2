//! `commit`: checks, mutations, and what happens among many.

use std::time::Duration;

use kvasir_kv::{AtomicWrite, Key, Meta, Mutation, Outcome, SumBounds, Value, Versionstamp};

use super::{Bed, json, key, later, set};

/// Each mutation sees what the earlier ones did.
pub async fn mutations_apply_in_order(bed: Bed) {
    let sum = |operand| Mutation::Sum {
        key: key("n"),
        operand: Value::u64(operand),
        bounds: SumBounds::default(),
    };
    let write = AtomicWrite::new()
        .push(Mutation::set(key("n"), Value::u64(10)))
        .push(sum(5))
        .push(Mutation::delete(key("n")))
        .push(sum(7))
        .push(Mutation::Max {
            key: key("n"),
            operand: Value::u64(9),
        })
        .push(set("gone", "1"))
        .push(Mutation::delete(key("gone")));
    bed.commit(write).await;
    assert_eq!(bed.entry("n").await.unwrap().value, Value::u64(9));
    assert_eq!(bed.entry("gone").await, None);
}

/// The last one.
pub async fn one_entry_remains_of_several_writes_to_a_key(bed: Bed) {
    let write = AtomicWrite::new()
        .push(set("a", "1"))
        .push(set("a", "2"))
        .push(set("a", "3"));
    bed.commit(write).await;
    assert_eq!(bed.text("a").await.unwrap(), "3");
    assert_eq!(bed.all().await.len(), 1);
}

/// Not even what stands before the failing check's mutations.
pub async fn a_failed_check_changes_nothing(bed: Bed) {
    let stamp = bed.set("a", "1").await;
    let write = AtomicWrite::new()
        .check_absent(key("a"))
        .push(set("a", "2"))
        .push(set("b", "2"))
        .push(Mutation::delete(key("a")));
    let outcome = bed.store().commit(write).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { failed: vec![0] });
    assert_eq!(bed.stamp("a").await, Some(stamp));
    assert_eq!(bed.all().await.len(), 1);
}

/// All of them, not only the first.
pub async fn all_failing_checks_are_named_in_rising_order(bed: Bed) {
    let stamp = bed.set("a", "1").await;
    let write = AtomicWrite::new()
        .check_absent(key("a"))
        .check(key("a"), stamp)
        .check(key("b"), stamp)
        .check_absent(key("b"))
        .check(key("a"), Versionstamp::ZERO);
    let outcome = bed.store().commit(write).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Conflict {
            failed: vec![0, 2, 4]
        }
    );
}

/// A write may check and change the same key.
pub async fn checks_look_at_the_state_before_the_write(bed: Bed) {
    let write = AtomicWrite::new()
        .check_absent(key("a"))
        .check_absent(key("a"))
        .push(set("a", "1"));
    let stamp = bed.commit(write).await;
    let write = AtomicWrite::new()
        .check(key("a"), stamp)
        .push(Mutation::delete(key("a")));
    bed.commit(write).await;
    assert_eq!(bed.entry("a").await, None);
}

/// Not for the one before, the next, or the same value written again.
pub async fn a_check_holds_for_exactly_one_version(bed: Bed) {
    let first = bed.set("a", "1").await;
    let second = bed.set("a", "1").await;
    for (stamp, holds) in [(first, false), (second, true), (Versionstamp::ZERO, false)] {
        let write = AtomicWrite::new().check(key("a"), stamp);
        let outcome = bed.store().commit(write).await.unwrap();
        assert_eq!(outcome.committed().is_some(), holds, "{stamp}");
    }
    let mut other_order = *second.as_bytes();
    other_order[9] ^= 1;
    let write = AtomicWrite::new().check(key("a"), Versionstamp::from_bytes(other_order));
    assert_eq!(bed.store().commit(write).await.unwrap().committed(), None);
}

/// Checks alone are a question about one moment.
pub async fn a_write_without_mutations_commits(bed: Bed) {
    let stamp = bed.set("a", "1").await;
    let asked = bed.commit(AtomicWrite::new().check(key("a"), stamp)).await;
    assert!(asked > stamp);
    assert_eq!(bed.stamp("a").await, Some(stamp));
}

/// It has a place in history all the same.
pub async fn a_write_without_anything_commits(bed: Bed) {
    let before = bed.set("a", "1").await;
    let nothing = bed.commit(AtomicWrite::new()).await;
    let after = bed.set("a", "2").await;
    assert!(before < nothing && nothing < after);
}

/// It is a commit like any other.
pub async fn deleting_an_absent_key_is_no_error(bed: Bed) {
    let before = bed.set("a", "1").await;
    let deleted = bed.delete("nobody").await;
    assert!(deleted > before);
    assert_eq!(bed.all().await.len(), 1);
}

/// All of the old entry goes.
pub async fn a_set_replaces_value_expiry_and_meta(bed: Bed) {
    bed.apply(Mutation::Set {
        key: key("a"),
        value: json("1"),
        expires_at: Some(later(5)),
        meta: Some(Meta {
            creator: Some("x".into()),
            ..Meta::default()
        }),
        keep_created: false,
    })
    .await;
    let stamp = bed.apply(Mutation::set(key("a"), Value::bytes("2"))).await;
    let entry = bed.entry("a").await.unwrap();
    assert_eq!(entry.value, Value::bytes("2"));
    assert_eq!(
        (entry.versionstamp, entry.expires_at, entry.meta),
        (stamp, None, None)
    );
    bed.clock.set(later(10));
    assert!(bed.entry("a").await.is_some(), "the old expiry is gone");
}

/// No meta costs no bytes, so an empty one is not kept.
pub async fn an_empty_meta_is_no_meta(bed: Bed) {
    bed.apply(Mutation::Set {
        key: key("a"),
        value: json("1"),
        expires_at: None,
        meta: Some(Meta::default()),
        keep_created: false,
    })
    .await;
    assert_eq!(bed.entry("a").await.unwrap().meta, None);
}

/// `keep_created` carries the creation time over any number of writes, until the key is deleted.
pub async fn the_creation_time_is_kept_when_asked_for(bed: Bed) {
    let keeping = |value: &str, meta: Option<Meta>| Mutation::Set {
        key: key("a"),
        value: json(value),
        expires_at: None,
        meta,
        keep_created: true,
    };
    bed.apply(keeping("1", None)).await;
    let created = bed.entry("a").await.unwrap().created_at();
    assert_eq!(created, later(0));

    bed.clock.set(later(1_000));
    let meta = Meta {
        content_type: Some("text/x".into()),
        ..Meta::default()
    };
    bed.apply(keeping("2", Some(meta))).await;
    bed.clock.set(later(2_000));
    bed.apply(keeping("3", None)).await;
    let entry = bed.entry("a").await.unwrap();
    assert_eq!(entry.created_at(), created);
    assert_eq!(entry.versionstamp.time(), later(2_000));

    bed.delete("a").await;
    bed.apply(keeping("4", None)).await;
    assert_eq!(bed.entry("a").await.unwrap().created_at(), later(2_000));

    bed.clock.set(later(3_000));
    bed.set("a", "5").await;
    assert_eq!(bed.entry("a").await.unwrap().created_at(), later(3_000));
}

/// Right before that mutation, the effects of the earlier ones included.
pub async fn existence_is_reported_for_each_mutation_when_asked_for(bed: Bed) {
    bed.set("a", "1").await;
    let write = AtomicWrite::new()
        .push(set("a", "2"))
        .push(Mutation::delete(key("a")))
        .push(Mutation::delete(key("a")))
        .push(set("b", "1"))
        .push(Mutation::SetVersionstamped {
            prefix: key("a"),
            suffix: Key::default(),
            value: json("1"),
            expires_at: None,
        })
        .push(Mutation::Sum {
            key: key("b"),
            operand: json("1"),
            bounds: SumBounds::default(),
        });
    let asked = bed
        .store()
        .commit(write.clone().reporting_existed())
        .await
        .unwrap();
    assert_eq!(
        asked.committed().unwrap().existed,
        [true, true, false, false, false, true]
    );
    let not_asked = bed.store().commit(write).await.unwrap();
    assert!(not_asked.committed().unwrap().existed.is_empty());
}

/// A string part with its 20 hexadecimal digits, between prefix and suffix.
pub async fn a_versionstamped_key_holds_the_stamp_of_its_commit(bed: Bed) {
    let write = AtomicWrite::new()
        .push(Mutation::SetVersionstamped {
            prefix: key("log"),
            suffix: Key::default(),
            value: json("1"),
            expires_at: None,
        })
        .push(Mutation::SetVersionstamped {
            prefix: key("log"),
            suffix: key("tail"),
            value: json("2"),
            expires_at: Some(later(50)),
        });
    let stamp = bed.commit(write).await;
    let found = bed.all().await;
    let first = key("log").with_string(&stamp.to_string());
    assert_eq!(found[0].key, first);
    assert_eq!(found[1].key, first.with_string("tail"));
    assert_eq!(found[1].expires_at, Some(later(50)));
    assert!(found.iter().all(|entry| entry.versionstamp == stamp));
}

/// Thousands of mutations are one step.
pub async fn a_large_write_is_applied_whole(bed: Bed) {
    let count = 3_000;
    let mut write = AtomicWrite::new();
    for n in 0..count {
        write = write.push(Mutation::set(
            Key::from_strings(["large", &format!("{n:05}")]),
            Value::bytes(vec![7; 100]),
        ));
    }
    let stamp = bed.commit(write).await;
    let found = bed.all().await;
    assert_eq!(found.len(), count);
    assert!(found.iter().all(|entry| entry.versionstamp == stamp));
}

/// And the others conflict.
pub async fn of_concurrent_creations_exactly_one_commits(bed: Bed) {
    let tasks: Vec<_> = (0..16)
        .map(|n: u32| {
            let store = bed.store().clone();
            tokio::spawn(async move {
                let mut won = 0;
                for round in 0..20 {
                    let name = format!("round {round}");
                    let write = AtomicWrite::new()
                        .check_absent(key(&name))
                        .push(set(&name, &n.to_string()));
                    let outcome = store.commit(write).await.unwrap();
                    won += u32::from(outcome.committed().is_some());
                }
                won
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += task.await.unwrap();
    }
    assert_eq!(won, 20);
}

/// Read, check, write; again on conflict: nothing is lost.
pub async fn concurrent_increments_are_all_counted(bed: Bed) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = bed.store().clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let entry = store.get(&key("checked")).await.unwrap();
                    let count = entry.as_ref().map_or(0, |e| e.value.as_u64().unwrap());
                    let write = AtomicWrite::new()
                        .push(Mutation::set(key("checked"), Value::u64(count + 1)))
                        .push(Mutation::Sum {
                            key: key("summed"),
                            operand: Value::u64(1),
                            bounds: SumBounds::default(),
                        });
                    let write = match entry {
                        Some(entry) => write.check(entry.key, entry.versionstamp),
                        None => write.check_absent(key("checked")),
                    };
                    if store.commit(write).await.unwrap().committed().is_some() {
                        done += 1;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for name in ["checked", "summed"] {
        assert_eq!(
            bed.entry(name).await.unwrap().value,
            Value::u64(80),
            "{name}"
        );
    }
}

/// Dropping the future ends the wait, not the commit.
pub async fn a_dropped_commit_is_whole_or_absent(bed: Bed) {
    for n in 0..50u64 {
        let (left, right) = (format!("l{n}"), format!("r{n}"));
        let write = AtomicWrite::new()
            .push(set(&left, "1"))
            .push(set(&right, "1"));
        // Zero drops it at its first pause, more at a later one.
        let wait = Duration::from_micros(n * 20);
        // Whether it was in time does not matter.
        let _ = tokio::time::timeout(wait, bed.store().commit(write)).await;
    }
    // A commit behind them all, so that none of them is still on its way.
    bed.set("end", "1").await;
    for n in 0..50 {
        let pair = (
            bed.stamp(&format!("l{n}")).await,
            bed.stamp(&format!("r{n}")).await,
        );
        assert_eq!(pair.0, pair.1, "half of commit {n}");
    }
}
