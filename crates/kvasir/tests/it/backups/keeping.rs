//! Keeping: schedule, retention, damage, rehearsals.

use super::*;

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
    // Of the first, which is three minutes old.
    let job = desk.verify(&names[0]).await.unwrap();
    let job = end_of(&desk, &job.id).await;
    let listed = list.backups.last().unwrap();
    for word in [
        format!("whole: {} entries", listed.entries.unwrap()),
        format!("up to {}", listed.versionstamp),
        listed.content_hash.clone().unwrap(),
        "3m old".to_owned(),
    ] {
        assert!(job.detail.contains(&word), "no {word} in {}", job.detail);
    }
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
