//! Kills a process that holds the store itself.
//!
//! [`write_until_killed`] is what that process does; it is the whole of the binary
//! `kvasir-crash-writer`. [`story`] starts it, reads its lines, kills it, and starts it again.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use kvasir_kv::clock::Sleep;
use kvasir_kv::{
    Clock, Key, KeyRange, RangeRead, RangeResult, Snapshot, SnapshotRead, Store, UnixMillis,
};
use kvasir_store::{OpenOptions, SystemClock, open};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::line::Line;
use super::{CLIENTS, life};
use crate::history::{Action, Answer, History, Operation, Recording, Tick, answer};
use crate::wait::{DEADLINE, within};
use crate::workload::Client;

/// Longest step of the clock between two openings, back or forth: a day.
const CLOCK_STEP_MS: i64 = 86_400_000;

/// Plays one story on the store at `url`: so many kills, then a last look.
///
/// # Panics
///
/// If the writer does not open the store or writes what cannot be read.
pub async fn story(writer: &Path, url: &str, seed: u64, kills: u32) -> History {
    let mut rng = StdRng::seed_from_u64(seed);
    let recording = Recording::new();
    for kill in 0..=kills {
        let first_client = kill * CLIENTS;
        // The last round only looks.
        let operations = if kill == kills { 0 } else { u32::MAX };
        let clock_step = rng.random_range(-CLOCK_STEP_MS..CLOCK_STEP_MS);
        let mut child = Command::new(writer)
            .args([
                url,
                &rng.random::<u64>().to_string(),
                &first_client.to_string(),
            ])
            .args([operations.to_string(), clock_step.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the writer can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        let mut calls = Calls {
            recording: &recording,
            open: HashMap::new(),
        };

        let opening = calls.recording.tick();
        let first = within(DEADLINE, "the writer opens the store", lines.next_line()).await;
        match first
            .expect("a pipe can be read")
            .as_deref()
            .and_then(Line::decode)
        {
            Some(Line::Opened(entries)) => calls.opened(opening, entries),
            other => panic!("the writer did not open {url}, it said {other:?}"),
        }
        if operations > 0 {
            let life = tokio::time::sleep(life(&mut rng));
            tokio::pin!(life);
            loop {
                tokio::select! {
                    biased;
                    () = &mut life => break,
                    line = lines.next_line() => match line.expect("a pipe can be read") {
                        Some(line) => calls.take(&line),
                        None => panic!("the writer ended by itself"),
                    },
                }
            }
            child.start_kill().expect("our own child can be killed");
        }
        // What it had written before it died. The last line may be cut.
        while let Ok(Some(line)) =
            within(DEADLINE, "the writer's output ends", lines.next_line()).await
        {
            calls.take(&line);
        }
        calls.end();
        recording.died();
        within(DEADLINE, "the writer is gone", child.wait())
            .await
            .expect("our own child can be waited for");
    }
    recording.so_far()
}

/// The calls of one process.
struct Calls<'a> {
    recording: &'a Recording,
    open: HashMap<(u32, u32), (Tick, Call)>,
}

enum Call {
    Commit(kvasir_kv::AtomicWrite),
    Read(Vec<Key>),
}

impl Calls<'_> {
    fn opened(&mut self, invoked: Tick, entries: Vec<kvasir_kv::Entry>) {
        let range = RangeResult {
            entries,
            cut_by_bytes: false,
        };
        self.add(
            u32::MAX,
            invoked,
            Action::Read(
                read_everything(),
                Snapshot {
                    ranges: vec![range],
                },
            ),
        );
    }

    fn take(&mut self, line: &str) {
        match Line::decode(line) {
            Some(Line::Commit(client, number, write)) => {
                let begun = (self.recording.tick(), Call::Commit(write));
                self.open.insert((client, number), begun);
            }
            Some(Line::Read(client, number, keys)) => {
                let begun = (self.recording.tick(), Call::Read(keys));
                self.open.insert((client, number), begun);
            }
            Some(Line::Answer(client, number, answer)) => {
                if let Some((invoked, Call::Commit(write))) = self.open.remove(&(client, number)) {
                    self.add(client, invoked, Action::Commit(write, answer));
                }
            }
            Some(Line::Found(client, number, found)) => {
                if let Some((invoked, Call::Read(keys))) = self.open.remove(&(client, number)) {
                    let of_key = |key: &Key| RangeResult {
                        entries: found.iter().filter(|e| e.key == *key).cloned().collect(),
                        cut_by_bytes: false,
                    };
                    let snapshot = Snapshot {
                        ranges: keys.iter().map(of_key).collect(),
                    };
                    self.add(
                        client,
                        invoked,
                        Action::Read(SnapshotRead::keys(keys), snapshot),
                    );
                }
            }
            // Cut by the kill.
            Some(Line::Opened(_)) | None => {}
        }
    }

    /// What has no answer has lost it.
    fn end(&mut self) {
        for ((client, _), (invoked, call)) in std::mem::take(&mut self.open) {
            if let Call::Commit(write) = call {
                self.add(client, invoked, Action::Commit(write, Answer::Unknown));
            }
        }
    }

    fn add(&self, client: u32, invoked: Tick, action: Action) {
        let returned = match action {
            Action::Commit(_, Answer::Unknown) => Tick::NEVER,
            _ => self.recording.tick(),
        };
        // Nothing expires in these stories, so the time of day does not matter.
        let now = UnixMillis(0);
        self.recording.add(Operation {
            client,
            invoked,
            returned,
            now,
            action,
        });
    }
}

