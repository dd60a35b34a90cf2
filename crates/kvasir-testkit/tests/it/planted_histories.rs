//! Histories written by hand: every bad one has to be flagged, for the right reason, and every
//! good one passed.
//!
//! One line per event, `FROM-TO VERB ...`, where the numbers are moments of real time and `?` is
//! never:
//!
//! ```text
//! 1-2 commit 5: a=1 b=2~90 -c d+3 ?e@4 !f q#=1   acknowledged with versionstamp 5: set a, set b
//!                                                until time of day 90, delete c, add 3 to d, check
//!                                                that e has stamp 4 and f is absent, set a
//!                                                versionstamped key below q
//! 1-2 conflict 0,1: WRITE                        these checks failed
//! 1-2 refused: WRITE                             a sum did not fit
//! 1-? lost: WRITE                                no answer came
//! 1-2 get a b: a=1@5                             of these keys, only a was there
//! 1-2 list: a=1@5 q#5=1@5                        everything there was
//! 1-2 last: b=1@5                                the last entry there was
//! watch a b from 1: 2[a=1@5] 7[]                 what came, and when; `settled` if all was quiet
//! follow from 1-2: 4@5[a -b] 5@9[missed]         told at 4 of commits up to 5: a set, b deleted
//! ```
//!
//! `at N` in front of a colon sets the time of day.

use kvasir_kv::{
    AtomicWrite, Changes, Committed, Entry, Key, KeyRange, Mutation, RangeRead, Snapshot,
    SnapshotRead, SumBounds, UnixMillis, Value, Versionstamp,
};
use kvasir_testkit::history::{
    Action, Answer, FollowLog, History, Operation, Tick, Violation, WatchLog,
};
use kvasir_testkit::model::Refusal;

