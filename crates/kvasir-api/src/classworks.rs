//! The Classworks KV dialect: namespaces of JSON values.
