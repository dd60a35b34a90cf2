//! Generated operations, one after the other, on two stores and on the model.
//!
//! [`agree`] makes scripts, runs each on a fresh bed of a backend and on one of `memory`, and
//! compares every answer: with the [`Model`] exactly, between the two stores after versionstamps
//! were replaced by the places of their commits. A script that fails is shrunk to its shortest
//! form.

use std::fmt::Write as _;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::StreamExt;
use kvasir_kv::{
    AtomicWrite, Check, Clock, Committed, Entry, Error, Key, KeyRange, Meta, Mutation, Outcome,
    Part, RangeRead, RangeResult, SnapshotRead, SteadyClock, SumBounds, UnixMillis, Value,
    Versionstamp,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::conformance::Bed;
use crate::effort::Effort;
use crate::model::{Model, Refusal, Verdict, double};

/// One operation of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// [`kvasir_kv::Store::commit`].
    Commit {
        /// Keys, and which of their versions to ask for.
        checks: Vec<(Key, Version)>,
        /// What changes. Expiries are relative to the time of the step.
        mutations: Vec<Mutation>,
        /// [`AtomicWrite::report_existed`].
        report_existed: bool,
    },
    /// [`kvasir_kv::Store::read`].
    Read(SnapshotRead),
    /// [`kvasir_kv::Store::scan`].
    Scan(KeyRange, bool),
    /// [`kvasir_kv::Store::ingest`]; stamps and expiries are relative to the time of the step.
    Ingest(Vec<Entry>),
    /// [`kvasir_kv::Store::watch`], its first item.
    Watch(Vec<Key>),
    /// [`kvasir_kv::Store::sweep`] of everything that has expired.
    Sweep,
    /// Moves the clock by milliseconds, back or forth.
    MoveClock(i64),
    /// Closes the store and opens it again.
    Reopen,
}

/// Which version of a key a check asks for.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    /// The one that it has, so that the check holds.
    Present,
    /// That it is absent.
    Absent,
    /// One that was never given.
    Never,
    /// That of the last commit, whatever it wrote.
    LastCommit,
}

