//! `cargo xtask bench`: ratios, measured side by side in one run.
//!
//! Load generator and servers share the machine, so single figures mean little; what is quoted are
//! ratios of rounds that alternate, ours and theirs, and their median. The command builds itself
//! and the server optimised and starts again as that, because an unoptimised load generator would
//! measure itself.

mod bare;
mod load;
mod process;
mod report;

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

use load::{Done, MakeRequest, request};
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
    bench.writes().await?;
    bench.reads().await?;
    bench.report.write(&bench.args.output.clone())
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.args.only)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.args.seconds)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn kvasir(&self, data: &Path) -> Result<Process> {
        Process::kvasir(&release_folder().join("kvasir"), data, &[])
    }

    /// Alternates ours and theirs, after a short warm-up of both.
    async fn compare(
        &mut self,
        name: &str,
        goal: Option<f64>,
        connections: usize,
        ours: (SocketAddr, MakeRequest),
        theirs: (SocketAddr, MakeRequest),
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let warm_up = Duration::from_millis(500);
        load::run(ours.0, connections, warm_up, Arc::clone(&ours.1))
            .await
            .context(name.to_owned())?;
        load::run(theirs.0, connections, warm_up, Arc::clone(&theirs.1)).await?;
        let mut rounds = Vec::new();
        for _ in 0..self.args.rounds {
            let mine = load::run(ours.0, connections, self.time(), Arc::clone(&ours.1)).await?;
            let other =
                load::run(theirs.0, connections, self.time(), Arc::clone(&theirs.1)).await?;
            rounds.push((mine, other));
        }
        self.report.compare(name, goal, &rounds);
        Ok(())
    }

    /// Durable writes against the bare server, the bare engine and the bare disk.
    async fn writes(&mut self) -> Result<()> {
        let data = self.data("writes");
        let server = self.kvasir(&data)?;
        let value = "v".repeat(VALUE_BYTES - 2);
        let body = format!(r#"{{"value":"{value}"}}"#);
        let json = [("content-type", "application/json")];
        let put: MakeRequest = Arc::new(move |n| {
            request(
                "PUT",
                &format!("/kv/bench.{}", n % 100_000),
                &json,
                body.as_bytes(),
            )
        });
        for (connections, goal) in [(1, None), (8, None), (64, Some(0.65))] {
            let name = format!("durable PUT, {connections} connections, against bare hyper");
            let ours = (server.addr, Arc::clone(&put));
            let theirs = (self.bare.addr, Arc::clone(&put));
            self.compare(&name, goal, connections, ours, theirs).await?;
        }
        let name = "durable PUT, 1 connection, against a bare fdatasync loop";
        if self.wants(name) {
            let mut rounds = Vec::new();
            for _ in 0..self.args.rounds {
                let ours = load::run(server.addr, 1, self.time(), Arc::clone(&put)).await?;
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
                let ours =
                    load::run(server.addr, connections, self.time(), Arc::clone(&put)).await?;
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
        let data = self.data("reads");
        if ["GET", "list", "memory"]
            .iter()
            .any(|part| part.contains(&self.args.only) || self.args.only.contains(part))
        {
            fill(&data, self.args.entries).await?;
        }
        let server = self.kvasir(&data)?;
        self.report.figure(
            &format!(
                "memory at rest with {} entries of {VALUE_BYTES} bytes",
                self.args.entries
            ),
            server.memory_mib()?,
            "MiB",
            Some(200.0),
        );
        let fixed = |path: String| -> MakeRequest {
            let bytes = request("GET", &path, &[], b"");
            Arc::new(move |_| bytes.clone())
        };
        let bare = self.bare.addr;
        let theirs = fixed(format!("/bytes/{VALUE_BYTES}"));
        for (connections, goal) in [(1, None), (8, None), (64, Some(0.85))] {
            let name = format!("hot GET, {connections} connections, against bare hyper");
            let ours = (server.addr, fixed("/kv/large.00000500".to_owned()));
            self.compare(&name, goal, connections, ours, (bare, Arc::clone(&theirs)))
                .await?;
        }
        let entries = self.args.entries as u64;
        let random: MakeRequest = Arc::new(move |n| {
            // Multiplying by a large odd number scatters consecutive n over all entries.
            let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries;
            request("GET", &format!("/kv/large.{at:08}"), &[], b"")
        });
        let name = format!("random GET among {entries}, 64 connections, against bare hyper");
        self.compare(&name, Some(0.6), 64, (server.addr, random), (bare, theirs))
            .await?;
        let list = fixed("/kv/large?list=true&limit=100".to_owned());
        let theirs = fixed(format!("/bytes/{}", 100 * (VALUE_BYTES + 120)));
        let name = "list of 100, 8 connections, against bare hyper";
        self.compare(name, None, 8, (server.addr, list), (bare, theirs))
            .await?;
        self.report
            .figure("memory under load", server.memory_mib()?, "MiB", None);
        Ok(())
    }
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
