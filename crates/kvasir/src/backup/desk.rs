//! Does what the admin API asks: one job at a time, on a thread of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use age::x25519;
use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::StatusCode;
use kvasir_api::ApiError;
use kvasir_api::backups::{
    BackupInfo, BackupList, Backups, Drill, Job, JobKind, LeftOut, NewBackup, NewDrill,
    NewSchedule, Prune, Pruned, Schedule,
};
use kvasir_api::time::rfc3339;
use kvasir_kv::{Clock, Keyspace, KeyspaceName, Store, UnixMillis};
use kvasir_store::{FatalHook, OpenOptions};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::jobs::{Finished, Jobs};
use super::metrics::BackupMetrics;
use super::name::Name;
use super::records::{Record, Records};
use super::schedule::Plan;
use super::take::{self, Take, Taken};
use super::target::{Found, Target};
use super::{Control, drill, prune, restore, source};
use crate::config::backup::BackupSettings;

/// How often the age of the newest backup is told to the metrics, in milliseconds.
const TELL_AGE_MS: i64 = 15_000;

/// The desk. Cloning is cheap.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    target: Target,
    /// Where rehearsals have their scratch space.
    data: PathBuf,
    records: Records,
    recipients: Vec<x25519::Recipient>,
    identities: Vec<x25519::Identity>,
    rules: prune::Rules,
    drill_plan: Mutex<Plan>,
    clock: Arc<dyn Clock>,
    limits: kvasir_kv::Limits,
    metrics: BackupMetrics,
    jobs: Jobs,
    /// One job at a time.
    place: Arc<Semaphore>,
    memory: Mutex<Memory>,
    /// Told when the schedule was changed.
    changed: Notify,
    /// What is served from other stores than the one that is backed up.
    left_out: OnceLock<Vec<LeftOut>>,
}

#[derive(Default)]
struct Memory {
    plan: Plan,
    last_drill: Option<Drill>,
    newest: Option<(UnixMillis, u64)>,
}

/// What a desk needs beside its settings.
pub struct Parts {
    /// The store that is backed up, with its system keyspace.
    pub store: Arc<dyn Store>,
    /// The data folder.
    pub data: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Limits of the store.
    pub limits: kvasir_kv::Limits,
    /// What is counted.
    pub metrics: BackupMetrics,
}

impl Desk {
    /// A desk by these settings.
    ///
    /// # Errors
    ///
    /// Names the setting that makes no sense.
    pub fn new(settings: &BackupSettings, parts: Parts) -> anyhow::Result<Desk> {
        let identities = match &settings.identity_file {
            None => Vec::new(),
            Some(file) => source::identities(file).context("backup.identity_file")?,
        };
        let plan = Plan::parse(&settings.schedule).context("backup.schedule")?;
        let drill_plan = Plan::parse(&settings.drill_schedule).context("backup.drill_schedule")?;
        let system = Keyspace::new(Arc::clone(&parts.store), KeyspaceName::system());
        Ok(Desk(Arc::new(Inner {
            target: Target::new(settings, &parts.data)?,
            data: parts.data,
            records: Records::new(system),
            store: parts.store,
            recipients: take::recipients(&settings.recipients).context("backup.recipients")?,
            identities,
            rules: prune::Rules {
                count: settings.keep_count,
                days: settings.keep_days,
                bytes: settings.keep_bytes,
            },
            drill_plan: Mutex::new(drill_plan),
            clock: parts.clock,
            limits: parts.limits,
            metrics: parts.metrics,
            jobs: Jobs::default(),
            place: Arc::new(Semaphore::new(1)),
            memory: Mutex::new(Memory {
                plan,
                ..Memory::default()
            }),
            changed: Notify::new(),
            left_out: OnceLock::new(),
        })))
    }

    /// These mounts have stores of their own, which backups do not hold. Said once, when the mounts
    /// are known; everybody who takes or lists backups is told.
    pub fn leave_out(&self, mounts: Vec<LeftOut>) {
        // The first word counts: there is one set of mounts.
        let _ = self.0.left_out.set(mounts);
    }

    /// Whether the schedules of these settings are ones.
    ///
    /// # Errors
    ///
    /// Names the setting that makes no sense.
    pub fn check_schedules(settings: &BackupSettings) -> anyhow::Result<()> {
        Plan::parse(&settings.schedule).context("backup.schedule")?;
        Plan::parse(&settings.drill_schedule).context("backup.drill_schedule")?;
        Ok(())
    }

