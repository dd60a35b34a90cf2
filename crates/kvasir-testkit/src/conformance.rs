//! Every promise of [`kvasir_kv::Store`] as a test that any backend has to pass.
//!
//! A backend says how to make an empty store and stamps all cases with one line:
//!
//! ```ignore
//! kvasir_testkit::conformance_suite!(memory, crate::beds::memory);
//! ```
//!
//! where `memory` is an `async fn() -> Bed`, or `async fn() -> Option<Bed>` for a backend whose
//! server may be missing. Each case is a test of its own, named after the sentence it proves.
//!
//! What two backends could read differently belongs here, and what one backend does in its own way
//! does not.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests, only not in a test target"
)]

pub mod changes;
pub mod close;
pub mod commits;
pub mod expiry;
pub mod ingest;
pub mod limits;
pub mod numbers;
pub mod reads;
pub mod reopening;
pub mod scans;
pub mod stamps;
pub mod watches;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, ManualClock, Mutation, Outcome, RangeRead, SnapshotRead,
    Store, UnixMillis, Value, Versionstamp,
};

/// Time of day at which every bed begins.
pub const START: UnixMillis = UnixMillis(1_700_000_000_000);

type Reopen = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>> + Send + Sync>;

/// An empty store to be tested, and the clock that it goes by.
pub struct Bed {
    store: Arc<dyn Store>,
    /// The time of the store. Begins at [`START`].
    pub clock: ManualClock,
    reopen: Option<Reopen>,
    /// Folders and servers that have to live as long.
    keep: Vec<Box<dyn Any + Send>>,
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bed({})", self.store.capabilities().backend)
    }
}

impl Bed {
    /// A store that goes by a clock that stands at [`START`], without a sweeper of its own.
    pub fn new(store: Arc<dyn Store>, clock: ManualClock) -> Bed {
        Bed {
            store,
            clock,
            reopen: None,
            keep: Vec::new(),
        }
    }

