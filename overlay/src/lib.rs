//! An encrypted mesh that gives containers on different hosts addresses that reach each other. The registry is all that
//! a host must be told of: hosts publish themselves there and watch each other.
//!
//! What is decided stands in pure modules: [`network`] has the shapes. `daemon` is the one owner of what this host
//! holds; [`mesh`] is how others in the process see it and ask it, [`api`] how the commands do.

pub mod addresses;
pub mod api;
pub mod attach;
pub mod blocks;
pub mod candidates;
pub mod clients;
pub mod config;
mod containers;
mod daemon;
pub mod device;
pub mod docker;
pub mod files;
pub mod firewall;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod identity;
pub mod join;
pub mod keys;
pub mod lans;
pub mod link;
pub mod mesh;
pub mod mtu;
pub mod names;
pub mod network;
mod news;
pub mod overlap;
pub mod paths;
pub mod peers;
pub mod plugin;
pub mod probe;
pub mod record;
pub mod registry;
pub mod routes;
pub mod seal;
pub mod secret;
pub mod state;
pub mod status;
pub mod world;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kvstore_client::{
    Client,
    monitoring::{self, NotWell},
    systemd::Systemd,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use config::Config;
use daemon::{Daemon, Parts};
use identity::Identity;
use keys::{KeyError, PrivateKey};
use mesh::Mesh;
use secret::{Keyring, SecretError};
use state::{Held, Saved, StateError};
use status::Status;

/// The file of the secrets that are known, in the directory of the state.
const SECRETS: &str = "secrets";

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
    /// No secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A registry's address.
    #[error(transparent)]
    Registry(#[from] kvstore_client::Error),
    /// No place for health and metrics.
    #[error("cannot listen at {address}; give another --http-addr, or none")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No overlay here is asked about its health.
    #[error("an overlay tells how it does only where it is given an --http-addr; give the same one here")]
    NowhereToAsk,
    /// The one that runs here is not well.
    #[error(transparent)]
    NotWell(#[from] NotWell),
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
    let keyring = secrets(&config)?;
    let saved = Saved::load(&config.state_dir)?;
    let client = Client::new(&config.registry_and(&saved.registries))?;
    let nothing = Held {
        node: identity.node(),
        host: config.name.clone(),
        tunnel: config.interface.clone(),
        networks: Vec::new(),
    };
    let (mesh, ends) = Mesh::new(nothing);
    info!("this host is {} ({})", config.name, identity.node());
    let (status, tasks, node) = (Arc::new(Status::default()), TaskTracker::new(), identity.node());
    if let Some(address) = config.http {
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        info!("health and metrics at http://{}", listener.local_addr().map_err(failed)?);
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(monitoring::serve(listener, status.clone())));
    }
    let (tell, seen) = watch::channel(registry::Seen::default());
    let (clients, client) = watch::channel(client);
    tasks.spawn(registry::follow(client.clone(), tell, shutdown.clone()));
    let (known, knows) = watch::channel(join::Known { keyring: keyring.clone(), registries: Vec::new() });
    tasks.spawn(join::serve(config.port, knows.clone(), shutdown.clone()));
    tasks.spawn(join::learn(config.members.clone(), knows, seen.clone(), mesh.clone(), shutdown.clone()));
    tasks.spawn(names::follow(client.clone(), node, config.name.clone(), mesh.names(), shutdown.clone()));
    tasks.spawn(registry::live(client, node, shutdown.clone()));
    if let Some(systemd) = Systemd::from_environment() {
        tasks.spawn(systemd.serve_until(shutdown.clone().cancelled_owned()));
    }
    let settings = config.clone();
    let daemon = Daemon::new(Parts { config, identity, keyring, clients, known, saved, ends, status });
    // By now the mesh tells what was kept: it is enough to answer Docker.
    let (doors, desk) = containers::open(&settings, &mesh, &shutdown).await;
    tasks.spawn(api::serve(listener, api::router(mesh.clone(), desk), shutdown.clone()));
    daemon.run(seen, shutdown.clone()).await;
    // Also if the daemon ended for another reason.
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    doors.join_all().await;
    let _ = fs::remove_file(socket);
    Ok(())
}

/// Those that are kept, and that of the file that was given: whichever is the newest counts. A file that has another one of the
/// same epoch is of another mesh, to which this host belongs from now on.
fn secrets(config: &Config) -> Result<Keyring, SecretError> {
    let kept = config.state_dir.join(SECRETS);
    let ring = match (Keyring::load(&config.secret_file), kept.exists()) {
        (Ok(given), false) => given,
        (Ok(given), true) => {
            let mut ring = Keyring::load(&kept)?;
            if ring.contradicts(&given) {
                warn!("{} has the secret of another mesh than before", config.secret_file.display());
                given
            } else {
                ring.merge(given);
                ring
            }
        }
        // A member goes on without the file that it was told of once.
        (Err(SecretError::File { .. }), true) => Keyring::load(&kept)?,
        (Err(error), _) => return Err(error),
    };
    ring.store(&kept)?;
    Ok(ring)
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
