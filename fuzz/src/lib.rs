//! The fuzz targets as a library, so that each driver is one line.

pub mod targets;
