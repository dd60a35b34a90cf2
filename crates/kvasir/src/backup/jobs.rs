//! Longer work with an id: how far it is, how it ended, and how to stop it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use kvasir_api::backups::{Job, JobKind, JobState};
use kvasir_api::time::rfc3339;
use kvasir_kv::UnixMillis;

use super::{Cancelled, Control, source};

/// Jobs that are remembered.
const KEPT_MAX: usize = 100;

/// The jobs of this process.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    jobs: VecDeque<(Job, Arc<Control>)>,
    begun: u64,
}

/// How a job ended well: the backup it was about, a sentence, and what should be known.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) backup: String,
    pub(super) detail: String,
    pub(super) warning: Option<String>,
}

impl Jobs {
    /// A job that begins.
    pub(super) fn begin(
        &self,
        kind: JobKind,
        backup: Option<String>,
        now: UnixMillis,
    ) -> (Job, Arc<Control>) {
        let mut held = self.lock();
        held.begun += 1;
        let job = Job {
            // Ids of an earlier process never come again.
            id: format!("{:x}-{}", now.0, held.begun),
            kind,
            state: JobState::Running,
            backup,
            started_at: rfc3339(now),
            ended_at: None,
            entries: 0,
            bytes: 0,
            detail: String::new(),
            damaged: false,
            warning: None,
        };
        let control = Arc::new(Control::default());
        held.jobs.push_front((job.clone(), Arc::clone(&control)));
        held.jobs.truncate(KEPT_MAX);
        (job, control)
    }

    /// The job ended.
    pub(super) fn end(&self, id: &str, result: &anyhow::Result<Finished>, now: UnixMillis) {
        let mut held = self.lock();
        let Some((job, control)) = held.jobs.iter_mut().find(|(job, _)| job.id == id) else {
            return;
        };
        (job.entries, job.bytes) = control.progress();
        job.ended_at = Some(rfc3339(now));
        match result {
            Ok(finished) => {
                job.state = JobState::Done;
                job.backup = Some(finished.backup.clone());
                job.detail.clone_from(&finished.detail);
                job.warning.clone_from(&finished.warning);
            }
            Err(error) => {
                let is_cancelled = error.chain().any(|cause| cause.is::<Cancelled>());
                job.state = match is_cancelled {
                    true => JobState::Cancelled,
                    false => JobState::Failed,
                };
                job.detail = format!("{error:#}");
                job.damaged = source::is_damage(error);
            }
        }
    }

    /// All, the newest first.
    pub(super) fn all(&self) -> Vec<Job> {
        let held = self.lock();
        held.jobs.iter().map(shown).collect()
    }

    /// One.
    pub(super) fn find(&self, id: &str) -> Option<Job> {
        let held = self.lock();
        held.jobs.iter().find(|(job, _)| job.id == id).map(shown)
    }

    /// Asks one to stop, and says whether it runs.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let held = self.lock();
        let running = held
            .jobs
            .iter()
            .find(|(job, _)| job.id == id && job.state == JobState::Running);
        if let Some((_, control)) = running {
            control.cancel();
        }
        running.is_some()
    }

    /// Asks all to stop.
    pub(super) fn cancel_all(&self) {
        for (_, control) in &self.lock().jobs {
            control.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().expect("no panic while held")
    }
}

fn shown((job, control): &(Job, Arc<Control>)) -> Job {
    let mut job = job.clone();
    if job.state == JobState::Running {
        (job.entries, job.bytes) = control.progress();
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_jobs_are_remembered() {
        let jobs = Jobs::default();
        let (first, _) = jobs.begin(JobKind::Verify, None, UnixMillis(5));
        for _ in 1..KEPT_MAX {
            jobs.begin(JobKind::Verify, None, UnixMillis(5));
        }
        assert!(jobs.find(&first.id).is_some());
        let (last, _) = jobs.begin(JobKind::Verify, None, UnixMillis(5));
        assert!(jobs.find(&first.id).is_none());
        assert_eq!(jobs.all().len(), KEPT_MAX);
        assert_eq!(jobs.all()[0].id, last.id);
    }

    #[test]
    fn a_job_tells_how_far_it_is_and_how_it_ended() {
        let jobs = Jobs::default();
        let (job, control) = jobs.begin(JobKind::Backup, None, UnixMillis(5));
        control.tell(3, 40).unwrap();
        let seen = jobs.find(&job.id).unwrap();
        assert_eq!(
            (seen.state, seen.entries, seen.bytes),
            (JobState::Running, 3, 40)
        );
        assert!(jobs.cancel(&job.id));
        let stopped = control.tell(4, 50).unwrap_err();
        jobs.end(&job.id, &Err(stopped.into()), UnixMillis(6));
        assert_eq!(jobs.find(&job.id).unwrap().state, JobState::Cancelled);
        assert!(!jobs.cancel(&job.id), "it ended");
    }
}
