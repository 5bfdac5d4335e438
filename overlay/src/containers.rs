//! The doors by which containers come into the mesh's networks: Docker's driver `flotilla`, networks of Docker's own, and
//! links that are attached to what runs.
//! The mesh goes on without them.

use kvstore_client::with_causes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    attach::Desk,
    config::Config,
    docker,
    link::Links,
    mesh::Mesh,
    plugin::{self, Plugin},
};

/// What the driver has told Docker, in the directory of the state.
const BOOK: &str = "docker.json";

/// Opens them: what runs until `shutdown`, and where links are asked for.
pub(crate) async fn open(config: &Config, mesh: &Mesh, shutdown: &CancellationToken) -> (JoinSet<()>, Option<Desk>) {
    let mut doors = JoinSet::new();
    let links = match Links::here() {
        Ok(links) => links,
        Err(error) => return closed(doors, &error),
    };
    let plugin = match Plugin::new(config.state_dir.join(BOOK), links.clone(), mesh.clone()) {
        Ok(plugin) => plugin,
        Err(error) => return closed(doors, &error),
    };
    let desk = Desk::new(plugin.clone(), config.docker.clone(), links.clone(), mesh.clone());
    let (keeper, until) = (desk.clone(), shutdown.clone());
    doors.spawn(async move { keeper.follow(until).await });
    let Some(docker) = config.docker.clone() else { return (doors, Some(desk)) };
    match plugin::bind(&config.plugin_socket).await {
        Ok(socket) => {
            info!("Docker's driver of networks is at {}", config.plugin_socket.display());
            doors.spawn(plugin::serve(socket, plugin.clone(), shutdown.clone()));
        }
        Err(error) => warn!("Docker gets no driver of networks: {}", with_causes(&error)),
    }
    let follower = plugin.clone();
    let until = shutdown.clone();
    doors.spawn(async move { follower.follow(until).await });
    doors.spawn(docker::follow(docker, links, mesh.clone(), plugin, shutdown.clone()));
    (doors, Some(desk))
}

fn closed(doors: JoinSet<()>, error: &dyn std::error::Error) -> (JoinSet<()>, Option<Desk>) {
    warn!("containers get no networks of the mesh: {}", with_causes(error));
    (doors, None)
}
