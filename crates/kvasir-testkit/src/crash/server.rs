//! Kills the real server while clients write through its REST dialect.
//!
//! The clients speak `POST /kv/_atomic`, which carries a whole atomic write and answers with its
//! versionstamp; they look with `GET /kv/{key}?meta=true` and `GET /kv?list=true`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvasir_kv::{
    AtomicWrite, Committed, Entry, Key, KeyRange, Mutation, Part, RangeRead, RangeResult, Snapshot,
    SnapshotRead, UnixMillis, Value, Versionstamp,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::{CLIENTS, life};
use crate::history::{Action, Answer, History, Operation, Recording, Tick};
use crate::server::{ServerOptions, TestServer, http_client};
use crate::workload::Client;

/// Plays one story on a server: so many kills, then a last look.
///
/// # Panics
///
/// If the server does not start again, or answers what no server should.
pub async fn story(options: ServerOptions, seed: u64, kills: u32) -> History {
    let mut rng = StdRng::seed_from_u64(seed);
    let recording = Recording::new();
    let mut server = options.start().await;
    for kill in 0..kills {
        look(&recording, &server).await;
        let is_dead = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let visitor = Visitor {
                    client: Client::new(seed, kill * CLIENTS + client),
                    http: http_client(),
                    base: server.url("/kv"),
                    recording: recording.clone(),
                    is_dead: is_dead.clone(),
                };
                tokio::spawn(visitor.visit())
            })
            .collect();
        tokio::time::sleep(life(&mut rng)).await;
        server.kill().await;
        is_dead.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.expect("clients do not panic");
        }
        recording.died();
        server.restart().await;
    }
    look(&recording, &server).await;
    assert!(
        server.terminate().await.success(),
        "the server stops cleanly in the end"
    );
    recording.so_far()
}

/// One client of one life of the server.
struct Visitor {
    client: Client,
    http: reqwest::Client,
    base: String,
    recording: Recording,
    is_dead: Arc<AtomicBool>,
}

impl Visitor {
    async fn visit(mut self) {
        while !self.is_dead.load(Ordering::SeqCst) {
            let is_alive = match self.client.choose(5) {
                0 => self.read().await,
                _ => self.write().await,
            };
            if !is_alive {
                return;
            }
        }
    }

    /// False when the server is gone.
    async fn write(&mut self) -> bool {
        // REST does not ask what existed.
        let write = AtomicWrite {
            report_existed: false,
            ..self.client.write()
        };
        let invoked = self.recording.tick();
        let sent = self
            .http
            .post(format!("{}/_atomic", self.base))
            .json(&body(&write))
            .send();
        let (answer, is_alive) = match sent.await {
            Ok(response) => {
                let status = response.status().as_u16();
                match response.text().await {
                    Ok(text) => (read_answer(status, &text), true),
                    // Cut in the middle, the answer is lost.
                    Err(_) => (Answer::Unknown, false),
                }
            }
            // Refused by the system: nobody was there to take it.
            Err(error) if error.is_connect() => (Answer::Rejected, false),
            Err(_) => (Answer::Unknown, false),
        };
        match &answer {
            Answer::Committed(committed) => self.client.committed(&write, committed.versionstamp),
            _ => self.client.conflicted(&write),
        }
        let returned = match answer {
            Answer::Unknown => Tick::NEVER,
            _ => self.recording.tick(),
        };
        self.add(invoked, returned, Action::Commit(write, answer));
        is_alive
    }

    /// False when the server is gone.
    async fn read(&mut self) -> bool {
        // REST has no snapshot of several keys; one of them is read.
        let wanted = self.client.read().ranges;
        let is_key = |key: &Key| key.parts().is_ok();
        let Some(key) = wanted
            .into_iter()
            .map(|range| range.range.start)
            .find(is_key)
        else {
            return true;
        };
        let path = parts(&key).join(".");
        let invoked = self.recording.tick();
        let Ok(response) = self
            .http
            .get(format!("{}/{path}?meta=true", self.base))
            .send()
            .await
        else {
            return false;
        };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else {
            return false;
        };
        let entries = match status {
            200 => vec![entry(&text)],
            404 => Vec::new(),
            other => panic!("GET {path}: {other} {text}"),
        };
        self.client.saw(&entries);
        let ranges = vec![RangeResult {
            entries,
            cut_by_bytes: false,
        }];
        let action = Action::Read(SnapshotRead::keys([key]), Snapshot { ranges });
        self.add(invoked, self.recording.tick(), action);
        true
    }

