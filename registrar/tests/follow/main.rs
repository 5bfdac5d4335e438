//! The whole registrar between a Docker and a registry that are played by a few lines each: what it does when either
//! of them fails, loses, forgets or lies. Each test has its own three, so they run side by side.

mod fake_docker;
mod fake_registry;
mod host;
mod losses;
mod ownership;
mod stories;
