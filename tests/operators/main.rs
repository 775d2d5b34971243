//! Holds the program to what operators are promised: metrics, status, profiles, logs, signals, words at the start.

mod activation;
mod alerts;
mod backend_health;
mod browser;
mod commands;
mod confined;
mod finding;
mod incidents;
mod kubernetes;
mod load;
mod logs;
mod metrics;
mod profiles;
mod rebalance;
mod reload;
mod service;
mod start_up;
mod status;
mod strangers;
mod takeover;
mod tap_commands;
mod taps;
mod upgrade;
mod upgrade_deaths;
mod upgrade_manager;
mod watchdog;
