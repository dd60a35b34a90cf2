//! The judge of crashes catches every planted fault of a simulated engine, and blames no good one.

use kvasir_testkit::effort::Effort;
use kvasir_testkit::sim::{Fault, story};

/// Stories in which a fault has to show.
const STORIES: u64 = 60;

#[test]
fn an_engine_without_a_fault_passes_every_story() {
    let effort = Effort::from_env();
    let (mut recovered, mut vanished) = (0, 0);
    for seed in effort.seed..effort.seed + u64::from(effort.times(150)) {
        match story(None, seed).check() {
            Ok(report) => {
                recovered += report.recovered;
                vanished += report.vanished;
            }
            Err(violation) => panic!("story {seed}: {violation}"),
        }
    }
    assert!(recovered > 0 && vanished > 0, "lost answers go both ways");
}

#[test]
fn every_planted_fault_is_caught() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        let caught = (0..STORIES).find_map(|seed| story(Some(fault), seed).check().err());
        match caught {
            Some(violation) => println!("{fault:?}: {violation:.120}"),
            None => missed.push(fault),
        }
    }
    assert!(Fault::ALL.len() >= 20);
    assert_eq!(missed, []);
}
