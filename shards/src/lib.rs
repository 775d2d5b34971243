//! Where things run: pinned cores, their sockets and timers, and the messages between them.
