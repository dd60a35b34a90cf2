//! Backups: taken online, read, restored, rehearsed, kept and removed.

mod backends;
mod command;
mod keeping;
mod memory;
mod restoring;
mod taking;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use age::x25519;
use futures_util::StreamExt;
use kvasir::backup::desk::{Desk, Parts};
use kvasir::backup::metrics::BackupMetrics;
use kvasir::backup::take::{Take, Taken};
use kvasir::backup::target::{Found, Target};
use kvasir::backup::{Control, restore, source};
use kvasir::config::backup::{BackupSettings, S3Settings};
use kvasir_api::backups::{Backups, JobState, NewBackup, NewDrill, NewSchedule, Prune};
use kvasir_kv::{
    AtomicWrite, Clock, Entry, Key, KeyRange, Limits, ManualClock, Meta, Mutation, Store,
    SumBounds, UnixMillis, Value, Versionstamp,
};
use kvasir_store::{OpenOptions, SystemClock, open};
use kvasir_testkit::s3::{ACCESS_KEY, S3Double};
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, eventually, within};
use serde_json::{Value as Json, json};
use tokio::runtime::Handle;

use crate::{KVASIR, options, run, server};

async fn store(url: &str) -> Arc<dyn Store> {
    let options = OpenOptions {
        sweeper: false,
        ..OpenOptions::default()
    };
    open(url, options).await.unwrap()
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = tokio::task::spawn_blocking(work);
    within(DEADLINE * 4, "the work ends", work).await.unwrap()
}

async fn try_take(
    store: &Arc<dyn Store>,
    target: &Target,
    recipients: Vec<x25519::Recipient>,
    control: Arc<Control>,
) -> anyhow::Result<Taken> {
    let (store, target, runtime) = (Arc::clone(store), target.clone(), Handle::current());
    on_thread(move || {
        let take = Take {
            store: &store,
            target: &target,
            recipients: &recipients,
            comment: String::new(),
            clock: &SystemClock,
            runtime,
        };
        take.run(&control)
    })
    .await
}

async fn take(store: &Arc<dyn Store>, target: &Target) -> Taken {
    let control = Arc::new(Control::default());
    try_take(store, target, Vec::new(), control).await.unwrap()
}

async fn read(
    target: &Target,
    found: &Found,
    keys: Vec<x25519::Identity>,
) -> anyhow::Result<Vec<Entry>> {
    let (target, found, runtime) = (target.clone(), found.clone(), Handle::current());
    on_thread(move || {
        let mut source = source::open(target.open(&found, &runtime)?, &keys)?;
        let mut entries = Vec::new();
        while let Some(chunk) = source.next_chunk()? {
            entries.extend(chunk);
        }
        source.finish()?;
        Ok(entries)
    })
    .await
}

async fn restored(
    target: &Target,
    found: &Found,
    into: &Arc<dyn Store>,
    ignore: bool,
) -> restore::Report {
    let (target, found, into) = (target.clone(), found.clone(), Arc::clone(into));
    let runtime = Handle::current();
    on_thread(move || {
        let source = source::open(target.open(&found, &runtime).unwrap(), &[]).unwrap();
        let control = Control::default();
        restore::fill(source, &into, ignore, &SystemClock, &control, &runtime).unwrap()
    })
    .await
}

async fn content(store: &Arc<dyn Store>) -> Vec<Entry> {
    let everything = KeyRange::starting_with(&Key::default());
    let mut pages = store.scan_snapshot(everything, false);
    let mut entries = Vec::new();
    while let Some(page) = pages.next().await {
        entries.extend(page.unwrap().entries);
    }
    entries
}

/// Entries of all kinds.
async fn fill(store: &Arc<dyn Store>, count: u64) {
    let far = UnixMillis(SystemClock.now().0 + 3_600_000);
    let near = UnixMillis(SystemClock.now().0 - 1);
    let entry = |n: u64| Entry {
        key: Key::from_strings(["default", &format!("{n:06}")]),
        value: match n % 4 {
            0 => Value::u64(n),
            1 => Value::bytes(vec![n as u8; (n % 3_000) as usize]),
            2 => Value::json(format!("[{n}]")),
            _ => Value::v8(vec![0xff, 15, b'I', 2]),
        },
        versionstamp: Versionstamp::new(1_000_000 + n, 7),
        expires_at: match n % 10 {
            3 => Some(far),
            7 => Some(near),
            _ => None,
        },
        meta: n.is_multiple_of(5).then(|| {
            Arc::new(Meta {
                content_type: Some("text/plain".into()),
                ..Meta::default()
            })
        }),
    };
    let entries: Vec<_> = (0..count).map(entry).collect();
    for some in entries.chunks(500) {
        store.ingest(some.to_vec()).await.unwrap();
    }
}

fn s3_settings(double: &S3Double) -> BackupSettings {
    BackupSettings {
        target: "s3://bucket/some/where".to_owned(),
        s3: S3Settings {
            endpoint: double.url.clone(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: Some("secret".into()),
            allow_local: true,
            ..S3Settings::default()
        },
        ..BackupSettings::default()
    }
}

/// Entries that zstd makes no smaller.
async fn fill_with_noise(store: &Arc<dyn Store>, entries: u64, bytes: usize) {
    let mut noise = 88_172_645_463_325_252_u64;
    for n in 0..entries {
        let value = (0..bytes).map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        });
        let key = Key::from_strings(["default", &format!("{n:06}")]);
        let set = Mutation::set(key, Value::bytes(value.collect::<Vec<_>>()));
        store.commit(AtomicWrite::new().push(set)).await.unwrap();
    }
}

async fn post(url: String, body: Json) -> Json {
    let answer = http_client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json().await.unwrap()
}
