//! Tests of the binary's library.

mod crash;
mod moving;