/// Names of violations, as [`kind`] gives them.
const BAD: &[(&str, &str, &str)] = &[
    (
        "a stamp is given twice",
        "ReusedVersionstamp",
        "1-2 commit 5: a=1
         3-4 commit 5: b=1",
    ),
    ("a stamp is zero", "ReusedVersionstamp", "1-2 commit 0: a=1"),
    (
        "a stamp is smaller than one acknowledged before",
        "OutOfRealTimeOrder",
        "1-2 commit 6: a=1
         3-4 commit 5: b=1",
    ),
    (
        "a stamp steps back behind a long commit in between",
        "OutOfRealTimeOrder",
        "1-2 commit 8: a=1
         1-9 commit 6: b=1
         3-4 commit 5: c=1",
    ),
    (
        "two writes commit on the same check",
        "WrongAnswer",
        "1-2 commit 5: a=1
         3-6 commit 6: ?a@5 a=2
         3-6 commit 7: ?a@5 a=3",
    ),
    (
        "two writes create one key",
        "WrongAnswer",
        "1-4 commit 5: !a a=1
         1-4 commit 6: !a a=2",
    ),
    (
        "a sum that cannot be added is committed",
        "WrongAnswer",
        "1-2 commit 5: a=x
         3-4 commit 6: a+1",
    ),
    (
        "existence is reported wrongly",
        "WrongAnswer",
        "1-2 commit 5: a=1
         3-4 commit 6 existed n: a=2",
    ),
    (
        "an acknowledged write is gone",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 list:",
    ),
    (
        "an acknowledged delete is undone",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 commit 6: -a
         5-6 get a: a=1@5",
    ),
    (
        "half of a write is gone",
        "NoSuchMoment",
        "1-2 commit 5: a=1 b=1
         3-4 list: a=1@5",
    ),
    (
        "half of a lost write was applied",
        "NoSuchMoment",
        "1-? lost: a=1 b=1
         3-4 list: a=1@5",
    ),
    (
        "a lost write was applied without one of its sums",
        "NoSuchMoment",
        "1-2 commit 5: n=1
         3-? lost: a=1 n+1
         4-5 list: a=1@6 n=1@5",
    ),
    (
        "two keys of one write are read from two states",
        "NoSuchMoment",
        "1-2 commit 5: a=1 b=1
         3-6 commit 6: a=2 b=2
         3-6 get a b: a=1@5 b=2@6",
    ),
    (
        "two writes are read in the wrong order",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 commit 6: b=1
         1-5 get a b: b=1@6",
    ),
    (
        "a read shows a write that began after it",
        "NoSuchMoment",
        "1-2 get a: a=1@5
         3-4 commit 5: a=1",
    ),
    (
        "a read misses a write acknowledged before",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         5-6 get a: a=1@5",
    ),
    (
        "an entry carries another stamp than its commit",
        "FromNowhere",
        "1-2 commit 5: a=1
         3-4 get a: a=1@6",
    ),
    (
        "an entry carries the stamp of another commit",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 commit 6: b=1
         5-6 get a: a=1@6",
    ),
    (
        "an entry has a value that was not written",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 get a: a=2@5",
    ),
    (
        "a value of a refused write is seen",
        "FromNowhere",
        "1-2 commit 5: b=x
         3-4 refused: a=1 b+1
         5-6 get a: a=1@6",
    ),
    (
        "a value of a write with a failed check is seen",
        "FromNowhere",
        "1-2 commit 5: b=1
         3-4 conflict 0: !b a=1
         5-6 get a: a=1@6",
    ),
    (
        "a lost write is applied twice",
        "AppliedTwice",
        "1-2 commit 4: n=0
         3-? lost: a=1 n+1
         4-5 get a: a=1@5
         6-7 get a: a=1@6",
    ),
    (
        "a sum is applied twice",
        "NoSuchMoment",
        "1-2 commit 4: n=1
         3-4 commit 5: n+1
         5-6 get n: n=3@5",
    ),
    (
        "a check fails that held all the time",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 conflict 0: ?a@5 a=2",
    ),
    (
        "a failing check is not named",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 conflict 0: !a ?b@3 a=2",
    ),
    (
        "a write is refused for a value that was not there yet",
        "NoSuchMoment",
        "1-2 refused: a+1
         3-4 commit 5: a=x",
    ),
    (
        "a later read shows an older state",
        "WentBack",
        "1-2 commit 5: a=1
         3-9 commit 6: a=2
         4-5 get a: a=2@6
         6-7 get a: a=1@5",
    ),
    (
        "a conflict shows a newer state than a later read",
        "WentBack",
        "1-2 commit 5: a=1
         3-9 commit 6: a=2
         4-5 conflict 0: ?a@5 b=1
         6-7 get a: a=1@5",
    ),
    (
        "an expired entry is read",
        "NoSuchMoment",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 50 get a: a=1@5~50",
    ),
    (
        "an entry is gone before it expires",
        "NoSuchMoment",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 49 get a:",
    ),
    (
        "an expired entry satisfies a check",
        "WrongAnswer",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 60 commit 6: ?a@5 b=1",
    ),
    (
        "an expired entry is summed up",
        "NoSuchMoment",
        "1-2 at 10 commit 5: n=5~50
         3-4 at 60 commit 6: n+1
         5-6 at 60 get n: n=6@6",
    ),
    (
        "an expiry is lost",
        "NoSuchMoment",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 20 get a: a=1@5",
    ),
    (
        "a list leaves an entry out",
        "NoSuchMoment",
        "1-2 commit 5: a=1
         3-4 commit 6: b=1
         5-6 list: b=1@6",
    ),
    (
        "a reverse read gives the first entry",
        "NoSuchMoment",
        "1-2 commit 5: a=1 b=1
         3-4 last: a=1@5",
    ),
    (
        "a write lost in a crash is applied after it",
        "OutOfRealTimeOrder",
        "1-3 lost: !a a=1
         4-5 commit 6: a=2
         6-7 commit 8: -a
         8-9 get a: a=1@7",
    ),
    (
        "a versionstamped key names another stamp",
        "NoSuchMoment",
        "1-2 commit 5: q#=1
         3-4 list: q#4=1@5",
    ),
    (
        "a watch goes back",
        "WatchOutOfOrder",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         watch a from 0: 5[a=2@6] 6[a=1@5]",
    ),
    (
        "a watch begins with a state from before it",
        "WatchOutOfOrder",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         watch a from 5: 6[a=1@5]",
    ),
    (
        "a watch shows two keys of different states",
        "WatchOutOfOrder",
        "1-2 commit 5: a=1 b=1
         3-4 commit 6: a=2 b=2
         watch a b from 2: 5[a=1@5 b=2@6]",
    ),
    (
        "a watch shows a state before it came",
        "WatchOutOfOrder",
        "1-2 commit 5: a=1
         4-5 commit 6: a=2
         watch a from 2: 3[a=2@6]",
    ),
    (
        "a watch misses the last state",
        "WatchMissedLast",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         watch a from 2 settled: 3[a=1@5]",
    ),
    (
        "a watch misses the deletion",
        "WatchMissedLast",
        "1-2 commit 5: a=1
         3-4 commit 6: -a
         watch a from 2 settled: 3[a=1@5]",
    ),
    (
        "a watch says nothing at all",
        "WatchMissedLast",
        "watch a from 2 settled:",
    ),
    (
        "a watch of a key misses what a lost write did",
        "WatchMissedLast",
        "1-2 commit 5: a=1
         3-? lost: a=2
         5-6 get a: a=2@6
         watch a from 2 settled: 3[a=1@5]",
    ),
    (
        "a follower is not told of a commit",
        "FollowMissed",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         follow from 1-2 settled: 7@6[b]",
    ),
    (
        "a follower is not told of the last commit",
        "FollowMissed",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         follow from 1-2 settled: 7@5[a]",
    ),
    (
        "a follower is told in the wrong order",
        "FollowOutOfOrder",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         follow from 1-2: 7@6[b a]",
    ),
    (
        "a follower goes back",
        "FollowOutOfOrder",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         follow from 1-2: 7@6[a b] 8@5[a]",
    ),
    (
        "a follower is told of a deletion that was none",
        "FollowOutOfOrder",
        "3-4 commit 5: a=1
         follow from 1-2: 7@5[-a]",
    ),
    (
        "a follower is told of a key that did not change",
        "FollowOutOfOrder",
        "3-4 commit 5: a=1
         follow from 1-2: 7@5[a b]",
    ),
];

