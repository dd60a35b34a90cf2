//! `cargo xtask bench`: ratios, measured side by side in one run.
//!
//! Load generator and servers share the machine, so single figures mean little; what is quoted are
//! ratios of rounds that alternate, ours and theirs, and their median. The command builds itself
//! and the server optimised and starts again as that, because an unoptimised load generator would
//! measure itself.

mod bare;
mod deno;
mod dialects;
mod load;
mod login;
mod process;
mod report;
mod stores;
mod verbs;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kvasir_kv::{AtomicWrite, Key, Mutation, Store, Value, Versionstamp};
use kvasir_store::OpenOptions;

use load::{Call, Done, MakeCall, Protocol};
use process::Process;
use report::Report;

/// What to measure.
#[derive(Args, Clone)]
pub(crate) struct BenchArgs {
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Seconds of one round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds of each row; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Entries of the large store.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Where the figures go.
    #[arg(long, default_value = "bench-results/latest.json")]
    output: PathBuf,
    /// Folder for data; it must lie on the disk that is to be measured.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// Only the rows of these stores, side by side: embedded, sqlite, mariadb, galera, postgres.
    #[arg(long, value_delimiter = ',')]
    store: Vec<String>,
    /// The incumbent KV Connect server, to be measured beside ours.
    #[arg(long, default_value = "denokv")]
    denokv: PathBuf,
    /// Which part of the bench this process is.
    #[arg(long, hide = true)]
    part: Option<String>,
}

/// Bytes of a value in the large store.
const VALUE_BYTES: usize = 256;

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match args.part.as_deref() {
        None => again_optimised(),
        Some("bare") => runtime.block_on(bare::serve()),
        Some(_) => runtime.block_on(measure(args)),
    }
}

/// Builds both programs optimised and goes on as that.
fn again_optimised() -> Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "kvasir",
        "--package",
        "xtask",
    ];
    let built = Command::new("cargo")
        .args(build)
        .current_dir(crate::root())
        .status()?;
    ensure!(built.success(), "the release build failed");
    let status = Command::new(release_folder().join("xtask"))
        .args(std::env::args_os().skip(1))
        .args(["--part", "measure"])
        .status()?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

fn release_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| crate::root().join("target"))
        .join("release")
}

fn kvasir_binary() -> PathBuf {
    release_folder().join("kvasir")
}

/// What a comparison is called and how it is done.
struct Row<'a> {
    name: &'a str,
    goal: Option<f64>,
    protocol: Protocol,
    connections: usize,
}

impl<'a> Row<'a> {
    fn http1(name: &'a str, connections: usize, goal: Option<f64>) -> Row<'a> {
        let protocol = Protocol::Http1;
        Row {
            name,
            goal,
            protocol,
            connections,
        }
    }
}

/// A server and what it is asked.
#[derive(Clone)]
struct Side {
    addr: SocketAddr,
    make: MakeCall,
}

impl Side {
    fn new(addr: SocketAddr, make: MakeCall) -> Side {
        Side { addr, make }
    }

