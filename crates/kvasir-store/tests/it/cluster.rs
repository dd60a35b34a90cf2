//! The fault test of the network backends: writers on three processes, and everything is killed.
//!
//! Clients count on hot counters, each step checked against the counter's versionstamp and an own
//! log key; readers look at counters and their mirrors in one snapshot; followers listen. Each
//! frontend is a process of its own (this test binary, run again), so that it can be killed too.
//! What every client saw is written down and judged afterwards: nothing acknowledged may be lost,
//! nothing refused may be there, versionstamps are unique and ordered as time is, no read is torn
//! or old, no follower misses a change.
//!
//! `KVASIR_CLUSTER_SECONDS` makes the runs longer and kills more; `cargo xtask cluster` sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kvasir_kv::{
    AtomicWrite, Error, Key, KeyRange, Mutation, Outcome, RangeRead, SnapshotRead, Store, Value,
    Versionstamp,
};
use kvasir_store::{OpenOptions, open};
use kvasir_testkit::databases::{Galera, MariaDb, Postgres};

const COUNTERS: usize = 64;
const FRONTENDS: usize = 3;
/// 16 clients, as evenly as it goes.
const CLIENTS: [usize; FRONTENDS] = [6, 5, 5];
/// Length of the short form, servers' restarts not counted.
const SECONDS: u64 = 6;

const URL: &str = "KVASIR_CLUSTER_URL";
const NAME: &str = "KVASIR_CLUSTER_FRONTEND";
const LENGTH: &str = "KVASIR_CLUSTER_SECONDS";

#[allow(
    clippy::disallowed_methods,
    reason = "a test passes settings to its own processes"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Seconds of the long form, if this is one.
fn long_form() -> Option<u64> {
    variable(LENGTH).and_then(|text| text.parse().ok())
}

fn seconds() -> u64 {
    long_form().unwrap_or(SECONDS)
}

/// Microseconds of the clock that all processes of the machine share.
fn now_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

fn counter_key(counter: usize) -> Key {
    Key::from_strings(["counters", &format!("{counter:02}")])
}

fn mirror_key(counter: usize) -> Key {
    Key::from_strings(["mirror", &format!("{counter:02}")])
}

fn log_range() -> KeyRange {
    KeyRange::below(&Key::from_strings(["log"]))
}

/// One line of what a client saw.
#[derive(Clone, Debug)]
enum Seen {
    /// An acknowledged step: log key, counter, its new value, versionstamp, begin, end.
    Applied(String, usize, u64, Versionstamp, u64, u64),
    /// A step that was refused: its log key must not be there.
    Refused(String),
    /// A read: begin, and all counters.
    Read(u64, Vec<u64>),
    /// Something that must never be.
    Wrong(String),
    /// A follower was told of this log key.
    Told(String),
    /// A follower was told that it missed something.
    Missed,
}

impl Seen {
    fn to_line(&self) -> String {
        match self {
            Seen::Applied(log, counter, value, stamp, begin, end) => {
                format!("A {log} {counter} {value} {stamp} {begin} {end}")
            }
            Seen::Refused(log) => format!("N {log}"),
            Seen::Read(begin, values) => {
                let values: Vec<String> = values.iter().map(u64::to_string).collect();
                format!("R {begin} {}", values.join(","))
            }
            Seen::Wrong(what) => format!("W {what}"),
            Seen::Told(log) => format!("F {log}"),
            Seen::Missed => "M".into(),
        }
    }

    fn from_line(line: &str) -> Option<Seen> {
        let parts: Vec<&str> = line.split(' ').collect();
        Some(match *parts.as_slice() {
            ["A", log, counter, value, stamp, begin, end] => Seen::Applied(
                log.into(),
                counter.parse().ok()?,
                value.parse().ok()?,
                stamp.parse().ok()?,
                begin.parse().ok()?,
                end.parse().ok()?,
            ),
            ["N", log] => Seen::Refused(log.into()),
            ["R", begin, values] => {
                let values = values.split(',').map(|value| value.parse().ok());
                Seen::Read(begin.parse().ok()?, values.collect::<Option<_>>()?)
            }
            ["W", ..] => Seen::Wrong(line.into()),
            ["F", log] => Seen::Told(log.into()),
            ["M"] => Seen::Missed,
            _ => return None,
        })
    }
}

