//! The REST dialect: `/kv/{keypath}` over the default database.