    /// The same request every time.
    fn fixed(addr: SocketAddr, call: Call) -> Side {
        Side::new(addr, call.repeated())
    }
}

/// One run: its settings, its servers, its figures so far.
struct Bench {
    args: BenchArgs,
    bare: Process,
    scratch: tempfile::TempDir,
    report: Report,
}

async fn measure(args: &BenchArgs) -> Result<()> {
    std::fs::create_dir_all(&args.folder)?;
    let bare =
        Process::start(Command::new(std::env::current_exe()?).args(["bench", "--part", "bare"]))?;
    let scratch = tempfile::TempDir::with_prefix_in("bench-", &args.folder)?;
    let mut bench = Bench {
        args: args.clone(),
        bare,
        scratch,
        report: Report::default(),
    };
    if args.store.is_empty() {
        bench.writes().await?;
        bench.reads().await?;
        bench.deno().await?;
        bench.dialects().await?;
        bench.login_storm().await?;
        bench.verbs().await?;
    } else {
        bench.stores().await?;
    }
    bench.report.write(&bench.args.output.clone())
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.args.only)
    }

    /// Whether any row whose name begins like this is asked for.
    fn wants_some(&self, words: &[&str]) -> bool {
        let only = &self.args.only;
        words
            .iter()
            .any(|word| word.contains(only) || only.contains(word))
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.args.seconds)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn kvasir(&self, data: &Path, more: &[&str]) -> Result<Process> {
        Process::kvasir(&kvasir_binary(), data, more)
    }

    /// Alternates ours and theirs, after a short warm-up of both.
    async fn compare(&mut self, row: Row<'_>, ours: Side, theirs: Side) -> Result<()> {
        if !self.wants(row.name) {
            return Ok(());
        }
        let run = async |side: &Side, time| {
            let make = Arc::clone(&side.make);
            load::run(side.addr, row.protocol, row.connections, time, make).await
        };
        let warm_up = Duration::from_millis(500);
        run(&ours, warm_up).await.context(row.name.to_owned())?;
        run(&theirs, warm_up).await.context(row.name.to_owned())?;
        let mut rounds = Vec::new();
        for _ in 0..self.args.rounds {
            let mine = run(&ours, self.time()).await?;
            rounds.push((mine, run(&theirs, self.time()).await?));
        }
        self.report.compare(row.name, row.goal, &rounds);
        Ok(())
    }

    /// Durable writes against the bare server, the bare engine and the bare disk.
    async fn writes(&mut self) -> Result<()> {
        let data = self.data("writes");
        if !self.wants_some(&["durable PUT", "memory"]) {
            return Ok(());
        }
        let server = self.kvasir(&data, &[])?;
        let put = rest_put();
        for (connections, goal) in [(1, None), (8, None), (64, Some(0.65))] {
            let name = format!("durable PUT, {connections} connections, against bare hyper");
            let ours = Side::new(server.addr, Arc::clone(&put));
            let theirs = Side::new(self.bare.addr, Arc::clone(&put));
            self.compare(Row::http1(&name, connections, goal), ours, theirs)
                .await?;
        }
        let name = "durable PUT, 1 connection, against a bare fdatasync loop";
        if self.wants(name) {
            let mut rounds = Vec::new();
            for _ in 0..self.args.rounds {
                let ours = load_http1(server.addr, 1, self.time(), &put).await?;
                rounds.push((ours, self.syncs()?));
            }
            self.report.compare(name, Some(0.35), &rounds);
        }
        for connections in [1, 8, 64] {
            let name =
                format!("durable PUT, {connections} connections, against the engine without HTTP");
            if !self.wants(&name) {
                continue;
            }
            let store = open(&self.data("engine")).await?;
            let mut rounds = Vec::new();
            for _ in 0..self.args.rounds {
                let ours = load_http1(server.addr, connections, self.time(), &put).await?;
                rounds.push((ours, commits(&store, connections, self.time()).await?));
            }
            store.close().await?;
            self.report.compare(&name, None, &rounds);
        }
        self.report
            .figure("memory after the writes", server.memory_mib()?, "MiB", None);
        Ok(())
    }

    /// Appends and `fdatasync`s as fast as the disk lets one thread.
    fn syncs(&self) -> Result<Done> {
        let mut file = std::fs::File::create(self.data("syncs"))?;
        let block = [7; VALUE_BYTES];
        let began = Instant::now();
        let mut requests = 0;
        while began.elapsed() < self.time() {
            file.write_all(&block)?;
            file.sync_data()?;
            requests += 1;
        }
        let per_second = requests as f64 / began.elapsed().as_secs_f64();
        Ok(Done {
            per_second,
            ..Done::default()
        })
    }

    /// Reads of a small and of a large store against the bare server.
    async fn reads(&mut self) -> Result<()> {
        if !self.wants_some(&["hot GET", "random GET", "list of 100", "memory"]) {
            return Ok(());
        }
        let data = self.data("reads");
        fill(&data, self.args.entries).await?;
        let server = self.kvasir(&data, &[])?;
        self.report.figure(
            &format!(
                "memory at rest with {} entries of {VALUE_BYTES} bytes",
                self.args.entries
            ),
            server.memory_mib()?,
            "MiB",
            Some(200.0),
        );
        let bare = self.bare.addr;
        let same_size = Side::fixed(bare, bare_bytes(VALUE_BYTES));
        for (connections, goal) in [(1, None), (8, None), (64, Some(0.85))] {
            let name = format!("hot GET, {connections} connections, against bare hyper");
            let ours = Side::fixed(server.addr, Call::get("/kv/large.00000500"));
            self.compare(
                Row::http1(&name, connections, goal),
                ours,
                same_size.clone(),
            )
            .await?;
        }
        let entries = self.args.entries as u64;
        let random: MakeCall = Arc::new(move |n| {
            // Multiplying by a large odd number scatters consecutive n over all entries.
            let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries;
            Call::get(format!("/kv/large.{at:08}"))
        });
        let name = format!("random GET among {entries}, 64 connections, against bare hyper");
        let row = Row::http1(&name, 64, Some(0.6));
        self.compare(row, Side::new(server.addr, random), same_size)
            .await?;
        let list = Call::get("/kv/large?list=true&limit=100");
        let theirs = Side::fixed(bare, bare_bytes(100 * (VALUE_BYTES + 120)));
        for connections in [1, 8, 64] {
            let name = format!("list of 100, {connections} connections, against bare hyper");
            let ours = Side::fixed(server.addr, list.clone());
            self.compare(Row::http1(&name, connections, None), ours, theirs.clone())
                .await?;
        }
        self.report
            .figure("memory under load", server.memory_mib()?, "MiB", None);
        Ok(())
    }
}