const GOOD: &[(&str, &str)] = &[
    ("nothing happens", ""),
    (
        "nothing is found in an empty store",
        "1-2 list:
         1-2 get a b:
         1-2 last:",
    ),
    (
        "a write is read",
        "1-2 commit 5: a=1
         3-4 get a: a=1@5",
    ),
    (
        "stamps need not be dense",
        "1-2 commit 5: a=1
         3-4 commit 900: a=2
         5-6 list: a=2@900",
    ),
    (
        "concurrent writes get stamps in either order",
        "1-4 commit 6: a=1
         2-3 commit 5: a=2
         5-6 get a: a=1@6",
    ),
    (
        "a concurrent write is seen",
        "1-9 commit 5: a=1
         3-4 get a: a=1@5",
    ),
    (
        "a concurrent write is not seen yet",
        "1-9 commit 5: a=1
         3-4 get a:",
    ),
    (
        "overlapping reads see different states",
        "1-2 commit 5: a=1
         3-9 commit 6: a=2
         4-8 get a: a=2@6
         5-7 get a: a=1@5",
    ),
    (
        "a check holds",
        "1-2 commit 5: !a a=1
         3-4 commit 6: ?a@5 a=2
         5-6 get a: a=2@6",
    ),
    (
        "one of two racing writes conflicts",
        "1-2 commit 5: a=1
         3-6 commit 6: ?a@5 a=2
         3-6 conflict 0: ?a@5 a=3
         7-8 get a: a=2@6",
    ),
    (
        "a conflict is explained by a state in the middle of the call",
        "1-2 commit 5: a=1
         3-4 commit 6: -a
         5-6 commit 7: a=2
         2-6 conflict 0: ?a@5 b=1",
    ),
    (
        "all failing checks are named",
        "1-2 commit 5: a=1
         3-4 conflict 0,2: !a ?a@5 ?b@3 a=2",
    ),
    (
        "a deleted key is absent",
        "1-2 commit 5: a=1
         3-4 commit 6: -a
         5-6 commit 7: !a a=2
         7-8 get a: a=2@7",
    ),
    (
        "deleting an absent key is a commit",
        "1-2 commit 5 existed n: -a
         3-4 list:",
    ),
    (
        "a write without mutations is a commit",
        "1-2 commit 5: a=1
         3-4 commit 6: ?a@5
         5-6 get a: a=1@5",
    ),
    (
        "existence is reported mutation by mutation",
        "1-2 commit 5 existed nyny: a=1 a=2 q#=1 -a
         3-4 list: q#5=1@5",
    ),
    (
        "sums add up",
        "1-2 commit 5: n+1
         3-6 commit 7: n+2
         3-6 commit 6: n+3
         7-8 get n: n=6@7",
    ),
    (
        "a sum of a text is refused",
        "1-2 commit 5: a=x
         3-4 refused: a+1 b=1
         5-6 list: a=x@5",
    ),
    (
        "a sum is refused during the time in which it did not fit",
        "1-2 commit 5: a=x
         3-8 refused: a+1
         4-5 commit 6: -a
         6-7 get a:",
    ),
    (
        "mutations apply in order",
        "1-2 commit 5: n=5 n+1 m=1 -m
         3-4 list: n=6@5",
    ),
    (
        "a lost write did not happen",
        "1-2 commit 5: a=1
         3-? lost: a=2
         5-6 list: a=1@5",
    ),
    (
        "a lost write happened",
        "1-2 commit 5: a=1
         3-? lost: a=2 b=1
         5-6 list: a=2@6 b=1@6",
    ),
    (
        "a lost write happened after later ones",
        "1-? lost: a=2
         3-4 commit 5: a=1
         5-6 get a: a=1@5
         7-8 get a: a=2@6",
    ),
    (
        "a lost write was overwritten but left its mark",
        "1-? lost: a=2 log=w1
         3-4 commit 6: a=1
         5-6 list: a=1@6 log=w1@5",
    ),
    (
        "lost sums count when their mark is there",
        "1-2 commit 5: n=1
         3-? lost: n+1 w1=w1
         3-? lost: n+1 w2=w2
         4-5 commit 7: n+10
         6-7 list: n=12@7 w1=w1@6",
    ),
    (
        "a lost write of a versionstamped key is told by its value",
        "1-? lost: q#=7
         3-4 list: q#5=7@5",
    ),
    (
        "a write lost in a crash happened before it",
        "1-3 lost: a=1
         4-5 commit 6: b=1
         6-7 list: a=1@5 b=1@6",
    ),
    (
        "the order of stamps, not of answers, decides",
        "1-9 commit 5: a=1
         2-3 commit 6: a=2
         4-5 get a: a=2@6
         10-11 get a: a=2@6",
    ),
    (
        "an entry is read until it expires",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 49 get a: a=1@5~50
         5-6 at 50 get a:
         7-8 at 50 commit 6: !a a=2
         9-10 at 50 get a: a=2@6",
    ),
    (
        "an entry comes back when the clock steps back before its sweep",
        "1-2 at 10 commit 5: a=1~50
         3-4 at 50 get a:
         5-6 at 20 get a: a=1@5~50",
    ),
    (
        "a sum removes the expiry",
        "1-2 at 10 commit 5: n=1~50
         3-4 at 10 commit 6: n+1
         5-6 at 90 get n: n=2@6",
    ),
    (
        "the last entry is read from the end",
        "1-2 commit 5: a=1 b=1
         3-4 last: b=1@5",
    ),
    (
        "equal values of different writes are told apart by their stamps",
        "1-2 commit 5: a=1
         3-4 commit 6: a=1
         5-6 get a: a=1@6",
    ),
    (
        "a watch shows every state",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         watch a from 0 settled: 0[] 2[a=1@5] 4[a=2@6]",
    ),
    (
        "a watch skips states",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         5-6 commit 7: -a
         watch a from 0 settled: 1[] 7[]",
    ),
    (
        "a watch wakes for nothing",
        "1-2 commit 5: a=1
         3-4 commit 6: b=1
         watch a from 2 settled: 3[a=1@5] 5[a=1@5]",
    ),
    (
        "a watch shows a commit before its answer",
        "1-9 commit 5: a=1
         watch a from 2: 3[a=1@5]",
    ),
    (
        "a watch shows an expiry",
        "1-2 at 10 commit 5: a=1~50
         watch a from 2 settled at 10: 3[a=1@5~50] 8~50[]",
    ),
    (
        "a watch that broke off may have missed the end",
        "1-2 commit 5: a=1
         3-4 commit 6: a=2
         watch a from 2: 3[a=1@5]",
    ),
    (
        "a follower is told of everything",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1 c=1
         7-8 commit 7: -a
         follow from 1-2 settled: 5@5[a] 9@7[c b -a]",
    ),
    (
        "a follower is told of several changes at once",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         7-8 commit 7: a=2
         follow from 1-2 settled: 9@7[b a]",
    ),
    (
        "a follower is not told of what happened before",
        "1-2 commit 5: a=1
         5-6 commit 6: b=1
         follow from 3-4 settled: 7@6[b]",
    ),
    (
        "a follower that polled late is told of what happened before or not",
        "3-4 commit 5: a=1
         5-6 commit 6: a=2
         9-10 commit 7: b=2
         follow from 1-7 settled: 11@7[a b]
         follow from 1-7 settled: 11@7[b]",
    ),
    (
        "a slow follower is told that it missed something",
        "3-4 commit 5: a=1
         5-6 commit 6: b=1
         7-8 commit 7: c=1
         follow from 1-2 settled: 7@6[missed] 9@7[c]",
    ),
    (
        "a follower need not hear of deletions of what was not there",
        "3-4 commit 5: -a
         5-6 commit 6: b=1
         follow from 1-2 settled: 7@6[b]",
    ),
];

