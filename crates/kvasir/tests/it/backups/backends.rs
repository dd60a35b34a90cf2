//! The real binary over every kind of store: backed up beside writers, read, rehearsed, and restored
//! into a store of another kind.

use std::fmt::Write as _;

use kvasir_store::container::Reader;
use kvasir_testkit::TestServer;
use kvasir_testkit::databases::Shared;

use super::*;

/// More than one page of a scan holds, so that pages of several moments would be noticed.
const ACCOUNTS: usize = 2_500;

/// What each holds at first.
const FUNDS: u64 = 1_000;

const WRITERS: usize = 8;

/// A new store of every kind that there is here; `None` is the one in the data folder.
fn stores(folder: &Path) -> Vec<(&'static str, Option<String>)> {
    let sqlite = format!("sqlite:{}", folder.join("store.db").display());
    let mariadb = Shared::mariadb().map(Shared::fresh_url);
    let postgres = Shared::postgres().map(Shared::fresh_url);
    [
        ("embedded", Some(None)),
        ("sqlite", Some(Some(sqlite))),
        ("mariadb", mariadb.map(Some)),
        ("postgres", postgres.map(Some)),
    ]
    .into_iter()
    .filter_map(|(kind, url)| Some((kind, url?)))
    .collect()
}

async fn server_on(url: Option<&str>) -> TestServer {
    match url {
        None => options(),
        Some(url) => options().arg("--store").arg(url),
    }
    .start()
    .await
}

/// A verb on the server's folder, which must succeed; its answer as JSON.
async fn done(server: &TestServer, args: &[&str], env: &[(&str, &str)]) -> Json {
    let data = server.data().to_string_lossy().into_owned();
    let all = [args, &["--data", &data, "--json"]].concat();
    let (code, out, err) = run(&all, env).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

async fn open_accounts(server: &TestServer) {
    let file = server.scratch().join("accounts.csv");
    let mut rows = "key,value\n".to_owned();
    for n in 0..ACCOUNTS {
        writeln!(rows, r#""[""account"",""{n:06}""]",{FUNDS}"#).unwrap();
    }
    fs::write(&file, rows).unwrap();
    let file = file.to_string_lossy().into_owned();
    let (code, _, err) = run(&["import", &file], &[("KVASIR_SERVER", &server.url(""))]).await;
    assert_eq!(code, 0, "{err}");
}

/// Moves one from account to account until `stop`; how often.
async fn move_money(url: String, writer: usize, stop: Arc<AtomicBool>) -> u64 {
    let client = http_client();
    let mut n = writer * 7_919;
    let mut moved = 0;
    while !stop.load(Ordering::Relaxed) {
        n = n.wrapping_mul(6_364_136).wrapping_add(1_442_695) % 1_000_003;
        let sum = |n: usize, by: i64| {
            let key = ["account".to_owned(), format!("{:06}", n % ACCOUNTS)];
            json!({"type": "sum", "key": key, "value": by})
        };
        let body = json!({"mutations": [sum(n, -1), sum(n / 7 + 1, 1)]});
        let answer = client.post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        moved += 1;
    }
    moved
}

/// Number of accounts in a backup and what they hold together.
fn funds(backup: &Path) -> (usize, u64) {
    let mut reader = Reader::new(fs::File::open(backup).unwrap()).unwrap();
    let prefix = Key::from_strings(["default", "account"]);
    let (mut accounts, mut sum) = (0, 0);
    while let Some(entries) = reader.next_chunk().unwrap() {
        for entry in entries {
            if entry.key.as_bytes().starts_with(prefix.as_bytes()) {
                accounts += 1;
                sum += serde_json::from_slice::<u64>(&entry.value.bytes).unwrap();
            }
        }
    }
    reader.finish().unwrap();
    (accounts, sum)
}

/// Takes, reads and rehearses beside writers, then restores into `other`.
async fn check(kind: &str, url: Option<String>, other: &str, other_url: Option<String>) {
    let mut server = server_on(url.as_deref()).await;
    open_accounts(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let url = server.url("/kv/_atomic");
            tokio::spawn(move_money(url, writer, Arc::clone(&stop)))
        })
        .collect();
    let backups = server.data().join("backups");
    let mut name = String::new();
    for _ in 0..2 {
        let taken = done(&server, &["backup", "create"], &[]).await;
        assert_eq!(taken["warning"], Json::Null, "{kind}");
        name = taken["backup"].as_str().unwrap().to_owned();
        let whole = (ACCOUNTS, FUNDS * ACCOUNTS as u64);
        assert_eq!(funds(&backups.join(&name)), whole, "{kind}: one moment");
    }
    let verified = done(&server, &["backup", "verify", &name], &[]).await;
    assert!(verified["detail"].as_str().unwrap().contains("whole"));
    // While everything changes, and when nothing does.
    done(&server, &["restore-drill"], &[]).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0, "{kind}: nobody wrote");
    }
    let drill = done(&server, &["restore-drill"], &[]).await;
    assert!(drill["detail"].as_str().unwrap().contains("are the same"));
    assert!(server.terminate().await.success());

    // On the store itself, which no server holds.
    let env = url.as_deref().map(|url| ("KVASIR_STORE__URL", url));
    let env: Vec<_> = env.into_iter().collect();
    let last = done(&server, &["backup", "create", "--comment", "last"], &env).await;
    let last = backups.join(last["backup"].as_str().unwrap());
    assert_eq!(funds(&last), (ACCOUNTS, FUNDS * ACCOUNTS as u64));
    done(&server, &["restore-drill"], &env).await;

    let last = last.to_string_lossy().into_owned();
    let place = server.scratch().join("restored");
    let place = place.to_string_lossy().into_owned();
    let to = match &other_url {
        None => ["--data", &place],
        Some(url) => ["--store", url.as_str()],
    };
    let restore = [&["restore", &last, "--json"], &to[..]].concat();
    let (code, out, err) = run(&restore, &[]).await;
    assert_eq!(code, 0, "{kind} to {other}: {err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["restored"], report["entries"]);
    let (code, _, err) = run(&restore, &[]).await;
    assert_ne!(code, 0, "{other} is not empty any more");
    assert!(err.contains("empty"), "{err}");

    // Served from there, and all of it is there.
    let options = match &other_url {
        None => options().data(&place),
        Some(url) => options().arg("--store").arg(url),
    };
    let copy = options.start().await;
    let taken = done(&copy, &["backup", "create"], &[]).await;
    let taken = copy
        .data()
        .join("backups")
        .join(taken["backup"].as_str().unwrap());
    assert_eq!(funds(&taken), funds(Path::new(&last)), "{kind} to {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_every_kind_of_store_are_backed_up_beside_writers_and_restored_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
    }
    let sources = stores(&from);
    let mut targets = stores(&to);
    targets.rotate_left(1);
    for ((kind, url), (other, other_url)) in sources.into_iter().zip(targets) {
        check(kind, url, other, other_url).await;
    }
}
