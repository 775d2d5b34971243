//! Looks and never acts: counts and times, writes the log, serves the admin listener, takes profiles.

pub mod admin;
pub mod backends;
pub mod certificates;
pub mod cluster;
pub mod counters;
pub mod incidents;
pub mod latency;
pub mod log;
pub mod profile;
pub mod refusals;
pub mod reloads;
pub mod report;
pub mod watch;