/// Durable PUTs over the REST dialect, spread over many keys.
fn rest_put() -> MakeCall {
    let value = "v".repeat(VALUE_BYTES - 2);
    let body = bytes::Bytes::from(format!(r#"{{"value":"{value}"}}"#));
    let headers: Arc<[(&'static str, String)]> =
        [("content-type", "application/json".to_owned())].into();
    Arc::new(move |n| Call {
        method: "PUT",
        path: format!("/kv/bench.{}", n % 100_000),
        headers: Arc::clone(&headers),
        body: body.clone(),
    })
}

/// What the bare server answers with so many bytes.
fn bare_bytes(bytes: usize) -> Call {
    Call::get(format!("/bytes/{bytes}"))
}

async fn load_http1(
    addr: SocketAddr,
    connections: usize,
    time: Duration,
    make: &MakeCall,
) -> Result<Done> {
    load::run(addr, Protocol::Http1, connections, time, Arc::clone(make)).await
}

async fn open(data: &Path) -> Result<Arc<dyn Store>> {
    let url = format!("embedded:{}", data.display());
    Ok(kvasir_store::open(&url, OpenOptions::default()).await?)
}

/// Durable commits of one value each, from so many tasks, without HTTP.
async fn commits(store: &Arc<dyn Store>, tasks: usize, time: Duration) -> Result<Done> {
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let store = Arc::clone(store);
        writers.spawn(async move {
            let mut done = 0u64;
            while began.elapsed() < time {
                let key = Key::from_strings(["bench", &format!("{task}-{}", done % 10_000)]);
                let value = Value::json(vec![b'v'; VALUE_BYTES]);
                store
                    .commit(AtomicWrite::new().push(Mutation::set(key, value)))
                    .await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut requests = 0;
    while let Some(writer) = writers.join_next().await {
        requests += writer??;
    }
    let per_second = requests as f64 / began.elapsed().as_secs_f64();
    Ok(Done {
        per_second,
        ..Done::default()
    })
}

/// Writes the entries of the large store past the server.
async fn fill(data: &Path, entries: usize) -> Result<()> {
    let store = open(data).await?;
    let value = format!("\"{}\"", "v".repeat(VALUE_BYTES - 2));
    for first in (0..entries).step_by(10_000) {
        let batch = (first..entries.min(first + 10_000)).map(|n| kvasir_kv::Entry {
            key: Key::from_strings(["default", "large", &format!("{n:08}")]),
            value: Value::json(value.clone()),
            versionstamp: Versionstamp::new(1 + n as u64, 0),
            expires_at: None,
            meta: None,
        });
        store.ingest(batch.collect()).await?;
    }
    store.close().await?;
    Ok(())
}