/// Runs generated scripts on a backend and on `memory`.
///
/// `scripts` is how many a plain run makes; see [`Effort`].
///
/// # Panics
///
/// If an answer differs; the message holds the shortest script found.
pub fn agree<A, B, F, G>(scripts: u32, backend: A, memory: B)
where
    A: Fn() -> F,
    F: Future<Output = Option<Bed>>,
    B: Fn() -> G,
    G: Future<Output = Bed>,
{
    let effort = Effort::from_env();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let config = Config {
        cases: effort.times(scripts),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&effort.seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome = TestRunner::new_with_rng(config, rng).run(&script(), |script| {
        let traces = runtime.block_on(async {
            let Some(bed) = backend().await else {
                return Ok(None);
            };
            let theirs = run(bed, &script).await?;
            let specified = run(memory().await, &script).await?;
            Ok(Some((theirs, specified)))
        });
        let Some((theirs, specified)) = traces.map_err(TestCaseError::Fail)? else {
            return Ok(());
        };
        for (step, (theirs, specified)) in theirs.iter().zip(&specified).enumerate() {
            prop_assert_eq!(theirs, specified, "step {}: {:?}", step, &script[step]);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("KVASIR_TEST_SEED={}: {error}", effort.seed);
    }
}

/// Runs a script, compares each answer with the model, and returns the answers as text.
async fn run(mut bed: Bed, script: &[Step]) -> Result<Vec<String>, proptest::test_runner::Reason> {
    let mut state = State::new(&bed);
    let mut trace = Vec::with_capacity(script.len());
    for (number, step) in script.iter().enumerate() {
        let backend = bed.store().capabilities().backend;
        let answer = state
            .step(&mut bed, step)
            .await
            .map_err(|what| format!("{backend}, step {number} {step:?}: {what}"))?;
        trace.push(state.without_stamps(answer));
    }
    // Ignored: a store that does not close shows in the tests of closing.
    let _ = bed.store().close().await;
    Ok(trace)
}

struct State {
    model: Model,
    /// What the store's clock shows, which never steps back.
    clock: SteadyClock,
    /// Versionstamps of all commits so far.
    stamps: Vec<Versionstamp>,
}

impl State {
    fn new(bed: &Bed) -> State {
        State {
            model: Model::default(),
            clock: SteadyClock::new(Arc::new(bed.clock.clone())),
            stamps: Vec::new(),
        }
    }

    /// Does one step; gives its answer as text, or how it differs from the model.
    async fn step(&mut self, bed: &mut Bed, step: &Step) -> Result<String, String> {
        let now = self.clock.now();
        match step {
            Step::Commit {
                checks,
                mutations,
                report_existed,
            } => {
                let write = self.write(checks, mutations, *report_existed, bed.clock.now());
                self.commit(bed, write, now).await
            }
            Step::Read(read) => {
                let found = bed.store().read(read.clone()).await.map_err(text)?;
                same(&found, &self.model.read(read, now))?;
                Ok(found.ranges.iter().map(show_range).collect())
            }
            Step::Scan(range, reverse) => {
                let pages: Vec<_> = bed.store().scan(range.clone(), *reverse).collect().await;
                let mut found = Vec::new();
                for page in pages {
                    found.extend(page.map_err(text)?.entries);
                }
                let mut read = RangeRead::new(range.clone(), usize::MAX);
                (read.reverse, read.bytes_max) = (*reverse, usize::MAX);
                let expected = self.model.read(&SnapshotRead::range(read), now);
                same(&found, &expected.ranges[0].entries)?;
                Ok(found.iter().map(show).collect())
            }
            Step::Ingest(entries) => {
                let entries: Vec<Entry> = entries
                    .iter()
                    .map(|entry| entry.clone().relative_to(now))
                    .collect();
                bed.store().ingest(entries.clone()).await.map_err(text)?;
                for mut entry in entries {
                    entry.meta = entry.meta.filter(|meta| !meta.is_empty());
                    self.model.put(entry);
                }
                Ok("ingested".into())
            }
            Step::Watch(keys) => {
                let mut watch = bed.store().watch(keys.clone());
                let item = watch.next().await.ok_or("the watch ended")?.map_err(text)?;
                let state = |key| self.model.live(key, now).cloned();
                same(&item, &keys.iter().map(state).collect::<Vec<_>>())?;
                Ok(item.iter().flatten().map(show).collect())
            }
            Step::Sweep => {
                let limit = NonZeroU32::new(10_000).expect("not zero");
                let removed = bed.store().sweep(now, limit).await.map_err(text)?;
                same(&(removed as usize), &self.model.expired(now))?;
                self.model.sweep(now);
                Ok(format!("swept {removed}"))
            }
            Step::MoveClock(ms) => {
                bed.clock.set(UnixMillis(bed.clock.now().0 + ms));
                self.look(bed).await?;
                Ok("moved".into())
            }
            Step::Reopen => {
                // A store that was closed knows nothing of a step before, and memory cannot be.
                bed.clock.set(now);
                self.look(bed).await?;
                bed.reopen().await;
                Ok("reopened".into())
            }
        }
    }

    /// Lets the store and the model see the time together, so that they bridge the same steps.
    async fn look(&self, bed: &Bed) -> Result<(), String> {
        let anything = SnapshotRead::keys([Key::from_strings(["clock"])]);
        bed.store().read(anything).await.map_err(text)?;
        self.clock.now();
        Ok(())
    }

    fn write(
        &self,
        checks: &[(Key, Version)],
        mutations: &[Mutation],
        report_existed: bool,
        time_of_day: UnixMillis,
    ) -> AtomicWrite {
        let now = self.clock.now();
        let check = |(key, version): &(Key, Version)| Check {
            key: key.clone(),
            versionstamp: match version {
                Version::Present => self.model.live(key, now).map(|entry| entry.versionstamp),
                Version::Absent => None,
                Version::Never => Some(Versionstamp::new(1, 1)),
                Version::LastCommit => self.stamps.last().copied(),
            },
        };
        let mutations = mutations.iter().cloned().map(|mut mutation| {
            if let Mutation::Set { expires_at, .. }
            | Mutation::SetVersionstamped { expires_at, .. } = &mut mutation
            {
                *expires_at = expires_at.map(|at| UnixMillis(time_of_day.0 + at.0));
            }
            mutation
        });
        AtomicWrite {
            checks: checks.iter().map(check).collect(),
            mutations: mutations.collect(),
            report_existed,
        }
    }

    async fn commit(
        &mut self,
        bed: &Bed,
        write: AtomicWrite,
        now: UnixMillis,
    ) -> Result<String, String> {
        let answer = bed.store().commit(write.clone()).await;
        let write = write.timed_by(&self.clock);
        match answer {
            Ok(Outcome::Committed(Committed {
                versionstamp,
                existed,
            })) => {
                if self.stamps.last() >= Some(&versionstamp) {
                    return Err(format!(
                        "{versionstamp} is not above {:?}",
                        self.stamps.last()
                    ));
                }
                self.stamps.push(versionstamp);
                match self.model.commit(&write, versionstamp, now) {
                    Verdict::Commit {
                        existed: expected, ..
                    } => same(&existed, &expected)?,
                    other => return Err(format!("committed, but the model says {other:?}")),
                }
                Ok(format!("committed {existed:?}"))
            }
            Ok(Outcome::Conflict { failed }) => {
                let expected = self.model.judge(&write, Versionstamp::ZERO, now);
                same(
                    &Verdict::Conflict {
                        failed: failed.clone(),
                    },
                    &expected,
                )?;
                Ok(format!("conflict {failed:?}"))
            }
            Err(error) => {
                let refusal = Refusal::of(&error).ok_or_else(|| text(error.clone()))?;
                let expected = self.model.judge(&write, Versionstamp::ZERO, now);
                same(&Verdict::Refused(refusal), &expected)?;
                // The words are part of the specification: clients see them.
                Ok(error.to_string())
            }
        }
    }

    /// The text with versionstamps replaced by the places of their commits.
    fn without_stamps(&self, mut text: String) -> String {
        for (place, stamp) in self.stamps.iter().enumerate() {
            // A key that is no tuple is shown in hexadecimal, the digits of its stamp too.
            let digits = stamp.to_string();
            let twice = data_encoding::HEXLOWER.encode(digits.as_bytes());
            for shown in [digits, twice] {
                if text.contains(&shown) {
                    text = text.replace(&shown, &format!("#{place}"));
                }
            }
        }
        text
    }
}

trait RelativeTo {
    fn relative_to(self, now: UnixMillis) -> Self;
}

impl RelativeTo for Entry {
    /// An entry whose stamp is this many microseconds before `now`, and whose expiry so many
    /// milliseconds behind.
    fn relative_to(mut self, now: UnixMillis) -> Entry {
        let now_micros = u64::try_from(now.0).expect("after 1970") * 1000;
        let micros = now_micros.saturating_sub(self.versionstamp.micros());
        self.versionstamp = Versionstamp::new(micros, self.versionstamp.order());
        self.expires_at = self.expires_at.map(|at| UnixMillis(now.0 + at.0));
        self
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("found {found:?}, the model says {expected:?}"))
}

fn text(error: Error) -> String {
    format!("{error:?}")
}

fn show_range(range: &RangeResult) -> String {
    let entries: String = range.entries.iter().map(show).collect();
    format!("[{entries}] cut: {}\n", range.cut_by_bytes)
}

fn show(entry: &Entry) -> String {
    let mut out = String::new();
    write!(
        out,
        "{:?}={}:{} @{} until {:?} {:?}; ",
        entry.key,
        entry.value.encoding.name(),
        entry.value.bytes.escape_ascii(),
        entry.versionstamp,
        entry.expires_at,
        entry.meta
    )
    .expect("strings take everything");
    out
}

/// Scripts of up to 60 steps.
pub fn script() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..60)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (vec((key(), version()), 0..3), vec(mutation(), 0..5), any::<bool>()).prop_map(
            |(checks, mutations, report_existed)| Step::Commit { checks, mutations, report_existed }
        ),
        6 => vec(range_read(), 0..4).prop_map(|ranges| Step::Read(SnapshotRead { ranges })),
        2 => (range(), any::<bool>()).prop_map(|(range, reverse)| Step::Scan(range, reverse)),
        1 => vec(entry(), 0..4).prop_map(Step::Ingest),
        1 => vec(key(), 0..4).prop_map(Step::Watch),
        2 => Just(Step::Sweep),
        3 => prop_oneof![0..30_000i64, -30_000..0i64, Just(86_400_000), Just(-86_400_000)]
            .prop_map(Step::MoveClock),
        1 => Just(Step::Reopen),
    ]
}