    /// Follows the schedules of these settings from now on.
    ///
    /// # Errors
    ///
    /// As [`Desk::check_schedules`]; nothing is changed then.
    pub fn reschedule(&self, settings: &BackupSettings) -> anyhow::Result<()> {
        let plan = Plan::parse(&settings.schedule).context("backup.schedule")?;
        let drill = Plan::parse(&settings.drill_schedule).context("backup.drill_schedule")?;
        self.0.memory().plan = plan;
        *self.0.drill_plan.lock().expect("no panic while held") = drill;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes backups and rehearses restores by the schedule, until `shutdown`.
    pub async fn background(self, shutdown: CancellationToken) {
        let desk = &self.0;
        let work = async {
            desk.begin().await;
            desk.follow_schedule().await;
        };
        shutdown.run_until_cancelled(work).await;
        desk.jobs.cancel_all();
    }
}

impl Inner {
    /// Learns what was set and what is there.
    async fn begin(&self) {
        if let Ok(Some(cron)) = self.records.schedule().await
            && let Ok(plan) = Plan::parse(&cron)
        {
            self.memory().plan = plan;
        }
        match self.target.list().await {
            Ok(found) => self.note_newest(&found),
            Err(error) => tracing::warn!("the backups cannot be listed: {error:#}"),
        }
    }

    fn drill_plan(&self) -> Plan {
        self.drill_plan.lock().expect("no panic while held").clone()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic while held")
    }

    fn note_newest(&self, found: &[Found]) {
        let newest = found.first().map(|one| (one.name.at(), one.bytes));
        self.memory().newest = newest;
        self.metrics.newest(newest, self.clock.now());
    }

    async fn follow_schedule(self: &Arc<Self>) {
        let mut since = self.clock.now();
        loop {
            let plan = self.memory().plan.clone();
            let next_backup = plan.next(since);
            let next_drill = self.drill_plan().next(since);
            let next = [next_backup, next_drill].into_iter().flatten().min();
            let now = self.clock.now();
            self.metrics.newest(self.memory().newest, now);
            if let Some(due) = next.filter(|due| *due <= now) {
                since = due;
                if next_backup == Some(due) {
                    self.scheduled_backup().await;
                }
                if next_drill == Some(due) {
                    self.scheduled_drill().await;
                }
                // What fell due meanwhile is done once, not once for each time.
                let late = self.clock.now();
                since = since.max(UnixMillis(late.0.saturating_sub(60_000)));
                continue;
            }
            let tell = UnixMillis(now.0.saturating_add(TELL_AGE_MS));
            let wake = next.map_or(tell, |due| due.min(tell));
            tokio::select! {
                () = self.clock.sleep_until(wake) => {}
                () = self.changed.notified() => since = self.clock.now(),
            }
        }
    }

