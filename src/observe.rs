//! Looks and never acts: what is counted and timed, the log, the admin listener, profiles.

pub mod admin;
pub mod counters;
pub mod latency;
pub mod log;
pub mod profile;
pub mod reloads;
pub mod report;
