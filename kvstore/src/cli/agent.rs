//! `kvstore agent`: the registry itself, from its flags to its end by a signal.

mod flags;

use std::sync::Arc;

use kvstore_client::{shutdown::until_signal, systemd::Systemd, with_causes};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::{
    config, logging, open_files,
    reload::{Reload, Reread},
    server::{self, Surroundings},
};

pub(super) use flags::Args;

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let (files, flags) = args.into_layer();
    let config = config::load(&files, flags.clone())?;
    let logs = logging::start(&config.log);
    let reread: Reread = Arc::new(move || config::load(&files, flags.clone()));
    config.notes.iter().for_each(|note| tracing::info!("{note}"));
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    if let Err(error) = open_files::raise() {
        tracing::warn!(%error, "the limit of open files stays as it is, and so does that of connections");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new("cannot start").because(&e))?;
    runtime.block_on(async {
        let untaken = |e: std::io::Error| Failure::new("cannot take signals").because(&e);
        let shutdown = until_signal().map_err(untaken)?;
        // Taken before the start, because untaken it ends the process.
        let hangup = signal(SignalKind::hangup()).map_err(untaken)?;
        let surroundings = Surroundings { logs, reread: Some(reread) };
        let running = server::start_in(surroundings, config, shutdown.clone()).await?;
        let told = Systemd::from_environment().map(|s| tokio::spawn(s.serve_until(shutdown.cancelled_owned())));
        tokio::spawn(reload_by_signal(hangup, running.reload.clone()));
        running.wait().await;
        if let Some(told) = told {
            let _ = told.await;
        }
        Ok(())
    })
}

/// Each HUP reads the configuration again.
async fn reload_by_signal(mut hangup: Signal, reload: Reload) {
    while hangup.recv().await.is_some() {
        tracing::info!(signal = "HUP", "reading the configuration again");
        if let Err(error) = reload.run().await {
            tracing::error!(error = with_causes(&error), "the configuration stays as it was");
        }
    }
}
