#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kvasir_fuzz::targets::kopano_batch(bytes));
