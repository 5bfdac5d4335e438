//! The registry server: keeps the state, answers HTTP and DNS, runs its node's checks.
//!
//! [`server::run`] builds the parts and stops them in order. The decisions are in the crate `kvstore-core`; what is here
//! waits, calls the core and does what it said.

mod acl;
pub mod agent;
pub mod cli;
pub mod config;
mod connections;
mod coordinates;
mod deadlines;
mod dns;
pub mod engine;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod http;
mod logging;
mod metrics;
mod open_files;
mod own_node;
pub mod reload;
mod remedy;
mod replica;
pub mod server;
pub mod snapshot;
mod store;
mod waiters;
mod whole_file;