// ---- a frontend process -------------------------------------------------------------------------

/// Not a test: what a frontend process runs. Does nothing when run as part of the suite.
#[test]
#[ignore = "started by the tests of this module as a process of its own"]
fn frontend_process() {
    let (Some(url), Some(name)) = (variable(URL), variable(NAME)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Frontend::run(&url, &name));
}

struct Frontend {
    store: Arc<dyn Store>,
    name: String,
    stop: AtomicBool,
    out: Mutex<std::io::Stdout>,
}

impl Frontend {
    async fn run(url: &str, name: &str) {
        let store = loop {
            match open(url, OpenOptions::default()).await {
                Ok(store) => break store,
                // The cluster may be down when this process is started again.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let frontend = Arc::new(Frontend {
            store,
            name: name.to_owned(),
            stop: AtomicBool::new(false),
            out: Mutex::new(std::io::stdout()),
        });
        let mut followed = tokio::spawn(Arc::clone(&frontend).follow());
        let mut line = String::new();
        let stdin = std::io::stdin();
        frontend.say("READY");
        stdin.lock().read_line(&mut line).unwrap();

        let index: usize = name.split('-').next().unwrap().parse().unwrap();
        let mut tasks = Vec::new();
        for client in 0..CLIENTS[index] {
            tasks.push(tokio::spawn(Arc::clone(&frontend).count(client)));
        }
        tasks.push(tokio::spawn(Arc::clone(&frontend).look()));
        // Until the parent says so, or is gone.
        tokio::task::spawn_blocking(move || stdin.lock().read_line(&mut String::new()))
            .await
            .unwrap()
            .unwrap();
        frontend.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        frontend.say("DONE");
        // The last changes have time to come, then the stream ends with the store.
        let last = tokio::time::timeout(Duration::from_secs(2), &mut followed).await;
        if last.is_err() {
            let _ = frontend.store.close().await;
        }
        frontend.say("END");
    }

    fn say(&self, line: &str) {
        let mut out = self.out.lock().unwrap();
        writeln!(out, "\n{line}").unwrap();
        out.flush().unwrap();
    }

