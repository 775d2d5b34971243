//! Real sockets: a played server says what no server says, and a real one judges what is said to it.

mod driver;
mod measured;
mod played;
mod real;
