//! The commands with an S3 store, with encryption, before a first start, on a terminal; and that every
//! example in their help works.

use kvasir_testkit::TestServer;
use kvasir_testkit::skip::skip;

use super::*;

/// Settings of a target on an S3 store, as variables.
fn s3_variables(double: &S3Double) -> Vec<(&'static str, String)> {
    vec![
        ("KVASIR_BACKUP__TARGET", "s3://bucket/some/where".to_owned()),
        ("KVASIR_BACKUP__S3__ENDPOINT", double.url.clone()),
        ("KVASIR_BACKUP__S3__ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("KVASIR_BACKUP__S3__SECRET_KEY", "secret".to_owned()),
        ("KVASIR_BACKUP__S3__ALLOW_LOCAL", "true".to_owned()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let borrowed = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    borrowed.collect()
}

/// A key pair of age: the file with the private key, and the public one.
fn key_pair(folder: &Path, name: &str) -> (String, String) {
    use age::secrecy::ExposeSecret;
    let key = x25519::Identity::generate();
    let file = folder.join(name);
    let text = format!("# a key\n{}\n", key.to_string().expose_secret());
    fs::write(&file, text).unwrap();
    (
        file.to_string_lossy().into_owned(),
        key.to_public().to_string(),
    )
}

async fn fill_over_http(server: &TestServer) {
    for n in 0..20 {
        let put = http_client().put(server.url(&format!("/kv/users.{n}")));
        let put = put.json(&json!({"value": {"n": n}})).send().await;
        assert_eq!(put.unwrap().status(), 200);
    }
}

async fn value_of(data: &str) -> Json {
    let server = options().data(data).start().await;
    let get = http_client().get(server.url("/kv/users.7")).send().await;
    get.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_backups_on_an_s3_store_are_taken_listed_read_and_restored_by_the_commands() {
    let double = S3Double::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = key_pair(folder.path(), "key");
    let (stranger, _) = key_pair(folder.path(), "stranger");
    let mut variables = s3_variables(&double);
    variables.push(("KVASIR_BACKUP__RECIPIENTS", public));
    let env = borrowed(&variables);
    let mut served = options();
    for (name, value) in &env {
        served = served.env(*name, *value);
    }
    let mut server = served.start().await;
    fill_over_http(&server).await;
    let data = server.data().to_string_lossy().into_owned();
    let here = async |args: &[&str]| run(&[args, &["--data", &data]].concat(), &env).await;

    let (code, out, err) = here(&["backup", "create", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let job: Json = serde_json::from_str(&out).unwrap();
    let name = job["backup"].as_str().unwrap().to_owned();
    assert!(name.ends_with(".kvb.age"), "{name}");
    let between = job["startedAt"].as_str().unwrap().to_owned();
    let object = format!("bucket/some/where/{name}");
    assert!(double.objects().contains_key(&object));
    assert!(!String::from_utf8_lossy(&double.objects()[&object]).contains("users"));
    let (code, out, _) = here(&["backup", "ls", "--json"]).await;
    let listed: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &listed[0]["name"]), (0, &json!(name)));
    assert_eq!(listed[0]["encrypted"], true);
    // The server has no private key: it sees that the file is the one that was written.
    let (code, out, _) = here(&["backup", "verify"]).await;
    assert!(
        code == 0 && out.contains("the one that was written"),
        "{out}"
    );
    let (code, _, err) = here(&["restore-drill"]).await;
    assert!(code == 1 && err.contains("identity_file"), "{err}");
    server.terminate().await;

    let place = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let into = async |args: &[&str], at: &str| {
        let at = place(at);
        run(&[args, &["--data", &at]].concat(), &env).await
    };
    let (code, _, err) = into(&["restore", "latest"], "none").await;
    assert!(code == 1 && err.contains("--identity"), "{err}");
    let (code, _, err) = into(&["restore", "latest", "--identity", &stranger], "none").await;
    assert!(
        code == 1 && err.contains("none of the private keys opens"),
        "{err}"
    );
    let (code, _, err) = into(&["restore", "latest", "--identity", "/no/such/key"], "none").await;
    assert!(code == 1 && err.contains("/no/such/key"), "{err}");
    assert!(!Path::new(&place("none")).exists(), "nothing was made");

    let restores: [(&str, &[&str]); 4] = [
        ("latest", &["restore", "latest"]),
        ("by-name", &["restore", &name]),
        ("to", &["restore", "latest", "--to", "2999-01-01T00:00:00Z"]),
        ("init", &["init", "--restore", "latest"]),
    ];
    for (at, args) in restores {
        let args = [args, &["--identity", &key]].concat();
        let (code, _, err) = into(&args, at).await;
        assert_eq!(code, 0, "{at}: {err}");
        assert_eq!(value_of(&place(at)).await, json!({"n": 7}), "{at}");
    }
    // Nothing is as old as that.
    for (to, expected) in [("2001-01-01T00:00:00Z", 3), (&between[..4], 2)] {
        let args = ["restore", "latest", "--to", to, "--identity", &key];
        let (code, _, err) = into(&args, "old").await;
        assert_eq!(code, expected, "{to}: {err}");
    }
    // A store that is away, and one that does not let us in.
    for (name, value, expected, word) in [
        (
            "KVASIR_BACKUP__S3__ENDPOINT",
            "http://127.0.0.1:1",
            6,
            "cannot be reached",
        ),
        ("KVASIR_BACKUP__S3__ACCESS_KEY", "somebody", 1, "the store"),
    ] {
        let mut env = env.clone();
        env.retain(|(set, _)| *set != name);
        env.push((name, value));
        let at = place("away");
        let args = ["restore", "latest", "--identity", &key, "--data", &at];
        let (code, _, err) = run(&args, &env).await;
        assert_eq!(code, expected, "{name}: {err}");
        assert!(err.contains(word), "{name}: {err}");
        assert!(!Path::new(&at).exists());
    }
}

#[tokio::test]
async fn a_folder_is_made_before_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new").to_string_lossy().into_owned();
    let (code, out, err) = run(&["init", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(told["data"], data);
    assert!(Path::new(&data).join("store").is_dir());
    let (code, _, err) = run(&["init", "--data", &data], &[]).await;
    assert_eq!(code, 0, "again changes nothing: {err}");
    let server = options().data(&data).start().await;
    fill_over_http(&server).await;
    let (code, _, err) = run(&["init", "--data", &data], &[]).await;
    assert_ne!(code, 0, "a server holds it: {err}");
}

#[tokio::test]
async fn the_old_store_goes_when_the_new_one_was_read_back_or_stays_if_that_is_wanted() {
    let mut server = server().await;
    fill_over_http(&server).await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, _, err) = run(&["backup", "create", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    fs::write(server.data().join("own.txt"), "mine").unwrap();
    server.terminate().await;
    let beside = || {
        let names = fs::read_dir(server.data().parent().unwrap()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("data")).collect();
        names.sort();
        names
    };
    let replace = [
        "restore",
        "latest",
        "--replace",
        "--yes",
        "--json",
        "--data",
        &data,
    ];
    let (code, out, err) = run(&replace, &[]).await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["oldData"], Json::Null);
    assert_eq!(beside(), ["data"], "the space is free again");
    let (code, out, _) = run(&[&replace[..], &["--keep-old"]].concat(), &[]).await;
    let report: Json = serde_json::from_str(&out).unwrap();
    let aside = Path::new(report["oldData"].as_str().unwrap()).to_owned();
    assert!(code == 0 && aside.join("store").is_dir());
    assert_eq!(beside().len(), 2);
    for name in ["own.txt", "backups"] {
        assert!(server.data().join(name).exists(), "{name} came along");
    }
    // What fails leaves everything as it was.
    let backup = fs::read_dir(server.data().join("backups")).unwrap().next();
    let backup = backup.unwrap().unwrap().path();
    let mut bytes = fs::read(&backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup, bytes).unwrap();
    assert_eq!(run(&replace, &[]).await.0, 8);
    assert_eq!(beside().len(), 2);
    assert_eq!(value_of(&data).await, json!({"n": 7}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_goes_back_to_a_moment_and_brings_back_what_has_expired_if_that_is_wanted() {
    let mut server = server().await;
    let put = async |key: &str, body: Json| {
        let put = http_client().put(server.url(&format!("/kv/{key}")));
        assert_eq!(put.json(&body).send().await.unwrap().status(), 200);
    };
    let data = server.data().to_string_lossy().into_owned();
    let mut stamps = Vec::new();
    put("gone", json!({"value": "g", "ttl": 10_000})).await;
    for n in [1, 2] {
        put("users.7", json!({"value": {"n": n}})).await;
        let (code, _, err) = run(&["backup", "create", "--data", &data], &[]).await;
        assert_eq!(code, 0, "{err}");
        let (_, out, _) = run(&["backup", "ls", "--data", &data, "--json"], &[]).await;
        let listed: Json = serde_json::from_str(&out).unwrap();
        stamps.push(listed[0]["versionstamp"].as_str().unwrap().to_owned());
    }
    eventually(DEADLINE, "it expires", || async {
        let get = http_client().get(server.url("/kv/gone")).send().await;
        (get.unwrap().status() == 404).then_some(())
    })
    .await;
    server.terminate().await;
    let config = server.scratch().join("kvasir.toml");
    let target = server.data().join("backups").display().to_string();
    fs::write(&config, format!("[backup]\ntarget = {target:?}\n")).unwrap();
    let config = config.to_string_lossy().into_owned();
    for (to, expected) in [
        (&*stamps[0], 1),
        (&*stamps[1], 2),
        ("2999-01-01T00:00:00Z", 2),
    ] {
        let at = server.scratch().join(format!("to-{}", to.replace(':', "")));
        let at = at.to_string_lossy().into_owned();
        let args = [
            "restore", "latest", "--to", to, "--data", &at, "--config", &config, "--json",
        ];
        let (code, out, err) = run(&args, &[]).await;
        assert_eq!(code, 0, "{to}: {err}");
        let report: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(report["expired"], 1);
        assert_eq!(value_of(&at).await, json!({"n": expected}), "{to}");
    }
    let before = format!("{}0000", &stamps[0][..16]);
    let before = format!(
        "{:016x}0000",
        u64::from_str_radix(&before[..16], 16).unwrap() - 1
    );
    let none = [
        "restore", "latest", "--to", &before, "--data", "x", "--config", &config,
    ];
    assert_eq!(run(&none, &[]).await.0, 3, "nothing is as old as that");
    let at = server.scratch().join("all").to_string_lossy().into_owned();
    let all = [
        "restore",
        "latest",
        "--ignore-expiry",
        "--data",
        &at,
        "--config",
        &config,
        "--json",
    ];
    let (code, out, err) = run(&all, &[]).await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["expired"], &report["restored"]),
        (&json!(0), &report["entries"])
    );
    let copy = options().data(&at).start().await;
    let get = http_client()
        .get(copy.url("/kv/gone"))
        .send()
        .await
        .unwrap();
    assert_eq!(get.json::<Json>().await.unwrap(), "g");
}

#[tokio::test]
async fn mounts_with_a_store_of_their_own_are_named_by_everything_that_takes_or_lists_backups() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("sqlite:{}", folder.path().join("own.db").display());
    let mut server = options()
        .env("KVASIR_MOUNT__CLASSWORKS__STORE", &own)
        .start()
        .await;
    let data = server.data().to_string_lossy().into_owned();
    for place in ["running", "stopped"] {
        let env = [("KVASIR_MOUNT__CLASSWORKS__STORE", own.as_str())];
        let (code, out, err) = run(&["backup", "create", "--data", &data, "--json"], &env).await;
        assert_eq!(code, 0, "{err}");
        let job: Json = serde_json::from_str(&out).unwrap();
        let warning = job["warning"].as_str().unwrap();
        assert!(
            warning.contains("classworks (sqlite)"),
            "{place}: {warning}"
        );
        assert!(
            err.contains("warning: ") && err.contains(warning),
            "{place}: {err}"
        );
        let (_, _, err) = run(&["backup", "ls", "--data", &data], &env).await;
        assert!(
            err.contains("no backup holds the mount classworks"),
            "{err}"
        );
        if place == "running" {
            let url = server.url("/_/api/v1/backups");
            let listed = http_client().get(url).send().await.unwrap();
            let listed: Json = listed.json().await.unwrap();
            let expected = json!([{"mount": "classworks", "backend": "sqlite"}]);
            assert_eq!(listed["leftOut"], expected);
            server.terminate().await;
            assert!(
                server.stderr().contains("classworks (sqlite)"),
                "it is in the log"
            );
        }
    }
}

/// The examples of a verb's help.
async fn examples(verb: &str) -> Vec<String> {
    let (code, help, _) = run(&[verb, "--help"], &[]).await;
    assert_eq!(code, 0, "{verb}");
    assert!(help.contains("Exit codes:"), "{verb}");
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[tokio::test]
async fn every_example_in_the_help_of_restore_init_import_and_export_works() {
    let mut server = server().await;
    fill_over_http(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let data = server.data().to_string_lossy().into_owned();
    std::os::unix::fs::symlink(&data, folder.path().join("kvasir-data")).unwrap();
    let (code, out, err) = run(&["backup", "create", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let job: Json = serde_json::from_str(&out).unwrap();
    let name = job["backup"].as_str().unwrap().to_owned();
    fs::copy(
        server.data().join("backups").join(&name),
        folder.path().join(&name),
    )
    .unwrap();
    for (file, form) in [("shop.jsonl", "jsonl"), ("users.csv", "csv")] {
        let file = folder.path().join(file).to_string_lossy().into_owned();
        let args = ["export", &file, "--format", form, "--data", &data];
        assert_eq!(run(&args, &[]).await.0, 0);
    }
    crate::databases::denokv_file(&folder.path().join("kv.sqlite3"), 3);
    let mut count = 0;
    // The first two on the running server, the others on folders that none holds.
    for verb in ["import", "export", "init", "restore"] {
        if verb == "export" {
            for file in ["users.csv", "shop.jsonl"] {
                fs::remove_file(folder.path().join(file)).unwrap();
            }
        }
        if verb == "init" {
            server.terminate().await;
        }
        let found = examples(verb).await;
        assert!(found.len() >= 2, "{verb}: {found:?}");
        for example in found {
            let line = example
                .replace("/mnt/", "")
                .replace("20261121T150405Z-00060a24181e40000003.kvb", &name)
                .replace("2026-11-21T12:00:00Z", "2999-01-01T00:00:00Z");
            // Each needs a new folder.
            count += 1;
            let line = line.replace("new-data", &format!("new-data-{count}"));
            let path = Path::new(KVASIR).parent().unwrap();
            let output = tokio::process::Command::new("sh")
                .args(["-c", &line])
                .env_clear()
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            let output = within(DEADLINE, "it ends", output).await.unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {err}");
        }
    }
}

/// Runs a command on a pseudo terminal, and returns what that showed.
async fn on_a_terminal(args: &[&str]) -> Option<String> {
    let quoted = args.iter().map(|arg| format!("'{arg}'"));
    let line = quoted.collect::<Vec<_>>().join(" ");
    // Without a terminal of its own to go by, `script` makes one of no size, on which nothing fits.
    let line = format!("stty cols 80 rows 24; {line}");
    let spawned = tokio::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match within(DEADLINE, "it ends", spawned).await {
        Ok(output) => {
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{args:?}: {shown}");
            Some(shown)
        }
        Err(error) => {
            skip(&format!("no pseudo terminal: script: {error}"));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longer_work_shows_a_bar_on_a_terminal_nothing_in_a_pipe_and_lines_of_json_if_wanted() {
    const FORMS: [&str; 3] = ["bar", "pipe", "json"];
    let mut server = server().await;
    fill_over_http(&server).await;
    let data = server.data().to_string_lossy().into_owned();
    let place = |name: &str| server.scratch().join(name).to_string_lossy().into_owned();
    let lines = place("lines.jsonl");
    let (code, _, err) = run(&["export", &lines, "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    for form in FORMS {
        for verb in [
            &["export", "-"][..],
            &["import", &lines],
            &["backup", "create"],
            &["backup", "verify"],
            &["restore-drill"],
        ] {
            check_progress(form, &[verb, &["--data", &data]].concat()).await;
        }
    }
    let backup = fs::read_dir(server.data().join("backups")).unwrap().next();
    let backup = backup.unwrap().unwrap().path();
    let backup = backup.to_string_lossy().into_owned();
    let to = place("restored");
    server.terminate().await;
    for form in FORMS {
        check_progress(form, &["restore", &backup, "--dry-run", "--data", &to]).await;
    }
}

/// How a verb shows progress on a terminal, in a pipe, or as JSON.
async fn check_progress(form: &str, args: &[&str]) {
    match form {
        "bar" => {
            // Twenty entries at ten a second are longer work; the others end in milliseconds.
            let is_long = args[0] == "import";
            let slow: &[&str] = if is_long { &["--rate", "10"] } else { &[] };
            let args = [&[KVASIR], args, slow].concat();
            let Some(shown) = on_a_terminal(&args).await else {
                return;
            };
            // The pace stands only in a bar.
            let is_bar = shown.contains("\u{1b}[") && shown.contains("/s");
            assert_eq!(is_bar, is_long, "{args:?}: {shown:?}");
        }
        "pipe" => {
            let (code, _, err) = run(args, &[]).await;
            assert_eq!(code, 0, "{args:?}: {err}");
            assert!(
                !err.contains('\u{1b}') && !err.contains("\"done\""),
                "{err}"
            );
        }
        _ => {
            let args = [args, &["--progress=json"]].concat();
            let (code, _, err) = run(&args, &[]).await;
            assert_eq!(code, 0, "{args:?}: {err}");
            let lines = err
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let lines: Vec<Json> = lines.collect();
            let last = lines.last().unwrap_or_else(|| panic!("{args:?}: {err}"));
            assert!(last["done"].is_u64() && last["unit"].is_string(), "{last}");
        }
    }
}