    async fn scheduled_backup(self: &Arc<Self>) {
        let begun = self.begin_backup(NewBackup {
            comment: "by schedule".to_owned(),
            skip_verify: false,
        });
        let ended = match begun {
            Ok((_, work)) => work.await.unwrap_or_else(|panic| Err(panic.into())),
            Err(error) => Err(anyhow::anyhow!("{}", error.detail())),
        };
        match ended {
            Ok(_) => match self.prune_by(self.rules, false).await {
                Ok(pruned) if !pruned.removed.is_empty() => {
                    tracing::info!(removed = pruned.removed.len(), "old backups were removed");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("old backups cannot be removed: {error:#}"),
            },
            Err(error) => tracing::error!("the scheduled backup failed: {error:#}"),
        }
    }

    async fn scheduled_drill(self: &Arc<Self>) {
        let ended = match self.begin_drill(None).await {
            Ok((_, work)) => work.await.unwrap_or_else(|panic| Err(panic.into())),
            Err(error) => Err(anyhow::anyhow!("{}", error.detail())),
        };
        if let Err(error) = ended {
            tracing::error!("the rehearsal of a restore failed: {error:#}");
        }
    }

    /// Starts a job on a thread of its own.
    fn start(
        self: &Arc<Self>,
        kind: JobKind,
        backup: Option<String>,
        work: impl FnOnce(&Inner, &Control, &Handle) -> anyhow::Result<Finished> + Send + 'static,
    ) -> Result<(Job, JoinHandle<anyhow::Result<()>>), ApiError> {
        let place = Arc::clone(&self.place).try_acquire_owned().map_err(|_| {
            let sentence = "another job is at work: wait for it, or stop it";
            ApiError::new(StatusCode::CONFLICT, "job_running", sentence)
        })?;
        let (job, control) = self.jobs.begin(kind, backup, self.clock.now());
        let (desk, id, runtime) = (Arc::clone(self), job.id.clone(), Handle::current());
        let work = tokio::task::spawn_blocking(move || {
            let result = work(&desk, &control, &runtime);
            // Before the end is seen, so that whoever sees it can begin the next one.
            drop(place);
            desk.jobs.end(&id, &result, desk.clock.now());
            if let Err(error) = &result {
                desk.metrics.failed.inc();
                tracing::warn!(job = %id, "a job failed: {error:#}");
            }
            result.map(drop)
        });
        Ok((job, work))
    }

    fn begin_backup(
        self: &Arc<Self>,
        new: NewBackup,
    ) -> Result<(Job, JoinHandle<anyhow::Result<()>>), ApiError> {
        self.start(JobKind::Backup, None, move |desk, control, runtime| {
            desk.take(new, control, runtime)
        })
    }

    async fn begin_drill(
        self: &Arc<Self>,
        name: Option<String>,
    ) -> Result<(Job, JoinHandle<anyhow::Result<()>>), ApiError> {
        let found = self.find(name.as_deref()).await?;
        let shown = Some(found.name.as_str().to_owned());
        self.start(JobKind::Drill, shown, move |desk, control, runtime| {
            desk.drill(&found, control, runtime)
        })
    }

    fn left_out(&self) -> &[LeftOut] {
        self.left_out.get().map_or(&[], Vec::as_slice)
    }

    /// What backups lack, if they lack something.
    fn warning(&self) -> Option<String> {
        let [first, rest @ ..] = self.left_out() else {
            return None;
        };
        let shown = |one: &LeftOut| format!("{} ({})", one.mount, one.backend);
        let all = rest
            .iter()
            .fold(shown(first), |all, one| all + ", " + &shown(one));
        Some(format!(
            "not in the backup: mounts with a store of their own: {all}; back these stores up with \
             their databases' own tools"
        ))
    }

    fn take(
        &self,
        new: NewBackup,
        control: &Control,
        runtime: &Handle,
    ) -> anyhow::Result<Finished> {
        let take = Take {
            store: &self.store,
            target: &self.target,
            recipients: &self.recipients,
            comment: new.comment,
            clock: &*self.clock,
            runtime: runtime.clone(),
        };
        let taken = take.run(control)?;
        self.metrics.taken.inc();
        let Taken {
            found,
            summary,
            file_hash,
        } = &taken;
        let record = Record {
            entries: Some(summary.content.entries()),
            content_hash: Some(summary.content.text()),
            file_hash: Some(file_hash.clone()),
            ..Record::default()
        };
        runtime.block_on(self.records.set(&found.name, &record))?;
        let newest = Some((found.name.at(), found.bytes));
        self.memory().newest = newest;
        self.metrics.newest(newest, self.clock.now());
        if !new.skip_verify {
            self.check(found, control, runtime)?;
        }
        let entries = summary.content.entries();
        let warning = self.warning();
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        Ok(Finished {
            warning,
            backup: found.name.as_str().to_owned(),
            detail: format!(
                "{entries} entries up to {}, {} bytes, content hash {}{}",
                summary.versionstamp,
                found.bytes,
                summary.content.text(),
                if new.skip_verify {
                    ""
                } else {
                    ", read again and whole"
                },
            ),
        })
    }

    /// Reads a backup to its end and keeps what was found.
    fn check(&self, found: &Found, control: &Control, runtime: &Handle) -> anyhow::Result<String> {
        let mut record = runtime.block_on(self.records.of(&found.name))?;
        let is_sealed = found.name.is_encrypted() && self.identities.is_empty();
        let checked = match (&record.file_hash, is_sealed) {
            // Without the private key it can be seen that it is the file that was written.
            (Some(expected), true) => source::file_hash(&self.target, found, control, runtime)
                .and_then(|hash| match hash == *expected {
                    true => Ok(None),
                    false => Err(kvasir_store::container::ContainerError::Damaged {
                        offset: 0,
                        what: "it is not the file that was written".to_owned(),
                    }
                    .into()),
                }),
            _ => self
                .target
                .open(found, runtime)
                .and_then(|input| source::open(input, &self.identities))
                .and_then(|source| source::verify(source, control))
                .map(Some),
        };
        let detail = match &checked {
            Ok(summary) => {
                record.verified(summary.as_ref(), self.clock.now());
                match summary {
                    Some(summary) => format!(
                        "whole: {} entries ({} of them expire) up to {}, content hash {}, {} old",
                        summary.content.entries(),
                        summary.content.expiring,
                        summary.versionstamp,
                        summary.content.text(),
                        self.age(found),
                    ),
                    None => format!(
                        "the file is the one that was written; without the private key its entries \
                         were not read; {} old",
                        self.age(found)
                    ),
                }
            }
            Err(error) if source::is_damage(error) => {
                record.damage = Some(format!("{error:#}"));
                record.verified_at_ms = None;
                String::new()
            }
            Err(_) => return checked.map(|_| String::new()),
        };
        runtime.block_on(self.records.set(&found.name, &record))?;
        checked.map(|_| detail)
    }

    /// How long ago it was begun, for people.
    fn age(&self, found: &Found) -> humantime::FormattedDuration {
        let ms = self.clock.now().0.saturating_sub(found.name.at().0);
        let seconds = ms.max(0).unsigned_abs() / 1_000;
        humantime::format_duration(Duration::from_secs(seconds))
    }

    fn drill(
        &self,
        found: &Found,
        control: &Control,
        runtime: &Handle,
    ) -> anyhow::Result<Finished> {
        let begun = self.clock.now();
        let done = self.rehearse(found, control, runtime);
        let now = self.clock.now();
        let duration_ms = now.0.saturating_sub(begun.0).max(0);
        self.metrics.drilled(done.is_ok(), duration_ms, now);
        let detail = match &done {
            Ok(finding) => format!(
                "{} entries were restored with content hash {}; the {} live entries that did not \
                 change since are the same",
                finding.entries, finding.content_hash, finding.compared
            ),
            Err(error) => format!("{error:#}"),
        };
        self.memory().last_drill = Some(Drill {
            backup: found.name.as_str().to_owned(),
            at: rfc3339(now),
            duration_ms: duration_ms.unsigned_abs(),
            ok: done.is_ok(),
            detail: detail.clone(),
            entries: done.as_ref().map_or(0, |finding| finding.entries),
        });
        done.map(|_| Finished {
            backup: found.name.as_str().to_owned(),
            detail,
            warning: self.warning(),
        })
    }

    fn rehearse(
        &self,
        found: &Found,
        control: &Control,
        runtime: &Handle,
    ) -> anyhow::Result<drill::Finding> {
        let source = source::open(self.target.open(found, runtime)?, &self.identities)?;
        let scratch = self.data.join(".drill");
        // Of a rehearsal that was killed.
        remove_if_there(&scratch)?;
        let options = OpenOptions {
            clock: Arc::clone(&self.clock),
            limits: self.limits,
            embedded: restore::frugal(),
            sweeper: false,
            fatal: FatalHook::exit(),
            ..OpenOptions::default()
        };
        let (live, clock) = (&self.store, &*self.clock);
        let done = drill::run(source, live, &scratch, options, clock, control, runtime);
        let removed = remove_if_there(&scratch);
        let finding = done?;
        removed?;
        Ok(finding)
    }

    /// The backup of this name, or the newest.
    async fn find(&self, name: Option<&str>) -> Result<Found, ApiError> {
        let found = self.target.list().await.map_err(away)?;
        let wanted = match name {
            None => found.into_iter().next(),
            Some(name) => found.into_iter().find(|one| one.name.as_str() == name),
        };
        wanted.ok_or_else(|| ApiError::not_found("no such backup"))
    }

    async fn prune_by(&self, rules: prune::Rules, dry_run: bool) -> anyhow::Result<Pruned> {
        let found = self.target.list().await?;
        let mut verified = std::collections::HashSet::new();
        for one in &found {
            if self.records.of(&one.name).await?.verified_at_ms.is_some() {
                verified.insert(one.name.clone());
            }
        }
        let is_verified = |name: &Name| verified.contains(name);
        let gone = prune::dispensable(&found, rules, self.clock.now(), is_verified);
        let mut pruned = Pruned {
            dry_run,
            ..Pruned::default()
        };
        for one in &found {
            let name = one.name.as_str().to_owned();
            if !gone.contains(&one.name) {
                pruned.kept.push(name);
                continue;
            }
            if !dry_run {
                self.target.remove(&one.name).await?;
                self.records.forget(&one.name).await?;
            }
            pruned.removed.push(name);
        }
        Ok(pruned)
    }

    fn schedule(&self) -> Schedule {
        let now = self.clock.now();
        let memory = self.memory();
        let of = |plan: &Plan| {
            let next = plan.next(now).map(rfc3339);
            (plan.text().map(str::to_owned), next)
        };
        let ((cron, next_at), (drill_cron, next_drill_at)) =
            (of(&memory.plan), of(&self.drill_plan()));
        Schedule {
            cron,
            next_at,
            drill_cron,
            next_drill_at,
            keep_count: self.rules.count,
            keep_days: self.rules.days,
            keep_bytes: self.rules.bytes,
        }
    }

    async fn info(&self, found: &Found) -> Result<BackupInfo, ApiError> {
        let record = self.records.of(&found.name).await?;
        Ok(BackupInfo {
            name: found.name.as_str().to_owned(),
            created_at: rfc3339(found.name.at()),
            versionstamp: found.name.versionstamp().to_string(),
            bytes: found.bytes,
            encrypted: found.name.is_encrypted(),
            entries: record.entries,
            content_hash: record.content_hash,
            verified_at: record.verified_at_ms.map(|at| rfc3339(UnixMillis(at))),
            damage: record.damage,
        })
    }
}

fn remove_if_there(folder: &std::path::Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The target does not answer. The sentence is for an administrator, who set it.
fn away(error: anyhow::Error) -> ApiError {
    ApiError::unavailable(format!("the target of backups: {error:#}"))
}

#[async_trait]
impl Backups for Desk {
    async fn list(&self) -> Result<BackupList, ApiError> {
        let desk = &self.0;
        let found = desk.target.list().await.map_err(away)?;
        desk.note_newest(&found);
        let mut backups = Vec::with_capacity(found.len());
        for one in &found {
            backups.push(desk.info(one).await?);
        }
        let age_ms = found
            .first()
            .map(|newest| desk.clock.now().0.saturating_sub(newest.name.at().0));
        Ok(BackupList {
            target: desk.target.shown(),
            backups,
            age_seconds: age_ms.map(|ms| ms.max(0).unsigned_abs() / 1000),
            schedule: desk.schedule(),
            last_drill: desk.memory().last_drill.clone(),
            left_out: desk.left_out().to_vec(),
        })
    }

    async fn create(&self, new: NewBackup) -> Result<Job, ApiError> {
        Ok(self.0.begin_backup(new)?.0)
    }

    async fn verify(&self, name: &str) -> Result<Job, ApiError> {
        let found = self.0.find(Some(name)).await?;
        let shown = Some(found.name.as_str().to_owned());
        let begun = self
            .0
            .start(JobKind::Verify, shown, move |desk, control, runtime| {
                let detail = desk.check(&found, control, runtime)?;
                Ok(Finished {
                    backup: found.name.as_str().to_owned(),
                    detail,
                    warning: None,
                })
            });
        Ok(begun?.0)
    }

    async fn drill(&self, new: NewDrill) -> Result<Job, ApiError> {
        Ok(self.0.begin_drill(new.name).await?.0)
    }

    async fn prune(&self, rules: Prune) -> Result<Pruned, ApiError> {
        let configured = self.0.rules;
        let asked = prune::Rules {
            count: rules.keep_count.unwrap_or(configured.count),
            days: rules.keep_days.unwrap_or(configured.days),
            bytes: rules.keep_bytes.unwrap_or(configured.bytes),
        };
        self.0.prune_by(asked, rules.dry_run).await.map_err(away)
    }

    async fn set_schedule(&self, new: NewSchedule) -> Result<Schedule, ApiError> {
        let plan = Plan::parse(&new.cron).map_err(|bad| ApiError::bad_request(bad.to_string()))?;
        self.0.records.set_schedule(new.cron.trim()).await?;
        self.0.memory().plan = plan;
        self.0.changed.notify_one();
        Ok(self.0.schedule())
    }

    async fn content(
        &self,
        name: &str,
    ) -> Result<(u64, BoxStream<'static, std::io::Result<Bytes>>), ApiError> {
        let found = self.0.find(Some(name)).await?;
        let stream = self.0.target.content(&found).await.map_err(away)?;
        Ok((found.bytes, stream))
    }

    fn jobs(&self) -> Vec<Job> {
        self.0.jobs.all()
    }

    fn job(&self, id: &str) -> Option<Job> {
        self.0.jobs.find(id)
    }

    fn cancel(&self, id: &str) -> bool {
        self.0.jobs.cancel(id)
    }
}
