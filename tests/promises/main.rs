//! Holds the program to what clients, backends and users are promised, one file per promise.
//!
//! Each test talks over real sockets to the program as a child process, between a scripted backend and clients of its
//! own. What is measured (memory, descriptors, processor time) is the child's, so that tests may run beside each other.

mod admission;
mod answers;
mod backends;
mod bad_frames;
mod browsers;
mod calls;
mod capacity;
mod cli;
mod clients;
mod cluster;
mod compression;
mod config;
mod connections;
mod contract;
mod descriptors;
mod documents;
mod drain;
mod examples;
mod frames;
mod handshakes;
mod hostile_backends;
mod https_backends;
mod idle;
mod ingress;
mod ingress_shares;
mod json;
mod layout;
mod life;
mod memory_under_attack;
mod openapi;
mod outcomes;
mod overload;
mod pipelining;
mod pushes;
mod restart;
mod scripts;
mod shards;
mod shares;
mod tls;
mod tls_behind;
mod tls_ends;
mod tls_facts;
mod tls_failures;
mod torture;
mod traces;
mod upgrade;
mod waits;
