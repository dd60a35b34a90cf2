//! Moving data in from the originals' databases and between stores.

mod cli;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvasir::moving::legacy::Source;
use kvasir::moving::report::Report;
use kvasir::moving::{classworks, kopano};
use kvasir_api::classworks::layout as classworks_layout;
use kvasir_api::kopano::layout::{self, Owner};
use kvasir_kv::{Key, Keyspace, KeyspaceName, Limits, RangeRead, SnapshotRead, Store};
use kvasir_store::{OpenOptions, SystemClock, open};
use kvasir_testkit::databases::Shared;
use rusqlite::Connection;

async fn memory() -> Arc<dyn Store> {
    open("memory:", OpenOptions::default()).await.unwrap()
}

fn keyspace(store: &Arc<dyn Store>, name: &'static str) -> Keyspace {
    Keyspace::new(Arc::clone(store), KeyspaceName::from_static(name))
}

fn remarks(report: &Report, part: &str) -> u64 {
    let of = report
        .remarks
        .iter()
        .filter(|(kind, _)| kind.contains(part));
    of.map(|(_, remark)| remark.count).sum()
}

// ---- Kopano -------------------------------------------------------------------------------------

/// The original's schema for SQLite.
const KOPANO_SQLITE: &str = "
    CREATE TABLE kv (id INTEGER PRIMARY KEY ASC, collection TEXT, ekey TEXT NOT NULL,
        value BLOB NOT NULL, content_type TEXT, owner_id TEXT, client_id TEXT,
        realm TEXT NOT NULL, required_scopes TEXT);
    CREATE TABLE schema_migrations (version uint64, dirty bool);
    INSERT INTO schema_migrations VALUES (1, 'false');";

/// Rows as `VALUES`, the same for all databases: two users, an order that is not that of the keys,
/// and everything odd that the original lets happen.
const KOPANO_ROWS: &str = "
    (3, 'recents', 'recents/b', '{\"n\":1}', 'application/json', 'ann', 'meet', 'user', ''),
    (5, 'recents', 'recents/a', '{\"n\":2}', 'application/json', 'ann', 'meet', 'user', ''),
    (9, 'recents', 'recents/c', '{\"n\":3}', 'application/json', 'ann', 'meet', 'user', ''),
    (10, '', 'plain', 'text', '', 'ann', 'meet', 'user', NULL),
    (11, 'recents', 'recents/a', 'other', 'text/plain', 'bob', NULL, 'user', ''),
    (12, 'x', 'x/bad', '{broken', 'application/json', 'bob', '', 'user', ''),
    (13, 'y', 'x/moved', 'v', 'text/plain', 'bob', '', 'user', ''),
    (14, 'c', 'c//x', 'v', 'text/plain', 'bob', '', 'user', 'some/scope'),
    (15, 'c', 'c/x', 'v', 'text/plain', 'bob', '', 'other', '')";

