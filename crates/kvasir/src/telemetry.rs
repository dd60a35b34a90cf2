//! What the server tells about itself: logs, metrics, health.

pub mod logs;
pub mod probes;
pub mod requests;
pub mod series;