#[test]
fn every_planted_fault_is_flagged_for_the_right_reason() {
    assert!(BAD.len() >= 30);
    for (name, expected, story) in BAD {
        match parse(story).check() {
            Ok(_) => panic!("passed although {name}"),
            Err(violation) => assert_eq!(kind(&violation), *expected, "{name}: {violation}"),
        }
    }
}

#[test]
fn every_good_history_passes() {
    assert!(GOOD.len() >= 30);
    for (name, story) in GOOD {
        if let Err(violation) = parse(story).check() {
            panic!("flagged although {name}: {violation}");
        }
    }
}

#[test]
fn the_report_counts_what_became_of_lost_writes() {
    let report = parse(
        "1-2 commit 5: a=1
         3-? lost: b=1
         3-? lost: c=1
         5-6 list: a=1@5 c=1@7",
    )
    .check()
    .unwrap();
    assert_eq!((report.commits, report.recovered), (2, 1));
    assert_eq!((report.vanished, report.observations), (1, 1));
    assert_eq!(report.last.all(UnixMillis(0)), entries("a=1@5 c=1@7"));
}

/// The name of a violation's case.
fn kind(violation: &Violation) -> String {
    let text = format!("{violation:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}

fn parse(story: &str) -> History {
    let mut history = History::default();
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, rest) = line.split_once(':').expect(line);
        let mut words: Vec<&str> = head.split(' ').collect();
        let now = match words.iter().position(|word| *word == "at") {
            Some(at) => {
                words.remove(at);
                UnixMillis(number(words.remove(at)))
            }
            None => UnixMillis(0),
        };
        match words[..] {
            ["watch", ref keys @ .., "from", from, "settled"] => {
                let log = watch(keys, from, true, now, rest);
                history.watches.push(log);
            }
            ["watch", ref keys @ .., "from", from] => {
                let log = watch(keys, from, false, now, rest);
                history.watches.push(log);
            }
            ["follow", "from", span, ref settled @ ..] => {
                history
                    .follows
                    .push(follow(span, !settled.is_empty(), rest));
            }
            [span, verb, ref args @ ..] => {
                let (invoked, returned) = span.split_once('-').expect(line);
                history.operations.push(Operation {
                    client: history.operations.len() as u32,
                    invoked: tick(invoked),
                    returned: tick(returned),
                    now,
                    action: action(verb, args, rest),
                });
            }
            _ => panic!("{line}"),
        }
    }
    history
}

