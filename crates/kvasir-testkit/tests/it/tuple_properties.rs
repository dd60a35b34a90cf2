//! The tuple codec over generated keys: byte order is part order, and everything reads back.

use bytes::Bytes;
use kvasir_kv::{Key, KeyRange, Part, tuple};
use kvasir_testkit::effort::Effort;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Pairs of a plain run. The specification wants a million: `KVASIR_TEST_EFFORT=50`.
const PAIRS: u32 = 20_000;

fn part() -> impl Strategy<Value = Part> {
    let bytes = vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..12);
    let odd_numbers = [
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        5e-324,
    ];
    prop_oneof![
        bytes
            .clone()
            .prop_map(|bytes| Part::Bytes(Bytes::from(bytes))),
        ".{0,8}".prop_map(Part::String),
        "[\u{0}a\u{1}]{0,6}".prop_map(Part::String),
        (any::<bool>(), vec(any::<u8>(), 0..20)).prop_map(|(is_negative, magnitude)| {
            let magnitude = num_bigint::BigInt::from_bytes_be(num_bigint::Sign::Plus, &magnitude);
            Part::BigInt(if is_negative { -magnitude } else { magnitude })
        }),
        (-300i32..300).prop_map(|small| Part::BigInt(small.into())),
        any::<f64>().prop_map(Part::Number),
        proptest::sample::select(odd_numbers.to_vec()).prop_map(Part::Number),
        any::<bool>().prop_map(Part::Bool),
    ]
}

/// Keys that often share their beginning, where order is decided late.
fn pair() -> impl Strategy<Value = (Vec<Part>, Vec<Part>)> {
    (vec(part(), 0..3), vec(part(), 0..3), vec(part(), 0..3)).prop_map(|(shared, a, b)| {
        let with = |rest: Vec<Part>| shared.iter().cloned().chain(rest).collect();
        (with(a), with(b))
    })
}

fn check<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let effort = Effort::from_env();
    let config = Config {
        cases: effort.times(PAIRS),
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&effort.seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(strategy, property) {
        panic!("KVASIR_TEST_SEED={}: {error}", effort.seed);
    }
}

#[test]
fn byte_order_is_part_order_and_every_key_reads_back() {
    check(&pair(), |(a, b)| {
        let (low, high) = (Key::from_parts(&a), Key::from_parts(&b));
        prop_assert_eq!(low.cmp(&high), a.cmp(&b));
        prop_assert_eq!(low.parts(), Ok(a));
        prop_assert_eq!(high.parts(), Ok(b));
        Ok(())
    });
}

#[test]
fn a_range_below_a_key_holds_exactly_its_longer_tuples() {
    check(&pair(), |(prefix, other)| {
        let is_longer = other.len() > prefix.len() && other.starts_with(&prefix);
        let range = KeyRange::below(&Key::from_parts(&prefix));
        prop_assert_eq!(range.contains(&Key::from_parts(&other)), is_longer);
        Ok(())
    });
}

#[test]
fn bytes_that_read_as_a_key_are_the_ones_that_it_writes() {
    check(&vec(any::<u8>(), 0..24), |bytes| {
        if let Ok(parts) = tuple::decode(&bytes) {
            let is_odd_nan = parts
                .iter()
                .any(|part| matches!(part, Part::Number(n) if n.is_nan()));
            let written = tuple::encode(&parts);
            // Every NaN is written as the canonical one of its sign.
            prop_assert!(is_odd_nan || written == Ok(bytes));
        }
        Ok(())
    });
}

#[test]
fn mangled_keys_are_refused_or_read_as_other_keys_but_never_as_the_same() {
    check(
        &(pair(), any::<u16>(), 1u8..),
        |((parts, _), place, flip)| {
            let mut bytes = tuple::encode(&parts).expect("short integers");
            if !bytes.is_empty() {
                let place = usize::from(place) % bytes.len();
                bytes[place] ^= flip;
                prop_assert!(tuple::decode(&bytes) != Ok(parts) || is_nan_near(&bytes));
            }
            Ok(())
        },
    );
}

/// A mangled NaN may be another spelling of the same one.
fn is_nan_near(bytes: &[u8]) -> bool {
    let parts = tuple::decode(bytes).unwrap_or_default();
    parts
        .iter()
        .any(|part| matches!(part, Part::Number(n) if n.is_nan()))
}
