//! The program as people and scripts meet it: help, flags, files, exit codes, and a whole agent behind it.

mod acl;
mod agent;
mod basics;
#[cfg(feature = "etcd")]
mod by_hand;
mod codes;
mod data;
mod defined;
mod dns;
mod flood;
#[cfg(feature = "etcd")]
mod guide;
mod harness;
mod lock;
mod migrate;
#[cfg(feature = "etcd")]
mod moving;
mod operate;
mod query;
mod recursors;
mod release;
mod snapshot;
mod tls;
mod watch;
