//! What a connection is doing and since when, and whether it has been at it for too long.
//!
//! Every connection has one [`Pulse`]. Its IO, its bodies and its requests note what happens; the
//! reaper judges all of them once per tick and wakes the tasks of those that must end. So deadlines
//! need no timer per connection, let alone per request.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::coarse::CoarseClock;

/// How long a client may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the connection to its first byte.
    pub first_byte: Duration,
    /// From the first byte of a request's head (or TLS handshake) to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For a client that takes answers too slowly: it is judged over this span.
    pub reader_stall: Duration,
    /// Slowest rate, in bytes per second, at which bodies may be sent and answers taken.
    pub bytes_per_second_min: u64,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Its first byte.
    Fresh,
    /// The rest of a handshake or of the head of a request.
    Head,
    /// The next request.
    Idle,
    /// This end: requests are being answered.
    Busy,
}

/// What the task of a connection has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Go on.
    Stay,
    /// Finish what was begun, take nothing new.
    Leave,
    /// End at once.
    Close,
}

/// No time: the client is keeping up.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: CoarseClock,
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Requests being answered and answers being streamed.
    requests: AtomicU32,
    /// Whether it speaks HTTP/2.
    is_multiplexed: AtomicBool,
    /// Since when the client has been taking less than there is to send.
    behind_since_ms: AtomicU64,
    /// Bytes it has taken since then.
    behind_bytes: AtomicU64,
    /// Answers of which a part waits for the client to ask for it, on HTTP/2.
    answers_held: AtomicU32,
    /// When one of them last went on.
    answers_since_ms: AtomicU64,
    verdict: AtomicU8,
    task: AtomicWaker,
}

impl Pulse {
    pub(super) fn new(clock: CoarseClock) -> Pulse {
        let now = clock.now_ms();
        Pulse {
            clock,
            phase: AtomicU8::new(Phase::Fresh as u8),
            since_ms: AtomicU64::new(now),
            requests: AtomicU32::new(0),
            is_multiplexed: AtomicBool::new(false),
            behind_since_ms: AtomicU64::new(NEVER),
            behind_bytes: AtomicU64::new(0),
            answers_held: AtomicU32::new(0),
            answers_since_ms: AtomicU64::new(now),
            verdict: AtomicU8::new(Verdict::Stay as u8),
            task: AtomicWaker::new(),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Head,
            2 => Phase::Idle,
            _ => Phase::Busy,
        }
    }

    fn enter(&self, phase: Phase) {
        self.since_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub(super) fn read(&self) {
        match self.phase() {
            Phase::Fresh => self.enter(Phase::Head),
            // Frames between the requests of HTTP/2 are no head: pings would look like slow ones.
            Phase::Idle if !self.is_multiplexed() => self.enter(Phase::Head),
            Phase::Idle | Phase::Head | Phase::Busy => {}
        }
    }

    /// `taken` of `offered` bytes went out.
    pub(super) fn wrote(&self, taken: usize, offered: usize) {
        if taken == offered {
            self.caught_up();
        } else {
            self.fell_behind();
            self.behind_bytes.fetch_add(taken as u64, Ordering::Relaxed);
        }
    }

    /// The client has taken all there is.
    pub(super) fn caught_up(&self) {
        if self.is_behind() {
            self.behind_since_ms.store(NEVER, Ordering::Relaxed);
        }
    }

    /// The client takes nothing now.
    pub(super) fn fell_behind(&self) {
        if !self.is_behind() {
            self.behind_bytes.store(0, Ordering::Relaxed);
            self.behind_since_ms
                .store(self.clock.now_ms(), Ordering::Relaxed);
        }
    }

    /// The handshake is over; the connection speaks HTTP/2.
    pub(super) fn became_multiplexed(&self) {
        self.is_multiplexed.store(true, Ordering::Relaxed);
        self.enter(Phase::Idle);
    }

    /// A request's head is complete, or an answer goes on beyond its handler.
    pub(super) fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
    }

    /// The counterpart of [`Pulse::request_began`].
    pub(super) fn request_ended(&self) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// A part of an answer waits for the client.
    pub(super) fn answer_held(&self) {
        self.answer_progressed();
        self.answers_held.fetch_add(1, Ordering::Relaxed);
    }

    /// It does so no more.
    pub(super) fn answer_taken(&self) {
        self.answer_progressed();
        self.answers_held.fetch_sub(1, Ordering::Relaxed);
    }

    /// The client took a part and the next one waits.
    pub(super) fn answer_progressed(&self) {
        self.answers_since_ms
            .store(self.clock.now_ms(), Ordering::Relaxed);
    }

