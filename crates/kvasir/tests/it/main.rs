//! Tests of the binary's library.

mod moving;