fn action(verb: &str, args: &[&str], rest: &str) -> Action {
    match (verb, args) {
        ("commit", [stamp, existed @ ..]) => {
            let existed: Vec<bool> = match existed {
                ["existed", letters] => letters.chars().map(|letter| letter == 'y').collect(),
                _ => Vec::new(),
            };
            let mut write = write(rest);
            write.report_existed = !existed.is_empty();
            let versionstamp = self::stamp(stamp);
            Action::Commit(
                write,
                Answer::Committed(Committed {
                    versionstamp,
                    existed,
                }),
            )
        }
        ("conflict", [failed]) => {
            let failed = failed.split(',').map(number).collect();
            Action::Commit(write(rest), Answer::Conflict(failed))
        }
        ("refused", []) => Action::Commit(write(rest), Answer::Refused(Refusal::TypeMismatch)),
        ("lost", []) => Action::Commit(write(rest), Answer::Unknown),
        ("get", names) => {
            let found = entries(rest);
            let read = SnapshotRead::keys(names.iter().map(|name| key(name)));
            let of_range = |range: &RangeRead| {
                let inside = |entry: &&Entry| range.range.contains(&entry.key);
                found.iter().filter(inside).cloned().collect()
            };
            let ranges = read.ranges.iter().map(of_range).collect();
            Action::Read(read, snapshot(ranges))
        }
        ("list", []) => {
            let everything = KeyRange::starting_with(&Key::default());
            let read = SnapshotRead::range(RangeRead::new(everything, 1000));
            Action::Read(read, snapshot(vec![entries(rest)]))
        }
        ("last", []) => {
            let everything = KeyRange::starting_with(&Key::default());
            let read = SnapshotRead::range(RangeRead::new(everything, 1).reversed());
            Action::Read(read, snapshot(vec![entries(rest)]))
        }
        _ => panic!("{verb} {args:?}"),
    }
}