fn read_everything() -> SnapshotRead {
    let everything = KeyRange::starting_with(&Key::default());
    let mut read = RangeRead::new(everything, usize::MAX);
    read.bytes_max = usize::MAX;
    SnapshotRead::range(read)
}

/// Opens the store at `url` and lets clients write and read until they have done `operations`
/// each, or for ever. Tells everything on standard output.
///
/// # Errors
///
/// In words, if the store does not open.
pub async fn write_until_killed(
    url: &str,
    seed: u64,
    first_client: u32,
    operations: u32,
    clock_step_ms: i64,
) -> Result<(), String> {
    let options = OpenOptions {
        clock: Arc::new(SteppedClock(clock_step_ms)),
        ..OpenOptions::default()
    };
    let store = open(url, options)
        .await
        .map_err(|error| error.to_string())?;
    let teller = Teller(Arc::default());
    let snapshot = store
        .read(read_everything())
        .await
        .map_err(|error| error.to_string())?;
    teller.tell(&Line::Opened(
        snapshot
            .ranges
            .into_iter()
            .flat_map(|r| r.entries)
            .collect(),
    ));

    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, teller) = (store.clone(), teller.clone());
            tokio::spawn(async move {
                let mut client = Client::new(seed, first_client + client);
                for number in 0..operations {
                    act(&*store, &teller, &mut client, number).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn act(store: &dyn Store, teller: &Teller, client: &mut Client, number: u32) {
    let name = client.number();
    if client.writes_next() {
        let write = client.write();
        teller.tell(&Line::Commit(name, number, write.clone()));
        let result = store.commit(write.clone()).await;
        teller.tell(&Line::Answer(name, number, answer(&result)));
        match result.ok().and_then(kvasir_kv::Outcome::committed) {
            Some(committed) => client.committed(&write, committed.versionstamp),
            None => client.conflicted(&write),
        }
    } else {
        let keys: Vec<Key> = client
            .read()
            .ranges
            .into_iter()
            .map(|range| range.range.start)
            .collect();
        teller.tell(&Line::Read(name, number, keys.clone()));
        if let Ok(snapshot) = store.read(SnapshotRead::keys(keys)).await {
            let found: Vec<_> = snapshot.into_firsts().flatten().collect();
            client.saw(&found);
            teller.tell(&Line::Found(name, number, found));
        }
    }
}

/// Writes whole lines, one client at a time. The lock is what makes the order of lines real time.
#[derive(Clone)]
struct Teller(Arc<Mutex<()>>);

impl Teller {
    fn tell(&self, line: &Line) {
        let mut text = line.encode();
        text.push('\n');
        let _held = self.0.lock().expect("nobody panics while telling");
        // Whoever killed us may be gone too.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

/// The time of day, off by so many milliseconds: a clock that was set between two starts.
#[derive(Debug)]
struct SteppedClock(i64);

impl Clock for SteppedClock {
    fn now_micros(&self) -> u64 {
        SystemClock
            .now_micros()
            .saturating_add_signed(self.0 * 1_000)
    }

    fn sleep_until(&self, at: UnixMillis) -> Sleep {
        SystemClock.sleep_until(UnixMillis(at.0 - self.0))
    }
}
