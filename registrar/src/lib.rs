//! Keeps the registry equal to what Docker runs on this host.
//!
//! What is decided stands in pure modules: [`container`] reads facts, [`mapping`] says what should be registered for
//! them, [`plan`] what to do about a difference, [`world`] and [`ledger`] what is known of either side. [`docker`] and
//! [`registry`] talk to the two, and [`reconcile`] is the loop between them. [`callers`] keeps the keys by which
//! containers are known when they ask.

pub mod address;
pub mod boot;
pub mod callers;
pub mod checks;
pub mod config;
pub mod container;
pub mod docker;
pub mod doctor;
pub mod drain;
pub mod dry_run;
pub mod explain;
pub mod ledger;
pub mod mapping;
pub mod plan;
pub mod reconcile;
pub mod registry;
pub mod state;
pub mod status;
pub mod variables;
pub mod world;

use std::{net::SocketAddr, sync::Arc};

use kvstore_client::{
    monitoring::{self, NotWell},
    systemd::Systemd,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use config::Config;
use status::Status;

/// Why the registrar cannot start. Once it runs, nothing ends it but its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place for its identity.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A registry's address.
    #[error(transparent)]
    Registry(#[from] kvstore_client::Error),
    /// Docker could not be asked; only for commands that ask once.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// This host's address is not known; only for commands that ask once.
    #[error("cannot tell this host's address, also not on the way to the registry; give it by --ip")]
    Address(#[source] std::io::Error),
    /// The registry could not be asked; only for commands that ask once.
    #[error(transparent)]
    View(#[from] registry::Trouble),
    /// No place for health and metrics.
    #[error("cannot listen at {address}; give another --http-addr, or none")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No registrar here is asked about its health.
    #[error("a registrar tells how it does only where it is given an --http-addr; give the same one here")]
    NowhereToAsk,
    /// The one that runs here is not well.
    #[error(transparent)]
    NotWell(#[from] NotWell),
    /// Nothing to drain.
    #[error("nothing is registered for container {0}; registrar explain {0} tells what would be, and why not")]
    NothingRegistered(String),
    /// There is no such container.
    #[error("no running container is named {0:?}; docker ps shows the names")]
    NoContainer(String),
}

/// Follows Docker and keeps the registry equal to it until `shutdown`.
///
/// # Errors
/// [`Error`], before anything was done.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let registry = config.registry()?;
    let state = match &config.state_dir {
        Some(dir) => state::load(dir)?,
        None => state::load_default().unwrap_or_else(|error| {
            warn!(
                "{}; this host is told from others by Docker's ID alone, which clones of a machine share. \
                 Give a directory by --state-dir",
                kvstore_client::with_causes(&error)
            );
            "-".into()
        }),
    };
    let status = Arc::new(Status::default());
    let serving = match config.http {
        Some(address) => {
            let failed = |source| Error::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            info!("health and metrics at http://{}", listener.local_addr().map_err(failed)?);
            Some(tokio::spawn(shutdown.clone().run_until_cancelled_owned(monitoring::serve(listener, status.clone()))))
        }
        None => None,
    };
    let told = Systemd::from_environment().map(|s| tokio::spawn(s.serve_until(shutdown.clone().cancelled_owned())));
    reconcile::run(&config, registry, state, status, shutdown).await;
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    if let Some(told) = told {
        let _ = told.await;
    }
    Ok(())
}
