//! Backends of Kvasir: memory, embedded, SQLite, MySQL, PostgreSQL
