//! `overlay`: arguments -> run -> exit code.

mod cli;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};
use kvstore_client::with_causes;
use nix::sys::signal::Signal;
use overlay::{
    api::DEFAULT_SOCKET,
    config::{Config, LogFormat, Settings},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use cli::{Daemon, Failure};

const EXAMPLES: &str = "\
Examples:
  overlay up                                           this host's part of the mesh, with a registry on this host
  overlay network create scratch --local --subnet 10.8.0.0/24
                                                       a network of this host
  overlay network ls                                   what there is
Levels of logging: OVERLAY_LOG=debug";

/// Gives containers on different hosts addresses that reach each other, encrypted.
#[derive(Parser)]
#[command(name = "overlay", disable_version_flag = true, after_help = EXAMPLES, max_term_width = 120)]
struct Arguments {
    /// The daemon's socket
    #[arg(long, env = "OVERLAY_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET, global = true)]
    socket: PathBuf,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs this host's part of the mesh
    Up {
        /// YAML or JSON file with the same keys as the long flags; flags and environment win
        #[arg(long, env = "OVERLAY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Makes, lists and removes networks
    Network {
        #[command(subcommand)]
        command: cli::network::Command,
    },
    /// Prints the version
    Version,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overlay: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { socket, json, command } = arguments;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Up { config, settings } => up(*settings, config, &socket).await,
            Command::Network { command } => cli::network::run(command, &Daemon::at(socket)?, json).await,
            Command::Version => {
                println!("overlay {}", env!("CARGO_PKG_VERSION"));
                Ok(())
            }
        }
    })
}

async fn up(settings: Settings, file: Option<PathBuf>, socket: &std::path::Path) -> Result<(), Failure> {
    let file = match &file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|e| Failure::usage(format!("{} cannot be read: {e}", path.display())))?;
            Some((path.display().to_string(), text))
        }
    };
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let config = Config::new(settings, file, &host.to_string_lossy()).map_err(|e| Failure::usage(e.to_string()))?;
    log(config.log_format);
    if let Some(warning) = config.registry.warning() {
        warn!("{warning}");
    }
    overlay::run(config, socket, until_signal()?).await.map_err(|error| Failure::new(with_causes(&error)))
}

/// Cancelled at INT or TERM; a second one ends the process at once.
fn until_signal() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")));
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = int.recv() => Signal::SIGINT,
                _ = term.recv() => Signal::SIGTERM,
            };
            if token.is_cancelled() {
                std::process::exit(1);
            }
            info!("stopping at {name}");
            token.cancel();
        }
    });
    Ok(stop)
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("OVERLAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
