//! `registrar`: arguments -> run -> exit code.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use kvstore_client::{GoDuration, logging, monitoring, reference, settings, shutdown::until_signal, with_causes};
use registrar::{
    config::{Config, Settings},
    doctor::{Verdict, examine},
    explain::explain,
    status::METRICS,
};
use tracing::warn;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  registrar                                            with an agent on this host, at 127.0.0.1:8500
  registrar --registry http://kv.example:8500 --node $(hostname)
                                                       with one registry for several hosts
  registrar --internal --network front                 for clients on the network `front`
  registrar explain web                                what would be registered for container `web`, and why
  registrar doctor                                     whether all is there that it needs
  registrar --dry-run                                  what would be changed in the registry just now
  registrar health --http-addr 127.0.0.1:8590          how the one that runs here with that address does
  registrar drain web --wait 10s && docker stop web    for programs that close at once when they are told to stop

A container says by SERVICE_NAME, SERVICE_TAGS, SERVICE_80_NAME, SERVICE_CHECK_HTTP=/health, SERVICE_IGNORE=yes and the
like, as environment or as label, how it wants to be known. Its HEALTHCHECK becomes a check by itself.
Levels of logging: REGISTRAR_LOG=debug";

/// Watches Docker and keeps the registry equal to what runs on this host.
#[derive(Parser)]
#[command(name = "registrar", disable_version_flag = true, after_help = EXAMPLES, max_term_width = 120)]
struct Arguments {
    /// YAML or JSON file with the same keys as the long flags; flags and environment win
    #[arg(long, env = "REGISTRAR_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Show what would be changed in the registry just now, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what would be registered for every running container
    List {
        /// text or json
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Shows what would be registered for one container, and why each other port is not
    Explain {
        /// Its name, or the beginning of its id
        name: String,
        /// text or json
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Asks the registrar that runs here, at the same --http-addr, how it does; exits with 1 if not well
    Health,
    /// Looks at all that a run needs, and says what would be wrong; registers one entry and removes it again
    Doctor {
        /// text or json
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Has a container take no new work from now on until it ends, as a stop signal does
    Drain {
        /// Its name, or the beginning of its id
        name: String,
        /// Give proxies time to see it, and what is being served time to finish; less if the container ends before
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = GoDuration::from_str)]
        wait: GoDuration,
        /// Have it take work again
        #[arg(long, conflicts_with = "wait")]
        undo: bool,
    },
    /// Prints what this version takes and tells, as Markdown
    Reference {
        /// Of what
        page: Page,
    },
    /// Prints the version
    Version,
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

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What went wrong, and the exit code that says so: 2 for usage, 1 for failure.
struct Failure(u8, String);

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            eprintln!("registrar: {message}");
            ExitCode::from(code)
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    if let Some(Command::Version) = arguments.command {
        println!("registrar {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if let Some(Command::Reference { page }) = arguments.command {
        print!("{}", reference(page));
        return Ok(());
    }
    let usage = |message| Failure(2, message);
    let file = settings::file(arguments.config.as_deref()).map_err(usage)?;
    let file = file.as_ref().map(|(name, text)| (&**name, &**text));
    let config = Config::new(arguments.settings, file).map_err(|faults| usage(faults.0.join("\nregistrar: ")))?;
    let filter = EnvFilter::try_from_env("REGISTRAR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    logging::start(config.log_format, filter);
    if let Some(warning) = config.registry.warning() {
        warn!("{warning}");
    }
    // One thread: the work is waiting, and every change of threads would cost more than it brings.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure(1, format!("cannot start: {e}")))?;
    runtime.block_on(async {
        if let Some(Command::Doctor { format }) = arguments.command {
            return doctor(&config, format).await;
        }
        let done = match arguments.command {
            Some(Command::List { format }) => show(&config, None, format).await,
            Some(Command::Explain { name, format }) => show(&config, Some(&name), format).await,
            Some(Command::Health) => health(&config).await,
            Some(Command::Drain { name, wait, undo }) => drain(&config, &name, wait, undo).await,
            None if arguments.dry_run => dry_run(&config).await,
            Some(Command::Doctor { .. } | Command::Reference { .. } | Command::Version) | None => {
                let stop = until_signal();
                let stop = stop.map_err(|e| Failure(1, format!("cannot listen for signals: {e}")))?;
                registrar::run(config, stop).await
            }
        };
        done.map_err(|error| Failure(1, with_causes(&error)))
    })
}

fn reference(page: Page) -> String {
    match page {
        Page::Commands => reference::commands(&Arguments::command()),
        Page::Configuration => reference::keys(&Settings::augment_args(clap::Command::new(""))),
        Page::Metrics => monitoring::page(METRICS),
    }
}

async fn show(config: &Config, name: Option<&str>, format: Format) -> Result<(), registrar::Error> {
    let all = explain(config, name).await?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&all).expect("plain data")),
        Format::Text => all.iter().for_each(|one| print!("{}", one.text())),
    }
    Ok(())
}

async fn doctor(config: &Config, format: Format) -> Result<(), Failure> {
    let findings = examine(config).await;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&findings).expect("plain data")),
        Format::Text => findings.iter().for_each(|finding| println!("{finding}")),
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        bad => Err(Failure(1, format!("{bad} of {} findings are bad", findings.len()))),
    }
}

async fn health(config: &Config) -> Result<(), registrar::Error> {
    Ok(monitoring::ask(config.http.ok_or(registrar::Error::NowhereToAsk)?).await?)
}

async fn drain(config: &Config, name: &str, wait: GoDuration, undo: bool) -> Result<(), registrar::Error> {
    let asked = registrar::drain::ask(config, name, undo).await?;
    let what = if undo { "takes work again" } else { "draining" };
    asked.instances.iter().for_each(|id| println!("{id}: {what}"));
    asked.wait(wait.0).await
}

async fn dry_run(config: &Config) -> Result<(), registrar::Error> {
    let lines = registrar::dry_run::dry_run(config).await?;
    for line in &lines {
        println!("{line}");
    }
    if lines.is_empty() {
        println!("nothing: the registry says what runs here");
    }
    Ok(())
}
