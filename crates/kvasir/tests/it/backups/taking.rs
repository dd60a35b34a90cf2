//! Taking backups: of every backend, beside writers, encrypted, to an S3 store, through kills.

use super::*;

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