    fn add(&self, invoked: Tick, returned: Tick, action: Action) {
        add(
            &self.recording,
            self.client.number(),
            invoked,
            returned,
            action,
        );
    }
}

/// Reads everything there is.
async fn look(recording: &Recording, server: &TestServer) {
    let invoked = recording.tick();
    let response = http_client().get(server.url("/kv?list=true")).send().await;
    let text = response
        .expect("the server answers")
        .text()
        .await
        .expect("a whole answer");
    let listed: Vec<&RawValue> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not a list: {error}: {text}"));
    let mut entries: Vec<Entry> = listed.iter().map(|raw| entry(raw.get())).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let everything = KeyRange::starting_with(&Key::default());
    let mut range = RangeRead::new(everything, usize::MAX);
    range.bytes_max = usize::MAX;
    let ranges = vec![RangeResult {
        entries,
        cut_by_bytes: false,
    }];
    let action = Action::Read(SnapshotRead::range(range), Snapshot { ranges });
    add(recording, u32::MAX, invoked, recording.tick(), action);
}

fn add(recording: &Recording, client: u32, invoked: Tick, returned: Tick, action: Action) {
    // Nothing expires in these stories, so the time of day does not matter.
    let now = UnixMillis(0);
    recording.add(Operation {
        client,
        invoked,
        returned,
        now,
        action,
    });
}

/// The write as REST takes it.
fn body(write: &AtomicWrite) -> Json {
    let checks = write.checks.iter().map(|check| {
        let stamp = check.versionstamp.map(|stamp| stamp.to_string());
        json!({ "key": parts(&check.key), "versionstamp": stamp })
    });
    let mutations = write.mutations.iter().map(|mutation| {
        let kind = match mutation {
            Mutation::Set { .. } => "set",
            Mutation::Delete { .. } => "delete",
            Mutation::Sum { .. } => "sum",
            Mutation::Min { .. } => "min",
            Mutation::Max { .. } => "max",
            Mutation::SetVersionstamped { .. } => unreachable!("the workload makes none"),
        };
        let mut body = json!({ "type": kind, "key": parts(mutation.key()) });
        if let Some(value) = mutation.value() {
            body["value"] = serde_json::from_slice(&value.bytes).expect("the workload writes JSON");
        }
        body
    });
    json!({
        "checks": checks.collect::<Vec<_>>(),
        "mutations": mutations.collect::<Vec<_>>(),
    })
}

fn read_answer(status: u16, text: &str) -> Answer {
    #[derive(Deserialize)]
    struct Applied {
        versionstamp: String,
    }
    #[derive(Deserialize)]
    struct Refused {
        failed: Vec<u32>,
    }
    match status {
        200 => {
            let applied: Applied = serde_json::from_str(text).expect("a versionstamp");
            let versionstamp = applied.versionstamp.parse().expect("a versionstamp");
            Answer::Committed(Committed {
                versionstamp,
                existed: Vec::new(),
            })
        }
        409 => {
            let refused: Refused = serde_json::from_str(text).expect("the failed checks");
            Answer::Conflict(refused.failed)
        }
        // Too busy; the contract does not say that nothing was done.
        503 => Answer::Unknown,
        other => panic!("POST /kv/_atomic: {other} {text}"),
    }
}

/// The entry shape of REST.
fn entry(text: &str) -> Entry {
    #[derive(Deserialize)]
    struct Shape<'a> {
        key: Vec<String>,
        #[serde(borrow)]
        value: &'a RawValue,
        versionstamp: String,
    }
    let shape: Shape<'_> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("not an entry: {error}: {text}"));
    Entry {
        key: Key::from_strings(&shape.key),
        value: Value::json(shape.value.get().to_owned()),
        versionstamp: shape
            .versionstamp
            .parse::<Versionstamp>()
            .expect("a versionstamp"),
        expires_at: None,
        meta: None,
    }
}

/// The strings of a key of the workload.
fn parts(key: &Key) -> Vec<String> {
    let parts = key.parts().expect("the workload's keys are tuples");
    let text = |part| match part {
        Part::String(text) => text,
        other => panic!("not a string: {other:?}"),
    };
    parts.into_iter().map(text).collect()
}
