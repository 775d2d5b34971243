//! A new process takes over from the one that runs: both sides, and the channel between them. What they say and when there is
//! no way back is decided in the package `protocol`.

mod channel;
pub mod dispatcher;
pub mod moving_in;
mod moving_out;
pub mod new;
pub mod old;
pub mod program;
