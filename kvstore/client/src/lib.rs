//! The registry's HTTP API as plain types, typed calls and a watch loop.
//!
//! [`types`] holds the JSON of the API, field for field, and is shared by the server and by every program that talks
//! to it. [`Client`] has one method per endpoint, each with a deadline. [`Watch`] turns blocking queries into a
//! stream of new values. [`Access`] is how every program is told whom it talks to and as whom. Everything here also works
//! against a genuine Consul agent. [`monitoring`] is what those programs tell of themselves, [`logging`] how
//! they write it down, [`systemd`] whom they tell that they are ready, [`shutdown`] how they are ended, [`mod@reference`] what they take,
//! [`names`] what they call alike.

mod access;
mod causes;
mod client;
mod duration;
mod error;
pub mod fresh;
mod lock;
pub mod logging;
pub mod monitoring;
pub mod names;
pub mod pem;
pub mod reference;
pub mod settings;
pub mod shutdown;
pub mod systemd;
pub mod tls;
pub mod types;
mod watch;

pub use access::{Access, AccessError};
pub use causes::{causes, with_causes};
pub use client::{
    ChangesSince, Client, ClientConfig, Consistency, Download, ExecuteQuery, KvPut, KvWrite, MAX_KEYS, Passed, Read,
    Select, TlsConfig, Wait,
};
pub use duration::{GoDuration, ParseDurationError};
pub use error::Error;
pub use lock::lock_file;
pub use tls::choose_crypto;
pub use watch::{Backoff, Watch};