    /// Says how to open the same data again after it was closed.
    #[must_use]
    pub fn reopening<F>(mut self, reopen: impl Fn() -> F + Send + Sync + 'static) -> Bed
    where
        F: Future<Output = Arc<dyn Store>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Keeps something alive as long as the bed, such as a temporary folder.
    #[must_use]
    pub fn keeping(mut self, thing: impl Any + Send) -> Bed {
        self.keep.push(Box::new(thing));
        self
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Closes the store and opens it again; false if this backend keeps nothing.
    ///
    /// # Panics
    ///
    /// If the store does not close cleanly.
    pub async fn reopen(&mut self) -> bool {
        let Some(reopen) = &self.reopen else {
            assert!(
                !self.store.capabilities().durable,
                "a durable bed can reopen"
            );
            return false;
        };
        self.store.close().await.expect("the store closes cleanly");
        self.store = reopen().await;
        true
    }

    /// Commits and returns the versionstamp.
    async fn commit(&self, write: AtomicWrite) -> Versionstamp {
        match self.store.commit(write).await.expect("the write is legal") {
            Outcome::Committed(committed) => committed.versionstamp,
            Outcome::Conflict { failed } => panic!("checks {failed:?} failed"),
        }
    }

    async fn apply(&self, mutation: Mutation) -> Versionstamp {
        self.commit(AtomicWrite::new().push(mutation)).await
    }

    async fn set(&self, name: &str, value: &str) -> Versionstamp {
        self.apply(Mutation::set(key(name), json(value))).await
    }

    async fn set_until(&self, name: &str, value: &str, expires_at: UnixMillis) -> Versionstamp {
        self.apply(Mutation::set_expiring(
            key(name),
            json(value),
            Some(expires_at),
        ))
        .await
    }

    async fn delete(&self, name: &str) -> Versionstamp {
        self.apply(Mutation::delete(key(name))).await
    }

    async fn entry(&self, name: &str) -> Option<Entry> {
        self.store
            .get(&key(name))
            .await
            .expect("the store can be read")
    }

    /// The text of a JSON value.
    async fn text(&self, name: &str) -> Option<String> {
        let entry = self.entry(name).await?;
        Some(String::from_utf8(entry.value.bytes.to_vec()).expect("JSON is text"))
    }

    async fn stamp(&self, name: &str) -> Option<Versionstamp> {
        self.entry(name).await.map(|entry| entry.versionstamp)
    }

    /// Everything, in order.
    async fn all(&self) -> Vec<Entry> {
        self.range(RangeRead::new(everything(), usize::MAX)).await
    }

    async fn range(&self, read: RangeRead) -> Vec<Entry> {
        let snapshot = self.store.read(SnapshotRead::range(read)).await;
        let mut ranges = snapshot.expect("the store can be read").ranges;
        assert_eq!(ranges.len(), 1, "one result per range");
        ranges.pop().expect("just counted").entries
    }

    /// Names of the entries of a range.
    async fn names(&self, read: RangeRead) -> Vec<String> {
        names(&self.range(read).await)
    }
}

fn key(name: &str) -> Key {
    Key::from_strings([name])
}

fn json(text: &str) -> Value {
    Value::json(text.to_owned())
}

fn set(name: &str, value: &str) -> Mutation {
    Mutation::set(key(name), json(value))
}

fn everything() -> KeyRange {
    KeyRange::starting_with(&Key::default())
}

fn between(start: &str, end: &str) -> KeyRange {
    KeyRange::new(key(start), key(end))
}

fn later(ms: i64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

/// The only string part of each key.
fn names(entries: &[Entry]) -> Vec<String> {
    let name = |entry: &Entry| match &entry.key.parts().expect("keys are tuples")[..] {
        [kvasir_kv::Part::String(name)] => name.clone(),
        other => panic!("not a key of one string: {other:?}"),
    };
    entries.iter().map(name).collect()
}

/// Stamps every case of the kit as a test of a backend.
///
/// Takes a name for the module and the absolute path of an `async fn` without arguments that makes
/// a [`Bed`](crate::conformance::Bed) or an `Option` of one. The calling crate needs tokio with
/// macros.
#[macro_export]
macro_rules! conformance_suite {
    ($backend:ident, $factory:path) => {
        mod $backend {
            $crate::conformance_cases! { $factory;
                reads: [
                    an_empty_store_holds_nothing,
                    a_get_returns_what_was_written,
                    a_read_sees_every_commit_acknowledged_before_it,
                    what_is_at_hand_is_never_out_of_date,
                    a_read_of_no_ranges_is_an_empty_snapshot,
                    the_first_entry_of_a_range_is_the_first_live_one,
                    results_come_one_per_range_in_request_order,
                    a_range_holds_its_start_but_not_its_end,
                    an_inverted_range_is_empty,
                    a_limit_counts_from_the_end_that_is_read_first,
                    a_limit_of_zero_reads_nothing,
                    bytes_end_a_range_early_and_it_says_so,
                    the_first_entry_comes_whatever_the_bytes,
                    keys_are_ordered_by_their_bytes,
                    keys_need_not_be_tuples,
                    all_ranges_are_read_from_one_snapshot,
                ]
                commits: [
                    mutations_apply_in_order,
                    one_entry_remains_of_several_writes_to_a_key,
                    a_failed_check_changes_nothing,
                    all_failing_checks_are_named_in_rising_order,
                    checks_look_at_the_state_before_the_write,
                    a_check_holds_for_exactly_one_version,
                    a_write_without_mutations_commits,
                    a_write_without_anything_commits,
                    deleting_an_absent_key_is_no_error,
                    a_set_replaces_value_expiry_and_meta,
                    an_empty_meta_is_no_meta,
                    the_creation_time_is_kept_when_asked_for,
                    existence_is_reported_for_each_mutation_when_asked_for,
                    a_versionstamped_key_holds_the_stamp_of_its_commit,
                    a_large_write_is_applied_whole,
                    of_concurrent_creations_exactly_one_commits,
                    concurrent_increments_are_all_counted,
                    a_dropped_commit_is_whole_or_absent,
                ]
                numbers: [
                    sums_of_u64_wrap,
                    an_absent_key_takes_the_operand,
                    v8_numbers_add_up_within_their_bounds,
                    json_numbers_add_up,
                    min_and_max_keep_the_extreme,
                    a_refused_number_leaves_the_store_unchanged,
                    numbers_remove_the_expiry,
                    an_operand_that_is_no_number_is_invalid,
                ]
                stamps: [
                    every_entry_of_a_commit_carries_its_stamp,
                    stamps_rise_with_every_commit,
                    stamps_rise_when_the_clock_steps_back,
                    stamps_follow_the_clock,
                    stamps_of_concurrent_commits_are_unique,
                    the_newest_stamp_is_zero_at_first_and_that_of_the_last_commit_then,
                    a_conflict_leaves_no_trace,
                ]
                expiry: [
                    an_entry_is_unseen_from_its_expiry_on,
                    an_expired_entry_counts_as_absent_for_checks,
                    an_expired_entry_counts_as_absent_for_mutations,
                    expired_entries_do_not_count_towards_a_limit,
                    an_entry_written_already_expired_is_never_seen,
                    a_sweep_removes_only_what_had_expired_and_says_how_many,
                    a_sweep_removes_no_more_than_its_limit,
                    a_sweep_spares_an_entry_that_was_written_again,
                    a_sweep_of_nothing_removes_nothing,
                    an_expiry_may_be_moved_in_both_directions,
                    what_has_expired_stays_expired_when_the_clock_steps_back,
                ]
                ingest: [
                    entries_are_taken_as_they_are,
                    an_ingested_entry_replaces_what_was_there,
                    commits_after_an_ingest_get_larger_stamps,
                    an_old_stamp_does_not_turn_time_back,
                    ingesting_nothing_is_no_error,
                    a_refused_ingest_changes_nothing,
                    an_ingested_entry_expires,
                ]
                limits: [
                    the_largest_key_is_taken_and_a_larger_one_refused,
                    the_largest_value_is_taken_and_a_larger_one_refused,
                    the_largest_meta_is_taken_and_a_larger_one_refused,
                    a_u64_has_eight_bytes,
                    the_most_checks_are_taken_and_one_more_refused,
                    more_than_the_most_mutations_are_refused,
                    the_most_ranges_are_read_and_one_more_refused,
                    a_versionstamped_key_counts_with_its_stamp,
                ]
                scans: [
                    a_scan_of_nothing_gives_one_empty_page,
                    a_scan_gives_every_entry_once_in_both_directions,
                    pages_are_bounded_by_entries_and_bytes,
                    a_scan_keeps_to_its_range,
                    an_inverted_scan_is_empty,
                    a_scan_skips_what_has_expired,
                    a_page_names_the_newest_commit_it_holds,
                    a_slow_scan_holds_up_no_commit,
                    a_snapshot_scan_sees_one_moment,
                    an_entry_that_does_not_change_is_seen_by_every_scan,
                ]
                watches: [
                    a_watch_begins_with_the_present_state,
                    a_watch_shows_writes_and_deletions,
                    states_come_in_the_order_of_the_keys,
                    a_watch_of_no_keys_begins_too,
                    the_last_state_is_never_missed,
                    both_keys_of_a_watch_come_from_one_snapshot,
                    expiry_is_a_change,
                    an_ingest_is_a_change,
                    many_watchers_of_one_key_all_hear_of_it,
                    a_watch_that_was_dropped_disturbs_nobody,
                ]
                changes: [
                    changes_come_in_commit_order,
                    deletions_are_told_as_absence,
                    only_the_range_is_told,
                    every_commit_after_the_first_poll_is_told,
                    a_commit_is_told_whole,
                    a_follower_that_is_too_slow_is_told_so,
                    sweeps_are_told,
                    ingests_are_told,
                ]
                close: [
                    every_call_after_a_close_is_unavailable,
                    closing_twice_is_no_error,
                    watches_and_followers_end_at_a_close,
                    commits_in_flight_are_finished_or_refused_by_a_close,
                    an_open_store_answers_pings,
                ]
                reopening: [
                    everything_is_there_after_reopening,
                    deletions_last,
                    stamps_rise_across_reopening_and_a_clock_that_stepped_back,
                    the_stamp_of_a_deletion_is_not_given_again,
                    the_newest_stamp_is_kept,
                    an_ingested_stamp_is_kept,
                    entries_expire_and_are_swept_after_reopening,
                    sums_go_on_after_reopening,
                    a_large_value_survives,
                    reopening_again_and_again_changes_nothing,
                ]
            }
        }
    };
}

/// Not to be used directly; see [`conformance_suite!`](crate::conformance_suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($factory:path; $($area:ident: [$($case:ident,)*])*) => {
        /// Every case by area and name, for the test that none is forgotten.
        #[allow(dead_code, reason = "only one backend's list is compared")]
        pub(crate) const CASES: &[(&str, &str)] = &[$($((stringify!($area), stringify!($case)),)*)*];
        $(mod $area {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bed: Option<$crate::conformance::Bed> = $factory().await.into();
                if let Some(bed) = bed {
                    $crate::conformance::$area::$case(bed).await;
                }
            })*
        })*
    };
}