    /// Whether it speaks HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.is_multiplexed.load(Ordering::Relaxed)
    }

    /// Whether no request has been read yet.
    pub(super) fn is_before_request(&self) -> bool {
        matches!(self.phase(), Phase::Fresh | Phase::Head)
    }

    /// How gladly this connection is given up for another one: the larger the sooner, `None` while
    /// it is being served. Who never sent anything goes first, then who has been quiet longest.
    /// So is one that has not been quiet for `quiet_min` yet.
    pub(super) fn idleness(&self, quiet_min: Duration) -> Option<u64> {
        let quiet_ms = self
            .clock
            .now_ms()
            .saturating_sub(self.since_ms.load(Ordering::Relaxed));
        if u128::from(quiet_ms) < quiet_min.as_millis() {
            return None;
        }
        match self.phase() {
            Phase::Fresh => Some(quiet_ms + u64::from(u32::MAX)),
            Phase::Idle if !self.is_behind() => Some(quiet_ms),
            Phase::Idle | Phase::Head | Phase::Busy => None,
        }
    }

    fn is_behind(&self) -> bool {
        self.behind_since_ms.load(Ordering::Relaxed) != NEVER
    }

    /// Looks at the deadlines; wakes the task if it must end.
    pub(super) fn judge(&self, deadlines: &Deadlines) {
        let now = self.clock.now_ms();
        let over = |since: u64, limit: Duration| {
            u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        let behind_since = self.behind_since_ms.load(Ordering::Relaxed);
        if behind_since != NEVER && over(behind_since, deadlines.reader_stall) {
            let taken = self.behind_bytes.swap(0, Ordering::Relaxed);
            let seconds = now.saturating_sub(behind_since) / 1000;
            if taken < deadlines.bytes_per_second_min * seconds.max(1) {
                return self.doom(Verdict::Close);
            }
            self.behind_since_ms.store(now, Ordering::Relaxed);
        }
        let answers_since = self.answers_since_ms.load(Ordering::Relaxed);
        if self.answers_held.load(Ordering::Relaxed) > 0
            && over(answers_since, deadlines.reader_stall)
        {
            return self.doom(Verdict::Close);
        }
        let since = self.since_ms.load(Ordering::Relaxed);
        match self.phase() {
            Phase::Fresh if over(since, deadlines.first_byte) => self.doom(Verdict::Close),
            Phase::Head if over(since, deadlines.head) => self.doom(Verdict::Close),
            Phase::Idle if behind_since == NEVER && over(since, deadlines.idle) => {
                // A client that does not react to the farewell is cut off one idle span later.
                let told = self.verdict() == Verdict::Leave;
                self.doom(if told { Verdict::Close } else { Verdict::Leave });
                self.enter(Phase::Idle);
            }
            _ => {}
        }
    }

    /// Tells the task what to do. A stricter verdict is never taken back.
    pub(super) fn doom(&self, verdict: Verdict) {
        if self.verdict.fetch_max(verdict as u8, Ordering::AcqRel) < verdict as u8 {
            self.task.wake();
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            0 => Verdict::Stay,
            1 => Verdict::Leave,
            _ => Verdict::Close,
        }
    }

    /// The task to wake when the verdict changes.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        first_byte: Duration::from_secs(5),
        head: Duration::from_secs(10),
        idle: Duration::from_secs(120),
        reader_stall: Duration::from_secs(30),
        bytes_per_second_min: 1024,
    };

    /// A pulse at second 100, prepared by `before`, judged `seconds` later.
    fn judged(before: impl Fn(&Pulse), seconds: u64) -> Verdict {
        let clock = CoarseClock::new();
        clock.set(100_000);
        let pulse = Pulse::new(clock.clone());
        before(&pulse);
        clock.set(100_000 + seconds * 1000);
        pulse.judge(&DEADLINES);
        pulse.verdict()
    }

    #[test]
    fn each_phase_ends_at_its_own_deadline() {
        let fresh = |_: &Pulse| {};
        let head = |pulse: &Pulse| pulse.read();
        let busy = |pulse: &Pulse| {
            pulse.read();
            pulse.request_began();
        };
        let idle = |pulse: &Pulse| {
            pulse.request_began();
            pulse.request_ended();
        };
        assert_eq!(judged(fresh, 4), Verdict::Stay);
        assert_eq!(judged(fresh, 5), Verdict::Close);
        assert_eq!(judged(head, 9), Verdict::Stay);
        assert_eq!(judged(head, 10), Verdict::Close);
        assert_eq!(judged(idle, 119), Verdict::Stay);
        assert_eq!(judged(idle, 120), Verdict::Leave);
        assert_eq!(judged(busy, 100_000), Verdict::Stay);
    }

    #[test]
    fn a_reader_must_take_a_minimum_within_each_span() {
        let taking = |bytes: usize| {
            move |pulse: &Pulse| {
                pulse.request_began();
                pulse.wrote(bytes, bytes + 1);
            }
        };
        assert_eq!(judged(taking(0), 29), Verdict::Stay);
        assert_eq!(judged(taking(30 * 1024 - 1), 30), Verdict::Close);
        assert_eq!(judged(taking(30 * 1024), 30), Verdict::Stay);
    }

    #[test]
    fn who_caught_up_is_not_behind() {
        let caught_up = |pulse: &Pulse| {
            pulse.request_began();
            pulse.fell_behind();
            pulse.wrote(10, 10);
        };
        assert_eq!(judged(caught_up, 3600), Verdict::Stay);
    }

    #[test]
    fn frames_between_streams_do_not_prolong_an_idle_connection() {
        let pinged = |pulse: &Pulse| {
            pulse.became_multiplexed();
            pulse.clock.set(110_000);
            pulse.read();
        };
        assert_eq!(judged(pinged, 119), Verdict::Stay);
        assert_eq!(judged(pinged, 120), Verdict::Leave);
    }

    #[test]
    fn silent_connections_make_room_first_and_busy_ones_never() {
        let clock = CoarseClock::new();
        let [fresh, idle, busy] = [(); 3].map(|()| Pulse::new(clock.clone()));
        idle.request_began();
        idle.request_ended();
        busy.request_began();
        clock.set(60_000);
        assert!(fresh.idleness(Duration::ZERO) > idle.idleness(Duration::ZERO));
        assert_eq!(idle.idleness(Duration::ZERO), Some(60_000));
        assert_eq!(busy.idleness(Duration::ZERO), None);
        assert_eq!(idle.idleness(Duration::from_secs(61)), None);
    }
}