fn snapshot(ranges: Vec<Vec<Entry>>) -> Snapshot {
    let range = |entries| kvasir_kv::RangeResult {
        entries,
        cut_by_bytes: false,
    };
    Snapshot {
        ranges: ranges.into_iter().map(range).collect(),
    }
}

fn watch(keys: &[&str], from: &str, settled: bool, now: UnixMillis, rest: &str) -> WatchLog {
    let keys: Vec<Key> = keys.iter().map(|name| key(name)).collect();
    let mut time = now;
    let items = bracketed(rest).map(|(head, item)| {
        let (at, changed) = head.split_once('~').unwrap_or((head, ""));
        if !changed.is_empty() {
            time = UnixMillis(number(changed));
        }
        let found = entries(item);
        let state = |key: &Key| found.iter().find(|entry| entry.key == *key).cloned();
        (tick(at), time, keys.iter().map(state).collect())
    });
    let items = items.collect();
    WatchLog {
        opened: tick(from),
        opened_at: now,
        items,
        settled,
        keys,
    }
}

fn follow(span: &str, settled: bool, rest: &str) -> FollowLog {
    let (opened, polled) = span.split_once('-').expect(span);
    let items = bracketed(rest).map(|(head, item)| {
        let (at, upto) = head.split_once('@').expect(head);
        let told = |word: &str| match word.strip_prefix('-') {
            Some(name) => (key(name), false),
            None => (key(word), true),
        };
        let missed = item == "missed";
        let keys = match missed {
            true => Vec::new(),
            false => item.split_whitespace().map(told).collect(),
        };
        (
            tick(at),
            Changes {
                versionstamp: stamp(upto),
                keys,
                missed,
            },
        )
    });
    FollowLog {
        range: KeyRange::starting_with(&Key::default()),
        opened: tick(opened),
        polled: tick(polled),
        items: items.collect(),
        settled,
    }
}

