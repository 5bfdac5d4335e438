//! `overlay`: arguments -> run -> exit code.

mod cli;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use kvstore_client::{GoDuration, logging, monitoring, reference, shutdown::until_signal, with_causes};
use overlay::{
    api::DEFAULT_SOCKET,
    config::{Config, Settings},
    secret::Secret,
    status::METRICS,
};
use tracing::warn;
use tracing_subscriber::EnvFilter;

use cli::{Daemon, Failure};

const EXAMPLES: &str = "\
Examples:
  overlay secret new | install -m 600 /dev/stdin /etc/overlay/secret
                                                       on the first host; copy the file to the others
  overlay up --registry http://registry.example:8500   this host's part of the mesh
  overlay up --join 192.0.2.7                          with the registry of a member
  overlay wait && overlay network create app           a network on every host
  overlay attach web app                               an address there for a container that runs
  overlay status                                       who is reached, and how
  overlay evict host3                                  puts a host out for good
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
    /// Gives a running container an address, whatever networks it has
    #[command(after_help = cli::links::ATTACH_EXAMPLES)]
    Attach(cli::links::Attach),
    /// Takes what was attached from a container
    #[command(after_help = cli::links::DETACH_EXAMPLES)]
    Detach(cli::links::Detach),
    /// Gives this host an address in a network, or others a way to a subnet behind it
    #[command(after_help = cli::links::EXPOSE_EXAMPLES)]
    Expose(cli::links::Expose),
    /// Takes what was exposed from this host
    #[command(after_help = cli::links::HIDE_EXAMPLES)]
    Hide(cli::links::Hide),
    /// Lists the containers with addresses of the overlay, and this host's own
    #[command(after_help = cli::links::PS_EXAMPLES)]
    Ps(cli::links::Ps),
    /// Mends what is known of addresses
    Ipam {
        #[command(subcommand)]
        command: cli::links::Ipam,
    },
    /// Adds, lists and removes machines that have only WireGuard, and this host for their peer
    Client {
        #[command(subcommand)]
        command: cli::clients::Command,
    },
    /// Shows how everything stands, or a part of it
    Status {
        /// Which part
        part: Option<cli::status::Part>,
    },
    /// Shows all that is known of another host
    #[command(after_help = cli::status::PEER_EXAMPLES)]
    Peer {
        /// Its name, or the beginning of its id
        host: String,
    },
    /// Waits until the tunnel is up and every network of this host has addresses
    Wait {
        /// For how long
        #[arg(long, value_name = "DURATION", default_value = "30s")]
        timeout: GoDuration,
    },
    /// Carries nothing between hosts until `overlay start`; containers of this host still reach each other
    Stop,
    /// Carries packets between hosts again, and joins again after `overlay leave`
    Start,
    /// Takes this host out of the mesh: the others forget it, and what it held is free
    Leave,
    /// Puts a host out for good: every other one drops it at once, and all get a new secret, which it does not have
    Evict {
        /// Its name, or the beginning of its id
        host: String,
    },
    /// Gives all members a new secret
    Rotate,
    /// Leaves the mesh and removes from this host every interface, rule, route and Docker network of the overlay, whoever is
    /// in it
    Reset,
    /// Makes or shows the secret that hosts join with
    Secret {
        #[command(subcommand)]
        command: Secrets,
    },
    /// Asks the overlay that runs here, at the same --http-addr, how it does; exits with 1 if not well
    Health {
        /// Where it answers
        #[arg(long, env = "OVERLAY_HTTP_ADDR", value_name = "IP:PORT")]
        http_addr: Option<SocketAddr>,
    },
    /// Prints what this version takes and tells, as Markdown
    Reference {
        /// Of what
        page: Page,
    },
    /// Prints the version
    Version,
}

#[derive(Subcommand)]
enum Secrets {
    /// Prints a new one, for the first host of a mesh
    New,
    /// Prints that of the mesh of this host, for the next host
    Show,
}

#[derive(Clone, Copy, ValueEnum)]
enum Page {
    /// The commands with their options
    Commands,
    /// The keys of the configuration file
    Configuration,
    /// What is counted and measured
    Metrics,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overlay: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { socket, json, command } = arguments;
    match command {
        Command::Version => {
            println!("overlay {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        Command::Reference { page } => {
            print!("{}", reference(page));
            return Ok(());
        }
        Command::Secret { command: Secrets::New } => {
            let secret = Secret::generate(1).map_err(|e| Failure::new(format!("no randomness: {e}")))?;
            println!("{}", *secret.text());
            return Ok(());
        }
        _ => {}
    }
    // The daemon has the first thread and all that serves it one more; packets have their own. Each more would keep a heap.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Up { config, settings } => up(*settings, config, &socket).await,
            Command::Health { http_addr } => health(http_addr).await,
            command => ask(command, &Daemon::at(socket)?, json).await,
        }
    })
}

