//! A small engine on a small disk, with faults that can be switched on: the proof that the
//! checker finds them.
//!
//! The crash tests of the real engines say little unless the judge of [`crate::history`] is known to
//! catch an engine that loses writes. So here is one that can lose them in every way of
//! [`Fault`]: a log with group commit and checkpoints, on a disk that keeps, loses or tears what
//! was not synced. [`story`] plays random clients on it, cuts the power at random moments, and
//! gives the history. Everything happens in one thread and depends on the seed alone.

mod disk;
mod engine;

use kvasir_kv::{Key, KeyRange, RangeRead, SnapshotRead, UnixMillis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::history::{Action, Answer, History, Operation, Recording, Tick};
use crate::workload::Client;

pub use disk::{Disk, DiskError};
pub use engine::{Engine, Fault};

/// Clients of a story.
const CLIENTS: usize = 6;

/// Steps of a story, each one call or one phase of the engine.
const STEPS: u32 = 400;

/// A call that has not answered yet.
struct Call {
    invoked: Tick,
    write: kvasir_kv::AtomicWrite,
    ticket: u64,
}

/// Plays a story on an engine with this fault, or none.
///
/// # Panics
///
/// If the engine without a fault does not open what is on the disk.
pub fn story(fault: Option<Fault>, seed: u64) -> History {
    let mut rng = StdRng::seed_from_u64(seed);
    let recording = Recording::new();
    let mut engine = Engine::open(Disk::new(), fault, 1_000_000);
    let mut clients: Vec<(Client, Option<Call>)> = (0..CLIENTS)
        .map(|number| (Client::new(seed, number as u32), None))
        .collect();

    for _ in 0..STEPS {
        let is_dead = match rng.random_range(0..100) {
            0..=1 => true,
            2..=39 => engine.advance(&mut rng).is_err(),
            _ => {
                let (client, call) = &mut clients[rng.random_range(0..CLIENTS)];
                act(&recording, &mut engine, client, call);
                false
            }
        };
        deliver(&recording, &mut engine, &mut clients);
        if is_dead {
            for (client, call) in &mut clients {
                if let Some(call) = call.take() {
                    client.conflicted(&call.write);
                    add(
                        &recording,
                        client.number(),
                        call.invoked,
                        Tick::NEVER,
                        Action::Commit(call.write, Answer::Unknown),
                    );
                }
            }
            recording.died();
            // The clock may have been set in the meantime, also back.
            let now_micros = rng.random_range(500_000..2_000_000);
            engine = Engine::open(engine.cut_power(&mut rng), fault, now_micros);
            look(&recording, &mut engine);
        }
    }
    // Everybody gets an answer, then a last look.
    for _ in 0..20 {
        if engine.advance(&mut rng).is_err() {
            break;
        }
        deliver(&recording, &mut engine, &mut clients);
    }
    for (client, call) in &mut clients {
        if let Some(call) = call.take() {
            add(
                &recording,
                client.number(),
                call.invoked,
                Tick::NEVER,
                Action::Commit(call.write, Answer::Unknown),
            );
        }
    }
    recording.died();
    let mut engine = Engine::open(engine.cut_power(&mut rng), fault, 1_000_000);
    look(&recording, &mut engine);
    recording.so_far()
}

fn act(recording: &Recording, engine: &mut Engine, client: &mut Client, call: &mut Option<Call>) {
    if call.is_some() {
        return;
    }
    let invoked = recording.tick();
    if client.writes_next() {
        let write = client.write();
        let ticket = engine.submit(write.clone());
        *call = Some(Call {
            invoked,
            write,
            ticket,
        });
    } else {
        let read = client.read();
        let snapshot = engine.read(&read);
        client.saw(snapshot.ranges.iter().flat_map(|range| &range.entries));
        add(
            recording,
            client.number(),
            invoked,
            recording.tick(),
            Action::Read(read, snapshot),
        );
    }
}

/// Hands out the answers that the engine has ready.
fn deliver(recording: &Recording, engine: &mut Engine, clients: &mut [(Client, Option<Call>)]) {
    for (ticket, answer) in engine.take_answers() {
        let waiting = clients
            .iter_mut()
            .find(|(_, call)| call.as_ref().is_some_and(|call| call.ticket == ticket));
        let Some((client, call)) = waiting else {
            continue;
        };
        let Some(call) = call.take() else {
            continue;
        };
        match &answer {
            Answer::Committed(committed) => client.committed(&call.write, committed.versionstamp),
            _ => client.conflicted(&call.write),
        }
        let action = Action::Commit(call.write, answer);
        add(
            recording,
            client.number(),
            call.invoked,
            recording.tick(),
            action,
        );
    }
}

/// Reads everything there is.
fn look(recording: &Recording, engine: &mut Engine) {
    let invoked = recording.tick();
    let everything = KeyRange::starting_with(&Key::default());
    let read = SnapshotRead::range(RangeRead::new(everything, usize::MAX));
    let snapshot = engine.read(&read);
    add(
        recording,
        u32::MAX,
        invoked,
        recording.tick(),
        Action::Read(read, snapshot),
    );
}

fn add(recording: &Recording, client: u32, invoked: Tick, returned: Tick, action: Action) {
    let now = UnixMillis(0);
    recording.add(Operation {
        client,
        invoked,
        returned,
        now,
        action,
    });
}