    fn saw(&self, seen: Seen) {
        self.say(&seen.to_line());
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts until told to stop.
    async fn count(self: Arc<Self>, client: usize) {
        let mut step = 0_u64;
        while !self.is_over() {
            step += 1;
            let counter = random(COUNTERS);
            self.step(client, step, counter).await;
        }
    }

    async fn step(&self, client: usize, step: u64, counter: usize) {
        let begin = now_micros();
        let Ok(before) = self.store.get(&counter_key(counter)).await else {
            // Reads that fail while the database is away tell nothing.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        let value = before
            .as_ref()
            .map_or(0, |entry| entry.value.as_u64().unwrap())
            + 1;
        let log = format!("{}-{client}-{step}", self.name);
        let log_key = Key::from_strings(["log", &log]);
        let write = AtomicWrite::new();
        let write = match before {
            Some(entry) => write.check(entry.key, entry.versionstamp),
            None => write.check_absent(counter_key(counter)),
        };
        let write = write
            .check_absent(log_key.clone())
            .push(Mutation::set(counter_key(counter), Value::u64(value)))
            .push(Mutation::set(mirror_key(counter), Value::u64(value)))
            .push(Mutation::set(
                log_key,
                Value::json(format!("\"{counter} {value}\"")),
            ));
        match self.store.commit(write).await {
            Ok(Outcome::Committed(committed)) => self.saw(Seen::Applied(
                log,
                counter,
                value,
                committed.versionstamp,
                begin,
                now_micros(),
            )),
            Ok(Outcome::Conflict { .. }) | Err(Error::Unavailable(_) | Error::ReadOnly(_)) => {
                self.saw(Seen::Refused(log));
            }
            Err(Error::OutcomeUnknown(_)) => {}
            Err(other) => self.saw(Seen::Wrong(format!("commit: {other:?}"))),
        }
    }

    /// Compares counters with their mirrors until told to stop.
    async fn look(self: Arc<Self>) {
        while !self.is_over() {
            let all = |name| KeyRange::below(&Key::from_strings([name]));
            let read = SnapshotRead {
                ranges: vec![
                    RangeRead::new(all("counters"), COUNTERS),
                    RangeRead::new(all("mirror"), COUNTERS).reversed(),
                ],
            };
            let begin = now_micros();
            if let Ok(snapshot) = self.store.read(read).await {
                let [counters, mirrors] = snapshot.ranges.as_slice() else {
                    unreachable!()
                };
                let stamp =
                    |entry: &kvasir_kv::Entry| (entry.value.bytes.clone(), entry.versionstamp);
                let forward: Vec<_> = counters.entries.iter().map(stamp).collect();
                let backward: Vec<_> = mirrors.entries.iter().rev().map(stamp).collect();
                if forward != backward {
                    self.saw(Seen::Wrong("a torn read".into()));
                }
                let mut values = vec![0; COUNTERS];
                for entry in &counters.entries {
                    let counter = (0..COUNTERS)
                        .find(|&one| counter_key(one) == entry.key)
                        .unwrap();
                    values[counter] = entry.value.as_u64().unwrap();
                }
                self.saw(Seen::Read(begin, values));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Says every log key that the store tells of.
    async fn follow(self: Arc<Self>) {
        let mut changes = self.store.changes(log_range());
        let mut last = Versionstamp::ZERO;
        while let Some(told) = changes.next().await {
            if told.versionstamp < last {
                self.saw(Seen::Wrong("changes out of order".into()));
            }
            last = told.versionstamp;
            if told.missed {
                self.saw(Seen::Missed);
            }
            for (key, _) in told.keys {
                self.saw(Seen::Told(log_name(&key)));
            }
        }
    }
}

fn log_name(key: &Key) -> String {
    match key.parts().unwrap().pop() {
        Some(kvasir_kv::Part::String(name)) => name,
        other => panic!("a strange log key: {other:?}"),
    }
}

fn random(below: usize) -> usize {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    (u64::from_le_bytes(bytes) % below as u64) as usize
}

// ---- the parent ---------------------------------------------------------------------------------

/// A frontend process, as its parent sees it.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(url: &str, name: &str) -> Running {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "cluster::frontend_process",
                "--ignored",
                "--nocapture",
            ])
            .env(URL, url)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Running { child, lines }
    }

    /// Everything said so far and on, up to `word`; an end of the process ends it too.
    fn until(&self, word: &str, seen: &mut Vec<Seen>) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(90)) {
            if line == word {
                return;
            }
            seen.extend(Seen::from_line(&line));
        }
    }

    fn tell(&mut self) {
        let input = self.child.stdin.as_mut().unwrap();
        let _ = writeln!(input, "go").and_then(|()| input.flush());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that was seen.
#[derive(Default)]
struct Seens {
    /// Per follower that lived from beginning to end.
    whole: Vec<Vec<Seen>>,
    /// Of processes that were killed or started later.
    partial: Vec<Vec<Seen>>,
}

/// Runs frontends while `faults` does its work, and judges what they saw. `faults` returns how many
/// database servers it killed.
fn run(database: &str, urls: [String; FRONTENDS], faults: impl FnOnce(u64) -> u32) {
    let mut frontends: Vec<Running> = (0..FRONTENDS)
        .map(|index| Running::start(&urls[index], &format!("{index}-first")))
        .collect();
    let mut seens = Seens {
        whole: vec![Vec::new(); FRONTENDS],
        partial: Vec::new(),
    };
    for (frontend, seen) in frontends.iter().zip(&mut seens.whole) {
        frontend.until("READY", seen);
    }
    frontends.iter_mut().for_each(Running::tell);
    let seconds = seconds();
    wait(seconds / 6);

    // A frontend is killed in the middle of its work; another one takes its place.
    let victim = FRONTENDS - 1;
    frontends[victim].kill();
    let mut seen = seens.whole.pop().unwrap();
    frontends[victim].until("never said", &mut seen);
    seens.partial.push(seen);
    frontends[victim] = Running::start(&urls[victim], &format!("{victim}-second"));
    seens.partial.push(Vec::new());
    frontends[victim].until("READY", seens.partial.last_mut().unwrap());
    frontends[victim].tell();

    let killed = faults(seconds);

    frontends.iter_mut().for_each(Running::tell);
    for (index, frontend) in frontends.iter().enumerate() {
        let seen = match seens.whole.get_mut(index) {
            Some(seen) => seen,
            None => &mut seens.partial[1],
        };
        frontend.until("DONE", seen);
        frontend.until("END", seen);
    }
    drop(frontends);
    let judged = judge(&urls[0], &seens);
    println!("judged {database}, {killed} servers and 1 frontend killed: {judged}");
}

/// Lets the clients work for a while.
#[allow(
    clippy::disallowed_methods,
    reason = "the length of a run, not a synchronisation"
)]
fn wait(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Panics at the first broken promise; otherwise says how much was judged.
fn judge(url: &str, seens: &Seens) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (logs, counters) = runtime.block_on(final_state(url));
    let all: Vec<&Seen> = seens.whole.iter().chain(&seens.partial).flatten().collect();

    let mut applied = Vec::new();
    for seen in &all {
        match seen {
            Seen::Wrong(what) => panic!("{what}"),
            Seen::Refused(log) => {
                assert!(!logs.contains_key(log), "{log} was refused but is there")
            }
            Seen::Applied(log, counter, value, stamp, begin, end) => {
                let found = logs.get(log).unwrap_or_else(|| panic!("{log} is lost"));
                assert_eq!(found, &(*counter, *value, *stamp), "{log}");
                applied.push((*begin, *end, *stamp, *counter, *value, log.clone()));
            }
            Seen::Read(..) | Seen::Told(_) | Seen::Missed => {}
        }
    }
    let stamps: BTreeSet<Versionstamp> = logs.values().map(|log| log.2).collect();
    assert_eq!(stamps.len(), logs.len(), "a versionstamp was used twice");
    assert_eq!(
        counters.iter().sum::<u64>(),
        logs.len() as u64,
        "counters and log differ"
    );
    for counter in 0..COUNTERS {
        let mut of_counter: Vec<_> = logs.values().filter(|log| log.0 == counter).collect();
        of_counter.sort_by_key(|log| log.2);
        let values: Vec<u64> = of_counter.iter().map(|log| log.1).collect();
        let expected: Vec<u64> = (1..=values.len() as u64).collect();
        assert_eq!(
            values, expected,
            "steps of counter {counter} in order of versionstamps"
        );
    }

    applied.sort_by_key(|step| step.1);
    check_real_time(&applied);
    let reads = check_reads(&applied, &all);

    let mut followed = 0;
    for (follower, seen) in seens.whole.iter().enumerate() {
        let told: BTreeSet<&String> = seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Told(log) => Some(log),
                _ => None,
            })
            .collect();
        let missed = seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Missed))
            .count();
        if missed == 0 {
            followed += 1;
            for step in &applied {
                assert!(
                    told.contains(&step.5),
                    "follower {follower} missed {}",
                    step.5
                );
            }
        }
    }
    assert!(applied.len() > 100, "too little happened to judge");
    format!(
        "{} steps acknowledged, {} in the log, {reads} reads, {followed} followers without a gap",
        applied.len(),
        logs.len()
    )
}

