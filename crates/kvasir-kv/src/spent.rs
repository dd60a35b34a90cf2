//! Where the time of one request goes.
//!
//! Whoever answers a request polls its future through [`Spent::around`]; whatever waits or works
//! below it calls [`add`] with the moments between which it did. The account is found by a variable
//! of the thread that is set only while the future is polled, so nothing has to be handed through
//! the layers, and tasks that nobody asked for are not charged to anybody.
//!
//! Moments are given by the callers: nothing here reads a clock.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

/// Most single spells that one request keeps; their time is summed beyond it.
pub const SPELLS_MAX: usize = 256;

/// What a request waited for or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Finding out who asks.
    Authorise,
    /// A write waited for its group.
    Queue,
    /// A write waited while its group was planned, which happens under the store's one writer.
    Lock,
    /// The store read, planned, or published.
    Engine,
    /// The group was written and made durable.
    Sync,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 5] = [
        Part::Authorise,
        Part::Queue,
        Part::Lock,
        Part::Engine,
        Part::Sync,
    ];

    /// Its name in the slow log and in traces.
    pub fn name(self) -> &'static str {
        match self {
            Part::Authorise => "authorise",
            Part::Queue => "queue",
            Part::Lock => "lock",
            Part::Engine => "engine",
            Part::Sync => "sync",
        }
    }
}

/// One stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// What it was spent on.
    pub part: Part,
    /// Its begin.
    pub from: Instant,
    /// Its end.
    pub to: Instant,
}

/// The account of one request.
#[derive(Debug, Default)]
pub struct Spent {
    nanos: [AtomicU64; Part::ALL.len()],
    has_written: AtomicBool,
    has_scanned: AtomicBool,
    has_watched: AtomicBool,
    spells: Option<Mutex<Vec<Spell>>>,
}

impl Spent {
    /// An account; `keeps_spells` says whether the single spells are wanted besides their sums.
    pub fn new(keeps_spells: bool) -> Arc<Spent> {
        Arc::new(Spent {
            spells: keeps_spells.then(Mutex::default),
            ..Spent::default()
        })
    }

    /// The sum of one part.
    pub fn sum(&self, part: Part) -> Duration {
        Duration::from_nanos(self.nanos[part as usize].load(Ordering::Relaxed))
    }

    /// Whether it asked for a commit.
    pub fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    /// Whether it read a range.
    pub fn has_scanned(&self) -> bool {
        self.has_scanned.load(Ordering::Relaxed)
    }

    /// Whether it asked to be told of changes, so that its answer has no natural end.
    pub fn has_watched(&self) -> bool {
        self.has_watched.load(Ordering::Relaxed)
    }

    /// The single spells so far, at most [`SPELLS_MAX`]; none unless they are kept.
    pub fn spells(&self) -> Vec<Spell> {
        let kept = self.spells.as_ref();
        kept.map_or_else(Vec::new, |spells| {
            spells.lock().expect("only pushed while held").clone()
        })
    }

    fn add(&self, spell: Spell) {
        let nanos = spell.to.saturating_duration_since(spell.from).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.nanos[spell.part as usize].fetch_add(nanos, Ordering::Relaxed);
        if let Some(spells) = &self.spells {
            let mut spells = spells.lock().expect("only pushed while held");
            if spells.len() < SPELLS_MAX {
                spells.push(spell);
            }
        }
    }

    /// Charges what `work` does to this account.
    pub fn around<F: Future>(self: Arc<Self>, work: F) -> Around<F> {
        Around { spent: self, work }
    }

    /// Charges what `work` does right now to this account.
    pub fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _current = Current::set(Arc::clone(self));
        work()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Spent>>> = const { RefCell::new(None) };
}

/// Charges a spell to the request that is being worked for, if there is one.
pub fn add(part: Part, from: Instant, to: Instant) {
    with(|spent| spent.add(Spell { part, from, to }));
}

/// Notes that the request asked for a commit.
pub fn wrote() {
    with(|spent| spent.has_written.store(true, Ordering::Relaxed));
}

/// Notes that the request read a range.
pub fn scanned() {
    with(|spent| spent.has_scanned.store(true, Ordering::Relaxed));
}

/// Notes that the request watches.
pub fn watched() {
    with(|spent| spent.has_watched.store(true, Ordering::Relaxed));
}

/// What was charged for parts of commits so far: queue, lock and sync.
pub fn of_commits() -> Duration {
    let mut sum = Duration::ZERO;
    with(|spent| {
        sum = [Part::Queue, Part::Lock, Part::Sync]
            .into_iter()
            .map(|part| spent.sum(part))
            .sum();
    });
    sum
}

fn with(what: impl FnOnce(&Spent)) {
    CURRENT.with_borrow(|current| {
        if let Some(spent) = current {
            what(spent);
        }
    });
}

/// The account of the thread, until it is dropped.
struct Current(Option<Arc<Spent>>);

impl Current {
    fn set(spent: Arc<Spent>) -> Current {
        Current(CURRENT.replace(Some(spent)))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

pin_project! {
    /// See [`Spent::around`].
    pub struct Around<F> {
        spent: Arc<Spent>,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Around<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _current = Current::set(Arc::clone(this.spent));
        this.work.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(part: Part, millis: u64) {
        let from = Instant::now();
        add(part, from, from + Duration::from_millis(millis));
    }

    #[test]
    fn what_is_done_for_a_request_is_charged_to_it_and_nothing_else_is() {
        let (one, other) = (Spent::new(false), Spent::new(true));
        spell(Part::Engine, 1);
        one.during(|| {
            spell(Part::Engine, 2);
            other.during(|| spell(Part::Sync, 4));
            spell(Part::Engine, 8);
            wrote();
            assert_eq!(of_commits(), Duration::ZERO);
        });
        spell(Part::Engine, 16);
        assert_eq!(one.sum(Part::Engine), Duration::from_millis(10));
        assert_eq!(one.sum(Part::Sync), Duration::ZERO);
        assert!(one.has_written() && !other.has_written());
        assert!(one.spells().is_empty());
        assert_eq!(other.spells().len(), 1);
    }

    #[test]
    fn the_number_of_kept_spells_has_a_bound() {
        let spent = Spent::new(true);
        spent.during(|| {
            for _ in 0..=SPELLS_MAX {
                spell(Part::Engine, 1);
            }
        });
        assert_eq!(spent.spells().len(), SPELLS_MAX);
        let all = Duration::from_millis(SPELLS_MAX as u64 + 1);
        assert_eq!(spent.sum(Part::Engine), all);
    }
}
