//! What the node's own agent does: takes registrations and runs the checks it owns.

mod definition;
pub mod registration;

pub use definition::{DEFAULT_TIMEOUT, MIN_INTERVAL};
