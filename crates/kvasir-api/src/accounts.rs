//! The accounts dialect: users, sessions, profile, products and orders over the default database.
