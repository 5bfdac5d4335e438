//! The whole program against a registry that takes only what Consul takes: what is registered is in the file, and nothing
//! bad ever goes live.

mod follow;
mod losses;
mod place;
mod process;
mod proxies;
mod registry;
mod reloads;
mod sources;
