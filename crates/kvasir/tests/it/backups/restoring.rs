//! Restoring: what comes back, what is refused, what the command says.

use super::*;

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
            "--keep-old",
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
