//! One function per route, by plane and noun.

pub(super) mod data_plane;
pub(super) mod database;
pub(super) mod items;
pub(super) mod namespaces;
pub(super) mod tokens;
