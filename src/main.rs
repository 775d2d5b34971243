//! The `ws2api` program.
fn main() {}
