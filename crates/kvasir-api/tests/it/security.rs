//! Who can reach what, over all dialects at once: generated from their route tables.

mod credentials;
mod estate;
mod matrix;
mod pages;
mod table;
