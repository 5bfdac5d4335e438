//! The registry's HTTP API as plain types, typed calls and a watch loop.
//!
//! [`types`] holds the JSON of the API, field for field, and is shared by the server and by every program that talks
//! to it. [`Client`] has one method per endpoint, each with a deadline. [`Watch`] turns blocking queries into a
//! stream of new values. Everything here also works against a genuine Consul agent.

mod causes;
mod client;
mod duration;
mod error;
mod tls;
pub mod types;
mod watch;

pub use causes::{causes, with_causes};
pub use client::{Client, ClientConfig, Download, ExecuteQuery, KvPut, Read, Select, Wait};
pub use duration::{GoDuration, ParseDurationError};
pub use error::Error;
pub use tls::choose_crypto;
pub use watch::{Backoff, Watch};
