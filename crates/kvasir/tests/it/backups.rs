//! Backups: taken online, read, restored, rehearsed, kept and removed.

use std::fs;
use std::io::Read;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_every_backend_restores_on_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Folder(folder.path().join("backups"));
    let url = |kind: &str, n: usize| match kind {
        "memory" => "memory:".to_owned(),
        kind => format!(
            "{kind}:{}",
            folder.path().join(format!("{kind}-{n}")).display()
        ),
    };
    let kinds = ["memory", "embedded", "sqlite"];
    for (n, kind) in kinds.into_iter().enumerate() {
        let original = store(&url(kind, 0)).await;
        fill(&original, 2_000).await;
        let taken = take(&original, &target).await;
        let before = content(&original).await;
        assert_eq!(
            taken.summary.content.entries(),
            before.len() as u64,
            "{kind}"
        );
        assert_eq!(target.list().await.unwrap()[0], taken.found);
        assert_eq!(read(&target, &taken.found, vec![]).await.unwrap(), before);

        let other = kinds[(n + 1) % kinds.len()];
        let copy = store(&url(other, n + 1)).await;
        let report = restored(&target, &taken.found, &copy, false).await;
        assert_eq!(report.restored, before.len() as u64);
        assert_eq!(report.content_hash, taken.summary.content.text());
        assert_eq!(content(&copy).await, before, "{kind} to {other}");
        // Later commits lie above everything that was restored.
        let write = AtomicWrite::new().push(Mutation::set(Key::from_strings(["x"]), Value::u64(1)));
        let stamp = copy
            .commit(write)
            .await
            .unwrap()
            .committed()
            .unwrap()
            .versionstamp;
        assert!(stamp > taken.summary.versionstamp);
        target.remove(&taken.found.name).await.unwrap();
        original.close().await.unwrap();
        copy.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_whose_time_is_over_come_back_only_if_expiry_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Folder(folder.path().to_owned());
    let original = store("memory:").await;
    let soon = UnixMillis(SystemClock.now().0 + 300);
    let mut write = AtomicWrite::new();
    for (name, at) in [("soon", Some(soon)), ("never", None)] {
        let key = Key::from_strings([name]);
        write = write.push(Mutation::set_expiring(key, Value::u64(1), at));
    }
    original.commit(write).await.unwrap();
    let taken = take(&original, &target).await;
    eventually(DEADLINE, "the time is over", || {
        let is_over = SystemClock.now() >= soon;
        async move { is_over.then_some(()) }
    })
    .await;
    let copy = store("memory:").await;
    let report = restored(&target, &taken.found, &copy, false).await;
    assert_eq!((report.entries, report.restored, report.expired), (2, 1, 1));
    let copy = store("memory:").await;
    let report = restored(&target, &taken.found, &copy, true).await;
    assert_eq!((report.restored, report.expired), (2, 0));
    assert_eq!(content(&copy).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_sixteen_writers_holds_one_moment() {
    const ACCOUNTS: usize = 1_500;
    const WRITERS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Folder(folder.path().join("backups"));
    let account = |n: usize| Key::from_strings(["default", &format!("{n:06}")]);
    for kind in ["memory", "embedded", "sqlite"] {
        let url = match kind {
            "memory" => "memory:".to_owned(),
            kind => format!("{kind}:{}", folder.path().join(kind).display()),
        };
        let store = store(&url).await;
        for some in (0..ACCOUNTS).collect::<Vec<_>>().chunks(500) {
            let write = some.iter().fold(AtomicWrite::new(), |write, n| {
                write.push(Mutation::set(account(*n), Value::u64(1_000)))
            });
            store.commit(write).await.unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut n = writer * 7_919;
                    let mut moved = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        n = n.wrapping_mul(6_364_136).wrapping_add(1_442_695) % 1_000_003;
                        let (from, to) = (n % ACCOUNTS, (n / 7 + 1) % ACCOUNTS);
                        // One less here and one more there, modulo 2^64.
                        let sum = |n: usize, by: u64| Mutation::Sum {
                            key: account(n),
                            operand: Value::u64(by),
                            bounds: SumBounds::default(),
                        };
                        let write = AtomicWrite::new()
                            .push(sum(from, u64::MAX))
                            .push(sum(to, 1));
                        store.commit(write).await.unwrap();
                        moved += 1;
                    }
                    moved
                })
            })
            .collect();
        for _ in 0..3 {
            let taken = take(&store, &target).await;
            let entries = read(&target, &taken.found, vec![]).await.unwrap();
            assert_eq!(entries.len(), ACCOUNTS);
            let sum = entries.iter().fold(0u64, |sum, entry| {
                sum.wrapping_add(entry.value.as_u64().unwrap())
            });
            assert_eq!(sum, 1_000 * ACCOUNTS as u64, "{kind}");
            let newest = entries
                .iter()
                .map(|entry| entry.versionstamp)
                .max()
                .unwrap();
            assert!(newest <= taken.summary.versionstamp);
            target.remove(&taken.found.name).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let mut moved = 0;
        for writer in writers {
            moved += writer.await.unwrap();
        }
        assert!(moved > 0, "{kind}: nobody wrote");
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_backup_opens_with_its_key_only_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Folder(folder.path().to_owned());
    let store = store("memory:").await;
    let secret = "a canary that must not be seen";
    let set = Mutation::set(
        Key::from_strings([secret]),
        Value::json(format!("{secret:?}")),
    );
    store.commit(AtomicWrite::new().push(set)).await.unwrap();
    let (key, stranger) = (x25519::Identity::generate(), x25519::Identity::generate());
    let control = Arc::new(Control::default());
    let recipients = vec![key.to_public()];
    let taken = try_take(&store, &target, recipients, control)
        .await
        .unwrap();
    assert!(taken.found.name.is_encrypted());
    let path = folder.path().join(taken.found.name.as_str());
    let bytes = fs::read(&path).unwrap();
    assert!(
        !bytes
            .windows(secret.len())
            .any(|some| some == secret.as_bytes())
    );

    let entries = read(&target, &taken.found, vec![stranger.clone(), key.clone()]).await;
    assert_eq!(entries.unwrap().len(), 1);
    let failure = read(&target, &taken.found, vec![]).await.unwrap_err();
    assert!(failure.to_string().contains("identity_file"), "{failure}");
    assert!(!source::is_damage(&failure));
    let failure = read(&target, &taken.found, vec![stranger])
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("none of the private keys"),
        "{failure}"
    );

    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        assert!(
            read(&target, &taken.found, vec![key.clone()])
                .await
                .is_err(),
            "byte {at}"
        );
    }
    for len in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(
            read(&target, &taken.found, vec![key.clone()])
                .await
                .is_err(),
            "{len} bytes"
        );
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_to_an_s3_store_in_parts_and_come_back() {
    let double = S3Double::start().await;
    let data = tempfile::tempdir().unwrap();
    let target = Target::new(&s3_settings(&double), data.path()).unwrap();
    assert_eq!(target.shown(), "s3://bucket/some/where/");
    let small = store("memory:").await;
    fill(&small, 100).await;
    let large = store("memory:").await;
    fill_with_noise(&large, 40, 512 * 1024).await;
    let mut taken = Vec::new();
    for store in [&small, &large, &small] {
        // The store has a moment's trouble with each.
        double.be_in_trouble(2);
        taken.push(take(store, &target).await);
        // Names tell seconds apart; within one, versionstamps.
        let set = Mutation::set(Key::from_strings(["more"]), Value::u64(1));
        small.commit(AtomicWrite::new().push(set)).await.unwrap();
    }
    assert!(
        taken[1].found.bytes > 20 << 20,
        "{} bytes",
        taken[1].found.bytes
    );
    assert!(double.largest_body() <= 8 << 20, "parts are bounded");
    assert_eq!(double.open_uploads(), 0);
    let mut found = target.list().await.unwrap();
    found.sort_by_key(|one| one.bytes);
    let mut expected: Vec<_> = taken.iter().map(|taken| taken.found.clone()).collect();
    expected.sort_by_key(|one| one.bytes);
    assert_eq!(found, expected, "over several pages of the list");

    let copy = store("memory:").await;
    let report = restored(&target, &taken[1].found, &copy, false).await;
    assert_eq!(report.restored, 40);
    assert_eq!(content(&copy).await, content(&large).await);
    let object = format!("bucket/some/where/{}", taken[1].found.name.as_str());
    let mut bytes = double.objects()[&object].to_vec();
    bytes[12_345_678] ^= 4;
    double.put(&object, bytes);
    let failure = read(&target, &taken[1].found, vec![]).await.unwrap_err();
    assert!(source::is_damage(&failure), "{failure:#}");
    for taken in &taken {
        target.remove(&taken.found.name).await.unwrap();
    }
    assert!(double.objects().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_stopped_leaves_no_parts() {
    let double = S3Double::start().await;
    let data = tempfile::tempdir().unwrap();
    let target = Target::new(&s3_settings(&double), data.path()).unwrap();
    let store = store("memory:").await;
    fill_with_noise(&store, 40, 512 * 1024).await;
    let control = Arc::new(Control::default());
    let taking = try_take(&store, &target, Vec::new(), Arc::clone(&control));
    let stopping = eventually(DEADLINE, "a part is there", || {
        let is_begun = double.open_uploads() > 0;
        async move { is_begun.then_some(()) }
    });
    let stop = async {
        stopping.await;
        control.cancel();
    };
    let (taken, ()) = tokio::join!(taking, stop);
    assert!(taken.is_err());
    assert_eq!(double.open_uploads(), 0);
    assert!(double.objects().is_empty());
}

#[tokio::test]
async fn a_target_on_this_machine_is_refused_unless_it_is_allowed() {
    let double = S3Double::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = s3_settings(&double);
    settings.s3.allow_local = false;
    let failure = Target::new(&settings, data.path()).unwrap_err();
    assert!(
        format!("{failure:#}").contains("allow_local"),
        "{failure:#}"
    );
    settings.s3.endpoint = double.url.replace("127.0.0.1", "localhost");
    let target = Target::new(&settings, data.path()).unwrap();
    let failure = target.list().await.unwrap_err();
    assert!(
        format!("{failure:#}").contains("allow_local"),
        "{failure:#}"
    );
    settings.s3.endpoint = "http://169.254.169.254/".to_owned();
    assert!(Target::new(&settings, data.path()).is_err());
}

fn desk(
    store: &Arc<dyn Store>,
    data: &Path,
    clock: &ManualClock,
    settings: &BackupSettings,
) -> Desk {
    let parts = Parts {
        store: Arc::clone(store),
        data: data.to_owned(),
        clock: Arc::new(clock.clone()),
        limits: Limits::default(),
        metrics: BackupMetrics::default(),
    };
    Desk::new(settings, parts).unwrap()
}

async fn end_of(desk: &Desk, id: &str) -> kvasir_api::backups::Job {
    eventually(DEADLINE, "the job ends", || {
        let job = desk.job(id).unwrap();
        async move { (job.state != JobState::Running).then_some(job) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_taken_by_the_schedule_and_old_ones_go() {
    let data = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(UnixMillis(1_767_225_600_000));
    let options = OpenOptions {
        clock: Arc::new(clock.clone()),
        sweeper: false,
        ..OpenOptions::default()
    };
    let store = open("memory:", options).await.unwrap();
    let settings = BackupSettings {
        keep_count: 2,
        ..BackupSettings::default()
    };
    let desk = desk(&store, data.path(), &clock, &settings);
    let stop = tokio_util::sync::CancellationToken::new();
    let background = tokio::spawn(desk.clone().background(stop.clone()));
    let refused = desk
        .set_schedule(NewSchedule {
            cron: "tomorrow".into(),
        })
        .await;
    assert_eq!(refused.unwrap_err().status(), 400);
    let set = NewSchedule {
        cron: "0 3 * * *".into(),
    };
    let schedule = desk.set_schedule(set).await.unwrap();
    assert_eq!(schedule.next_at.as_deref(), Some("2026-01-01T03:00:00Z"));
    eventually(DEADLINE, "a backup a day, of which two stay", || {
        let (desk, clock) = (desk.clone(), clock.clone());
        async move {
            let jobs = desk.jobs();
            let is_idle = jobs.iter().all(|job| job.state == JobState::Done);
            if is_idle && jobs.len() < 4 {
                clock.advance_ms(3_600_000);
            }
            let list = desk.list().await.unwrap();
            (is_idle && jobs.len() >= 4 && list.backups.len() == 2).then_some(())
        }
    })
    .await;
    let list = desk.list().await.unwrap();
    assert!(list.backups.iter().all(|one| one.verified_at.is_some()));
    stop.cancel();
    within(DEADLINE, "the schedule ends", background)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_told_and_the_last_whole_backup_stays() {
    let data = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(UnixMillis(1_767_225_600_000));
    let store = store("memory:").await;
    fill(&store, 500).await;
    let desk = desk(&store, data.path(), &clock, &BackupSettings::default());
    let mut names = Vec::new();
    for _ in 0..3 {
        let job = desk.create(NewBackup::default()).await.unwrap();
        let job = end_of(&desk, &job.id).await;
        assert_eq!(job.state, JobState::Done, "{}", job.detail);
        names.push(job.backup.unwrap());
        clock.advance_ms(60_000);
    }
    let list = desk.list().await.unwrap();
    let listed: Vec<_> = list
        .backups
        .iter()
        .rev()
        .map(|one| one.name.clone())
        .collect();
    assert_eq!(listed, names);
    assert_eq!(list.age_seconds, Some(60));
    // The two newest are damaged.
    for name in &names[1..] {
        let path = data.path().join("backups").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let job = desk.verify(name).await.unwrap();
        let job = end_of(&desk, &job.id).await;
        assert_eq!(
            (job.state, job.damaged),
            (JobState::Failed, true),
            "{}",
            job.detail
        );
        let drill = desk
            .drill(NewDrill {
                name: Some(name.clone()),
            })
            .await
            .unwrap();
        assert_eq!(end_of(&desk, &drill.id).await.state, JobState::Failed);
    }
    assert!(!desk.list().await.unwrap().last_drill.unwrap().ok);
    let rules = |dry_run| Prune {
        keep_count: Some(1),
        dry_run,
        ..Prune::default()
    };
    let pruned = desk.prune(rules(true)).await.unwrap();
    assert_eq!(
        (
            pruned.removed.len(),
            desk.list().await.unwrap().backups.len()
        ),
        (1, 3)
    );
    let pruned = desk.prune(rules(false)).await.unwrap();
    assert_eq!(pruned.removed, [names[1].clone()]);
    let left: Vec<_> = desk.list().await.unwrap().backups;
    let left: Vec<_> = left
        .iter()
        .map(|one| (&*one.name, one.damage.is_some()))
        .collect();
    assert_eq!(left, [(&*names[2], true), (&*names[0], false)]);
    assert_eq!(desk.verify("nothing").await.unwrap_err().status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_finds_what_a_backup_lacks_and_not_what_changed_since() {
    let data = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(SystemClock.now());
    let store = store("memory:").await;
    fill(&store, 800).await;
    let desk = desk(&store, data.path(), &clock, &BackupSettings::default());
    let job = desk.create(NewBackup::default()).await.unwrap();
    end_of(&desk, &job.id).await;
    let write = AtomicWrite::new()
        .push(Mutation::set(
            Key::from_strings(["default", "000000"]),
            Value::u64(9),
        ))
        .push(Mutation::delete(Key::from_strings(["default", "000004"])))
        .push(Mutation::set(
            Key::from_strings(["default", "new"]),
            Value::u64(9),
        ));
    store.commit(write).await.unwrap();
    let job = desk.drill(NewDrill::default()).await.unwrap();
    let job = end_of(&desk, &job.id).await;
    assert_eq!(job.state, JobState::Done, "{}", job.detail);
    let drill = desk.list().await.unwrap().last_drill.unwrap();
    assert!(drill.ok && drill.entries >= 700, "{drill:?}");

    // An old entry that the backup does not hold.
    let mut missing = content(&store).await.remove(5);
    missing.key = Key::from_strings(["default", "missing"]);
    store.ingest(vec![missing]).await.unwrap();
    let job = desk.drill(NewDrill::default()).await.unwrap();
    let job = end_of(&desk, &job.id).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(
        !data.path().join(".drill").exists(),
        "no scratch space is left"
    );
}

// ---- The command ---------------------------------------------------------------------------------

async fn post(url: String, body: Json) -> Json {
    let answer = http_client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json().await.unwrap()
}

#[tokio::test]
async fn backups_are_taken_and_restored_by_the_command() {
    let mut server = server().await;
    let data = server.data().to_string_lossy().into_owned();
    for n in 0..50 {
        let url = server.url(&format!("/kv/users.{n}"));
        let put = http_client().put(url).json(&json!({"value": {"n": n}}));
        assert_eq!(put.send().await.unwrap().status(), 200);
    }
    post(server.url("/queue/default"), json!({"value": 1})).await;
    let created = run(
        &["token", "create", "--db", "default", "--data", &data],
        &[],
    )
    .await;
    let token = created.1.trim().to_owned();

    let (code, out, err) = run(&["backup", "create", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let job: Json = serde_json::from_str(&out).unwrap();
    let name = job["backup"].as_str().unwrap().to_owned();
    let (code, out, _) = run(&["backup", "ls", "--data", &data], &[]).await;
    assert_eq!((code, out.lines().count()), (0, 1));
    assert!(out.contains("whole at"), "{out}");
    let (code, _, err) = run(&["restore-drill", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    let metrics = http_client()
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "kvasir_backup_drill_success 1.0",
        "kvasir_backup_taken_total 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    assert!(metrics.contains("kvasir_backup_age_seconds "), "{metrics}");
    let path = server.data().join("backups").join(&name);
    let bytes = fs::read(&path).unwrap();
    assert!(
        !String::from_utf8_lossy(&bytes).contains(&token),
        "tokens only as hashes"
    );
    let shown = path.to_string_lossy().into_owned();

    let (code, _, err) = run(&["restore", &shown, "--data", &data], &[]).await;
    assert_eq!(code, 2, "a server holds it: {err}");
    server.terminate().await;
    let (code, _, _) = run(&["restore", &shown, "--data", &data], &[]).await;
    assert_eq!(code, 1, "it is not empty");
    let (code, _, err) = run(&["restore", &shown, "--data", &data, "--replace"], &[]).await;
    assert_eq!((code, err.contains("--yes")), (2, true), "{err}");

    // Into another folder, by either verb; both are equal to the old one.
    let other = server.scratch().join("other");
    let other = other.to_string_lossy().into_owned();
    let (code, out, err) = run(&["restore", &shown, "--data", &other, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["restored"], report["entries"]);
    let init = server.scratch().join("init");
    let init = init.to_string_lossy().into_owned();
    let (code, out, _) = run(
        &["init", "--restore", &shown, "--data", &init, "--json"],
        &[],
    )
    .await;
    let again: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &again["contentHash"]), (0, &report["contentHash"]));
    let sqlite = format!("sqlite:{}", server.scratch().join("r.db").display());
    let (code, out, err) = run(&["restore", &shown, "--store", &sqlite, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let again: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(again["contentHash"], report["contentHash"]);
    let (code, _, _) = run(&["restore", &shown, "--store", &sqlite], &[]).await;
    assert_eq!(code, 1, "it is not empty any more");

    // In its own place, with what was written since put aside.
    let (code, out, err) = run(
        &[
            "restore",
            "latest",
            "--data",
            &data,
            "--replace",
            "--yes",
            "--json",
        ],
        &[],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    let aside = report["oldData"].as_str().unwrap();
    assert!(Path::new(aside).join("store").is_dir());
    assert!(path.exists(), "the backups came along");
    server.restart().await;
    let get = http_client()
        .get(server.url("/kv/users.7"))
        .bearer_auth(&token);
    let got: Json = get.send().await.unwrap().json().await.unwrap();
    assert_eq!(got, json!({"n": 7}), "the token is good as well");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_with_its_own_code_and_changes_nothing() {
    let server = server().await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, out, err) = run(&["backup", "create", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let job: Json = serde_json::from_str(&out).unwrap();
    let path = server
        .data()
        .join("backups")
        .join(job["backup"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    assert_eq!(run(&["backup", "verify", "--data", &data], &[]).await.0, 8);
    let other = server
        .scratch()
        .join("other")
        .to_string_lossy()
        .into_owned();
    let shown = path.to_string_lossy().into_owned();
    assert_eq!(run(&["restore", &shown, "--data", &other], &[]).await.0, 8);
    assert!(!Path::new(&other).exists());
    assert_eq!(
        run(&["restore", "nothing", "--data", &other], &[]).await.0,
        3
    );
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_takes_a_backup_leaves_no_file_that_looks_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let url = format!("embedded:{}", data.display());
    let filled = store(&url).await;
    fill_with_noise(&filled, 120, 256 * 1024).await;
    filled.close().await.unwrap();
    drop(filled);
    let mut server = options().data(&data).start().await;
    let backups = data.join("backups");
    for _ in 0..3 {
        post(server.url("/_/api/v1/backups"), json!({})).await;
        eventually(DEADLINE, "it is at work", || {
            let parts = fs::read_dir(&backups).into_iter().flatten().flatten();
            let mut bytes = parts.map(|part| part.metadata().map_or(0, |part| part.len()));
            let is_begun = bytes.any(|bytes| bytes > 1 << 20);
            async move { is_begun.then_some(()) }
        })
        .await;
        server.kill().await;
        server.restart().await;
        let listed = http_client()
            .get(server.url("/_/api/v1/backups"))
            .send()
            .await
            .unwrap();
        let listed: Json = listed.json().await.unwrap();
        for backup in listed["backups"].as_array().unwrap() {
            // Killed behind its end: then all of it is there.
            let path = backups.join(backup["name"].as_str().unwrap());
            let bytes = fs::read(path).unwrap();
            let mut reader = kvasir_store::container::Reader::new(&*bytes).unwrap();
            while reader.next_chunk().unwrap().is_some() {}
            reader.finish().unwrap();
        }
        let parts = fs::read_dir(&backups).unwrap().flatten();
        for part in parts.filter(|part| part.file_name().to_string_lossy().starts_with('.')) {
            fs::remove_file(part.path()).unwrap();
        }
    }
}

/// Runs a verb and returns the most memory it ever had, in KiB.
async fn peak_kib(args: &[&str]) -> u64 {
    let mut child = tokio::process::Command::new(KVASIR)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let ended = eventually(DEADLINE * 4, "the command ends", || {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&status) {
            let _ = file.read_to_string(&mut text);
        }
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = kib.unwrap_or(0).max(peak);
        let ended = child.try_wait().unwrap();
        async move { ended }
    });
    let ended = ended.await;
    assert!(ended.success(), "{args:?}");
    peak
}

/// What the embedded engine may hold by its settings, whatever the size of the store: its caches of 48
/// and 24 MiB, and 64 MiB of writes that are not in tables yet.
const ENGINE_MIB: u64 = 48 + 24 + 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_backup() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    for (name, entries) in [("small", 20), ("large", 480)] {
        let data = scratch.path().join(name);
        let filled = store(&format!("embedded:{}", data.display())).await;
        fill_with_noise(&filled, entries, 200 * 1024).await;
        filled.close().await.unwrap();
        drop(filled);
        let data = data.to_string_lossy().into_owned();
        let create = peak_kib(&["backup", "create", "--data", &data]).await;
        let to = scratch.path().join(format!("{name}-restored"));
        let to = to.to_string_lossy().into_owned();
        let folder = Path::new(&data).join("backups");
        let file = fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let file = file.to_string_lossy().into_owned();
        let restore = peak_kib(&["restore", &file, "--data", &to]).await;
        peaks.push((create, restore));
    }
    println!("peaks in KiB of create and restore, 4 MiB and 94 MiB: {peaks:?}");
    let [small, large] = peaks[..] else {
        panic!("two sizes")
    };
    assert!(large.0 < small.0 + 64 * 1024, "create: {peaks:?}");
    // A restore also fills the engine's tables in memory, which have bounds of their own.
    assert!(
        large.1 < small.1 + (64 + ENGINE_MIB) * 1024,
        "restore: {peaks:?}"
    );
}