/// Few keys, so that operations meet, near each other in every way that keys can be.
fn key() -> impl Strategy<Value = Key> {
    let keys: Vec<Key> = [
        vec![Part::from("a")],
        vec![Part::from("a"), Part::from("b")],
        vec![Part::from("a\0")],
        vec![Part::from("b")],
        vec![Part::from("b"), Part::Number(1.0)],
        vec![Part::from("b"), Part::Number(-0.0)],
        vec![Part::from("b"), Part::BigInt(1.into())],
        vec![Part::Bytes(vec![0xff].into())],
        vec![Part::Bool(true)],
    ]
    .iter()
    .map(|parts| Key::from_parts(parts))
    .chain([Key::new(vec![0]), Key::new(vec![0xff, 0xff])])
    .collect();
    proptest::sample::select(keys)
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![
        4 => Just(Version::Present),
        2 => Just(Version::Absent),
        1 => Just(Version::Never),
        1 => Just(Version::LastCommit),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => number(),
        2 => "[a-z]{0,8}".prop_map(|text| Value::json(format!("{text:?}"))),
        1 => vec(any::<u8>(), 0..40).prop_map(Value::bytes),
        1 => (0..60_000usize).prop_map(|bytes| Value::bytes(vec![7; bytes])),
    ]
}

