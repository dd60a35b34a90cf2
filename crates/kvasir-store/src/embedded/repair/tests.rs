//! The plan of a repair, on folders damaged in known places.

use std::process::Command;

use super::super::mend::tests::{COMMITS, Recorded};
use super::*;

#[tokio::test]
async fn a_whole_store_needs_no_repair() {
    let recorded = Recorded::new().await;
    assert_eq!(plan(recorded.dir.path()).unwrap(), None);
}

#[tokio::test]
async fn the_plan_for_a_damaged_journal_tells_what_it_costs_and_its_commands_work() {
    let recorded = Recorded::new().await;
    let (mut bytes, ends) = recorded.batches();
    bytes[ends[4] + 70] ^= 1;
    recorded.write("0.jnl", &bytes);
    assert_eq!(recorded.open().await.unwrap_err().exit_code(), 8);

    let plan = plan(recorded.dir.path()).unwrap().unwrap();
    assert_eq!(plan.damage.offset, ends[4] as u64);
    let [Choice::Restore, cut] = &plan.choices[..] else {
        panic!("{plan:?}");
    };
    let Choice::CutJournal {
        groups_lost,
        last_kept,
        ..
    } = cut
    else {
        panic!("{cut:?}");
    };
    // The first batch is that of the creation, so the fifth is the fourth commit.
    assert_eq!(*groups_lost, (COMMITS - 4) as u64);
    assert!(last_kept.is_some());

    let steps = cut.steps();
    let command = steps.split('`').nth(1).unwrap();
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success(), "{command}");
    assert_eq!(recorded.commits().await, 3);
}