async fn ask(command: Command, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let post = async |path: &str| daemon.post(path, &serde_json::json!({})).await;
    let (answer, said) = match command {
        Command::Network { command } => return cli::network::run(command, daemon, json).await,
        Command::Attach(asked) => return cli::links::attach(asked, daemon, json).await,
        Command::Detach(asked) => return cli::links::detach(asked, daemon, json).await,
        Command::Expose(asked) => return cli::links::expose(asked, daemon, json).await,
        Command::Hide(asked) => return cli::links::hide(asked, daemon, json).await,
        Command::Ps(asked) => return cli::links::ps(asked, daemon, json).await,
        Command::Ipam { command } => return cli::links::ipam(command, daemon, json).await,
        Command::Client { command } => return cli::clients::run(command, daemon, json).await,
        Command::Status { part } => return cli::status::run(daemon, part, json).await,
        Command::Peer { host } => return cli::status::peer(daemon, &host, json).await,
        Command::Wait { timeout } => return cli::status::wait(daemon, timeout.0).await,
        Command::Stop => (post("/v1/stop").await?, "the tunnel is stopped".into()),
        Command::Start => (post("/v1/start").await?, "the tunnel is started".into()),
        Command::Leave => (post("/v1/leave").await?, "this host has left the mesh".into()),
        Command::Reset => {
            let answer = post("/v1/reset").await?;
            let said = match answer["pending"].as_str() {
                Some(why) => format!("nothing of the mesh is left here, but the others do not know yet: {why}"),
                None => "this host has left the mesh, and nothing of it is left here".into(),
            };
            (answer, said)
        }
        Command::Rotate => {
            let answer = post("/v1/rotate").await?;
            let said =
                format!("the mesh has a new secret, of epoch {}; `overlay secret show` prints it", answer["epoch"]);
            (answer, said)
        }
        Command::Evict { host } => {
            let answer = post(&format!("/v1/evict/{host}")).await?;
            let said = match answer["pending"].as_str() {
                Some(why) => format!("{host} is evicted, but not all is done yet ({why}); then: overlay rotate"),
                None => format!("{host} is evicted; the secret is of epoch {} now", answer["epoch"]),
            };
            (answer, said)
        }
        Command::Secret { .. } => {
            let answer = daemon.get("/v1/secret").await?;
            let said = cli::text(&answer["secret"]);
            (answer, said)
        }
        Command::Up { .. } | Command::Health { .. } | Command::Reference { .. } | Command::Version => {
            unreachable!("these ask no daemon")
        }
    };
    cli::show(&answer, json, |_| said + "\n");
    Ok(())
}

async fn health(address: Option<SocketAddr>) -> Result<(), Failure> {
    let asked = match address {
        Some(address) => monitoring::ask(address).await.map_err(overlay::Error::from),
        None => Err(overlay::Error::NowhereToAsk),
    };
    asked.map_err(|error| Failure::new(with_causes(&error)))
}

fn reference(page: Page) -> String {
    match page {
        Page::Commands => reference::commands(&Arguments::command()),
        Page::Configuration => reference::keys(&Settings::augment_args(clap::Command::new(""))),
        Page::Metrics => monitoring::page(METRICS),
    }
}

async fn up(settings: Settings, file: Option<PathBuf>, socket: &std::path::Path) -> Result<(), Failure> {
    let file = kvstore_client::settings::file(file.as_deref()).map_err(Failure::usage)?;
    let file = file.as_ref().map(|(name, text)| (&**name, &**text));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let config = Config::new(settings, file, &host.to_string_lossy());
    let config = config.map_err(|faults| Failure::usage(faults.0.join("\noverlay: ")))?;
    let filter = EnvFilter::try_from_env("OVERLAY_LOG").unwrap_or_else(|_| EnvFilter::new("info,boringtun=error"));
    logging::start(config.log_format, filter);
    if let Some(warning) = config.registry.warning() {
        warn!("{warning}");
    }
    let stop = until_signal().map_err(|e| Failure::new(format!("cannot listen for signals: {e}")))?;
    overlay::run(config, socket, stop).await.map_err(|error| Failure::new(with_causes(&error)))
}