/// Numbers that the model knows; doubles are integers so that sums are exact.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1_000i64..1_000).prop_map(|number| Value::json(number.to_string())),
        prop_oneof![0..10u64, Just(u64::MAX), Just(u64::MAX - 3)].prop_map(Value::u64),
        (-1_000i64..1_000).prop_map(|number| double(number as f64)),
    ]
}

fn bounds() -> impl Strategy<Value = SumBounds> {
    let bound = || proptest::option::of((-500i64..500).prop_map(|n| double(n as f64).bytes));
    prop_oneof![
        3 => Just(SumBounds::default()),
        1 => (bound(), bound(), any::<bool>())
            .prop_filter("a range", |(min, max, _)| min.is_none() || max.is_none())
            .prop_map(|(min, max, clamp)| SumBounds { min, max, clamp }),
    ]
}

/// In milliseconds relative to the step.
fn expires_at() -> impl Strategy<Value = Option<UnixMillis>> {
    prop_oneof![
        3 => Just(None),
        2 => (-10i64..20_000).prop_map(|ms| Some(UnixMillis(ms))),
    ]
}

fn meta() -> impl Strategy<Value = Option<Meta>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Meta::default())),
        1 => "[a-z/]{1,9}".prop_map(|text| Some(Meta { content_type: Some(text), ..Meta::default() })),
        1 => vec(any::<u8>(), 0..9).prop_map(|extra| Some(Meta {
            extra: Some(extra.into()),
            created_at: Some(UnixMillis(77)),
            ..Meta::default()
        })),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let set = (key(), value(), expires_at(), meta(), any::<bool>()).prop_map(
        |(key, value, expires_at, meta, keep_created)| Mutation::Set {
            key,
            value,
            expires_at,
            meta,
            keep_created,
        },
    );
    let versionstamped = (
        key(),
        prop_oneof![Just(Key::default()), key()],
        value(),
        expires_at(),
    )
        .prop_map(
            |(prefix, suffix, value, expires_at)| Mutation::SetVersionstamped {
                prefix,
                suffix,
                value,
                expires_at,
            },
        );
    prop_oneof![
        6 => set,
        1 => versionstamped,
        3 => key().prop_map(Mutation::delete),
        3 => (key(), number(), bounds())
            .prop_map(|(key, operand, bounds)| Mutation::Sum { key, operand, bounds }),
        1 => (key(), value()).prop_map(|(key, operand)| Mutation::Min { key, operand }),
        1 => (key(), number()).prop_map(|(key, operand)| Mutation::Max { key, operand }),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        2 => Just(KeyRange::starting_with(&Key::default())),
        2 => (key(), key()).prop_map(|(start, end)| KeyRange::new(start, end)),
        1 => key().prop_map(|key| KeyRange::below(&key)),
        1 => key().prop_map(KeyRange::single),
    ]
}

fn range_read() -> impl Strategy<Value = RangeRead> {
    let limit = prop_oneof![Just(0usize), 1..4usize, Just(usize::MAX)];
    let bytes_max = prop_oneof![Just(usize::MAX), 0..200usize];
    (range(), limit, bytes_max, any::<bool>()).prop_map(|(range, limit, bytes_max, reverse)| {
        RangeRead {
            range,
            limit,
            bytes_max,
            reverse,
        }
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (
        key(),
        value(),
        0..9_000_000u64,
        any::<u16>(),
        expires_at(),
        meta(),
    )
        .prop_map(|(key, value, age_micros, order, expires_at, meta)| Entry {
            key,
            value,
            versionstamp: Versionstamp::new(age_micros, order),
            expires_at,
            meta: meta.map(Arc::new),
        })
}
