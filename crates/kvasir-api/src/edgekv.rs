//! The Akamai EdgeKV dialect: administration API and data plane.
