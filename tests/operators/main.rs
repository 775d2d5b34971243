//! What operators are promised: metrics, status, profiles, logs, signals, words at the start. Against the real program.

mod activation;
mod alerts;
mod browser;
mod logs;
mod metrics;
mod profiles;
mod reload;
mod service;
mod start_up;
mod status;
mod watchdog;
