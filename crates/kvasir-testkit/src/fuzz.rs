//! The short form of fuzzing: seeds and mangled seeds, the same on every run, on any toolchain.
//!
//! The targets stand in `fuzz/src/targets.rs`, where libFuzzer drives them for as long as wanted. In
//! every change they get their seeds and some thousand inputs made from them by cutting, doubling,
//! splicing and flipping, which is what finds most of what a first hour of fuzzing finds.
//! `cargo xtask fuzz --seconds N` gives each target inputs for that long.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::effort::{Effort, fuzz_seconds};

/// Mangled inputs of a plain run.
const INPUTS: u32 = 3_000;

/// Largest input made, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Longest that one input may take. Far above what any needs on a busy machine; the limit of the
/// specification, a second, holds for a quiet one.
const HANG: Duration = Duration::from_secs(10);

/// Pieces that mean something to some parser.
const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\xff\x0f",
    b"[",
    b"]",
    b"{\"a\":",
    b"}",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"%00",
    b"%5C.",
    b".",
    b"..",
    b"/",
    b";",
    b"=",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9",
];

/// Runs a target on its seeds and on inputs made from them.
///
/// # Panics
///
/// If the target does, with the input in hexadecimal; or if it takes too long.
pub fn short_form(name: &str, target: fn(&[u8]), seeds: &[&[u8]]) {
    let effort = Effort::from_env();
    for seed in seeds {
        run(name, target, seed);
    }
    let mut rng = StdRng::seed_from_u64(effort.seed);
    let mut inputs = 0_u64;
    let begun = Instant::now();
    let is_enough = |inputs: u64| match fuzz_seconds() {
        Some(seconds) => begun.elapsed() >= Duration::from_secs(seconds),
        None => inputs >= u64::from(effort.times(INPUTS)),
    };
    while !is_enough(inputs) {
        run(name, target, &input(&mut rng, seeds));
        inputs += 1;
    }
    eprint_line(&format!("{name}: {inputs} inputs in {:?}", begun.elapsed()));
}

fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let begun = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let shown = &input[..input.len().min(2_000)];
        eprint_input(name, shown, input.len());
        resume_unwind(panic);
    }
    if begun.elapsed() > HANG {
        eprint_input(name, &input[..input.len().min(2_000)], input.len());
        panic!("{name} took {:?}", begun.elapsed());
    }
}

fn eprint_input(name: &str, shown: &[u8], bytes: usize) {
    let shown = HEXLOWER.encode(shown);
    eprint_line(&format!("{name}: {bytes} bytes: {shown}"));
}

#[allow(
    clippy::print_stderr,
    reason = "how much was tried, and the input that a failing test is about"
)]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}

/// An input: a seed with some changes, or noise.
fn input(rng: &mut StdRng, seeds: &[&[u8]]) -> Vec<u8> {
    let pick = |rng: &mut StdRng| match seeds {
        [] => Vec::new(),
        seeds => seeds[rng.random_range(0..seeds.len())].to_vec(),
    };
    let mut bytes = match rng.random_range(0..20) {
        0 => (0..rng.random_range(0..64)).map(|_| rng.random()).collect(),
        _ => pick(rng),
    };
    for _ in 0..rng.random_range(1..6) {
        mangle(rng, &mut bytes, &pick);
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn mangle(rng: &mut StdRng, bytes: &mut Vec<u8>, pick: &impl Fn(&mut StdRng) -> Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    let to = rng.random_range(at..=bytes.len().min(at + 16));
    match rng.random_range(0..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..to)),
        4 => {
            // Repetition: deep nesting, long runs, large counts.
            let piece = bytes[at..to].to_vec();
            let times = match rng.random_range(0..4) {
                0 => rng.random_range(1..2_000),
                _ => rng.random_range(1..4),
            };
            let repeated = piece.iter().copied().cycle().take(piece.len() * times);
            let repeated: Vec<u8> = repeated.take(INPUT_BYTES_MAX).collect();
            bytes.splice(at..at, repeated);
        }
        5 => {
            let piece = PIECES[rng.random_range(0..PIECES.len())];
            let times = if rng.random_bool(0.1) {
                rng.random_range(1..3_000)
            } else {
                1
            };
            bytes.splice(at..at, piece.repeat(times));
        }
        6 => {
            let other = pick(rng);
            let from = rng.random_range(0..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        7 => {
            // A number in the middle becomes another: lengths that lie.
            let number = rng.random::<u64>() >> rng.random_range(0..64);
            bytes.splice(at..to, number.to_string().into_bytes());
        }
        _ => {
            let number = rng.random::<u32>() >> rng.random_range(0..32);
            let place = at.min(bytes.len().saturating_sub(4));
            for (byte, digit) in bytes[place..].iter_mut().zip(number.to_be_bytes()) {
                *byte = digit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_make_equal_inputs_of_every_kind() {
        let seeds: [&[u8]; 2] = [b"[1,[2]]", b"abc"];
        let inputs = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..500)
                .map(|_| input(&mut rng, &seeds))
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let all = inputs(1);
        assert!(all.iter().any(Vec::is_empty));
        assert!(all.iter().any(|bytes| bytes.len() > 1_000));
        assert!(all.iter().all(|bytes| bytes.len() <= INPUT_BYTES_MAX));
    }

    #[test]
    #[should_panic(expected = "found it")]
    fn a_target_that_panics_fails_the_test() {
        short_form(
            "picky",
            |input| assert!(!input.starts_with(b"[["), "found it"),
            &[b"[1,[2]]"],
        );
    }
}