pub(crate) fn kopano_file(folder: &Path) -> PathBuf {
    let path = folder.join("kvs.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(KOPANO_SQLITE).unwrap();
    let columns =
        "id, collection, ekey, value, content_type, owner_id, client_id, realm, required_scopes";
    connection
        .execute_batch(&format!("INSERT INTO kv ({columns}) VALUES {KOPANO_ROWS}"))
        .unwrap();
    path
}

fn ann() -> Owner {
    Owner {
        user: "ann".into(),
        client: "meet".into(),
    }
}

/// The rests of a collection's documents in the order in which a listing shows them.
async fn listed(keyspace: &Keyspace, owner: &Owner, collection: &str) -> Vec<String> {
    let read = RangeRead::new(layout::order_range(owner, collection), 1_000);
    let snapshot = keyspace.read(SnapshotRead::range(read)).await.unwrap();
    let text = |entry: &kvasir_kv::Entry| String::from_utf8(entry.value.bytes.to_vec()).unwrap();
    snapshot.ranges[0].entries.iter().map(text).collect()
}

async fn check_kopano(source: &Source) {
    let store = memory().await;
    let keyspace = keyspace(&store, "kopano");
    let limits = Limits::default();
    let import = async |options| {
        kopano::import(source, &keyspace, &SystemClock, &limits, options, |_| {})
            .await
            .unwrap()
    };

    let dry = kopano::Options {
        dry_run: true,
        overwrite: false,
    };
    let report = import(dry).await;
    assert_eq!((report.rows, report.written), (9, 8));
    assert!(listed(&keyspace, &ann(), "recents").await.is_empty());

    let report = import(kopano::Options::default()).await;
    assert_eq!(
        (report.rows, report.written, report.skipped, report.refused),
        (9, 8, 0, 0)
    );
    assert_eq!((report.verified, report.differing), (8, 0));
    assert_eq!(remarks(&report, "another realm"), 1);
    assert_eq!(remarks(&report, "not JSON"), 1);
    assert_eq!(remarks(&report, "collection column differs"), 1);
    assert_eq!(remarks(&report, "no request can reach"), 1);
    assert_eq!(remarks(&report, "required scopes"), 1);
    assert_eq!(report.totals["user ann meet"], 4);
    // Listings keep the order of the last writes.
    assert_eq!(listed(&keyspace, &ann(), "recents").await, ["b", "a", "c"]);
    assert_eq!(listed(&keyspace, &ann(), "").await, ["plain"]);
    let entry = keyspace
        .get(&layout::document_key(&ann(), "recents/a"))
        .await
        .unwrap()
        .unwrap();
    let document = layout::document(&entry);
    assert_eq!(document.content_type.as_deref(), Some("application/json"));
    assert_eq!(document.bytes, "{\"n\":2}");
    let bob = Owner {
        user: "bob".into(),
        client: String::new(),
    };
    let entry = keyspace
        .get(&layout::document_key(&bob, "x/bad"))
        .await
        .unwrap()
        .unwrap();
    let odd = layout::document(&entry);
    assert_eq!(
        odd.content_type.as_deref(),
        Some("application/octet-stream")
    );

    let again = import(kopano::Options::default()).await;
    assert_eq!((again.written, again.skipped, again.differing), (0, 8, 0));
    let over = import(kopano::Options {
        dry_run: false,
        overwrite: true,
    })
    .await;
    assert_eq!((over.written, over.skipped), (8, 0));
    assert_eq!(listed(&keyspace, &ann(), "recents").await, ["b", "a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kopano_documents_come_from_a_sqlite_file_in_the_order_of_writes() {
    let folder = tempfile::tempdir().unwrap();
    check_kopano(&Source::Sqlite(kopano_file(folder.path()))).await;
}

/// Contract 8.4: what is odd comes along and is told; what a writer has not committed does not.
#[tokio::test(flavor = "multi_thread")]
async fn odd_documents_come_along_from_a_file_in_use_and_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = kopano_file(folder.path());
    let daemon = Connection::open(&path).unwrap();
    daemon
        .execute_batch(
            "PRAGMA journal_mode = WAL; UPDATE schema_migrations SET dirty = 'true';
             DELETE FROM kv;",
        )
        .unwrap();
    let insert =
        "INSERT INTO kv (collection, ekey, value, content_type, owner_id, client_id, realm)
                  VALUES ('', ?1, ?2, 'application/octet-stream', 'ann', 'meet', 'user')";
    let documents: [(&str, Vec<u8>); 5] = [
        ("large", vec![b'x'; 20_000]),
        ("nul", b"a\0b".to_vec()),
        ("\u{1F600}", b"four bytes".to_vec()),
        ("empty", Vec::new()),
        ("", b"no key".to_vec()),
    ];
    for (key, value) in &documents {
        daemon.execute(insert, (key, value)).unwrap();
    }
    daemon.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.execute(insert, ("not yet", "x")).unwrap();

    let store = memory().await;
    let keyspace = keyspace(&store, "kopano");
    let (source, limits) = (Source::Sqlite(path), Limits::default());
    let options = kopano::Options::default();
    let report = kopano::import(&source, &keyspace, &SystemClock, &limits, options, |_| {}).await;
    let report = report.unwrap();
    assert_eq!((report.rows, report.written, report.differing), (5, 5, 0));
    assert_eq!(remarks(&report, "larger than 16 KiB"), 1);
    assert_eq!(remarks(&report, "migration left unfinished"), 1);
    assert_eq!(remarks(&report, "no request can reach"), 1);
    for (key, value) in &documents {
        let entry = keyspace.get(&layout::document_key(&ann(), key)).await;
        let document = layout::document(&entry.unwrap().unwrap());
        assert_eq!(document.bytes, *value, "{key}");
    }
}

/// A database with the original's schema for MySQL.
fn kopano_mysql(server: &Shared) -> String {
    let url = server.fresh_url();
    let name = url.rsplit('/').next().unwrap();
    let columns =
        "id, collection, ekey, value, content_type, owner_id, client_id, realm, required_scopes";
    server
        .run(&format!(
            "USE {name}; CREATE TABLE kv (id INTEGER PRIMARY KEY AUTO_INCREMENT,
                collection VARCHAR(128), ekey VARCHAR(255) NOT NULL, value BLOB NOT NULL,
                content_type TEXT, owner_id VARCHAR(128), client_id VARCHAR(128),
                realm VARCHAR(64) NOT NULL, required_scopes TEXT)
                ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;
             INSERT INTO kv ({columns}) VALUES {KOPANO_ROWS}"
        ))
        .unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn kopano_documents_come_from_a_mysql_database_in_the_order_of_writes() {
    let Some(server) = Shared::mariadb() else {
        return;
    };
    check_kopano(&Source::MySql(kopano_mysql(server))).await;
}

async fn check_take_over(source: &Source, url: &str) {
    let store = open(url, OpenOptions::default()).await.unwrap();
    let keyspace = keyspace(&store, "kopano");
    let take_over = async || {
        let limits = Limits::default();
        kopano::take_over(source, &store, &keyspace, &SystemClock, &limits)
            .await
            .unwrap()
    };
    let report = take_over().await.expect("there is a table to take over");
    assert_eq!(
        (report.written, report.verified, report.differing),
        (8, 8, 0)
    );
    assert_eq!(listed(&keyspace, &ann(), "recents").await, ["b", "a", "c"]);

    // Once: what happens to the documents afterwards is not undone.
    let key = layout::document_key(&ann(), "recents/a");
    let delete = kvasir_kv::AtomicWrite::new().push(kvasir_kv::Mutation::delete(key.clone()));
    keyspace.commit(delete).await.unwrap();
    assert_eq!(take_over().await, None);
    assert_eq!(keyspace.get(&key).await.unwrap(), None);

    // Interrupted after the first piece: the marker says so and is old. It is done again to the
    // same end.
    let system = Keyspace::new(Arc::clone(&store), KeyspaceName::system());
    let marker = Key::from_strings(["kopano", "takeover"]);
    let begun = r#"{"state":"begun","base_micros":1700000000000000,"id_max":15}"#;
    let entry = kvasir_kv::Entry {
        key: system.stored_key(&marker),
        value: kvasir_kv::Value::json(begun),
        versionstamp: kvasir_kv::Versionstamp::new(1_700_000_000_000_000, 0),
        expires_at: None,
        meta: None,
    };
    store.ingest(vec![entry]).await.unwrap();
    let report = take_over().await.expect("it is continued");
    assert_eq!(report.written, 8);
    assert!(keyspace.get(&key).await.unwrap().is_some());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_table_is_taken_over_once_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = kopano_file(folder.path());
    let dump = |path: &Path| {
        let connection = Connection::open(path).unwrap();
        let sql =
            "SELECT group_concat(id || ekey || value || content_type, ';') FROM kv ORDER BY id";
        connection
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let before = dump(&path);
    let url = format!("sqlite:{}?foreign=keep", path.display());
    check_take_over(&Source::Sqlite(path.clone()), &url).await;
    assert_eq!(dump(&path), before);

    let Some(server) = Shared::mariadb() else {
        return;
    };
    let url = kopano_mysql(server);
    check_take_over(&Source::MySql(url.clone()), &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_processes_one_takes_over_and_the_others_wait() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::Sqlite(kopano_file(folder.path()));
    let store = memory().await;
    let keyspace = keyspace(&store, "kopano");
    let limits = Limits::default();
    let take_over = || kopano::take_over(&source, &store, &keyspace, &SystemClock, &limits);
    let (a, b, c) = tokio::join!(take_over(), take_over(), take_over());
    let done = [a, b, c]
        .into_iter()
        .filter(|done| done.as_ref().unwrap().is_some());
    assert_eq!(done.count(), 1);
    assert_eq!(listed(&keyspace, &ann(), "recents").await, ["b", "a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_the_table_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let store = memory().await;
    let keyspace = keyspace(&store, "kopano");
    let import = async |path: PathBuf| {
        let source = Source::Sqlite(path);
        let options = kopano::Options::default();
        let limits = Limits::default();
        let done = kopano::import(&source, &keyspace, &SystemClock, &limits, options, |_| {}).await;
        format!("{:#}", done.unwrap_err())
    };
    let missing = import(folder.path().join("missing.db")).await;
    assert!(missing.contains("there is no such file"), "{missing}");
    let empty = folder.path().join("empty.db");
    Connection::open(&empty)
        .unwrap()
        .execute_batch("CREATE TABLE other (a)")
        .unwrap();
    let text = import(empty).await;
    assert!(text.contains("no table kv"), "{text}");
}

// ---- Classworks ---------------------------------------------------------------------------------

const NAMESPACE: &str = "11111111-2222-4333-8444-555555555555";
const BCRYPT: &str = "$2b$10$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu";

fn classworks_file(folder: &Path) -> PathBuf {
    let path = folder.join("db.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE \"KVStore\" (\"namespace\" TEXT NOT NULL, \"key\" TEXT NOT NULL,
                \"value\" JSONB NOT NULL, \"creatorIp\" TEXT DEFAULT '',
                \"createdAt\" DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
                \"updatedAt\" DATETIME NOT NULL, PRIMARY KEY (\"namespace\", \"key\"));
             CREATE TABLE \"Device\" (\"uuid\" TEXT PRIMARY KEY, \"password\" TEXT,
                \"passwordHint\" TEXT, \"name\" TEXT, \"accessType\" TEXT NOT NULL DEFAULT 'PUBLIC',
                \"createdAt\" DATETIME, \"updatedAt\" DATETIME);
             INSERT INTO \"KVStore\" VALUES
                ('{NAMESPACE}', 'config', '{{\"b\":1,\"a\":[]}}', '1.2.3.4', 1748090501000, 1748090502000),
                ('{NAMESPACE}', 'broken', '{{', '', 1748090501000, 1748090502000),
                ('class 1', '作业', '[1]', NULL, '2025-05-24 12:41:41', '2025-05-24 12:41:41'),
                ('00000000-0000-4000-8000-000000000000', 'info', '{{\"title\":\"T\"}}', '', 1, 2);
             INSERT INTO \"Device\" VALUES
                ('{NAMESPACE}', '{BCRYPT}', 'dog', 'Class 1', 'PRIVATE', 1, 1748090502000),
                ('seen only', NULL, NULL, NULL, 'PUBLIC', 1, 1);"
        ))
        .unwrap();
    path
}

async fn check_classworks(source: &Source, refused: u64) {
    let store = memory().await;
    let target = classworks::Target {
        values: keyspace(&store, "classworks"),
        system: Keyspace::new(Arc::clone(&store), KeyspaceName::system()),
    };
    let import = async |options| {
        classworks::import(source, &target, &Limits::default(), options, |_| {})
            .await
            .unwrap()
    };
    let report = import(classworks::Options {
        dry_run: true,
        overwrite: false,
    })
    .await;
    assert_eq!((report.written, report.refused), (4, refused));
    assert!(store.versionstamp().await.unwrap() == kvasir_kv::Versionstamp::ZERO);

    let report = import(classworks::Options::default()).await;
    assert_eq!((report.written, report.refused), (4, refused));
    assert_eq!((report.verified, report.differing), (4, 0));

    let config = classworks_layout::value_key(NAMESPACE, "config");
    let entry = target.values.get(&config).await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&entry.value.bytes).unwrap();
    assert_eq!(value, serde_json::json!({"a": [], "b": 1}));
    assert_eq!(entry.created_at().0, 1_748_090_501_000);
    assert_eq!(entry.versionstamp.time().0, 1_748_090_502_000);
    assert_eq!(entry.meta.unwrap().creator.as_deref(), Some("1.2.3.4"));
    let chinese = classworks_layout::value_key("class 1", "作业");
    let entry = target.values.get(&chinese).await.unwrap().unwrap();
    assert_eq!(entry.created_at().0, 1_748_090_501_000);
    let info = target
        .system
        .get(&classworks_layout::site_key("info"))
        .await
        .unwrap();
    assert!(info.is_some());
    let device = target
        .system
        .get(&classworks_layout::device_key(NAMESPACE))
        .await
        .unwrap();
    let device = classworks_layout::Device::read(&device.unwrap().value).unwrap();
    assert_eq!(device.name.as_deref(), Some("Class 1"));
    assert_eq!(device.password.as_deref(), Some(BCRYPT));
    assert_eq!(device.password_hint.as_deref(), Some("dog"));
    assert_eq!(
        device.set_access_type,
        classworks_layout::AccessType::Private
    );

    let again = import(classworks::Options::default()).await;
    assert_eq!((again.written, again.skipped, again.differing), (0, 4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn classworks_values_and_devices_come_from_a_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    check_classworks(&Source::Sqlite(classworks_file(folder.path())), 1).await;
}

/// A database with the original's schema for PostgreSQL.
fn classworks_postgres(server: &Shared) -> String {
    let url = server.fresh_url();
    let name = url.rsplit('/').next().unwrap();
    server
        .run_in(
            name,
            &format!(
                "CREATE TYPE \"AccessType\" AS ENUM ('PUBLIC', 'PROTECTED', 'PRIVATE');
                 CREATE TABLE \"KVStore\" (\"namespace\" TEXT, \"key\" TEXT, \"value\" JSONB NOT NULL,
                    \"creatorIp\" TEXT DEFAULT '', \"createdAt\" TIMESTAMP(3), \"updatedAt\" TIMESTAMP(3),
                    PRIMARY KEY (\"namespace\", \"key\"));
                 CREATE TABLE \"Device\" (\"uuid\" TEXT PRIMARY KEY, \"password\" TEXT,
                    \"passwordHint\" TEXT, \"name\" TEXT, \"accessType\" \"AccessType\" NOT NULL,
                    \"createdAt\" TIMESTAMP(3), \"updatedAt\" TIMESTAMP(3));
                 INSERT INTO \"KVStore\" VALUES
                    ('{NAMESPACE}', 'config', '{{\"b\":1,\"a\":[]}}', '1.2.3.4',
                     '2025-05-24 12:41:41', '2025-05-24 12:41:42'),
                    ('class 1', '作业', '[1]', NULL, '2025-05-24 12:41:41', '2025-05-24 12:41:41'),
                    ('00000000-0000-4000-8000-000000000000', 'info', '{{\"title\":\"T\"}}', '',
                     '2025-05-24 12:41:41', '2025-05-24 12:41:41');
                 INSERT INTO \"Device\" VALUES ('{NAMESPACE}', '{BCRYPT}', 'dog', 'Class 1',
                    'PRIVATE', '2025-05-24 12:41:41', '2025-05-24 12:41:41')"
            ),
        )
        .unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn classworks_values_and_devices_come_from_a_postgres_database() {
    if let Some(server) = Shared::postgres() {
        check_classworks(&Source::Postgres(classworks_postgres(server)), 0).await;
    }
}

/// A database with the original's schema for MySQL.
fn classworks_mysql(server: &Shared) -> String {
    let url = server.fresh_url();
    let name = url.rsplit('/').next().unwrap();
    server
        .run(&format!(
            "SET NAMES utf8mb4; USE {name};
             CREATE TABLE KVStore (namespace VARCHAR(191), `key` VARCHAR(191), value JSON NOT NULL,
                creatorIp VARCHAR(191) DEFAULT '', createdAt DATETIME(3), updatedAt DATETIME(3),
                PRIMARY KEY (namespace, `key`)) DEFAULT CHARACTER SET utf8mb4;
             CREATE TABLE Device (uuid VARCHAR(191) PRIMARY KEY, password VARCHAR(191),
                passwordHint VARCHAR(191), name VARCHAR(191),
                accessType ENUM('PUBLIC','PROTECTED','PRIVATE') NOT NULL, createdAt DATETIME(3),
                updatedAt DATETIME(3)) DEFAULT CHARACTER SET utf8mb4;
             INSERT INTO KVStore VALUES
                ('{NAMESPACE}', 'config', '{{\"b\":1,\"a\":[]}}', '1.2.3.4',
                 '2025-05-24 12:41:41.000', '2025-05-24 12:41:42.000'),
                ('class 1', '作业', '[1]', NULL, '2025-05-24 12:41:41', '2025-05-24 12:41:41'),
                ('00000000-0000-4000-8000-000000000000', 'info', '{{\"title\":\"T\"}}', '',
                 '2025-05-24 12:41:41', '2025-05-24 12:41:41');
             INSERT INTO Device VALUES ('{NAMESPACE}', '{BCRYPT}', 'dog', 'Class 1', 'PRIVATE',
                '2025-05-24 12:41:41', '2025-05-24 12:41:41')"
        ))
        .unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn classworks_values_and_devices_come_from_a_mysql_database() {
    if let Some(server) = Shared::mariadb() {
        check_classworks(&Source::MySql(classworks_mysql(server)), 0).await;
    }
}

/// The two weeks before release 1.0.0: no devices, and namespaces that are padded.
#[tokio::test(flavor = "multi_thread")]
async fn classworks_values_come_from_a_mysql_database_without_devices() {
    let Some(server) = Shared::mariadb() else {
        return;
    };
    let url = server.fresh_url();
    let name = url.rsplit('/').next().unwrap();
    server
        .run_in(
            name,
            &format!(
                "CREATE TABLE KVStore (namespace CHAR(36), `key` VARCHAR(191), value JSON NOT NULL,
                    createdAt DATETIME(3), updatedAt DATETIME(3), PRIMARY KEY (namespace, `key`));
                 INSERT INTO KVStore VALUES ('{NAMESPACE}', 'config', '[1]',
                    '2025-05-24 12:41:41.000', '2025-05-24 12:41:42.000')"
            ),
        )
        .unwrap();
    let store = memory().await;
    let target = classworks::Target {
        values: keyspace(&store, "classworks"),
        system: Keyspace::new(Arc::clone(&store), KeyspaceName::system()),
    };
    let (source, limits) = (Source::MySql(url), Limits::default());
    let options = classworks::Options::default();
    let report = classworks::import(&source, &target, &limits, options, |_| {}).await;
    let report = report.unwrap();
    assert_eq!((report.written, report.differing), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn classworks_values_keyed_by_device_number_are_joined_with_their_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE \"KVStore\" (\"deviceId\" INTEGER, \"key\" TEXT, \"value\" TEXT,
                \"creatorIp\" TEXT, \"createdAt\" INTEGER, \"updatedAt\" INTEGER);
             CREATE TABLE \"Device\" (\"id\" INTEGER PRIMARY KEY, \"uuid\" TEXT UNIQUE, \"name\" TEXT,
                \"password\" TEXT, \"passwordHint\" TEXT, \"updatedAt\" INTEGER);
             INSERT INTO \"Device\" VALUES (7, '{NAMESPACE}', 'Class 1', NULL, NULL, 2);
             INSERT INTO \"KVStore\" VALUES (7, 'config', '1', '', 1000, 2000);"
        ))
        .unwrap();
    let store = memory().await;
    let target = classworks::Target {
        values: keyspace(&store, "classworks"),
        system: Keyspace::new(Arc::clone(&store), KeyspaceName::system()),
    };
    let options = classworks::Options::default();
    let source = Source::Sqlite(path);
    let report = classworks::import(&source, &target, &Limits::default(), options, |_| {})
        .await
        .unwrap();
    assert_eq!((report.written, report.differing), (2, 0));
    let key = classworks_layout::value_key(NAMESPACE, "config");
    assert!(target.values.get(&key).await.unwrap().is_some());
}
