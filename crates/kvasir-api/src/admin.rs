//! The admin API below `/_/api/v1` and the console.
