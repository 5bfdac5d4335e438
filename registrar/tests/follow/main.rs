//! The whole registrar between a Docker that is played by a few lines and a registry that takes only what Consul takes:
//! what it does when either of them fails, loses, forgets or lies. Each test has its own three, so they run side by side.

mod callers;
mod doctor;
mod host;
mod lives;
mod losses;
mod ownership;
mod registry;
mod stories;
mod told;
