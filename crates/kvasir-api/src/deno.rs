//! The Deno dialect: KV Connect.