/// Splits `HEAD[ITEM] HEAD[ITEM]`.
fn bracketed(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_inclusive(']').filter_map(|item| {
        let item = item.trim().strip_suffix(']')?;
        item.split_once('[')
    })
}

fn write(text: &str) -> AtomicWrite {
    let mut write = AtomicWrite::new();
    for word in text.split_whitespace() {
        write = if let Some((name, at)) = word.strip_prefix('?').and_then(|w| w.split_once('@')) {
            write.check(key(name), stamp(at))
        } else if let Some(name) = word.strip_prefix('!') {
            write.check_absent(key(name))
        } else if let Some(name) = word.strip_prefix('-') {
            write.push(Mutation::delete(key(name)))
        } else if let Some((name, value)) = word.split_once("#=") {
            write.push(Mutation::SetVersionstamped {
                prefix: key(name),
                suffix: Key::default(),
                value: Value::json(value.to_owned()),
                expires_at: None,
            })
        } else if let Some((name, operand)) = word.split_once('+') {
            write.push(Mutation::Sum {
                key: key(name),
                operand: Value::json(operand.to_owned()),
                bounds: SumBounds::default(),
            })
        } else {
            let (name, value) = word.split_once('=').expect(word);
            let (value, expires_at) = expiring(value);
            write.push(Mutation::set_expiring(key(name), value, expires_at))
        };
    }
    write
}

/// Entries `KEY=VALUE@STAMP[~EXPIRY]`.
fn entries(text: &str) -> Vec<Entry> {
    let entry = |word: &str| {
        let (name, rest) = word.split_once('=').expect(word);
        let (value, rest) = rest.split_once('@').expect(word);
        let (at, expiry) = rest.split_once('~').unwrap_or((rest, ""));
        let key = match name.split_once('#') {
            Some((prefix, at)) => key(prefix).with_string(&stamp(at).to_string()),
            None => key(name),
        };
        Entry {
            key,
            value: Value::json(value.to_owned()),
            versionstamp: stamp(at),
            expires_at: (!expiry.is_empty()).then(|| UnixMillis(number(expiry))),
            meta: None,
        }
    };
    text.split_whitespace().map(entry).collect()
}

fn expiring(text: &str) -> (Value, Option<UnixMillis>) {
    let (value, expiry) = text.split_once('~').unwrap_or((text, ""));
    let expires_at = (!expiry.is_empty()).then(|| UnixMillis(number(expiry)));
    (Value::json(value.to_owned()), expires_at)
}

fn key(name: &str) -> Key {
    Key::from_strings([name])
}

fn stamp(text: &str) -> Versionstamp {
    Versionstamp::new(number(text), 0)
}

fn tick(text: &str) -> Tick {
    match text {
        "?" => Tick::NEVER,
        number => Tick(self::number(number)),
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
}
