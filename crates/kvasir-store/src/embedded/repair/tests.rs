//! Plans of repairs and repairs, on folders damaged in known places.

use super::super::mend::tests::{COMMITS, Recorded, options};
use super::*;

/// Every file of a folder with what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walk(folder)
        .unwrap()
        .into_iter()
        .filter(|(_, is_folder)| !is_folder)
        .map(|(path, _)| {
            let bytes = std::fs::read(&path).unwrap();
            (path.strip_prefix(folder).unwrap().to_path_buf(), bytes)
        })
        .collect();
    files.sort();
    files
}

fn plan_of(recorded: &Recorded) -> Option<Plan> {
    plan(recorded.dir.path(), &options()).unwrap()
}

#[tokio::test]
async fn a_whole_store_needs_no_repair() {
    let recorded = Recorded::new().await;
    assert_eq!(plan_of(&recorded), None);
    assert_eq!(recorded.commits().await, COMMITS);
}

#[tokio::test]
async fn a_damaged_journal_is_cut_as_planned_and_the_old_store_is_kept_as_it_was() {
    let recorded = Recorded::new().await;
    let (mut bytes, ends) = recorded.batches();
    bytes[ends[4] + 70] ^= 1;
    recorded.write("0.jnl", &bytes);
    assert_eq!(recorded.open().await.unwrap_err().exit_code(), 8);

    let before = contents(&recorded.store());
    let plan = plan_of(&recorded).unwrap();
    assert_eq!(
        contents(&recorded.store()),
        before,
        "a plan changes nothing"
    );
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
    assert!(cut.steps().contains(&last_kept.unwrap().to_string()));

    // What an interrupted repair left behind is no hindrance.
    std::fs::create_dir(recorded.dir.path().join("store.repaired")).unwrap();
    let aside = apply(recorded.dir.path(), cut).unwrap();
    assert_eq!(aside, recorded.dir.path().join("store.damaged-1"));
    assert_eq!(contents(&aside), before);
    assert_eq!(recorded.commits().await, 3);
    assert_eq!(contents(&aside), before, "nor does using the new one");
    assert!(!recorded.dir.path().join("store.repaired").exists());
}

#[tokio::test]
async fn a_backup_is_nothing_that_a_repair_could_put_back() {
    let recorded = Recorded::new().await;
    let before = contents(&recorded.store());
    assert!(apply(recorded.dir.path(), &Choice::Restore).is_err());
    assert_eq!(contents(&recorded.store()), before);
}

#[tokio::test]
async fn a_store_behind_its_clean_end_is_refused_every_time_until_that_is_forgotten() {
    let recorded = Recorded::new().await;
    assert_eq!(recorded.commits().await, COMMITS);
    let older = recorded.copy();
    let (bytes, ends) = recorded.batches();
    older.write("0.jnl", &bytes[..ends[4]]);
    for _ in 0..2 {
        assert_eq!(older.open().await.unwrap_err().exit_code(), 8);
    }
    let plan = plan_of(&older).unwrap();
    assert!(plan.damage.what.starts_with(OTHER_STAMP), "{plan:?}");
    let [
        Choice::Restore,
        forget @ Choice::ForgetState { reached: Some(_) },
    ] = &plan.choices[..]
    else {
        panic!("{plan:?}");
    };
    apply(older.dir.path(), forget).unwrap();
    assert_eq!(older.commits().await, 3);
    assert_eq!(plan_of(&older), None);
}

#[tokio::test]
async fn an_unreadable_state_is_refused_until_it_is_forgotten() {
    let recorded = Recorded::new().await;
    std::fs::write(recorded.dir.path().join("store.state"), "runing").unwrap();
    assert_eq!(recorded.open().await.unwrap_err().exit_code(), 8);
    let plan = plan_of(&recorded).unwrap();
    apply(recorded.dir.path(), &plan.choices[1]).unwrap();
    assert_eq!(recorded.commits().await, COMMITS);
}

#[tokio::test]
async fn a_torn_tail_after_a_clean_end_is_planned_for_too() {
    let recorded = Recorded::new().await;
    assert_eq!(recorded.commits().await, COMMITS);
    let (bytes, ends) = recorded.batches();
    recorded.write("0.jnl", &bytes[..ends[COMMITS] + 20]);
    let plan = plan_of(&recorded).unwrap();
    assert_eq!(plan.damage.offset, ends[COMMITS] as u64);
    apply(recorded.dir.path(), &plan.choices[1]).unwrap();
    assert_eq!(recorded.commits().await, COMMITS - 1);
}
