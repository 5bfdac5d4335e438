//! An agent in this process, and what speaks to it from outside: one binary, as each that links the agent is large.

mod acl;
mod agent_api;
mod checks;
mod common;
mod complaints;
mod dns;
#[cfg(feature = "etcd")]
mod etcd;
mod filter;
mod http;
mod locks;
mod prepared_query;
mod replica;
mod sharing;
mod snapshot;
mod strict;
mod upgrade;
mod wire;