type Applied = (u64, u64, Versionstamp, usize, u64, String);

/// What was acknowledged before another began has the smaller versionstamp. `applied` is in order
/// of ends.
fn check_real_time(applied: &[Applied]) {
    let mut by_begin: Vec<&Applied> = applied.iter().collect();
    by_begin.sort_by_key(|step| step.0);
    let mut ended = applied.iter().peekable();
    let mut newest = Versionstamp::ZERO;
    for step in by_begin {
        while let Some(before) = ended.next_if(|before| before.1 < step.0) {
            newest = newest.max(before.2);
        }
        assert!(
            step.2 > newest,
            "{} is stamped before an earlier one",
            step.5
        );
    }
}

/// No read is older than an acknowledgement before its start.
fn check_reads(applied: &[Applied], all: &[&Seen]) -> usize {
    let mut reads: Vec<(u64, &Vec<u64>)> = all
        .iter()
        .filter_map(|seen| match seen {
            Seen::Read(begin, values) => Some((*begin, values)),
            _ => None,
        })
        .collect();
    reads.sort_by_key(|read| read.0);
    let mut ended = applied.iter().peekable();
    let mut known = vec![0; COUNTERS];
    for (begin, values) in &reads {
        while let Some(before) = ended.next_if(|before| before.1 < *begin) {
            known[before.3] = known[before.3].max(before.4);
        }
        for counter in 0..COUNTERS {
            assert!(
                values[counter] >= known[counter],
                "an old read of counter {counter}"
            );
        }
    }
    reads.len()
}

