//! Follows the change log and tells the hub, for commits of this process and of all others alike.
//!
//! Only one path leads to watchers, so they hear of changes in commit order whoever made them.
//! While nobody watches, nothing is asked; the position then moves on by itself, and never past a
//! moment at which somebody has begun to watch.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::fault::{Class, Fault};
use super::log::{self, Changed};
use super::session::LogRow;

/// Pause between two looks while somebody watches. A change of another process is told within it.
const POLL: Duration = Duration::from_millis(20);

/// How often the position moves on while nobody watches.
const IDLE_REFRESH: Duration = Duration::from_secs(20);

/// Log rows per query.
const ROWS: u32 = 1_000;

/// After this long without an answer rows may have been trimmed: everything counts as changed. The
/// log is kept for twice as long.
const LOST_AFTER: Duration = Duration::from_secs(5 * 60);

/// Longest one look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Runs until the store is closed.
pub(super) async fn follow(shared: Arc<Shared>) {
    let closing = shared.closing.clone();
    let mut follower = Follower {
        shared,
        answered: Instant::now(),
    };
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = follower.turn() => {}
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    /// When the log last answered.
    answered: Instant,
}

impl Follower {
    async fn turn(&mut self) {
        if !self.shared.hub.is_watched() {
            let due = self.answered + IDLE_REFRESH;
            tokio::select! {
                () = self.shared.hub.watched() => {}
                () = tokio::time::sleep_until(due) => self.skip_while_idle().await,
            }
            return;
        }
        match self.look().await {
            Ok(true) => {}
            Ok(false) => tokio::select! {
                () = self.shared.follow.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            },
            Err(fault) => {
                tracing::debug!(error = %fault, "the change log cannot be read");
                tokio::time::sleep(POLL * 5).await;
            }
        }
    }

    /// Reads on from the position. Returns whether there may be more.
    async fn look(&mut self) -> Result<bool, Fault> {
        if self.answered.elapsed() > LOST_AFTER {
            let (sequence, newest) = self.ask_position().await?;
            self.move_to(sequence);
            self.shared.hub.lost_track(newest);
        }
        let rows = self.ask_log().await?;
        self.answered = Instant::now();
        let is_full = rows.len() >= ROWS as usize;
        for row in rows {
            self.move_to(row.sequence);
            match log::decode(&row.keys) {
                Changed::Keys(keys) => {
                    let told = keys.iter().map(|(key, present)| (key, *present));
                    self.shared.hub.publish(row.newest, told);
                }
                Changed::Anything => self.shared.hub.lost_track(row.newest),
            }
        }
        Ok(is_full)
    }

    /// Moves the position on. If somebody began to watch while the database answered, the old
    /// position stays: it is the safe one.
    async fn skip_while_idle(&mut self) {
        match self.ask_position().await {
            Ok((sequence, _)) if !self.shared.hub.is_watched() => {
                self.move_to(sequence);
                self.answered = Instant::now();
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(POLL * 5).await,
        }
    }

    /// The position only ever rises; the writer moves it too while nobody watches.
    fn move_to(&self, sequence: u64) {
        self.shared.position.fetch_max(sequence, Ordering::SeqCst);
    }

    async fn ask_log(&self) -> Result<Vec<LogRow>, Fault> {
        let position = self.shared.position.load(Ordering::SeqCst);
        let mut lease = self.shared.pool.lease().await?;
        let rows = bounded(lease.session().log_after(position, ROWS)).await?;
        lease.give_back();
        Ok(rows)
    }

    async fn ask_position(&self) -> Result<(u64, kvasir_kv::Versionstamp), Fault> {
        let mut lease = self.shared.pool.lease().await?;
        let position = bounded(lease.session().position()).await?;
        lease.give_back();
        Ok(position)
    }
}

async fn bounded<T>(run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(LOOK_MAX, run).await {
        Ok(done) => done,
        Err(_) => Err(Fault::new(Class::Lost, "the change log took too long")),
    }
}
