//! An encrypted mesh that gives containers on different hosts addresses that reach each other. The registry is all that
//! a host must be told of: hosts publish themselves there and watch each other.
//!
//! What is decided stands in pure modules: [`network`] has the shapes. [`daemon`] is the one owner of what this host
//! holds; [`mesh`] is how others in the process see it and ask it, [`api`] how the commands do.

pub mod api;
pub mod config;
mod daemon;
pub mod device;
pub mod files;
pub mod identity;
pub mod keys;
pub mod link;
pub mod mesh;
pub mod network;
pub mod state;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;
use tracing::info;

use config::Config;
use daemon::Daemon;
use identity::Identity;
use keys::{KeyError, PrivateKey};
use mesh::Mesh;
use state::{Held, Saved, StateError};

/// Why the overlay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place for its state.
    #[error("cannot make {}, where key and state are kept; give another --state-dir", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No state.
    #[error(transparent)]
    State(#[from] StateError),
    /// No socket.
    #[error(transparent)]
    Socket(#[from] api::SocketError),
}

/// Runs this host's part of the mesh until `shutdown`, and answers at the socket at `socket`.
///
/// # Errors
/// [`Error`], before anything was done.
pub async fn run(config: Config, socket: &Path, shutdown: CancellationToken) -> Result<(), Error> {
    make_directory(&config.state_dir)?;
    // First: it is also what keeps a second daemon away from the state.
    let listener = api::bind(socket).await?;
    let identity = Identity::new(PrivateKey::load_or_make(&config.state_dir.join("key"))?);
    let saved = Saved::load(&config.state_dir)?;
    let nothing = Held { node: identity.node(), host: config.name.clone(), networks: Vec::new() };
    let (mesh, ends) = Mesh::new(nothing);
    info!("this host is {} ({})", config.name, identity.node());
    let daemon = Daemon::new(config, identity.node(), saved, ends);
    let serving = tokio::spawn(api::serve(listener, api::router(mesh), shutdown.clone()));
    daemon.run(shutdown).await;
    let _ = serving.await;
    let _ = fs::remove_file(socket);
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Directory { path: path.to_owned(), source })
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