type Logs = BTreeMap<String, (usize, u64, Versionstamp)>;

async fn final_state(url: &str) -> (Logs, Vec<u64>) {
    let store = open(url, OpenOptions::default()).await.unwrap();
    let mut logs = BTreeMap::new();
    let mut pages = store.scan(log_range(), false);
    while let Some(page) = pages.next().await {
        for entry in page.unwrap().entries {
            let text = String::from_utf8(entry.value.bytes.to_vec()).unwrap();
            let (counter, value) = text.trim_matches('"').split_once(' ').unwrap();
            let log = (
                counter.parse().unwrap(),
                value.parse().unwrap(),
                entry.versionstamp,
            );
            logs.insert(log_name(&entry.key), log);
        }
    }
    let keys = (0..COUNTERS).map(counter_key);
    let snapshot = store.read(SnapshotRead::keys(keys)).await.unwrap();
    let value =
        |entry: Option<kvasir_kv::Entry>| entry.map_or(0, |entry| entry.value.as_u64().unwrap());
    let counters = snapshot.into_firsts().map(value).collect();
    store.close().await.unwrap();
    (logs, counters)
}

#[test]
fn nothing_is_lost_when_mariadb_is_killed_and_a_frontend_too() {
    let Some(mut server) = MariaDb::start().unwrap() else {
        return;
    };
    let url = server.fresh_url().unwrap();
    run("mariadb", [url.clone(), url.clone(), url], |seconds| {
        let kills = long_form().map_or(1, |_| 3);
        for _ in 0..kills {
            wait(seconds / 6);
            server.kill();
            server.restart().unwrap();
            wait(seconds / 6);
        }
        kills
    });
}

#[test]
fn nothing_is_lost_when_postgres_is_killed_and_a_frontend_too() {
    let Some(mut server) = Postgres::start().unwrap() else {
        return;
    };
    let url = server.fresh_url().unwrap();
    run("postgres", [url.clone(), url.clone(), url], |seconds| {
        let kills = long_form().map_or(1, |_| 3);
        for _ in 0..kills {
            wait(seconds / 6);
            server.kill();
            server.restart().unwrap();
            wait(seconds / 6);
        }
        kills
    });
}

#[test]
fn nothing_is_lost_when_galera_nodes_are_killed_one_and_in_the_long_form_all() {
    let Some(mut cluster) = Galera::start().unwrap() else {
        return;
    };
    let url = cluster.fresh_url().unwrap();
    // Writes go through the nodes in one order for all; each frontend reads from another node.
    let ports = cluster.sql_ports();
    let urls = std::array::from_fn(|index| {
        let reads: Vec<String> = (0..ports.len())
            .map(|step| format!("127.0.0.1:{}", ports[(index + step) % ports.len()]))
            .collect();
        format!("{url}?reads={}", reads.join(","))
    });
    run("galera", urls, |seconds| {
        wait(seconds / 6);
        // The node that takes the writes.
        cluster.kill(0);
        wait(seconds / 3);
        if long_form().is_none() {
            return 1;
        }
        cluster.restart(0).unwrap();
        wait(seconds / 6);
        cluster.crash_all_and_recover().unwrap();
        wait(seconds / 6);
        4
    });
}
